"""Pruning of a stack's history: what goes, and what a rollback or the quarantine needs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.commands import state
from ops.decisions.pruning import choose_updates
from ops.errors import Refused
from ops.stack.history import History
from ops.stack.pulumi_cli import PulumiCli
from ops.stack.state_files import open_state_files
from settings import Quarantined
from tests.unit.test_promotion import digest, release

COUNT = 40


def write_history(backend: Path, images: dict[int, int], failed: set[int]) -> Path:
    """Updates 1 … COUNT, the last the newest; `images`: from which update on which image."""
    folder = backend / ".pulumi" / "history" / "shop" / "dev"
    folder.mkdir(parents=True)
    image = 0
    for number in range(1, COUNT + 1):
        image = images.get(number, image)
        revision = max(first for first in images if first <= number)
        update = {
            "kind": "update",
            "result": "failed" if number in failed else "succeeded",
            "startTime": 1_795_000_000 + number,
            "endTime": 1_795_000_001 + number,
            "message": f"update {number}",
            "environment": {},
            "config": {"runbook:release": release(revision, image)},
        }
        name = f"dev-{(1_795_000_000 + number) * 10**9}"
        (folder / f"{name}.history.json").write_text(json.dumps(update))
        (folder / f"{name}.checkpoint.json").write_text("{}")
    return folder


def open_session(tmp_path: Path, quarantine: list[dict[str, Any]]) -> Any:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(json.dumps({"config": {"runbook:quarantine": quarantine}}))
    reader = SimpleNamespace(files=open_state_files(f"file://{tmp_path}/backend"), place="shop/dev")
    return SimpleNamespace(file=file, reader=reader, locks=list, stack="dev")


def left(folder: Path) -> set[int]:
    numbers = {
        file.name: int(file.name.split("-")[1].split(".")[0]) // 10**9 - 1_795_000_000 for file in folder.iterdir()
    }
    for number in numbers.values():
        assert list(numbers.values()).count(number) == 2, "an update and its state go together"
    return set(numbers.values())


def test_the_newest_and_what_is_needed_stay(tmp_path: Path) -> None:
    # Image 1 from update 1, image 7 (bad) from 3, image 2 from 5, image 3 from 8 to the end.
    folder = write_history(tmp_path / "backend", {1: 1, 3: 7, 5: 2, 8: 3}, failed={3, 4})
    bad = {"digest": digest(7), "revision": 3, "reason": "lost orders"}
    session = open_session(tmp_path, [bad])
    plan = state.plan_pruning(session, 10)
    assert left(folder) == set(range(1, COUNT + 1)), "a plan changes nothing"
    done = state.prune_history(session, 10)
    # 8 released what serves; 5 and 7, 1 and 2 are the two before; 3 and 4 are why image 7 is quarantined.
    assert left(folder) == {1, 2, 3, 4, 5, 7, 8, *range(31, 41)}
    assert done == {"deleted": len(plan.delete), "files": 2 * len(plan.delete), "spared": 7}
    assert state.prune_history(session, 10)["deleted"] == 0


def test_a_small_number_and_a_running_update_are_refused(tmp_path: Path) -> None:
    folder = write_history(tmp_path / "backend", {1: 1}, failed=set())
    session = open_session(tmp_path, [])
    with pytest.raises(Refused, match="--keep 9 is below 10"):
        state.prune_history(session, 9)
    session.locks = lambda: [SimpleNamespace()]
    with pytest.raises(Refused):
        state.prune_history(session, 10)
    assert left(folder) == set(range(1, COUNT + 1))


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    folder = write_history(tmp_path / "backend", {1: 1}, failed=set())
    session = open_session(tmp_path, [])
    files, deleted = session.reader.files, []

    def delete(place: str, name: str) -> None:
        if len(deleted) == 3:
            raise KeyboardInterrupt
        deleted.append(name)
        type(files).delete(files, place, name)

    session.reader.files = SimpleNamespace(names=files.names, read=files.read, delete=delete)
    with pytest.raises(KeyboardInterrupt):
        state.prune_history(session, 10)
    session.reader.files = files
    state.prune_history(session, 10)
    assert left(folder) == {1, *range(31, 41)}


def test_nothing_is_pruned_of_a_short_history() -> None:
    assert not choose_updates([], 10, [Quarantined(digest=digest(1), revision=1, reason="x")]).delete


def test_the_files_of_a_history_are_listed_once(tmp_path: Path) -> None:
    write_history(tmp_path / "backend", {1: 1}, failed=set())
    files = open_state_files(f"file://{tmp_path}/backend")
    assert files
    listed: list[str] = []

    def names(folder: str) -> list[str]:
        listed.append(folder)
        return files.names(folder)

    (tmp_path / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    reader = PulumiCli(tmp_path, "dev")
    reader.__dict__["files"] = SimpleNamespace(names=names, read=files.read)
    assert len(list(History(reader.read_history, page=7))) == COUNT
    assert len(listed) == 1
    assert len(list(History(reader.read_history, page=7))) == COUNT
    assert len(listed) == 2
