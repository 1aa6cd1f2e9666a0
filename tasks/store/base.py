"""Interface of a store. Keys are relative to its prefix and use `/`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from tasks.errors import TaskError


@dataclass(frozen=True)
class Entry:
    """One object."""

    key: str
    size: int
    modified: datetime


class Missing(TaskError):
    """There is no such object (code `object_missing`)."""

    def __init__(self, store: str, key: str) -> None:
        super().__init__("object_missing", f"{store} has no {key}")
        self.key = key


class Exists(TaskError):
    """`put(…, new=True)` found one there already (code `object_exists`)."""

    def __init__(self, store: str, key: str) -> None:
        super().__init__("object_exists", f"{store} has a {key} already")
        self.key = key


class Sink(Protocol):
    """Takes an object's bytes as they come."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int: ...


class Store(ABC):
    """Objects under keys. An object is there whole or not at all.

    Every method raises `TaskError` with one of: `store_unreachable`, `store_denied`, `bucket_missing`,
    `upload_interrupted`, `checksum_mismatch`, `disk_full`, `clock_wrong`, `store_failed`; messages name the
    store and hold no credentials.
    """

    url: str
    """As BACKUP_STORE has it, for messages."""

    @abstractmethod
    def prepare(self) -> None:
        """Check that it can be used, before anything is dumped; create the bucket or folder if configured."""

    @abstractmethod
    def upload(self, key: str, expected: int = 0) -> AbstractContextManager[Sink]:
        """A sink whose bytes become the object when the block ends well, and nothing when it raises.

        Memory stays flat however much is written; `expected` is a guess at the size, for choosing how big the
        pieces are. The server verifies a checksum of each.
        """

    @abstractmethod
    def put(self, key: str, data: bytes, *, new: bool = False, keep: bool = True) -> None:
        """A small object at once. With `new`, raises `Exists` rather than replace one, also against a racing writer.

        `keep=False` is for what is soon deleted: Object Lock is not asked to keep it.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """A small object; `Missing` if there is none."""

    @abstractmethod
    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Read an object as a stream; `Missing` if there is none. Resumes automatically after a lost connection."""

    @abstractmethod
    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, by key."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""

    @abstractmethod
    def clear_unfinished(self, prefix: str = "") -> int:
        """Remove the remains of killed uploads, and return their number. Only while no upload is running."""

    @abstractmethod
    def now(self) -> datetime:
        """The time by the clock that `Entry.modified` is of."""

    def clock(self) -> datetime | None:
        """The store's time; None if it has no clock of its own."""
        return None
