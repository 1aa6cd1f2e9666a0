"""Statements of the scripts that pg_dumpall and pg_restore write: settings of databases and roles, privileges."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE = re.compile(
    r"""(?P<end>;)|(?P<comment>--[^\n]*)|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|[^;'"eE-]+|.""",
    re.DOTALL,
)
_NAME = r"""(?:"(?:[^"]|"")+"|[^\s"]+)"""
_DATABASE_SETTING = re.compile(rf"ALTER DATABASE {_NAME} SET (?P<value>.+)", re.DOTALL)
_ROLE_SETTING = re.compile(
    rf"ALTER ROLE (?P<role>{_NAME})(?P<inside> IN DATABASE {_NAME})? SET (?P<value>.+)", re.DOTALL
)
_OWNER = re.compile(rf"ALTER DATABASE {_NAME} OWNER TO (?P<role>{_NAME})")
_CREATED = re.compile(rf"CREATE ROLE (?P<role>{_NAME})")
_CHANGED = re.compile(rf"(?:ALTER ROLE (?P<role>{_NAME}) WITH|GRANT {_NAME} TO (?P<member>{_NAME})).*", re.DOTALL)
_OURS = ("role", "session_authorization")
"""Settings that credentials' rotation gives to login roles: those of the server stand."""


@dataclass(frozen=True)
class Setting:
    """One setting of a database, of a role, or of a role in a database."""

    role: str | None
    """None: of the database."""
    everywhere: bool
    """Whether the role has it in all databases."""
    name: str
    value: str
    """As it stands behind SET: "search_path TO 'app', 'public'"."""


def split(script: str) -> Iterator[str]:
    """Each statement without its semicolon; no comments, no commands of psql."""
    script = re.sub(r"^\\.*$", "", script, flags=re.MULTILINE)
    text = ""
    for piece in _PIECE.finditer(script):
        if piece["end"]:
            if text.strip():
                yield text.strip()
            text = ""
        elif not piece["comment"]:
            text += piece[0]


def settings(script: str) -> list[Setting]:
    """Every ALTER … SET of a script, in its order."""
    found: list[Setting] = []
    for statement in split(script):
        if of := _DATABASE_SETTING.fullmatch(statement):
            role, everywhere = None, False
        elif of := _ROLE_SETTING.fullmatch(statement):
            role, everywhere = unquoted(of["role"]), not of["inside"]
        else:
            continue
        name = unquoted(of["value"].partition(" TO ")[0].strip())
        if name not in _OURS and not name.startswith("runbook."):
            found.append(Setting(role, everywhere, name, of["value"]))
    return found


def owner(script: str) -> str | None:
    """The role that the database belonged to."""
    return next((unquoted(of["role"]) for one in split(script) if (of := _OWNER.fullmatch(one))), None)


def created_role(statement: str) -> str | None:
    """The role that a statement creates."""
    of = _CREATED.fullmatch(statement)
    return unquoted(of["role"]) if of else None


def changed_role(statement: str) -> str | None:
    """The role that a statement gives attributes or a membership to."""
    of = _CHANGED.fullmatch(statement)
    return unquoted(of["role"] or of["member"]) if of else None


def unquoted(name: str) -> str:
    """The name that an identifier stands for."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
