"""`runbook state`: copies of the engine's state, and a damaged one restored."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ops.decisions.pruning import Pruning, Stored, choose_updates
from ops.errors import Refused
from ops.stack import history_index, stack_file
from ops.stack.history import QUARANTINE, list_stored, parse_stored
from ops.stack.locks import Locked, exclusive
from ops.stack.session import Session
from ops.stack.state_files import StateFiles, open_state_files, unpack
from settings import Quarantined

_CHECKPOINT = re.compile(r"(?P<stack>.+)-(?P<nanoseconds>\d{16,20})\.checkpoint\.json(\.gz)?$")


@dataclass(frozen=True)
class Saved:
    """A state that can be restored."""

    identity: str
    """`update:…` for the state after an update, `version:…` for an earlier version that the bucket keeps."""
    written: datetime
    size: int
    """Bytes as stored."""
    resources: int | None
    """None when it is damaged."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.identity,
            "written": self.written.isoformat(),
            "size": self.size,
            "resources": self.resources,
            "readable": self.resources is not None,
        }


class StackState:
    """The files of one stack in its backend."""

    def __init__(self, session: Session) -> None:
        reader = session.reader
        if reader.files is None:
            raise Refused(
                "The state is not in a folder or an S3 bucket: Pulumi Cloud, Azure and Google have tools of their own."
            )
        self.files: StateFiles = reader.files
        self.place = reader.place
        self.project, self.stack = self.place.split("/", 1)
        self.history = f"history/{self.place}"
        self.folder = f"stacks/{self.project}"
        self.locks = session.locks

    @property
    def checkpoint(self) -> str:
        """Name of the file with the present state."""
        names = self.files.names(self.folder)
        return next((name for name in (f"{self.stack}.json", f"{self.stack}.json.gz") if name in names), "")

    def refuse_locked(self) -> None:
        """Refuse while an update runs."""
        if found := self.locks():
            raise Locked(found)

    def list_files(self) -> Iterator[tuple[str, str]]:
        """(folder, name) of everything of this stack but its locks, and the index of its history, made anew there."""
        yield "", "meta.yaml"
        yield from ((self.folder, name) for name in self.files.names(self.folder) if self._is_ours(name))
        yield from ((self.history, name) for name in self.files.names(self.history) if name != history_index.NAME)
        backups = f"backups/{self.place}"
        yield from ((backups, name) for name in self.files.names(backups))

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{self.stack}.")

    def read(self, folder: str, name: str) -> bytes:
        content = next(iter(self.files.read(folder, [name])), None)
        if content is None:
            raise Refused(f"{folder}/{name} is no longer there: an update ran meanwhile. Run the command again.")
        return content


def list_saved(session: Session, limit: int) -> list[Saved]:
    """The newest states that can be restored, newest first."""
    state = StackState(session)
    found: list[Saved] = []
    updates = [(match, name) for name in state.files.names(state.history) if (match := _CHECKPOINT.match(name))]
    for match, name in updates[::-1][:limit]:
        content = state.read(state.history, name)
        written = datetime.fromtimestamp(int(match["nanoseconds"]) / 1e9, UTC)
        identity = f"update:{match['nanoseconds']}"
        found.append(Saved(identity, written, len(content), _count_resources(content)))
    if name := state.checkpoint:
        for version in state.files.versions(state.folder, name)[:limit]:
            content = state.files.read_version(state.folder, name, version.identity)
            found.append(Saved(f"version:{version.identity}", version.written, version.size, _count_resources(content)))
    return sorted(found, key=lambda saved: saved.written, reverse=True)[:limit]


def restore_saved(session: Session, identity: str) -> dict[str, Any]:
    """Replace the present state by a saved one; the replaced one is kept beside the engine's own backups.

    Written past the engine, which cannot open a damaged state. The cluster is not changed: `pulumi refresh` reads into
    the state what was made since.
    """
    with exclusive(session.file, f"state restore {identity}"):
        state = StackState(session)
        state.refuse_locked()
        content = _read_saved(state, identity)
        resources = _count_resources(content)
        if resources is None:
            raise Refused(f"{identity} is damaged too; `runbook state list` shows which are readable.")
        name = state.checkpoint or f"{state.stack}.json"
        kept = None
        if state.checkpoint:
            kept = f"{state.stack}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.json"
            state.files.write(f"backups/{state.place}", kept, state.read(state.folder, name))
        plain = unpack(content)
        state.files.write(state.folder, name, gzip.compress(plain) if name.endswith(".gz") else plain)
    return {"restored": identity, "resources": resources, "kept": kept}


