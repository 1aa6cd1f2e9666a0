"""The PostgreSQL and Redis exporters serve each metric that the alerts query."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import httpx
import psycopg
import pytest

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


def value(port: int, metric: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).raise_for_status().text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{metric}[ {{]", line))


def test_a_release_that_holds_every_connection_does_not_look_like_a_database_that_is_away() -> None:
    """The exporter keeps its connection, and its counts show that the others are used up."""
    name = "prometheus-postgres-exporter"
    (port,) = free_ports(1)
    options = ("-c", "max_connections=12", "-c", "superuser_reserved_connections=2")
    with contextlib.ExitStack() as leak, postgres(*options) as server:
        environment = os.environ | {"DATA_SOURCE_NAME": f"{server.url()}?sslmode=disable"}
        command = [packages.require(name), f"--web.listen-address=127.0.0.1:{port}"]
        with running(command, "istening", environment=environment):
            assert value(port, "pg_up") == 1
            with contextlib.suppress(psycopg.OperationalError):
                for _ in range(20):
                    leak.enter_context(psycopg.connect(f"{server.url()}?sslmode=disable"))
            with pytest.raises(psycopg.OperationalError, match=r"too many clients|remaining connection slots"):
                psycopg.connect(f"{server.url()}?sslmode=disable")
            assert value(port, "pg_up") == 1
            percent = 100 * value(port, "pg_stat_activity_count") / value(port, "pg_settings_max_connections")
            assert percent >= Monitoring().postgres.connections_percent
