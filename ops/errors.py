"""Errors of the command, each with its exit code. The exit codes are part of the interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.causes.cause import Cause

EXIT_CODES = (
    "Exit codes: 0 done; 1 the update failed and was rolled back, the old version serves; 2 refused, nothing was "
    "changed; 3 the update failed and the old version could not be restored; 4 interrupted, run the same command again."
)


class OpsError(Exception):
    """A message for the operator: the fact and the remedy."""

    exit_code = 3

    def __init__(self, message: str, causes: Sequence[Cause] = ()) -> None:
        super().__init__(message)
        self.causes = causes
        """Why objects in the cluster failed."""

    @property
    def brief(self) -> str:
        """The first line, and that of the first cause: for a chat or a record."""
        first = (str(self).strip().splitlines() or [type(self).__name__])[0]
        more = next((cause.line for cause in self.causes), "")
        return f"{first} {more}".strip() if more not in first else first


class RolledBack(OpsError):
    """The update failed; the old version serves."""

    exit_code = 1


class Refused(OpsError):
    """A check failed before anything was changed."""

    exit_code = 2


class NotMeasured(OpsError):
    """A check's value could not be had. `fails`: that is a failure of the check, and no reason to leave it out."""

    exit_code = 2

    def __init__(self, why: str, *, fails: bool = False) -> None:
        super().__init__(why)
        self.why, self.fails = why, fails


class Stuck(OpsError):
    """The update failed and no earlier release could be restored: an operator has to act."""

    exit_code = 3


class Interrupted(OpsError):
    """The engine was stopped half-way; the same command continues."""

    exit_code = 4
