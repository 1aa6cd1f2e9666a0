"""The routes in a real Alertmanager: which receiver gets which message, and which alerts no receiver gets."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.alertmanager import Places, alertmanager
from monitoring.alerts.render import as_yaml
from monitoring.alerts.rule import Alert
from monitoring.alerts.stack import domains
from sandbox import packages
from settings import Maintenance, Monitoring, Precautions
from settings.monitoring import DEAD_MANS_SWITCH, Slack
from tests.support import http_servers
from tests.support.servers import free_ports, running

TECH_LEAD, DEVOPS, SECURITY = "<@U0123ABCD>", "<!subteam^S0123ABCD>", "<!subteam^S0456ABCD|@security>"
SLACK = Slack(
    group_wait_seconds=1,
    group_interval_seconds=5,
    escalation_critical=(TECH_LEAD, DEVOPS),
    escalation_security=(SECURITY,),
)
MONITORING = Monitoring(slack=SLACK)
TOKEN = "made-up-token"
LOCKDOWN = Precautions().lockdown("an attack", datetime.now(UTC))
ALERTS = {
    alert.name: alert
    for domain in domains(
        "shop", MONITORING, ["backend"], None, {}, Maintenance(reason="restore of the database"), LOCKDOWN
    )
    for alert in domain.alerts
}


@dataclass
class Received:
    """Received messages, by path."""

    url: str
    messages: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    away: set[str] = field(default_factory=set[str])
    """Paths that answer with an error, as Slack does when it is down."""

    def at(self, path: str) -> list[dict[str, Any]]:
        return [body for to, _, body in self.messages if to == path]

    def wait(self, path: str, text: str, seconds: float = 20) -> tuple[str, dict[str, Any]]:
        """The Authorization header and the body of the first message at this path that contains the text."""

        def found() -> tuple[str, dict[str, Any]] | None:
            return next(
                ((key, body) for to, key, body in self.messages if to == path and text in json.dumps(body)), None
            )

        with self.arrived:
            assert self.arrived.wait_for(found, seconds), f"{path} did not receive {text}: {self.messages}"
            message = found()
            assert message
            return message


@pytest.fixture
def receivers() -> Iterator[Received]:
    class Receiver(http_servers.Handler):
        def do_POST(self) -> None:
            body = json.loads(self.read_body())
            with received.arrived:
                received.messages.append((self.path, self.headers.get("Authorization", ""), body))
                received.arrived.notify_all()
            self.answer(503 if self.path in received.away else 200, "ok")

    with http_servers.serve(Receiver) as port:
        received = Received(f"http://127.0.0.1:{port}")
        yield received


@dataclass
class Sender:
    """Sends alerts as Prometheus does, to the Alertmanager at this URL."""

    url: str

    def __call__(self, *names: str, namespace: str = "shop", over: bool = False, **labels: str) -> None:
        alerts = [_alert(ALERTS[name], namespace, over, labels) for name in names]
        httpx.post(f"{self.url}/api/v2/alerts", json=alerts).raise_for_status()


@pytest.fixture
def send(receivers: Received, tmp_path: Path) -> Iterator[Sender]:
    for channel, name in MONITORING.slack.secret_names.items():
        (tmp_path / name).write_text(f"{receivers.url}/{channel}")
    (tmp_path / "token").write_text(TOKEN)
    places = Places(
        secrets=str(tmp_path),
        controller=f"{receivers.url}/controller",
        token=str(tmp_path / "token"),
        switch=f"{receivers.url}/{DEAD_MANS_SWITCH}",
    )
    (tmp_path / "alertmanager.yaml").write_text(as_yaml(alertmanager(MONITORING, places)))
    (port,) = free_ports(1)
    command = [
        packages.require("prometheus-alertmanager"), f"--config.file={tmp_path}/alertmanager.yaml",
        f"--storage.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with running(command, "Listening on"):
        yield Sender(f"http://127.0.0.1:{port}")


def _alert(alert: Alert, namespace: str, over: bool, labels: dict[str, str]) -> dict[str, Any]:
    rule = alert.to_prometheus()
    now = datetime.now(UTC)
    return {
        "labels": {**rule["labels"], **labels, "alertname": alert.name, "namespace": namespace},
        "annotations": rule["annotations"],
        # Alertmanager sends an alert older than `group_wait` at once, before it receives the next one.
        "startsAt": (now - timedelta(seconds=over)).isoformat(),
        **({"endsAt": now.isoformat()} if over else {}),
    }


def test_the_controller_is_notified_at_once_and_the_team_is_called(receivers: Received, send: Sender) -> None:
    began = time.monotonic()
    send("RollbackErrorRate", release="2.0.0", git="bbb")
    key, call = receivers.wait("/controller", "RollbackErrorRate")
    assert time.monotonic() - began < 1
    assert key == f"Bearer {TOKEN}"
    (alert,) = call["alerts"]
    assert call["status"] == alert["status"] == "firing"
    assert (alert["labels"]["action"], alert["labels"]["git"]) == ("rollback", "bbb")
    _, message = receivers.wait("/critical", "RollbackErrorRate")
    (attachment,) = message["attachments"]
    assert attachment["pretext"] == f"{TECH_LEAD} {DEVOPS}"
    assert attachment["color"] == "danger"
    assert message["link_names"] is True
    assert "shop, errors" in attachment["title"]

    send("RollbackErrorRate", release="2.0.0", git="bbb", over=True)
    _, over = receivers.wait("/critical", "is over")
    assert "✅ resolved" in over["attachments"][0]["title"]
    assert "pretext" not in over["attachments"][0]
    assert over["attachments"][0]["color"] == "good"
    receivers.wait("/controller", '"status": "resolved"')


def test_of_one_subject_only_the_gravest_alert_is_sent(receivers: Received, send: Sender) -> None:
    send("RollbackHealth", "HealthCheckFailing", "CertificateEnds", "CertificateEndsSoon")
    send("CertificateEndsSoon", namespace="staging")  # alerts of one stack do not inhibit those of another
    receivers.wait("/alerts", "staging")
    receivers.wait("/critical", "RollbackHealth")
    receivers.wait("/critical", "CertificateEnds")
    # Sent after the inhibited alerts, to the same channels.
    send("RedisMemory", "PostgresAway")
    receivers.wait("/alerts", "RedisMemory")
    receivers.wait("/critical", "PostgresAway")
    assert all("shop, certificate" not in json.dumps(message) for message in receivers.at("/alerts"))
    assert all("HealthCheckFailing" not in json.dumps(message) for message in receivers.at("/critical"))


def test_maintenance_inhibits_what_customers_notice_and_no_attack(receivers: Received, send: Sender) -> None:
    send("MaintenanceMode")
    receivers.wait("/alerts", "restore of the database")
    send("RollbackHealth", "HealthCheckFailing", "PaymentFailures")
    send("SqlInjection")
    _, call = receivers.wait("/controller", "SqlInjection")
    assert call["alerts"][0]["labels"]["action"] == "lockdown"
    _, message = receivers.wait("/security", "SqlInjection")
    assert message["attachments"][0]["pretext"] == SECURITY
    assert len(receivers.at("/controller")) == 1
    assert not receivers.at("/critical") + receivers.at("/business")


def test_a_lockdown_inhibits_the_closed_front_door_and_no_failing_service(receivers: Received, send: Sender) -> None:
    send("Lockdown")
    receivers.wait("/security", "an attack")
    send("FrontDoorClosed", "HealthCheckFailing")
    send("SqlInjection")
    receivers.wait("/security", "SqlInjection")
    receivers.wait("/critical", "HealthCheckFailing")
    assert all(
        "FrontDoorClosed" not in json.dumps(message) for message in receivers.at("/critical") + receivers.at("/alerts")
    )


def test_the_watchdog_goes_only_to_the_switch(receivers: Received, send: Sender) -> None:
    send("Watchdog")
    receivers.wait(f"/{DEAD_MANS_SWITCH}", "Watchdog")
    send("ContainerMemory", "PostgresAway", pod="backend-1", container="backend")
    receivers.wait("/critical", "PostgresAway")
    assert all("Watchdog" not in json.dumps(message) for message in receivers.at("/critical") + receivers.at("/alerts"))


def test_the_team_is_called_when_one_of_several_alerts_is_critical(receivers: Received, send: Sender) -> None:
    """Of one subject: a warning about one pod, and a critical alert about another."""
    send("ContainerMemory", pod="backend-1", container="backend")
    send("ContainerOutOfMemory", pod="backend-2", container="backend")
    _, message = receivers.wait("/alerts", "ContainerOutOfMemory")
    (attachment,) = message["attachments"]
    assert "ContainerMemory" in attachment["text"]
    assert (attachment["pretext"], attachment["color"]) == (f"{TECH_LEAD} {DEVOPS}", "danger")
    send("RedisMemory")
    _, message = receivers.wait("/alerts", "RedisMemory")
    assert "pretext" not in message["attachments"][0]
    assert message["attachments"][0]["color"] == "warning"


def test_messages_that_slack_refuses_are_counted_again_and_again(receivers: Received, send: Sender) -> None:
    """The series by which the Watchdog ends, of the real Alertmanager."""
    (counter,) = set(re.findall(r"(\w+_failed_total)\{", ALERTS["Watchdog"].expr))
    series = f'{counter}{{integration="slack"}}'

    def count() -> float:
        answer = httpx.get(f"{send.url}/metrics").text
        (line,) = [line for line in answer.splitlines() if line.startswith(series)]
        return float(line.rpartition(" ")[2])

    receivers.away |= {"/critical"}
    assert count() == 0
    send("PostgresAway")
    deadline = time.monotonic() + 60
    while (found := count()) < 2:
        assert time.monotonic() < deadline, found
        with receivers.arrived:
            receivers.arrived.wait(1)


def test_a_critical_alert_mutes_warnings_about_the_same_thing_only(receivers: Received, send: Sender) -> None:
    send("VolumeFull", persistentvolumeclaim="data-prometheus-0")
    send("NodeDiskFull", instance="node-1", mountpoint="/")
    receivers.wait("/critical", "VolumeFull")
    receivers.wait("/critical", "NodeDiskFull")
    # First what is muted, then what is not, to the same channel.
    send("VolumeFills", persistentvolumeclaim="data-prometheus-0")
    send("NodeDiskFills", instance="node-1", mountpoint="/")
    send("VolumeFills", persistentvolumeclaim="data-postgres-0")
    send("NodeDiskFills", instance="node-2", mountpoint="/")
    receivers.wait("/alerts", "VolumeFills")
    receivers.wait("/alerts", "NodeDiskFills")
    for message in receivers.at("/alerts"):
        assert message["attachments"][0]["title"].count("1 firing") == 1, message
