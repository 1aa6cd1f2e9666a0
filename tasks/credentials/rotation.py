"""The two steps of a rotation on the server. Each is idempotent: it can be killed at any point and run again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.credentials.server import Account, Server
from tasks.errors import Refused, TaskError
from tasks.progress import say, step

_GRACE_SECONDS = 5.0
"""Seconds that a session may take to end after its pod has ended."""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Rotation:
    kind: str
    server: Server
    admin: Account
    admin_fixed: bool
    """Rotation does not change the admin's password."""
    new: Account
    old: Account | None

    def __post_init__(self) -> None:
        if self.new.role == self.admin.role:
            raise Refused(
                "environment_invalid", f"{self.new.variable} uses the admin role {self.admin.role}; use another role"
            )
        if self.old and self.old.role == self.new.role:
            both = f"{self.old.variable} and {self.new.variable}"
            raise Refused("environment_invalid", f"{both} both use {self.new.role}; each needs a role of its own")
        if self.admin_fixed and self.old and self.old.role == self.admin.role:
            raise Refused(
                "environment_invalid",
                f"{self.old.variable} is of {self.admin.role}, whose password is not ours to change: it could never be "
                "retired. Give the application a role of its own, besides the admin",
            )

    def prepare(self) -> dict[str, Any]:
        """Creates the new role. No pod uses it yet."""
        role = self.new.role
        created = not self.server.accepts(self.new)
        if created:
            with step(f"{self.kind}: admit {role}"):
                # It may be the role of two rotations ago: sessions with that password must end. The new password is set
                # last, so that a run that finds it accepted knows that all of this was done.
                self.server.refuse_logins(role)
                self.server.end_sessions(role)
                self.server.admit(self.new)
        with step(f"{self.kind}: test {role}"):
            self.server.prove(self.new)
        return {"kind": self.kind, "role": role, "created": created, "tested": True}

    def retire(self, *, force: bool) -> dict[str, Any]:
        """Revokes the old role, once no session uses it, or, with `force`, at once."""
        if self.old is None:
            raise Refused("environment_invalid", "ROTATE_…_OLD_URL is not set: there is no role to retire")
        old, is_admin = self.old, self.old.role == self.admin.role
        with step(f"{self.kind}: test {self.new.role}"):
            self.server.prove(self.new)
        if not force:
            self._refuse_if_used(old.role)
        with step(f"{self.kind}: refuse {old.role}"):
            if not is_admin:
                self.server.refuse_logins(old.role)
            if not self.admin_fixed:
                self.server.set_admin_password(self.admin)
            # Only now: none of them can log in again.
            ended = self.server.end_sessions(old.role)
            if force and not is_admin and not self.admin_fixed:
                ended += self.server.end_sessions(self.admin.role)
        if self.server.accepts(old):
            raise TaskError(
                "still_accepted", f"{old.role} of {old.variable} can still log in: check the server's users"
            )
        self.server.prove(self.new)
        return {"kind": self.kind, "role": old.role, "ended_sessions": ended, "refused": True}

    def repair(self, *, retired: bool) -> dict[str, Any]:
        """Makes the server's logins what they were before its roles came back from an older copy.

        `retired`: the old role is refused; else both are accepted.
        """
        wanted = [self.new, *([self.old] if self.old and not retired else [])]
        admitted = [account for account in wanted if not self.server.accepts(account)]
        for account in admitted:
            with step(f"{self.kind}: admit {account.role}"):
                self.server.admit(account)
        self.server.prove(self.new)
        refused = self.old is not None and retired and self.server.accepts(self.old)
        if refused:
            self.retire(force=True)
        return {"kind": self.kind, "admitted": [account.role for account in admitted], "refused": refused}

    def _refuse_if_used(self, role: str) -> None:
        deadline = time.monotonic() + _GRACE_SECONDS
        while uses := self.server.uses(role):
            if time.monotonic() > deadline:
                raise TaskError(
                    "still_used",
                    f"{role} still has sessions, and stays: {'; '.join(map(str, uses))}. "
                    "Restart what they belong to, or end them with --force",
                )
            time.sleep(_LOOK_SECONDS)


def try_login(server: Server, accounts: Mapping[str, Account | None]) -> dict[str, str]:
    """The server's answer for each account: `refused`, `accepted`, or `none` where there is no such account."""
    answers: dict[str, str] = {}
    for name, account in accounts.items():
        answers[name] = "none" if account is None else "accepted" if server.accepts(account) else "refused"
        if account:
            say(f"{account.role} of {account.variable}: {answers[name]}")
    return answers
