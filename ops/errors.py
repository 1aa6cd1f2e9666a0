"""How a command ends when it does not end well. The exit codes are part of the interface."""

from __future__ import annotations

EXIT_CODES = """\
Exit codes: 0 done; 1 the update failed and was rolled back, the old version serves; 2 refused, nothing was
changed; 3 the update failed and the old version could not be put back; 4 interrupted, the same command
goes on."""


class OpsError(Exception):
    """A message for the operator: what is wrong, and what to do."""

    exit_code = 3


class RolledBack(OpsError):
    """The update failed; the old version serves."""

    exit_code = 1


class Refused(OpsError):
    """A check said no before anything was changed."""

    exit_code = 2


class Stuck(OpsError):
    """The update failed and nothing good could be put back: somebody has to look."""

    exit_code = 3


class Interrupted(OpsError):
    """The engine was stopped half-way; the same command goes on where it was."""

    exit_code = 4
