"""Runs pg_restore and sorts its errors: those that end a restore, and statements to try again or to name."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.backup.postgres import program, program_version
from tasks.errors import TaskError, without

_FAULTS = (
    ("disk_full", r"No space left on device|could not extend file|could not write to file"),
    ("server_older_than_dump", r"unsupported version \([\d.]+\) in file header"),
    ("truncated", r"unexpected end of file|could not read from input file: end of file|could not find block ID"),
    ("database_unreachable", r"connection to server .* failed|server closed the connection|terminating connection due"),
)
"""Code → pattern of the message of pg_restore or the server."""
_BY_SEARCH_PATH = re.compile(r'does not exist.*CONTEXT:\s+(?:SQL|PL/\w+) function "?([\w.]+)', re.DOTALL)
_TAIL = 20
_REPORTS = tuple(f"pg_restore: {level}:" for level in ("error", "warning", "detail", "hint"))
_ENTRY = re.compile(r"(\d+); \d+ \d+ (.*)")
_AT = re.compile(r"pg_restore: from TOC entry (\d+); \d+ \d+ (.*)")
_MAPPED = re.compile(r"(USER MAPPING FOR .*?\bOPTIONS \().*?(?=\n?\);|\.\.\.$|\Z)", re.DOTALL)
"""The login and the password for another server, in a statement that an error repeats."""
_QUERY = re.compile(r"pg_restore: error: could not execute query: (.*?)\nCommand was: (.*)", re.DOTALL)


@dataclass(frozen=True)
class Programs:
    """Which pg_restore fits the server and the dump."""

    server: str
    """The server's version."""
    least: int
    """The major version of the program that wrote the dump: an older one cannot read it."""

    @property
    def path(self) -> str:
        return program("pg_restore", self.server, least=self.least)

    @property
    def version(self) -> str:
        return program_version("pg_restore", self.server, least=self.least)


@dataclass(frozen=True)
class Entry:
    """A line of the archive's table of contents."""

    id: int
    what: str
    """Kind, schema or "-", name and owner: "TABLE DATA public orders shop"."""
    line: str


@dataclass(frozen=True)
class Failure:
    """A statement that the server refused."""

    entry: int
    what: str
    """Of its entry; empty when it belongs to none."""
    message: str
    statement: str


def run(
    programs: Programs,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    doing: str,
    *,
    tolerated: Callable[[Failure], bool],
) -> list[Failure]:
    """`pg_restore` into a database; the refused statements that are `tolerated`. Any other error ends it."""
    found: list[Failure] = []
    said: list[str] = []
    fatal = False
    environment = {**environment, "LC_ALL": "C"}
    # Verbose: only then it says which entry an error belongs to.
    command = [programs.path, "--verbose", *arguments]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        try:
            for failure in _failures(process.stderr, said):
                if failure and tolerated(failure):
                    found.append(failure)
                else:
                    fatal = True
                    process.terminate()  # whatever follows does not make it better
        except BaseException:
            process.kill()
            raise
    if process.returncode and (fatal or not any("errors ignored on restore" in one for one in said)):
        raise _failed(said, environment, f"{doing}: pg_restore ended with exit code {process.returncode}")
    return found


def read(programs: Programs, *arguments: str) -> str:
    """What `pg_restore` prints of an archive."""
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        [programs.path, *arguments], env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise _failed(done.stderr.splitlines(), {}, f"reading {Path(arguments[-1]).name}")
    return done.stdout


def entries(programs: Programs, archive: Path) -> list[Entry]:
    """The archive's table of contents, in its order."""
    listed = read(programs, "--list", str(archive)).splitlines()
    return [Entry(int(of[1]), of[2].rstrip(), line) for line in listed if (of := _ENTRY.match(line))]


@contextmanager
def chosen(all_of: Iterable[Entry], ids: Collection[int], *, without_them: bool = False) -> Iterator[str]:
    """The flag that restores the entries with these ids alone, or all but these."""
    lines = [entry.line for entry in all_of if (entry.id in ids) != without_them]
    with tempfile.NamedTemporaryFile("w", suffix=".list") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        yield f"--use-list={file.name}"


def _failures(stderr: Iterable[str], said: list[str]) -> Iterator[Failure | None]:
    """Refused statements as they come; None for any other error. `said` gets what is no report of progress."""
    entry: tuple[int, str] = (0, "")
    message = ""
    for line in (*stderr, "pg_restore: "):
        if not line.startswith("pg_restore: "):
            message += line
            continue
        if at := _AT.match(message):
            entry = int(at[1]), at[2].strip()
        elif message.startswith(_REPORTS):
            said.append(_MAPPED.sub(r"\1…", message.strip()))
            if of := _QUERY.match(message):
                refusal = of[1].removeprefix("ERROR:").strip().splitlines()
                yield Failure(*entry, refusal[0] if refusal else "", of[2].strip())
            elif message.startswith("pg_restore: error:"):
                yield None
        message = line


def _failed(said: Sequence[str], environment: Mapping[str, str], doing: str) -> TaskError:
    lines = "\n".join(said).splitlines()[-_TAIL:]
    output = without([environment.get("PGPASSWORD", "")], "\n".join(lines).strip())
    if of := _BY_SEARCH_PATH.search(output):
        output += (
            f". {of[1]} finds names along the search_path, which is empty while pg_restore runs: in the live database, "
            f"ALTER FUNCTION {of[1]} SET search_path to the schemas it uses, and back up again"
        )
    code = next((code for code, pattern in _FAULTS if re.search(pattern, output)), "restore_failed")
    return TaskError(code, f"{doing}: {output or 'no output on stderr'}")
