"""Two operators and the rollback controller at once: what stands in the end is the outcome of whole commands, one after
another. Each is a process with a checkout of its own; the engine is real, and so is the database of the restore."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.stack.command_lock import Holder
from ops.stack.session import Session
from settings.names import COMMAND_LOCK
from tests.support.image_registry import serve_images
from tests.support.lease_store import LeaseStore
from tests.support.operators import CONTROLLER, Operator, share
from tests.support.restore_world import new_shop
from tests.support.servers import Postgres
from tests.support.stack_session import ROOT, create_session, needs_engine
from tests.tasks.test_controller_engine import BAD, GOOD, MONITORING, SLACK, Cluster, World, serving
from tests.unit.test_controller_keeping import Api

PROGRAM = """
import json
import pulumi
import pulumi_random as random

config = pulumi.Config("runbook")
for key in ("release", "rotated", "lockdown", "maintenance", "quarantine"):
    random.RandomId(key, byte_length=4, keepers={"is": json.dumps(config.get_object(key))})
"""

pytestmark = [needs_engine, pytest.mark.filterwarnings("ignore:Error in event stream")]


class Company:
    """The three, before any of them begins. Revision 2 is bad, and runs."""

    def __init__(self, world: World, folder: Path, held: ExitStack) -> None:
        self.world, self._leases = world, LeaseStore()
        world.released(1, GOOD)
        world.released(2, BAD)
        (world.folder / "elsewhere-2.yaml").replace(world.session.file)
        self._before = len(list(world.session.history()))
        port = held.enter_context(share(self._leases))
        self.alice, self.bob, self._controller = (
            Operator(who, Path(shutil.copytree(world.folder, folder / who)), port)
            for who in ("alice", "bob", CONTROLLER)
        )
        for each in (self.alice, self.bob, self._controller):
            held.callback(each.end)

    def meet(self, *words: str) -> Mapping[str, Any]:
        """While alice's command runs, bob begins this one and an alert about revision 2 fires. The configuration in the
        end, when all three have ended."""
        for lease in self._leases.watch_lease(COMMAND_LOCK, 120):
            if (holder := Holder.of(lease)) and holder.user == "alice":
                break
        else:
            raise AssertionError("alice's command did not begin")
        alert = self.world.fire(git=BAD[0])
        self._controller.begin("control", json.dumps(alert.to_dict()))
        self.bob.begin(*words)
        for each in (self.alice, self.bob, self._controller):
            each.finish()
        return next(self.world.session.history().updates()).config

    @property
    def commands(self) -> list[tuple[str, int]]:
        """Who changed the stack in which order, and by how many updates in a row."""
        entries = list(self.world.session.history())[: -self._before]
        assert all(entry.succeeded for entry in entries), [(entry.message, entry.result) for entry in entries]
        return [
            (who, len(list(run))) for who, run in groupby(entry.who.partition("@")[0] for entry in reversed(entries))
        ]


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    guards = yaml.safe_load((ROOT / "Pulumi.sandbox.yaml").read_text())["config"]["runbook:guards"]
    guards["quota"]["storage"] = "20Gi"
    changes = {"runbook:guards": guards, "runbook:monitoring": MONITORING}
    session = create_session(tmp_path, monkeypatch, PROGRAM, changes, SLACK)
    cluster = Cluster(session.file)
    monkeypatch.setattr(Session, "cluster", lambda *_: cluster)
    with ExitStack() as held:
        world = World(session, Api())
        held.enter_context(serving(world))
        yield Company(world, tmp_path, held)


LOCKDOWN = ("security", "lockdown", "--reason", "an attack")


def test_a_rotation_a_lockdown_and_a_trigger(company: Company) -> None:
    company.alice.begin("rotate", "start", "JWT_SECRET", "--no-overlap")
    stands = company.meet(*LOCKDOWN)
    commands = dict(company.commands)
    assert commands.keys() == {"alice", "bob", CONTROLLER}
    assert len(company.commands) == 3, f"one command after the other: {company.commands}"
    assert commands["alice"] > 2
    assert stands["runbook:rotated"]["JWT_SECRET"]["phase"] == "retired"
    assert stands["runbook:lockdown"]["reason"] == "an attack"
    assert (stands["runbook:release"]["git"], stands["runbook:release"]["action"]) == (GOOD[0], "rollback")
    assert [each["digest"] for each in stands["runbook:quarantine"]] == [f"sha256:{BAD[1] * 64}"]


def test_a_restore_in_place_a_lockdown_and_a_trigger(
    company: Company, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    shop = new_shop(postgres, database, tmp_path / "store", tmp_path / "scratch")
    backup = shop.back_up()
    postgres.execute("INSERT INTO orders (what) VALUES ('later')", database)
    company.alice.begin("restore", "start", backup, "--in-place", database=shop.environment)
    stands = company.meet(*LOCKDOWN)
    assert len(company.commands) == 3, f"one command after the other: {company.commands}"
    assert dict(company.commands)["alice"] == 3, "maintenance, the checks, and the end of maintenance"
    assert (shop.orders(), shop.phase(), shop.databases()) == (["thyme", "mint", "sage"], "idle", {database})
    assert "runbook:maintenance" not in stands
    assert stands["runbook:lockdown"]["reason"] == "an attack"
    assert (stands["runbook:release"]["git"], stands["runbook:release"]["action"]) == (GOOD[0], "rollback")
    assert [each["digest"] for each in stands["runbook:quarantine"]] == [f"sha256:{BAD[1] * 64}"]


def test_a_rotation_the_fix_and_a_trigger_of_the_old_release(company: Company) -> None:
    """In either order the fix serves in the end: after the rollback, or instead of it."""
    company.alice.begin("rotate", "start", "JWT_SECRET", "--no-overlap")
    with serve_images() as images:
        stands = company.meet("deploy", f"{images}:v1")
    whole = dict(company.commands)
    assert len(company.commands) == len(whole), f"one command after the other: {company.commands}"
    assert {"alice", "bob"} <= whole.keys()
    assert stands["runbook:rotated"]["JWT_SECRET"]["phase"] == "retired"
    assert (stands["runbook:release"]["git"], stands["runbook:release"]["action"]) == ("aaaa1111", "deploy")
    taken_back = [each["digest"] for each in stands.get("runbook:quarantine", [])]
    assert taken_back == ([f"sha256:{BAD[1] * 64}"] if CONTROLLER in whole else [])
