"""A shop's database, a backup store and the application's container, for maintenance runs."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from components.maintenance_agent import AGENT
from settings.maintenance_tasks import MaintenanceTasks
from tests.support import http_servers
from tests.support.task_processes import Outcome, task

API_SERVER = [{"cidr": "10.0.0.1/32", "ports": [6443]}]


@dataclass
class World:
    """What a run needs; `changes` are settings of `runbook:maintenanceTasks`."""

    environment: dict[str, str]
    url: str
    changes: dict[str, Any] = field(default_factory=dict)

    def plan(self, tasks: Sequence[dict[str, Any]], **changes: Any) -> dict[str, str]:
        """The environment of a daily run of these tasks."""
        wanted = {"apiServer": API_SERVER, "waitSeconds": 0, **self.changes, **changes}
        # The other schedules have no say here.
        made = MaintenanceTasks.model_validate({**wanted, "daily": {"tasks": tasks}})
        return {**self.environment, "MAINTENANCE_PLAN": json.dumps(made.to_plan("daily"))}

    def run(self, tasks: Sequence[dict[str, Any]], *words: str, **changes: Any) -> Outcome:
        return task(self.plan(tasks, **changes), "maintenance", "run", "daily", *words)

    def connect(self, name: str = "") -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, application_name=name)


@contextmanager
def application(box: Path) -> Iterator[subprocess.Popen[str]]:
    """The application's container: the agent in this machine's shell."""
    agent = subprocess.Popen(
        ["/bin/sh", "-c", AGENT, "agent", str(box)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        waiter = threading.Event()
        for _ in range(500):
            if (box / "todo").is_fifo():
                break
            waiter.wait(0.01)
        yield agent
    finally:
        agent.kill()
        agent.wait()


@dataclass
class ApiServer:
    """The API server, as far as a run asks it: the Lease of commands, and the nodes."""

    identity: Path
    lease: dict[str, Any] | None = None
    nodes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    """Paths, and the tokens that came with them."""

    def hold(self, user: str, ago: timedelta = timedelta()) -> None:
        """The Lease is held by a command of this user, renewed so long ago."""
        renewed = f"{datetime.now(UTC) - ago:%Y-%m-%dT%H:%M:%S.%fZ}"
        self.lease = {"spec": {"holderIdentity": f"{user}@laptop/1a2b3c4d", "renewTime": renewed}}

    @contextmanager
    def serving(self) -> Iterator[dict[str, str]]:
        """The environment of a run that asks it."""
        api = self
        (self.identity / "token").write_text("a-token\n")

        class Handler(http_servers.Handler):
            def do_GET(self) -> None:
                api.asked.append((self.path, self.headers.get("Authorization")))
                found: Any = {"items": api.nodes} if self.path == "/api/v1/nodes" else api.lease
                self.answer_json(200 if found else 404, found or {"kind": "Status"})

        with http_servers.serve(Handler) as port:
            url = f"http://127.0.0.1:{port}"
            yield {"API_NAMESPACE": "shop", "API_URL": url, "API_IDENTITY": str(self.identity)}


@dataclass
class Customers:
    """Requests that read and write all the time."""

    url: str
    answered: int = 0
    failed: list[str] = field(default_factory=list[str])

    @contextmanager
    def shopping(self, count: int = 3) -> Iterator[None]:
        ended = threading.Event()

        def shop(number: int) -> None:
            with psycopg.connect(self.url, autocommit=True) as connection:
                # As an application's own limit: who waits longer has failed.
                connection.execute("SET statement_timeout = '2s'")
                key = number
                # Paced: on a quick machine, the updates alone would bloat an index again.
                while not ended.wait(0.002):
                    key = key * 7919 % 20_000 + 1
                    try:
                        connection.execute("SELECT note FROM orders WHERE code = %s", (f"code-{key}",)).fetchall()
                        connection.execute("UPDATE orders SET note = note || '.' WHERE id = %s", (key,))
                        connection.execute("INSERT INTO visits (page) VALUES (%s)", (f"/{key}",))
                        self.answered += 1
                    except psycopg.Error as error:
                        self.failed.append(str(error))

        threads = [threading.Thread(target=shop, args=(number,)) for number in range(1, count + 1)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def fill(url: str) -> None:
    """Tables with data, dead rows, a bloated index and one that no query scans."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, code text, note text)")
        connection.execute("CREATE TABLE visits (id bigserial PRIMARY KEY, page text)")
        connection.execute("ALTER TABLE orders SET (autovacuum_enabled = false)")
        connection.execute("CREATE INDEX orders_code ON orders (code)")
        connection.execute("CREATE INDEX orders_note ON orders (note)")
        connection.execute(
            "INSERT INTO orders SELECT n, 'code-' || n, repeat('x', 60) || n FROM generate_series(1, 60000) n"
        )
        connection.execute("DELETE FROM orders WHERE id > 20000")
