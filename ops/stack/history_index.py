"""An index of a stack's history, beside the history in the bucket: what a list shows of each update.

A list of 1,000 updates then takes one listing of the folder and one file, instead of 1,000 files. A row counts only
where the listing has its file with the same ETag; other files are read. So the index may be missing, old, damaged or
written by another version of this program: the list is the same, and only takes longer. It has no configuration, no
message and no encrypted value, and nothing but the list reads it.

It is in the history's own folder: an identity that may write updates may write it, and `pulumi stack rm` removes it.
Of that folder the engine reads files with the endings of updates only, and renames files that begin with the name of
the stack only.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ops.errors import Refused
from ops.stack.history import COLUMNS, history_row, is_stored, parse_stored
from ops.stack.state_files import BucketFiles

NAME = "index.runbook.json.gz"
_FORMAT = 1
"""To be raised when `history_row` gives another value for the same update."""
_ATTEMPTS = 3
_DAMAGED = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError)

Rows = Mapping[str, tuple[str, dict[str, Any]]]
"""By a file's name its ETag and its row."""


@dataclass(frozen=True)
class Index:
    """The index as it was read."""

    rows: Rows
    tag: str | None
    """Its own ETag; None where there is no index."""


def read_rows(files: BucketFiles, folder: str, size: int, page: int) -> list[dict[str, Any]]:
    """A page of the history, newest first, without updates that were deleted in the meantime. Writes nothing."""
    stored, index = _read(files, folder)
    names = sorted(stored, reverse=True)[(page - 1) * size : page * size]
    rows = _complete(files, folder, {name: stored[name] for name in names}, index.rows)
    return [rows[name][1] for name in names if name in rows]


def update(files: BucketFiles, folder: str) -> None:
    """Write the index again where it lacks an update or has one that was deleted. Raises Refused."""
    for _ in range(_ATTEMPTS):
        stored, index = _read(files, folder)
        rows = _complete(files, folder, stored, index.rows)
        if rows == index.rows or files.replace(folder, NAME, _pack(rows), index.tag):
            return


def _read(files: BucketFiles, folder: str) -> tuple[dict[str, str], Index]:
    """The ETags of the stored updates, and the index, both at the same time."""
    with ThreadPoolExecutor(1) as pool:
        index_ = pool.submit(_read_index, files, folder)
        tags = files.list_tags(folder)
        return {name: tag for name, tag in tags.items() if is_stored(name)}, index_.result()


def _read_index(files: BucketFiles, folder: str) -> Index:
    tag = None
    with suppress(Refused, *_DAMAGED):
        tag, content = files.read_tagged(folder, [NAME])[NAME]
        return Index(_unpack(content), tag)
    return Index({}, tag)


def _complete(files: BucketFiles, folder: str, stored: Mapping[str, str], known: Rows) -> Rows:
    """The rows of these updates: those that are known with this ETag, and the others from their files."""
    rows = {name: known[name] for name, tag in stored.items() if name in known and known[name][0] == tag}
    read = files.read_tagged(folder, [name for name in stored if name not in rows])
    return rows | {name: (tag, _row(f"{folder}/{name}", content)) for name, (tag, content) in read.items()}


def _row(place: str, content: bytes) -> dict[str, Any]:
    try:
        return history_row(parse_stored(content))
    except _DAMAGED as error:
        raise Refused(
            f"{place} is damaged, so the history cannot be listed: {error!r}. Restore an earlier version of this file "
            "in the bucket, or delete it: then the history lacks this update."
        ) from None


def _pack(rows: Rows) -> bytes:
    packed = {name: [tag, *row.values()] for name, (tag, row) in rows.items()}
    return gzip.compress(json.dumps({"format": _FORMAT, "columns": COLUMNS, "rows": packed}).encode())


def _unpack(content: bytes) -> Rows:
    found = json.loads(gzip.decompress(content))
    if (found["format"], tuple(found["columns"])) != (_FORMAT, COLUMNS):
        return {}
    return {name: (row[0], dict(zip(COLUMNS, row[1:], strict=True))) for name, row in found["rows"].items()}
