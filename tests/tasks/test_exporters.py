"""The PostgreSQL and Redis exporters serve each metric that the alerts query."""

from __future__ import annotations

import os
import re
from pathlib import Path

import httpx

from monitoring.alerts.data import postgres as postgres_alerts
from monitoring.alerts.data import redis as redis_alerts
from monitoring.alerts.rule import Domain
from sandbox import packages
from settings import Monitoring
from settings.thresholds import Redis
from tests.support.servers import free_ports, postgres, running


def asked(domain: Domain, prefix: str) -> set[str]:
    return {name for alert in domain.alerts for name in re.findall(rf"\b{prefix}_\w+", alert.expr)}


def exported(port: int) -> set[str]:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
    return set(re.findall(r"^(\w+)[ {]", text, re.MULTILINE))


def test_postgres() -> None:
    name = "prometheus-postgres-exporter"
    (port,) = free_ports(1)
    with postgres() as server:
        environment = os.environ | {"DATA_SOURCE_NAME": f"{server.url()}?sslmode=disable"}
        command = [packages.require(name), f"--web.listen-address=127.0.0.1:{port}"]
        with running(command, "istening", environment=environment):
            assert asked(postgres_alerts(Monitoring()), "pg") <= exported(port)


def test_redis(tmp_path: Path) -> None:
    name = "prometheus-redis-exporter"
    server, port = free_ports(2)
    redis = ["redis-server", "--port", str(server), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    command = [
        packages.require(name), f"-web.listen-address=127.0.0.1:{port}", f"-redis.addr=redis://127.0.0.1:{server}",
    ]  # fmt: skip
    with running(redis, "Ready to accept"), running(command, "roviding metrics"):
        assert asked(redis_alerts(Redis()), "redis") <= exported(port)
