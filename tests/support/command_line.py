"""Whether a `runbook` command line that a document or an alert names exists."""

from __future__ import annotations

from typing import Any

import typer

from ops.cli.main import app


def unknown_words(line: str) -> list[str]:
    """Words of a `runbook` command line that are no command, subcommand or option."""
    command: Any = typer.main.get_command(app)
    words = line.split()
    words[:1] = words[0].split(":") if words else []  # the runbooks' own names
    for word in words:
        subcommands = getattr(command, "commands", None)
        if subcommands is None or word.startswith("-"):
            break
        if word not in subcommands:
            return [word]
        command = subcommands[word]
    options = {option for parameter in command.params for option in parameter.opts}
    return [word for word in words if word.startswith("-") and word not in options]
