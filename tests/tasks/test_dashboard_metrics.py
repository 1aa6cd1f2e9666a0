"""The PostgreSQL and Redis exporters serve each metric that the dashboards query."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monitoring.alerts.stack import domains
from monitoring.dashboards.stack import boards
from sandbox import packages
from settings import Monitoring
from tests.support.servers import free_ports, postgres, running
from tests.tasks.test_exporters import exported

MONITORING = Monitoring()
BOARDS = boards("shop", MONITORING, None, domains("shop", MONITORING, ["backend"], None, {}))
ROWS = next(board.rows for board in BOARDS if board.slug == "database")
EXPRS = " ".join(query.expr for row in ROWS for panel in row.panels for query in panel.queries)


def exporter(what: str) -> str:
    return packages.require(f"prometheus-{what}-exporter")


def missing(prefix: str, port: int) -> set[str]:
    asked = set(re.findall(rf"\b{prefix}_\w+", EXPRS))
    assert len(asked) > 5
    return asked - exported(port)


def test_postgres() -> None:
    (port,) = free_ports(1)
    with postgres() as server:
        environment = os.environ | {"DATA_SOURCE_NAME": f"{server.url()}?sslmode=disable"}
        command = [exporter("postgres"), f"--web.listen-address=127.0.0.1:{port}"]
        with running(command, "istening", environment=environment):
            assert missing("pg", port) == set()


def test_redis(tmp_path: Path) -> None:
    server, port = free_ports(2)
    redis = ["redis-server", "--port", str(server), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    command = [exporter("redis"), f"-web.listen-address=127.0.0.1:{port}", f"-redis.addr=redis://127.0.0.1:{server}"]
    with running(redis, "Ready to accept"), running(command, "roviding metrics"):
        assert missing("redis", port) == set()
