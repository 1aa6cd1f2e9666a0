"""Monitoring with real servers, a real shop and a real receiver of its alerts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sandbox.traffic import Traffic, client_for
from tests.support.cluster_stack import Stack
from tests.support.customers import webhook
from tests.support.monitored_stack import Observed, enable_monitoring, eventually
from tests.support.secret_search import assert_secrets_stay_secret
from tests.support.webhook_receiver import Receiver, run_receiver

JOBS = {
    *("backend", "health", "front-door", "postgres", "redis", "prometheus", "alertmanager", "kubelet", "containers"),
    "ingress",
    "logs",
}
COUNTED = {
    "sql_injection": 'shop_suspicious_requests_total{kind="sql_injection"}',
    "refused_login": 'shop_logins_total{result="refused"}',
    "refused_webhook": 'shop_webhooks_total{result="refused"}',
}
"""How the shop itself counts the events of its log."""
ATTACK = "/shop?q=%27%20OR%201%3D1--"


@pytest.fixture(scope="module")
def receiver(images: dict[str, str]) -> Iterator[Receiver]:
    with run_receiver("monitoring", images["tasks"]) as made:
        yield made


@pytest.fixture(scope="module")
def watched(images: dict[str, str], receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack.create("monitoring", tmp_path_factory.mktemp("monitoring"), backups=False, monitoring=True)
    try:
        enable_monitoring(made, receiver, enabled=False)
        made.runbook("deploy", images["shop:v2"], "--yes").check()
        yield made
        assert_secrets_stay_secret(made, [message.text for message in receiver.messages()])
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


def test_no_other_pod_can_connect(watched: Stack, receiver: Receiver) -> None:
    assert receiver.can_reach(f"receiver.{receiver.namespace}.svc", 8080)
    for name, port in (
        ("prometheus", 9090),
        ("alertmanager", 9093),
        ("postgres-exporter", 9187),
        ("log-counter", 9189),
    ):
        assert not receiver.can_reach(f"{name}.{watched.namespace}.svc", port), name


def test_nothing_fires_on_a_healthy_shop_but_the_watchdog(observed: Observed, receiver: Receiver) -> None:
    receiver.wait("/switch", "Watchdog", observed.stack.namespace)
    eventually(lambda: observed.firing() == {"Watchdog"}, 90, observed.firing)


def test_attacks_are_counted_in_the_logs_as_often_as_by_the_shop(observed: Observed, watched: Stack) -> None:
    def numbers() -> dict[str, tuple[float | None, float | None]]:
        """Of each event, how often it is in the log and how often the shop counted it."""
        logged = {event: f'sum(runbook_log_events_total{{event="{event}"}})' for event in COUNTED}
        return {
            event: (observed.number(logged[event]), observed.number(f"sum({own})")) for event, own in COUNTED.items()
        }

    def risen() -> dict[str, tuple[float, float]]:
        now = numbers()
        return {
            event: ((now[event][0] or 0) - (logged or 0), (now[event][1] or 0) - (own or 0))
            for event, (logged, own) in before.items()
        }

    # Both pods serve, and of both the log is read.
    eventually(lambda: observed.number("count(runbook_log_read_timestamp_seconds)") == 2, 60)
    eventually(lambda: observed.number("count(count by (pod) (runbook_log_lines_total))") == 2, 60)
    before = numbers()
    assert None not in [number for pair in before.values() for number in pair], before
    # Fewer of each than raise an alert.
    with client_for(watched.url) as client:
        for _ in range(7):
            client.get(ATTACK)
        for _ in range(5):
            unknown = {"email": "unknown@example.com", "password": "wrong-password"}
            assert client.post("/api/auth/login", json=unknown).status_code == 401
    for _ in range(3):
        assert webhook(watched.url, "not-the-secret") == 400
    expected = {"sql_injection": (7, 7), "refused_login": (5, 5), "refused_webhook": (3, 3)}
    eventually(lambda: risen() == expected, 60, risen)
    # And it stays so while more is read.
    lines = observed.number("sum(runbook_log_lines_total)") or 0
    eventually(lambda: (observed.number("sum(runbook_log_lines_total)") or 0) > lines, 60)
    assert risen() == expected
    # A new counter begins at 0, and with what is said from now on.
    watched.kubectl("rollout", "restart", "deployment/log-counter")
    watched.kubectl("rollout", "status", "deployment/log-counter", "--timeout=120s")
    logged = 'sum(runbook_log_events_total{event="sql_injection"})'
    eventually(lambda: observed.number(logged) == 0, 60, lambda: observed.number(logged))
    with client_for(watched.url) as client:
        client.get(ATTACK)
    eventually(lambda: observed.number(logged) == 1, 60, lambda: observed.number(logged))


def test_errors_of_a_release_are_reported_and_that_they_are_over(
    observed: Observed, watched: Stack, images: dict[str, str], receiver: Receiver
) -> None:
    good = images["shop:v2"]
    with Traffic(watched.url):
        watched.kubectl("set", "image", "deployment/backend", f"backend={images['shop:v4-errors']}")
        began = time.time()
        message = receiver.wait("/critical", "RollbackErrorRate", "release 4", since=began, seconds=120)
        assert "<!channel>" in message.text
        watched.kubectl("set", "image", "deployment/backend", f"backend={good}")
        watched.kubectl("rollout", "status", "deployment/backend", "--timeout=120s")
        receiver.wait("/critical", "RollbackErrorRate* is over", since=message.at, seconds=120)


def test_a_database_that_is_away_is_reported_and_blamed_on_no_release(
    observed: Observed, watched: Stack, receiver: Receiver
) -> None:
    began = time.time()
    with Traffic(watched.url):
        watched.kubectl("scale", "statefulset/postgres", "--replicas=0")
        away = receiver.wait("/critical", "PostgresAway", since=began, seconds=120)
        # The same failed checks that would roll a release back: people are notified of them all the while.
        eventually(lambda: "HealthCheckFailing" in observed.firing(), 60, observed.firing)
        watched.kubectl("scale", "statefulset/postgres", "--replicas=1")
        receiver.wait("/critical", "PostgresAway* is over", since=away.at, seconds=120)
        eventually(lambda: "HealthCheckFailing" not in observed.firing(), 120, observed.firing)
    span = int(time.time() - began) + 1
    assert not observed.query(f'ALERTS{{action="rollback",alertstate="firing"}}[{span}s]')
    assert observed.query(f'ALERTS{{alertname="PostgresAway",alertstate="firing"}}[{span}s]')


def test_neither_a_message_nor_the_servers_themselves_show_a_secret(
    observed: Observed, watched: Stack, receiver: Receiver
) -> None:
    messages = [message.text for message in receiver.messages()]
    assert len(messages) > 5
    texts = {"messages": "".join(messages), "Prometheus": observed.configuration(), "Alertmanager": observed.status()}
    values = watched.secret_values()
    assert len(values) > 5
    for where, text in texts.items():
        assert len(text) > 1000
        for value in values:
            assert value not in text, f"a secret of {len(value)} characters is in {where}"