def _read_saved(state: StackState, identity: str) -> bytes:
    kind, _, key = identity.partition(":")
    if kind == "version" and key and state.checkpoint:
        known = {version.identity for version in state.files.versions(state.folder, state.checkpoint)}
        if key in known:
            return state.files.read_version(state.folder, state.checkpoint, key)
    if kind == "update" and key.isdigit():
        names = (f"{state.stack}-{key}.checkpoint.json", f"{state.stack}-{key}.checkpoint.json.gz")
        for content in state.files.read(state.history, names):
            return content
    raise Refused(f"There is no saved state {identity!r}; `runbook state list` shows them.")


def plan_pruning(session: Session, keep: int) -> Pruning:
    """Which updates `prune_history` would delete. Reads the whole history; writes nothing."""
    state = StackState(session)
    names = list_stored(state.files, state.history)
    contents = state.files.read(state.history, names)
    if len(contents) != len(names):
        raise Refused("Updates were deleted while the history was read: run the command again.")
    updates = [
        Stored(name.partition(".history.json")[0], parse_stored(content))
        for name, content in zip(names, contents, strict=True)
    ]
    listed = stack_file.read(session.file).config.get(QUARANTINE) or ()
    return choose_updates(updates, keep, [Quarantined.model_validate(item) for item in listed])


def prune_history(session: Session, keep: int) -> dict[str, Any]:
    """Delete updates that nothing needs, oldest first, each with the state after it. A run that was killed goes on with
    the same command."""
    with exclusive(session.file, f"state prune --keep {keep}"):
        state = StackState(session)
        state.refuse_locked()
        pruning = plan_pruning(session, keep)
        gone = {stored.name for stored in pruning.delete}
        files = [name for name in state.files.names(state.history) if name.split(".", 1)[0] in gone]
        # The update's own file last: without it, nothing would find the others again.
        for name in sorted(files, key=lambda name: (name.split(".", 1)[0], ".history." in name)):
            state.files.delete(state.history, name)
    return {"deleted": len(gone), "files": len(files), "spared": len(pruning.spared)}


def copy_state(session: Session, backend: str) -> dict[str, Any]:
    """Copy the stack with its whole history into another backend, and compare each file there with its original.

    Run again after it was stopped, it copies what is missing. A stack there with another state is refused.
    """
    target = open_state_files(backend)
    if target is None:
        raise Refused(f"{backend!r} is neither file://… nor s3://…")
    with exclusive(session.file, f"state copy {backend}"):
        state = StackState(session)
        state.refuse_locked()
        if not state.checkpoint:
            raise Refused(f"The stack {state.stack} has no state: there is nothing to copy.")
        before = _digest(state.read(state.folder, state.checkpoint))
        _refuse_other(target, state, before)
        copied = 0
        for folder, name in list(state.list_files()):
            copied += _copy_file(state, target, folder, name)
        state.refuse_locked()
        if _digest(state.read(state.folder, state.checkpoint)) != before:
            raise Refused("An update ran while the state was copied: run the command again.")
    return {"stack": session.stack, "to": backend, "files": len(list(state.list_files())), "copied": copied}


def _refuse_other(target: StateFiles, state: StackState, digest: str) -> None:
    there = next(iter(target.read(state.folder, [state.checkpoint])), None)
    if there is not None and _digest(there) != digest:
        theirs = set(target.names(state.history)) - {history_index.NAME}
        if theirs - set(state.files.names(state.history)):
            raise Refused(
                f"There is a stack {state.stack} with updates of its own there: it is not overwritten. Choose another "
                "bucket, or remove that stack first."
            )


def _copy_file(state: StackState, target: StateFiles, folder: str, name: str) -> bool:
    """Whether it was missing or different there."""
    content = next(iter(state.files.read(folder, [name])), None)
    if content is None:
        return False
    if any(_digest(there) == _digest(content) for there in target.read(folder, [name])):
        return False
    target.write(folder, name, content)
    if [_digest(there) for there in target.read(folder, [name])] != [_digest(content)]:
        raise Refused(f"{folder}/{name} reads differently from where it was copied to. The original is unchanged.")
    return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _count_resources(content: bytes) -> int | None:
    """How many resources a state has; None when it is damaged."""
    try:
        latest = json.loads(unpack(content))["checkpoint"]["latest"]
        return len(latest.get("resources") or []) if latest else 0
    except (ValueError, KeyError, TypeError, OSError, EOFError):
        return None
