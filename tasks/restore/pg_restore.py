"""Runs pg_restore and classifies its errors."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.backup.postgres import program
from tasks.errors import TaskError, without

_FAULTS = (
    ("disk_full", r"No space left on device|could not extend file|could not write to file"),
    ("server_older_than_dump", r"unsupported version \([\d.]+\) in file header"),
    ("truncated", r"unexpected end of file|could not read from input file: end of file|could not find block ID"),
    ("database_unreachable", r"connection to server .* failed|server closed the connection|terminating connection due"),
)
"""Code → pattern of the message of pg_restore or the server."""
_TAIL = 20


def run(arguments: Sequence[str], environment: Mapping[str, str], doing: str) -> str:
    """`pg_restore` with these arguments; its standard output. Raises `TaskError`; `doing` says for what."""
    done = subprocess.run(
        [program("pg_restore"), *arguments], env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout
    output = without([environment.get("PGPASSWORD", "")], "\n".join(done.stderr.splitlines()[-_TAIL:]).strip())
    code = next((code for code, pattern in _FAULTS if re.search(pattern, output)), "restore_failed")
    raise TaskError(
        code, f"{doing}: pg_restore ended with exit code {done.returncode}: {output or 'no output on stderr'}"
    )


def owners(archive: Path) -> set[str]:
    """The roles that own something in the archive."""
    listed = run(["--list", str(archive)], dict(os.environ), f"reading the table of contents of {archive.name}")
    # "215; 1259 16385 TABLE public orders shop": the owner is the last word.
    return {line.rsplit(" ", 1)[1] for line in listed.splitlines() if line and line[0] != ";" and line[-1] != " "}
