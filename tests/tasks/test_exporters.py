"""The PostgreSQL and Redis exporters serve each metric that the alerts query."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from monitoring.alerts.data import postgres as postgres_alerts
from monitoring.alerts.data import redis as redis_alerts
from monitoring.alerts.rule import Domain
from sandbox import packages
from settings import thresholds
from tests.support.postgres_majors import postgres_of
from tests.support.rotation_world import Cache
from tests.support.servers import Postgres, free_ports, postgres, running
from tests.support.task_processes import task


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
            assert asked(postgres_alerts(thresholds.Postgres()), "pg") <= exported(port)


def test_redis(tmp_path: Path) -> None:
    name = "prometheus-redis-exporter"
    server, port = free_ports(2)
    redis = ["redis-server", "--port", str(server), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    command = [
        packages.require(name), f"-web.listen-address=127.0.0.1:{port}", f"-redis.addr=redis://127.0.0.1:{server}",
    ]  # fmt: skip
    with running(redis, "Ready to accept"), running(command, "roviding metrics"):
        assert asked(redis_alerts(thresholds.Redis()), "redis") <= exported(port)


def value(port: int, metric: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).raise_for_status().text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{metric}[ {{]", line))


RESERVED = ("-c", "superuser_reserved_connections=2", "-c", "reserved_connections=2")


@pytest.mark.parametrize("major", [15, 16])
def test_a_release_that_holds_every_connection_does_not_look_like_a_database_that_is_away(major: int) -> None:
    """The exporter keeps its connection, and its counts show that the others are used up. From version 16 on, one that
    starts only then gets a connection as well."""
    options = ("-c", "max_connections=40", *RESERVED[: 4 if major >= 16 else 2])
    (port, later) = free_ports(2)
    with contextlib.ExitStack() as leak, postgres_of_major(major, *options) as server:
        server.execute("CREATE ROLE shop LOGIN PASSWORD 'shop'")
        own = f"{server.url(user='eye', password='looks/on')}?sslmode=disable"
        owned = {"ADMIN_URL": server.url(), "OWNER": "shop", "MONITOR_URL": own.partition("?")[0]}
        made = task({f"ROTATE_DATABASE_{name}": value for name, value in owned.items()}, "credentials", "monitor")
        assert made.exit_code == 0, made.message
        with exporter(port, own):
            assert value(port, "pg_up") == 1
            application = f"{server.url(user='shop', password='shop')}?sslmode=disable"
            with contextlib.suppress(psycopg.OperationalError):
                for _ in range(50):
                    leak.enter_context(psycopg.connect(application))
            with pytest.raises(psycopg.OperationalError, match=r"too many clients|remaining connection slots"):
                psycopg.connect(application)
            assert value(port, "pg_up") == 1
            percent = 100 * value(port, "pg_stat_activity_count") / value(port, "pg_settings_max_connections")
            assert percent >= thresholds.Postgres().connections_percent
            with exporter(later, own):
                assert value(later, "pg_up") == (1 if major >= 16 else 0)


@contextlib.contextmanager
def postgres_of_major(major: int, *options: str) -> Iterator[Postgres]:
    with postgres(*options) if major == 15 else postgres_of(major, *options) as server:
        yield server


@contextlib.contextmanager
def exporter(port: int, url: str) -> Iterator[None]:
    command = [packages.require("prometheus-postgres-exporter"), f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, "istening", environment=os.environ | {"DATA_SOURCE_NAME": url}):
        yield


@contextlib.contextmanager
def redis_with_exporter(folder: Path, *options: str) -> Iterator[tuple[Cache, int]]:
    """A bundled Redis, and its exporter with the login and the options that it has in a stack."""
    cache = Cache(folder)
    (port,) = free_ports(1)
    with cache.serving(*options):
        url = cache.url("monitor", cache.password("monitor"))
        made = task(cache.environment(1, 0) | {"ROTATE_REDIS_MONITOR_URL": url}, "credentials", "monitor")
        assert made.exit_code == 0, made.message
        command = [
            packages.require("prometheus-redis-exporter"),
            "-config-command=-",
            f"-web.listen-address=127.0.0.1:{port}",
        ]
        login = {"REDIS_ADDR": f"redis://127.0.0.1:{cache.port}", "REDIS_USER": "monitor"}
        with running(
            command, "roviding metrics", environment=os.environ | login | {"REDIS_PASSWORD": cache.password("monitor")}
        ):
            yield cache, port


def test_the_login_of_the_redis_exporter_serves_each_metric_and_reads_no_key(tmp_path: Path) -> None:
    with redis_with_exporter(tmp_path) as (cache, port):
        assert value(port, "redis_up") == 1
        assert asked(redis_alerts(thresholds.Redis()), "redis") <= exported(port)
        for words in ("get session:1", "config get *", "acl list", "slowlog get", "client list", "keys *"):
            assert "NOPERM" in cache.command("monitor", cache.password("monitor"), *words.split()), words


def test_a_release_that_holds_every_connection_of_redis_was_seen_to_do_so(tmp_path: Path) -> None:
    """The exporter connects for each scrape, and is refused in the end: the last count before shows why."""
    with redis_with_exporter(tmp_path, "--maxclients", "60") as (cache, port), contextlib.ExitStack() as leak:

        def connect() -> socket.socket:
            return leak.enter_context(socket.create_connection(("127.0.0.1", cache.port), timeout=10))

        for _ in range(55):
            connect()
        assert value(port, "redis_up") == 1
        assert value(port, "redis_connected_clients") >= 55
        for _ in range(5):
            connect()
        refused = connect()
        assert b"max number of clients" in refused.recv(100)
        assert value(port, "redis_up") == 0
