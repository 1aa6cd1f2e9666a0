"""Operators and the rollback controller, each as a process of its own with a checkout of its own, on one stack.

The engine and its state are real; the Leases of the cluster are in the test's process, for all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import typer
from lightkube.resources.coordination_v1 import Lease

from ops.cli.main import app
from ops.commands import restore, rollback
from ops.controller import guard
from ops.controller.alerts import Alert
from ops.controller.workspace import NAME
from ops.errors import Refused
from ops.stack.session import Session, open_session
from tests.support.lease_store import LeaseStore
from tests.support.servers import free_ports
from tests.support.stack_session import ROOT
from tests.support.task_processes import ended, start
from tests.tasks.test_controller_engine import Cluster, World

CONTROLLER = NAME
_KEY = b"the tests' own"
_TIMES = 20
"""How often an operator whose checkout is out of date brings it up to date and runs the command again."""


class _Plain:
    """The Leases as values that can be passed on to another process."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases

    def read(self, name: str) -> dict[str, Any] | None:
        return _to_plain(self._leases.read_lease(name))

    def write(self, lease: dict[str, Any]) -> dict[str, Any] | None:
        return _to_plain(self._leases.write_lease(Lease.from_dict(lease)))

    def watch(self, name: str, seconds: float, seen: dict[str, Any] | None) -> dict[str, Any] | None:
        return _to_plain(self._leases.await_lease(name, seconds, _to_lease(seen)))


def _to_plain(lease: Lease | None) -> dict[str, Any] | None:
    return lease.to_dict() if lease else None


def _to_lease(plain: dict[str, Any] | None) -> Lease | None:
    return Lease.from_dict(plain) if plain else None


class _Manager(BaseManager):
    """Gives processes the test's Leases."""


_Manager.register("leases")


@contextmanager
def share(leases: LeaseStore) -> Iterator[int]:
    """Leases for processes that connect to this port."""

    class Serving(BaseManager):
        pass

    Serving.register("leases", callable=lambda: _Plain(leases))
    (port,) = free_ports(1)
    server = Serving(("127.0.0.1", port), _KEY).get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield port  # the thread ends with the test's process


class Operator:
    """A person, or the controller, with a checkout of the stack's project."""

    def __init__(self, who: str, checkout: Path, port: int) -> None:
        self._who, self._checkout, self._port = who, checkout, port
        self._process: subprocess.Popen[str] | None = None

    def begin(self, *words: str, database: Mapping[str, str] | None = None) -> None:
        """Start `runbook` with these words, or the controller with `control` and an alert.

        `database`: what the tasks of a restore are given.
        """
        given = {
            "port": self._port,
            "host": Cluster.host,
            "checkout": str(self._checkout),
            "words": words,
            "database": database,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.operators"],
            cwd=ROOT,
            env={**os.environ, "RUNBOOK_USER": self._who, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdin
        self._process.stdin.write(json.dumps(given))
        self._process.stdin.close()
        self._process.stdin = None

    def finish(self) -> str:
        """What it printed, when it has succeeded."""
        assert self._process
        out, _ = self._process.communicate(timeout=400)
        assert self._process.returncode == 0, f"{self._who}: {out}"
        return out

    def end(self) -> None:
        """Where the test failed before it had ended."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class _SharedCluster(Cluster):
    """The double of the cluster, with the Leases of all."""

    def __init__(self, file: Path, leases: Any) -> None:
        super().__init__(file)
        self._of_all = leases

    def read_lease(self, name: str) -> Lease | None:
        return _to_lease(self._of_all.read(name))

    def write_lease(self, lease: Lease) -> Lease | None:
        return _to_lease(self._of_all.write(lease.to_dict()))

    def await_lease(self, name: str, seconds: float, seen: Lease | None = None) -> Lease | None:
        return _to_lease(self._of_all.watch(name, seconds, _to_plain(seen)))


class _Tasks:
    """Tasks as processes, on a real database."""

    def __init__(self, database: Mapping[str, str]) -> None:
        self._database = database

    def run(self, *words: str) -> Any:
        outcome = ended(start(self._database, *words), self._database)
        if outcome.exit_code:
            raise Refused(outcome.message)
        return outcome.result


def _operate(session: Session, words: list[str]) -> int:
    """As a person does: when the checkout turns out to be out of date, it is brought up to date and judged again."""
    code = Refused.exit_code
    for _ in range(_TIMES):
        code = _run([*words, "--cwd", str(session.file.parent), "--stack", "dev", "--yes", "--wait", "300"])
        if code != Refused.exit_code:
            return code
        World(session, Cluster.api).fresh()
    return code


def _run(words: list[str]) -> int:
    try:
        app(words, standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except typer.Exit as end:
        return end.exit_code
    return 0


def _control(session: Session, alert: Alert) -> int:
    """The controller until it has judged the alert for good."""
    guard.AGAIN_SECONDS = 1
    world = World(session, Cluster.api)
    world.handle(alert, lambda: None, world.handled, seconds=300)
    print(json.dumps(world.handled()))
    return 0


def main() -> int:
    given = json.load(sys.stdin)
    manager = _Manager(("127.0.0.1", given["port"]), _KEY)
    manager.connect()
    leases = manager.leases()  # pyright: ignore[reportAttributeAccessIssue]
    session = open_session(Path(given["checkout"]), "dev")
    cluster = _SharedCluster(session.file, leases)
    cluster.level, Cluster.host = 1, given["host"]
    Session.cluster = lambda *_: cluster  # pyright: ignore
    if database := given["database"]:
        for module in (restore, rollback):
            module.tasks_of = lambda *_: _Tasks(database)  # pyright: ignore
    words = given["words"]
    if words[0] == "control":
        return _control(session, Alert.from_dict(json.loads(words[1])))
    return _operate(session, words)


if __name__ == "__main__":
    sys.exit(main())
