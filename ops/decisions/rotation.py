"""The next step of a rotation (HerbisVeritas "Rotation Clés Sécurité"): pure functions over the stack file's states.

    retired ─→ pending ─→ tested ─→ dual ─→ rolled-out ─→ verified ─→ retired
                  └─────────┴────────┴───────────┴──→ failed: the previous value is used

A state is written before the update that makes it true: a killed run is continued from the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ops.errors import Refused
from settings.cron import last_run, next_run
from settings.rotation import DATABASE_ADMIN_URL, RotationState, SecretRotation

NEXT: Mapping[str, str] = {
    "pending": "tested",
    "tested": "dual",
    "dual": "rolled-out",
    "rolled-out": "verified",
    "verified": "retired",
}
_SERVERS = ("database", "redis")
RESTING = ("retired", "failed")
"""No rotation runs; the next one can begin."""


@dataclass(frozen=True)
class Due:
    """What `rotate due` does with a secret, or when it will."""

    secret: str
    action: Literal["resume", "retire", "begin", "give", "wait", "never"]
    """`give`: its rotation is due, but an operator has to supply the value. `never`: it encrypts data."""
    when: datetime | None
    """Since when, or from when on, the action is due; None for `never`."""


@dataclass(frozen=True)
class Left:
    """A secret that an emergency rotation does not replace."""

    secret: str
    why: str
    then: str
    """What an operator has to do."""


def begin_rotation(rotating: SecretRotation, at: datetime, *, emergency: bool = False) -> RotationState:
    """The first state of a rotation; of an emergency, the only one: the old value is revoked when the update ends."""
    previous = rotating.in_use
    return RotationState(
        period=next_period(rotating),
        previous=previous,
        phase="retired" if emergency else "pending",
        started_at=format_time(at),
        phase_at=format_time(at),
        previous_at=format_time(rotating.rotated_at) if rotating.rotated_at else None,
        settled=rotating.settled if rotating.settled != previous else None,
        generation=rotating.state.generation + (1 if emergency else 0),
        emergency=emergency,
    )


def enter_phase(state: RotationState, phase: str, at: datetime, failure: str | None = None) -> RotationState:
    return RotationState.model_validate(
        {**state.to_config(), "phase": phase, "phaseAt": format_time(at), "failure": failure}
    )


def fail(state: RotationState, at: datetime, failure: str) -> RotationState:
    """The state after a failed step: the previous value is used. A value that no pod had is not kept."""
    failed = enter_phase(state, "failed", at, failure)
    return failed.model_copy(update={"unused": state.phase == "pending"})


def next_period(rotating: SecretRotation) -> int:
    """The next period whose slot is not the one in use: after a failure a number is skipped."""
    first = rotating.state.period + 1
    return first if first % 2 != rotating.in_use % 2 else first + 1


def format_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_finished(rotating: SecretRotation, at: datetime, *, overlap: bool) -> bool:
    """Whether the rotation stops here: at `verified` until the overlap is over, else when the old value is retired."""
    if rotating.state.phase == "verified":
        return overlap and rotating.overlap_until is not None and at < rotating.overlap_until
    return rotating.state.phase in RESTING


def needs_value(rotating: SecretRotation) -> bool:
    """Whether an operator has to supply the next value."""
    return bool(rotating.given_by(next_period(rotating)))


def due(rotating: SecretRotation, at: datetime, since: datetime) -> Due:
    """`since`: when the stack was created, for a secret that was never rotated."""
    state, name = rotating.state, rotating.name
    if rotating.policy.never:
        return Due(name, "never", None)
    schedule, zone = rotating.policy.schedule, rotating.zone
    if state.phase == "verified" and (over := rotating.overlap_until):
        return Due(name, "retire" if over <= at else "wait", over)
    if state.phase not in RESTING:
        return Due(name, "resume", at)
    # A failed rotation is retried at its next scheduled time.
    started = datetime.fromisoformat(state.started_at) if state.started_at else since
    latest = last_run(schedule, at, zone)
    if latest > started:
        return Due(name, "give" if needs_value(rotating) else "begin", latest)
    return Due(name, "wait", next_run(schedule, at, zone))


def refuse_never(names: Sequence[str], rotations: Mapping[str, SecretRotation]) -> None:
    """Refuse to replace a key that encrypts data."""
    if never := [name for name in names if rotations[name].policy.never]:
        raise Refused("\n".join(f"{name} {_why_never(rotations[name])}. Nothing was changed." for name in never))


def _why_never(rotating: SecretRotation) -> str:
    key = f"runbook:rotation.secrets.{rotating.name}.rotate"
    if rotating.policy.guessed:
        return f"looks like a key that encrypts stored data, and is not replaced: if it can be, set {key}: by-schedule"
    why = "is not replaced, because of `rotate: never`"
    return why if rotating.kind in _SERVERS else f"{why}: data that it encrypted would become unreadable"


def list_left(chosen: Sequence[str], rotations: Mapping[str, SecretRotation], others: Sequence[str] = ()) -> list[Left]:
    """What an emergency rotation does not replace: of the chosen secrets, and the `others`, which do not rotate."""
    left: list[Left] = []
    for name in chosen:
        if rotations[name].policy.never:
            then = (
                f"where the application can encrypt its data anew with {name} and {name}_PREVIOUS, set "
                f"`rotate: by-schedule` and run `runbook rotate start {name}`"
            )
            if rotations[name].kind in _SERVERS:
                then = f"remove `rotate: never`, then `runbook rotate emergency {name}`"
            left.append(Left(name, _why_never(rotations[name]), then))
        elif needs_value(rotations[name]):
            then = f"revoke it at its provider, then `runbook rotate start {name} --no-overlap`"
            left.append(Left(name, "comes from outside", then))
    return [*left, *(_by_hand(name) for name in others)]


_STORED = "`pulumi config set --secret secrets:{name}`, then `pulumi up`"
_BY_HAND = {
    DATABASE_ADMIN_URL: ("is the database administrator's own", "change its password at the database, then {stored}"),
    "BACKUP_IDENTITIES": (
        "opens the backups that exist",
        "make a new key, put it before the old one with {stored}, and its recipient into runbook:backup.encryption; "
        "who has the old key can read old backups: delete those that are no longer needed",
    ),
    "STATE_PASSPHRASE": (
        "opens the state and all secrets in it",
        "`runbook secrets provider passphrase`, then {stored}; values that the old one opens have to be replaced",
    ),
    "STATE_": (
        "opens the bucket of the state",
        "make a new key at its provider, then {stored}, and revoke the old one",
    ),
    "SLACK_": ("is a webhook of Slack", "make a new webhook in Slack, then {stored}, and remove the old one"),
}


def _by_hand(name: str) -> Left:
    fallback = ("is not made here", "replace it at its provider, then {stored}")
    why, then = next((what for start, what in _BY_HAND.items() if name.startswith(start)), fallback)
    return Left(name, why, then.format(stored=_STORED.format(name=name)))


def choose_repairs(wanted: Sequence[str], rotations: Mapping[str, SecretRotation]) -> list[str]:
    """Which logins to repair: the wanted ones, or all that the stack makes at a server."""
    names = find_secrets(wanted, rotations) or [name for name, each in rotations.items() if _has_logins(each)]
    if not names:
        raise Refused("No login of this stack was ever rotated: there is nothing to repair.")
    for name in names:
        if rotations[name].kind not in _SERVERS:
            raise Refused(
                f"{name} is no login that the stack makes at a server: replace it with `rotate start {name}`."
            )
        if not _has_logins(rotations[name]):
            raise Refused(f"{name} was never rotated: its login is the first one, which the stack does not change.")
    return names


def _has_logins(rotating: SecretRotation) -> bool:
    return rotating.kind in _SERVERS and rotating.state.previous is not None


def explain_repair(name: str, why: str, code: str | None) -> str:
    """Why a repair failed, and the remedy."""
    text = f"The logins of {name} could not be repaired: {why}"
    if code == "admin_refused":
        text += (
            "\nThe administrator has another password since the copy was restored. Set it to the stack's again "
            "at the server; or, where the database is external, store the present one with `pulumi config set "
            f"--secret secrets:{DATABASE_ADMIN_URL}` and run `pulumi up`. Then run this command again."
        )
    return text


def find_secrets(wanted: Sequence[str], rotations: Mapping[str, SecretRotation]) -> list[str]:
    """The secrets meant; `stripe-webhook` is enough for STRIPE_WEBHOOK_SECRET."""
    return list(dict.fromkeys(_find_secret(word, rotations) for word in wanted))


def _find_secret(word: str, rotations: Mapping[str, SecretRotation]) -> str:
    plain = re.sub(r"[^A-Z0-9]+", "_", word.upper())
    if plain in rotations:
        return plain
    found = [name for name in rotations if name.startswith(plain)]
    if len(found) != 1:
        have = ", ".join(sorted(found or rotations)) or "none"
        what = "There is no secret" if not found else "There is more than one secret"
        raise Refused(f"{what} {word}. Those that rotate: {have}")
    return found[0]
