"""Writes values of secrets into the stack file: never as an argument, never printed, encrypted by the engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping

import typer

from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_file import StackText
from settings.backup import S3_ACCESS_KEY, S3_SECRET_KEY
from settings.rotation import SecretRotation, slot_key

Values = Mapping[str, str]
"""Name of a secret → its new value."""
_PAIR = {"accessKeyId": S3_ACCESS_KEY, "secretAccessKey": S3_SECRET_KEY}


def read_values(rotating: SecretRotation) -> Values:
    """Read the new value of a secret, from the terminal without echo or from standard input."""
    if sys.stdin.isatty():
        return {name: _prompt(name) for name in rotating.secret_names}
    text = sys.stdin.read().strip()
    if not text:
        raise Refused(
            f"{rotating.name} comes from outside: write its new value to standard input (`runbook rotate start "
            f"{rotating.name} < file`), or give several values at a terminal. Nothing was changed."
        )
    if rotating.kind != "s3":
        return {rotating.name: text}
    try:
        pair = json.loads(text)
        return {name: str(pair[key]) for key, name in _PAIR.items()}
    except (ValueError, KeyError, TypeError):
        raise Refused(
            f'{rotating.name} is a pair: write {{"accessKeyId": "…", "secretAccessKey": "…"}} on standard input.'
        ) from None


def _prompt(name: str) -> str:
    value = str(typer.prompt(f"New value of {name}", hide_input=True, err=True)).strip()
    if not value:
        raise Refused(f"The new value of {name} is empty. Nothing was changed.")
    return value


def store_values(session: Session, period: int, values: Values) -> StackText:
    """Store these values in the slot of the next period; the stack file with them."""
    for name, value in values.items():
        key = f"secrets:{slot_key(name, period)}"
        words = ("config", "set", "--secret", key, "--stack", session.stack, "--config-file", str(session.file))
        session.reader.run(*words, stdin=value)
    return stack_file.read(session.file)


def remove_retired(text: StackText, retired: Iterable[SecretRotation]) -> StackText:
    """The stack file without the previous values of these secrets: nothing accepts them any more."""
    keys = {
        f"secrets:{key}"
        for each in retired
        if each.state.previous is not None
        for key in each.given_by(each.state.previous)
    }
    return text.edited({key: None for key in keys if key in text.config})
