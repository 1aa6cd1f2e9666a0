"""The stack's history from the engine: one entry per update, with its configuration without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ops.stack.state_files import StateFiles, unpack

if TYPE_CHECKING:
    from settings import Release

RELEASE = "runbook:release"
QUARANTINE = "runbook:quarantine"
ROTATED = "runbook:rotated"
RESTORED = ("runbook:application", "runbook:commands")
"""What a rollback restores besides the release."""

PAGE = 50
COLUMNS = (
    "revision",
    "when",
    "who",
    "action",
    "image",
    "git",
    "version",
    "schema",
    "rollbackOf",
    "result",
    "seconds",
    "changes",
)
"""What a list shows of an update."""
_STORED = (".history.json", ".history.json.gz")
_BY = re.compile(r" by (?P<who>\S+)$")


@dataclass(frozen=True)
class Entry:
    """One update of the stack, without secret values."""

    kind: str
    result: str
    started: datetime
    ended: datetime | None
    message: str
    environment: Mapping[str, str]
    config: Mapping[str, Any]
    changes: Mapping[str, int]

    @cached_property
    def release(self) -> Release | None:
        """The release it ran with; None before the first deploy (or when another program wrote it)."""
        # Imported here: a list of updates needs no models.
        from pydantic import ValidationError

        from settings import Release

        try:
            return Release.model_validate(self.config[RELEASE])
        except (KeyError, ValidationError):
            return None

    @property
    def written(self) -> Mapping[str, Any]:
        """The release as written in the configuration, not validated."""
        found = self.config.get(RELEASE)
        return found if isinstance(found, Mapping) else {}

    @property
    def revision(self) -> int | None:
        return self.written.get("revision")

    @property
    def bundled_database(self) -> bool:
        """Whether the database was part of the stack, and so ended with it."""
        data = self.config.get("runbook:data")
        return isinstance(data, Mapping) and data.get("postgres", {}).get("mode") == "bundled"

    @property
    def succeeded(self) -> bool:
        return self.kind == "update" and self.result == "succeeded"

    @property
    def changed_something(self) -> bool:
        return any(count for operation, count in self.changes.items() if operation not in ("same", "read", "refresh"))

    @property
    def action(self) -> str:
        """deploy, rollback, restore, maintenance, lockdown, rotate; update for plain `pulumi up`; else the engine's."""
        if self.kind != "update" or self.revision is None:
            return self.kind
        if (word := self.message.partition(" ")[0]) in ("restore", "maintenance", "lockdown", "rotate"):
            return word
        ours = self.message.startswith(f"revision {self.revision}:")
        return self.written.get("action", "deploy") if ours else "update"

    @property
    def who(self) -> str:
        if match := _BY.search(self.message):
            return match["who"]
        # Of a plain `pulumi up` the engine records only the author of the commit, not the user.
        return self.environment.get("ci.system", "")

    @property
    def seconds(self) -> int | None:
        return round((self.ended - self.started).total_seconds()) if self.ended else None

    def restored(self) -> dict[str, Any]:
        """The parts of its configuration that a rollback puts back; None for a key it did not have."""
        return {key: self.config.get(key) for key in RESTORED}


def history_row(entry: Entry) -> dict[str, Any]:
    """What a list shows of an update: COLUMNS, without encrypted values."""
    release = entry.written
    return {
        **{key: None if _holds_secret(release.get(key)) else release.get(key) for key in COLUMNS},
        "when": entry.started.isoformat(),
        "who": entry.who,
        "action": entry.action,
        "result": entry.result,
        "seconds": entry.seconds,
        "changes": {op: count for op, count in entry.changes.items() if op != "same"},
    }


def _holds_secret(item: Any) -> bool:
    return isinstance(item, Mapping) and (_is_secret(item) or any(map(_holds_secret, item.values())))


def parse(updates: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Entries from `pulumi stack history --json`, newest first as they come."""
    return [
        _entry(update, {key: _plain(item) for key, item in update["config"].items() if not item["secret"]})
        for update in updates
    ]


def list_stored(files: StateFiles, folder: str) -> list[str]:
    """Names of the files in which a backend keeps a stack's updates, newest first."""
    return sorted(filter(is_stored, files.names(folder)), reverse=True)


def is_stored(name: str) -> bool:
    """Whether this file in a history is an update; beside it are states and other programs' files."""
    return name.endswith(_STORED)


def read_stored(files: StateFiles, folder: str, names: Sequence[str]) -> list[Entry]:
    """These updates, in this order, without those that were deleted in the meantime.

    The engine reads one file after another. Of 1,000 updates, a page of 50 takes it 0.3 s in a folder and 10 s in a
    bucket that answers after 80 ms; this takes 0.01 s and 5 s. A deploy or a rollback, which has 90 s, reads three
    pages. All 1,000 in a folder: 1.8 s and 0.4 s as whole commands (benchmarks/results/history_1000.json). A list of a
    bucket is read from an index (`ops/stack/history_index.py`).
    """
    return [parse_stored(content) for content in files.read(folder, names)]


def parse_stored(content: bytes) -> Entry:
    """One update from its file."""
    update: Mapping[str, Any] = json.loads(unpack(content))
    return _entry(update, {key: item for key, item in update["config"].items() if not _is_secret(item)})


def _is_secret(item: Any) -> bool:
    return isinstance(item, Mapping) and "secure" in item


def _entry(update: Mapping[str, Any], config: Mapping[str, Any]) -> Entry:
    return Entry(
        kind=update["kind"],
        result=update.get("result", ""),
        started=_time(update["startTime"]),
        ended=_time(update["endTime"]) if update.get("endTime") else None,
        message=update["message"],
        environment=update["environment"],
        config=config,
        changes=update.get("resourceChanges") or {},
    )


def _plain(item: Mapping[str, Any]) -> Any:
    return item["objectValue"] if "objectValue" in item else item.get("value")


def _time(value: str | int) -> datetime:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int) else datetime.fromisoformat(value)


class History:
    """Entries, newest first, loaded lazily, page by page."""

    def __init__(self, read: Callable[[int, int], list[Entry]], page: int = PAGE) -> None:
        self._read, self._page = read, page
        self._seen: list[Entry] = []
        self._whole = False

    def __iter__(self) -> Iterator[Entry]:
        index = 0
        while self._load_up_to(index):
            yield self._seen[index]
            index += 1

    def _load_up_to(self, index: int) -> bool:
        while index >= len(self._seen) and not self._whole:
            fresh = self._read(self._page, len(self._seen) // self._page + 1)
            self._seen += fresh
            self._whole = len(fresh) < self._page
        return index < len(self._seen)

    @property
    def newest(self) -> Entry | None:
        return next(iter(self), None)

    @property
    def newest_update(self) -> Entry | None:
        """The last update that ran this program with a release, whatever its result."""
        return next(self.updates(), None)

    def updates(self) -> Iterator[Entry]:
        """Only updates that ran this program with a release."""
        return (entry for entry in self if entry.kind == "update" and entry.release is not None)
