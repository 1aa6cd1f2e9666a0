"""Names of objects on which the program and the command `runbook` must agree."""

from __future__ import annotations

CONTROLLER = "rollback-controller"
"""Deployment of the rollback controller, its ServiceAccount, its leader's Lease, and its user in the engine's locks."""
COMMAND_LOCK = "runbook-command"
"""Lease that a command holds while it changes the stack."""


def keep_dollars(text: str) -> str:
    """A word of a command line or a variable's value that Kubernetes leaves as it is, but for $(NAME): it takes $$ for
    an escaped $."""
    return text.replace("$$", "$$$$")


def keep_literal(text: str) -> str:
    """The same, $(NAME) included."""
    return text.replace("$", "$$")
