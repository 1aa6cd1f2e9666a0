"""What is refused, and what is warned of, in the rotation settings of a stack whose secrets are known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from settings.base import Finding
from settings.cron import shortest_gap
from settings.rotation import BACKUP_S3, RotationSettings, SecretRotation

_SESSIONS = re.compile(r"(^|_)(JWT|SESSION|COOKIE|TOKEN)_(SECRET|SIGNING|KEY)")
"""Names of keys that usually sign what customers hold."""


def findings(
    rotation: RotationSettings, rotating: Mapping[str, SecretRotation], *, may_know_more: bool
) -> Iterator[Finding]:
    """What is wrong with `runbook:rotation`, once it is known which secrets there are."""
    for name in rotation.secrets:
        if name not in rotating:
            # A policy for the backup store's keys is allowed without backups.
            if not may_know_more and name != BACKUP_S3:
                yield Finding(("secrets", name), f"no such secret; there are: {', '.join(sorted(rotating))}")
        elif rotating[name].policy.issue and not rotating[name].secret_names:
            yield Finding(("secrets", name, "issue"), f"the program makes {name} itself: remove issue and revoke")
    for name, each in rotating.items():
        if not each.policy.never:
            yield from _findings_of(name, each)


def _findings_of(name: str, each: SecretRotation) -> Iterator[Finding]:
    policy, gap = each.policy, int(shortest_gap(each.policy.schedule).total_seconds())
    if policy.overlap_seconds >= gap:
        why = f"the next rotation comes {gap} s after this one: the overlap must be shorter"
        yield Finding(("secrets", name, "overlapSeconds"), why, gap // 2)
    for key, given in (("tokenSeconds", policy.token_seconds), ("verifyPrevious", policy.verify_previous)):
        if given is not None and not each.exposes_previous:
            yield Finding(("secrets", name, key), f"services get no previous value of {name}: remove it")
    if (lives := policy.token_seconds) is None or lives <= policy.overlap_seconds:
        return
    why = (
        f"what was signed with the previous value is valid for up to {lives} s (tokenSeconds), but the value only for "
        f"{policy.overlap_seconds} s after a rotation: customers would be logged out."
    )
    if lives < gap:
        yield Finding(("secrets", name, "overlapSeconds"), why, lives)
    else:
        rarer = f"{why} The next rotation comes {gap} s after this one: rotate less often, with overlapSeconds: {lives}"
        yield Finding(("secrets", name, "schedule"), f"{rarer}, or let tokens live shorter", "0 0 1 */3 *")


def list_warnings(rotating: Mapping[str, SecretRotation]) -> Iterator[str]:
    """What a preview says about secrets whose settings leave open what only the application's authors know."""
    for name, each in sorted(rotating.items()):
        where = f"runbook:rotation.secrets.{name}"
        if each.policy.guessed:
            yield (
                f"{name} looks like a key that encrypts stored data, so nothing rotates it. Write {where}.rotate: "
                "never to confirm that, or by-schedule if it can be replaced."
            )
        elif not each.policy.never and each.exposes_previous and _SESSIONS.search(name):
            absent = [
                f"{where}.{key} ({what})"
                for key, given, what in (
                    ("tokenSeconds", each.policy.token_seconds, "how long tokens live"),
                    ("verifyPrevious", each.policy.verify_previous, f"a check that services accept {name}_PREVIOUS"),
                )
                if given is None
            ]
            hours = each.policy.overlap_seconds / 3600
            if absent:
                yield (
                    f"{name}: what is signed with it is refused {hours:g} h after a rotation, or at once by an "
                    f"application that reads only {name}. Set {' and '.join(absent)}, so that this is checked."
                )
