"""Errors that end a task. Codes and exit codes are part of the interface."""

from __future__ import annotations

from collections.abc import Iterable


class TaskError(Exception):
    """A fault: what is wrong, where, and what to do. Trying again may help (exit code 1)."""

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        """One word for programs: `store_unreachable`, `checksum_mismatch` …"""


class Refused(TaskError):
    """Bad configuration or input; nothing was changed, and trying again will not help (exit code 2)."""

    exit_code = 2


class Interrupted(BaseException):
    """The process received SIGTERM. Not an Exception, so that no handler treats it as a fault."""


def without(secrets: Iterable[str], text: str) -> str:
    """`text` with every secret replaced, longest first, because one may contain another."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
