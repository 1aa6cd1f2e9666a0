"""Monitoring at work: real servers watch a real shop, and a real receiver is told what happens to it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster.monitored import Observed, eventually, watch
from tests.cluster.receiver import Receiver, receiver
from tests.cluster.stack import Stack
from tests.cluster.traffic import Traffic

JOBS = {"backend", "health", "front-door", "postgres", "redis", "prometheus", "alertmanager", "kubelet", "containers"}


@pytest.fixture(scope="module")
def told(images: dict[str, str]) -> Iterator[Receiver]:
    with receiver("monitoring", images["tasks"]) as made:
        yield made


@pytest.fixture(scope="module")
def watched(
    images: dict[str, str], monitoring_image: str, told: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    made = Stack.create("monitoring", tmp_path_factory.mktemp("monitoring"), backups=False)
    try:
        watch(made, told, monitoring_image)
        made.runbook("deploy", images["shop:v2"], "--yes").check()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def observed(watched: Stack) -> Observed:
    return Observed(watched)


def test_everything_is_read_and_each_pod_by_itself(observed: Observed) -> None:
    def all_up() -> bool:
        targets = observed.targets()
        up = [target["labels"]["job"] for target in targets if target["health"] == "up"]
        return set(up) == JOBS and len(up) == len(targets) == len(JOBS) + 1  # two pods of the shop

    eventually(all_up, 60, observed.targets)
    assert observed.number('count(up{job="backend"})') == 2
    # What rules ask for carries the namespace, and no other namespace's is among it.
    for series in ("up", "pg_up", "redis_up", "probe_success", "container_memory_working_set_bytes"):
        spaces = {found["metric"].get("namespace") for found in observed.query(f"count by (namespace) ({series})")}
        assert spaces == {observed.stack.namespace}, series


def test_nobody_else_gets_in(watched: Stack, told: Receiver) -> None:
    assert told.reaches(f"receiver.{told.namespace}.svc", 8080)
    for name, port in (("prometheus", 9090), ("alertmanager", 9093), ("postgres-exporter", 9187)):
        assert not told.reaches(f"{name}.{watched.namespace}.svc", port), name


def test_nothing_fires_on_a_healthy_shop_but_the_watchdog(observed: Observed, told: Receiver) -> None:
    told.wait("/switch", "Watchdog", observed.stack.namespace)
    eventually(lambda: observed.firing() == {"Watchdog"}, 90, observed.firing)


def test_errors_of_a_release_are_told_and_that_they_are_over(
    observed: Observed, watched: Stack, images: dict[str, str], told: Receiver
) -> None:
    good = images["shop:v2"]
    with Traffic(watched.url):
        watched.kubectl("set", "image", "deployment/backend", f"backend={images['shop:v4-errors']}")
        began = time.time()
        message = told.wait("/critical", "RollbackErrorRate", "release 4", since=began, seconds=120)
        assert "@tech-lead @devops" in message.text
        watched.kubectl("set", "image", "deployment/backend", f"backend={good}")
        watched.kubectl("rollout", "status", "deployment/backend", "--timeout=120s")
        told.wait("/critical", "RollbackErrorRate* is over", since=message.at, seconds=120)


def test_a_database_that_is_away_is_told_and_blamed_on_no_release(
    observed: Observed, watched: Stack, told: Receiver
) -> None:
    began = time.time()
    with Traffic(watched.url):
        watched.kubectl("scale", "statefulset/postgres", "--replicas=0")
        away = told.wait("/critical", "PostgresAway", since=began, seconds=120)
        # The same failed checks that would take a release back: people are told of them all the while.
        eventually(lambda: "HealthCheckFailing" in observed.firing(), 60, observed.firing)
        watched.kubectl("scale", "statefulset/postgres", "--replicas=1")
        told.wait("/critical", "PostgresAway* is over", since=away.at, seconds=120)
        eventually(lambda: "HealthCheckFailing" not in observed.firing(), 120, observed.firing)
    span = int(time.time() - began) + 1
    assert not observed.query(f'ALERTS{{action="rollback",alertstate="firing"}}[{span}s]')
    assert observed.query(f'ALERTS{{alertname="PostgresAway",alertstate="firing"}}[{span}s]')


def test_neither_a_message_nor_the_servers_themselves_tell_a_secret(
    observed: Observed, watched: Stack, told: Receiver
) -> None:
    messages = [message.text for message in told.messages()]
    assert len(messages) > 5
    texts = {"messages": "".join(messages), "Prometheus": observed.configuration(), "Alertmanager": observed.status()}
    values = watched.secret_values()
    assert len(values) > 5
    for where, text in texts.items():
        assert len(text) > 1000
        for value in values:
            assert value not in text, f"a secret of {len(value)} characters stands in {where}"
