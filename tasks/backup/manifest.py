"""What a backup says of itself. Its manifest is written last: a backup without one does not exist."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from tasks.errors import Refused, TaskError

Kind = Literal["scheduled", "manual", "pre-release", "safety"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDER = "backups/"
ENCRYPTED = ".age"
_STAMP = "%Y%m%dT%H%M%SZ"
_ID = re.compile(rf"(?P<at>\d{{8}}T\d{{6}}Z)-(?P<kind>{'|'.join(KINDS)})-[0-9a-f]{{4}}")


def new_id(kind: Kind, at: datetime) -> str:
    """Sorts by time, says what it is for, and is not guessed twice in one second."""
    return f"{at.astimezone(UTC):{_STAMP}}-{kind}-{secrets.token_hex(2)}"


def checked_id(text: str) -> str:
    """`text`, if it has the form of a backup's id: it becomes part of a key, a path, a database name."""
    if not _ID.fullmatch(text):
        raise Refused(
            "backup_id_invalid",
            f"{text!r} is no backup id; they look like 20250131T020000Z-scheduled-1a2b (see `backup list`)",
        )
    return text


@dataclass(frozen=True)
class File:
    """One object of a backup."""

    name: str
    """Below the backup's folder; ends with `.age` when it is encrypted."""
    size: int
    sha256: str
    """Of the bytes as stored, so that `sha256sum -c` needs no key."""


@dataclass(frozen=True)
class Release:
    """What ran on the database when it was backed up."""

    revision: int | None
    git: str | None
    image: str | None


@dataclass(frozen=True)
class Origin:
    """Where a backup is from."""

    stack: str | None
    """Project and stack (BACKUP_STACK)."""
    server: str | None
    """PostgreSQL's system identifier, the same for as long as its data directory lives; SQLite: the file."""


def name_other_owner(origin: Origin | None, stack: str | None, server: str | None) -> str | None:
    """Whose a backup is, when it is not of this stack and server; what is not known on either side is not compared."""
    if origin is None:
        return None
    if stack and origin.stack and origin.stack != stack:
        return f"stack {origin.stack}; this is {stack}"
    if server and origin.server and origin.server != server:
        return f"another server ({origin.server}); DATABASE_URL is of {server}"
    return None


@dataclass(frozen=True)
class Sentinel:
    """The row written just before the snapshot: a restored database without it is not this backup's."""

    token: str
    written_at: datetime


@dataclass(frozen=True)
class Application:
    """The role and the search_path with which the application looked for its tables, through its own URL."""

    login: str
    role: str
    """The role that the login acts as: another one where its settings say so, as after a rotation."""
    search_path: str
    schema: str | None
    """The URL's parameter `schema` (Prisma's): where such an application looks, whatever search_path says."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All of it is known only when the dump has ended, and none of it is secret."""

    id: str
    kind: Kind
    created_at: datetime
    """When the snapshot was taken: what the database held then is what comes back."""
    finished_at: datetime
    engine: Literal["postgresql", "sqlite"]
    server_version: str
    database: str
    format: Literal["custom", "directory", "sqlite"]
    schema_level: int | None
    release: Release | None
    tables: Mapping[str, int]
    """`schema.table` → rows in the dump's own snapshot, those of partitions under the root. SQLite: `main.table`."""
    sentinel: Sentinel
    files: tuple[File, ...]
    size_bytes: int
    database_bytes: int
    key_ids: tuple[str, ...]
    """The age recipients that can decrypt it; empty when it is not encrypted."""
    tools: Mapping[str, str]
    """Program → version."""
    previous: str | None
    """The backup that was the newest before this one."""
    application: Application | None = None
    """None in SQLite, and in backups that were made before this was noted."""
    via_root: bool = False
    """Whether the dump leaves it to partitioned tables to sort rows into partitions."""
    origin: Origin | None = None
    """None in a manifest of an older version."""

    @property
    def encrypted(self) -> bool:
        return bool(self.key_ids)

    @property
    def folder(self) -> str:
        return folder(self.id)

    @property
    def dump(self) -> tuple[File, ...]:
        """The database itself: one file, or all of a directory dump's, without the roles."""
        return tuple(file for file in self.files if not file.name.startswith("roles.sql"))

    def key(self, file: File) -> str:
        """Where in the store one of its files is."""
        return self.folder + file.name

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self), default=_plain))

    def to_bytes(self) -> bytes:
        return (json.dumps(self.to_json(), indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Manifest:
        """Read one; `manifest_invalid`, naming the backup, if it is not what `to_bytes` wrote."""
        try:
            raw = json.loads(data)
            release, sentinel, origin = raw.pop("release"), raw.pop("sentinel"), raw.pop("origin", None)
            application = raw.pop("application", None)
            made = cls(
                **{
                    **raw,
                    "created_at": datetime.fromisoformat(raw["created_at"]),
                    "finished_at": datetime.fromisoformat(raw["finished_at"]),
                    "origin": origin and Origin(**origin),
                    "release": release and Release(**release),
                    "sentinel": Sentinel(sentinel["token"], datetime.fromisoformat(sentinel["written_at"])),
                    "files": tuple(File(**file) for file in raw["files"]),
                    "application": application and Application(**application),
                    "key_ids": tuple(raw["key_ids"]),
                }
            )
            if made.id != name:
                raise ValueError(f"it is of {made.id}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise TaskError(
                "manifest_invalid", f"the manifest of backup {name} cannot be read ({error}): use another backup"
            ) from error
        return made


def folder(backup: str) -> str:
    return f"{FOLDER}{backup}/"


def manifest_key(backup: str) -> str:
    return f"{folder(backup)}manifest.json"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(type(value).__name__)
