"""The rollback controller: which alerts it accepts, and what it may do in the cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.controller.alerts import Alert, Hint, Malformed, Unreachable, hints
from ops.controller.metrics import Metrics
from ops.controller.web import Webhook, server
from ops.decisions.release_state import locked_since, maintained_since, released_since
from tests.support.program import RELEASE, run_program, stack_config
from tests.unit.test_controller_guard import ALERT, HINT, NOW, release, update
from tests.unit.test_settings import refusal

# -- the webhook ---------------------------------------------------------------------------------------


class Firing:
    """An Alertmanager in which these alerts fire."""

    def __init__(self, *alerts: Alert) -> None:
        self.alerts, self.away = alerts, False

    def firing(self, hint: Hint) -> Alert | None:
        if self.away:
            raise Unreachable("gone")
        return next((alert for alert in self.alerts if alert.hint == hint), None)


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    def known(self, key: str) -> bool:
        return key in {alert.hint.key for alert in self.alerts}

    def put(self, alert: Alert) -> None:
        self.alerts.append(alert)


RIGHT = "Bearer right"


class Controller:
    """The real server, with its real webhook."""

    def __init__(self, folder: Path) -> None:
        token = folder / "token"
        token.write_text("right\n")
        self.counts, self.inbox, self.alertmanager, self.ready = Metrics(), Inbox(), Firing(ALERT), True
        webhook = Webhook(token, self.alertmanager, self.inbox, self.counts)
        self.serving = server(0, webhook, self.counts, lambda: True, lambda: self.ready)
        threading.Thread(target=self.serving.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.serving.server_address[1]}"

    def post(self, body: Any, token: str | None = RIGHT) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(f"{self.url}/alerts", content=content, headers={"Authorization": token} if token else {})

    def counted(self, series: str) -> int:
        found = [line for line in httpx.get(f"{self.url}/metrics").text.splitlines() if line.startswith(series)]
        assert len(found) == 1, f"{series}: {found}"
        return int(float(found[0].split()[-1]))


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    made = Controller(tmp_path)
    yield made
    made.serving.shutdown()


def body(hint: Hint = HINT, status: str = "firing") -> dict[str, Any]:
    # Nanoseconds, as Alertmanager's webhooks send them.
    starts_at = hint.starts_at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"
    return {"version": "4", "alerts": [{"status": status, "fingerprint": hint.fingerprint, "startsAt": starts_at}]}


def test_what_really_fires_is_accepted_once(controller: Controller) -> None:
    assert controller.post(body()).json() == {"alerts": ["accepted"]}
    assert controller.post(body()).json() == {"alerts": ["repeated"]}
    assert controller.inbox.alerts == [ALERT], "with the labels from Alertmanager, not from the caller"
    assert controller.counted('runbook_controller_alerts_total{outcome="accepted"}') == 1
    assert controller.counted('runbook_controller_alerts_total{outcome="repeated"}') == 1


@pytest.mark.parametrize("token", ["Bearer wrong", "right", "Basic right", "Bearer rightt", "", None])
def test_a_request_without_the_token_is_refused(controller: Controller, token: str | None) -> None:
    assert controller.post(body(), token).status_code == 401
    assert controller.counted('runbook_controller_refused_total{reason="unauthorized"}') == 1
    assert not controller.inbox.alerts


@pytest.mark.parametrize("hint", [Hint("other", HINT.starts_at), Hint("f1", HINT.starts_at - timedelta(hours=1))])
def test_forged_and_replayed_alerts_are_refused(controller: Controller, hint: Hint) -> None:
    assert controller.post(body(hint)).status_code == 403
    assert controller.counted('runbook_controller_refused_total{reason="not-firing"}') == 1
    assert not controller.inbox.alerts


def test_an_alert_that_cannot_be_verified_is_to_be_sent_again(controller: Controller) -> None:
    controller.alertmanager.away = True
    assert controller.post(body()).status_code == 503
    assert controller.counted('runbook_controller_refused_total{reason="unverified"}') == 1
    controller.alertmanager.away, controller.ready = False, False
    assert controller.post(body()).status_code == 503, "not ready"
    assert httpx.get(f"{controller.url}/readyz").status_code == 503
    controller.ready = True
    assert controller.post(body()).status_code == 200


def test_resolved_alerts_are_no_reason_for_anything(controller: Controller) -> None:
    assert controller.post(body(status="resolved")).json() == {"alerts": []}


@pytest.mark.parametrize(
    "wrong", [b"", b"[]", b"{}", b'{"alerts": [1]}', b'{"alerts": [{"status": "firing"}]}', b"\xff"]
)
def test_what_no_alertmanager_sends_is_refused(controller: Controller, wrong: bytes) -> None:
    assert controller.post(wrong).status_code == 400
    assert controller.counted('runbook_controller_refused_total{reason="malformed"}') == 1


def test_a_moment_without_time_zone_is_none() -> None:
    with pytest.raises(Malformed):
        hints({"alerts": [{"status": "firing", "fingerprint": "f1", "startsAt": "2026-11-22T12:00:00"}]})


def test_an_alert_survives_being_written_down() -> None:
    assert Alert.from_dict(json.loads(json.dumps(ALERT.to_dict()))) == ALERT


# -- a stack file that is behind -----------------------------------------------------------------------


def test_a_release_and_a_lockdown_made_elsewhere_are_noticed() -> None:
    file = {"runbook:release": release(2).to_config()}
    back = update(release(3, "rollback"), 60)
    assert released_since(file, update(release(2), 60)) is None
    assert "revision 3 (rollback) was released since" in (released_since(file, back) or "")
    locked = {"reason": "attack", "since": "2026-11-22T11:00:00Z", "until": "2026-11-22T13:00:00Z"}
    there = update(release(2), 60, config={"runbook:lockdown": locked})
    assert "attack" in (locked_since(file, there, NOW) or "")
    assert locked_since(file, there, NOW + timedelta(hours=1)) is None, "over"
    assert locked_since({**file, "runbook:lockdown": locked}, there, NOW) is None, "known"
    maintained = replace(there, config={**there.config, "runbook:maintenance": {"reason": "a move"}})
    assert maintained_since(file, maintained) == "maintenance mode is on (a move)"
    assert maintained_since({**file, "runbook:maintenance": {"reason": "a move"}}, maintained) is None, "known"
    assert maintained_since(file, None) is maintained_since(file, there) is None


# -- in the cluster ------------------------------------------------------------------------------------

DIGEST = "@sha256:" + "c" * 64
MONITORING = {
    "image": f"registry.example.com/monitoring{DIGEST}",
    "slack": {"egress": [{"cidr": "192.0.2.9/32", "ports": [443]}]},
    "infrastructure": {"nodes": False, "kubeState": False, "kubelet": False},
    "rollback": {
        "image": f"registry.example.com/controller{DIGEST}",
        "state": {"url": "s3://state?region=eu-west-3", "egress": [{"cidr": "192.0.2.7/32", "ports": [443]}]},
        "apiServer": [{"cidr": "192.0.2.8/32", "ports": [6443]}],
    },
}
QUOTA = {"cpu": "8", "memory": "12Gi", "limitsCpu": "40", "limitsMemory": "24Gi", "pods": 60, "storage": "60Gi"}


def controlled() -> dict[str, Any]:
    """The sandbox's stack with a controller."""
    made = stack_config("Pulumi.sandbox.yaml", release=RELEASE, monitoring=MONITORING)
    return {**made, "runbook:guards": {"quota": QUOTA, "protectData": False}}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return controlled()


def test_its_rights_are_its_namespace_s_and_no_wildcards(config: dict[str, Any]) -> None:
    program = run_program(config)
    role = program.one("Role", "rollback-controller")
    for rule in role.inputs["rules"]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if {"roles", "rolebindings", "namespaces"} & set(rule["resources"]):
            assert set(rule["verbs"]) == {"get", "list", "watch"}, "it cannot give itself more"
    binding = program.one("RoleBinding", "rollback-controller")
    assert [subject["name"] for subject in binding.inputs["subjects"]] == ["rollback-controller"]
    pod = program.one("Deployment", "rollback-controller").pod
    assert pod
    assert pod["automountServiceAccountToken"] is True
    others = [one for one in program.all("Deployment") if one.object_name != "rollback-controller"]
    assert all(not (one.pod or {})["automountServiceAccountToken"] for one in others)


def test_its_secrets_are_files_and_no_variables(config: dict[str, Any]) -> None:
    program = run_program(config)
    (container,) = program.one("Deployment", "rollback-controller").containers
    assert all(set(variable) == {"name", "value"} for variable in container["env"])
    assert "value-of" not in str(program.one("Deployment", "rollback-controller").inputs)
    keys = [one for one in program.all("Secret") if one.object_name.startswith("rollback-controller-keys-")]
    assert len(keys) == 1
    assert set(keys[0].inputs["stringData"]) == {"aws", "STATE_PASSPHRASE", "SLACK_WEBHOOK_CRITICAL"}
    assert {path.split(".")[0] for path in keys[0].secret_inputs} == {"stringData"}


def test_its_network_policy(config: dict[str, Any]) -> None:
    # The application's own openings, as wide as production's: they are not the controller's.
    wide = {
        **config,
        "runbook:network": {**config["runbook:network"], "egress": [{"cidr": "0.0.0.0/0", "ports": [443]}]},
    }
    program = run_program(wide)
    spec = program.one("NetworkPolicy", "allow-rollback-controller").inputs["spec"]
    (ingress,) = spec["ingress"]
    callers = {one["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in ingress["from"]}
    assert callers == {"alertmanager", "prometheus"}
    ways = [(to, port["port"]) for rule in spec["egress"] for to in rule["to"] for port in rule["ports"]]
    outside = {(to["ipBlock"]["cidr"], port) for to, port in ways if "ipBlock" in to}
    assert outside == {("192.0.2.7/32", 443), ("192.0.2.8/32", 6443), ("192.0.2.9/32", 443)}
    [(alertmanager, asked)] = [(to["podSelector"], port) for to, port in ways if "ipBlock" not in to]
    assert (alertmanager["matchLabels"]["app.kubernetes.io/name"], asked) == ("alertmanager", 9093)
    services = {"key": "app.kubernetes.io/component", "operator": "In", "values": ["service"]}
    application = {"podSelector": {"matchExpressions": [services]}}
    ports = [{"port": 3000, "protocol": "TCP"}]
    to_health = program.one("NetworkPolicy", "allow-rollback-controller-to-services-3000").inputs["spec"]
    assert to_health["podSelector"] == spec["podSelector"]
    assert to_health["egress"] == [{"to": [application], "ports": ports}], "the health check, and nothing else"
    into = program.one("NetworkPolicy", "allow-rollback-controller-into-services-3000").inputs["spec"]
    assert into["podSelector"] == application["podSelector"]
    assert into["ingress"] == [{"from": [{"podSelector": spec["podSelector"]}], "ports": ports}]
    # No other policy selects the controller's pods.
    others = [
        one for one in program.all("NetworkPolicy") if "rollback-controller" in str(one.inputs["spec"]["podSelector"])
    ]
    # The program registers them side by side: in which order is chance.
    assert {one.object_name for one in others} == {
        "allow-rollback-controller",
        "allow-rollback-controller-to-services-3000",
    }
    assert len(others) == 2


def test_a_controller_needs_the_addresses_of_slack_and_no_example_opens_everything(config: dict[str, Any]) -> None:
    without = {**MONITORING, "slack": {}}
    wide = [{"cidr": "0.0.0.0/0", "ports": [443]}]
    network = {**config["runbook:network"], "egress": wide}
    message = str(refusal({**config, "runbook:monitoring": without, "runbook:network": network}))
    assert "runbook:monitoring.slack.egress" in message
    assert "0.0.0.0/0" not in message
    half = {"image": MONITORING["rollback"]["image"]}
    message = str(refusal({**config, "runbook:monitoring": {**MONITORING, "rollback": half}}))
    assert "cidr: 10.0.2.0/28" in message
    assert "0.0.0.0/0" not in message


def test_with_an_operator_it_is_called_and_asks_in_the_operators_namespace(config: dict[str, Any]) -> None:
    pods = {
        name: {"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": name}}
        for name in ("prometheus", "alertmanager")
    }
    url = "http://alertmanager-operated.monitoring.svc:9093"
    theirs = {"url": url, "pods": pods["alertmanager"]}
    operator = {"labels": {"release": "prometheus"}, "prometheus": pods["prometheus"]}
    with_operator = {**MONITORING, "mode": "operator", "operator": operator}
    message = str(refusal({**config, "runbook:monitoring": with_operator}))
    assert "runbook:monitoring.operator.alertmanager" in message
    complete = {**with_operator, "operator": {**operator, "alertmanager": theirs}}
    program = run_program({**config, "runbook:monitoring": complete})
    (container,) = program.one("Deployment", "rollback-controller").containers
    assert {"name": "CONTROLLER_ALERTMANAGER_URL", "value": url} in container["env"]
    spec = program.one("NetworkPolicy", "allow-rollback-controller").inputs["spec"]
    (ingress,), egress = spec["ingress"], spec["egress"][0]
    for peers in (ingress["from"], egress["to"]):
        for one in peers:
            assert one["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    assert [one["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for one in egress["to"]] == ["alertmanager"]
    assert egress["ports"] == [{"port": 9093, "protocol": "TCP"}]
    receivers = program.one("AlertmanagerConfig", "runbook").inputs["spec"]["receivers"]
    (called,) = [one for one in receivers if one["name"] == "rollback"]
    (hook,) = called["webhookConfigs"]
    assert hook["url"] == "http://rollback-controller.shop.svc:8080/alerts"
    assert hook["httpConfig"]["authorization"]["credentials"] == {"name": "rollback-controller-token", "key": "token"}
    assert program.one("ServiceMonitor", "rollback-controller")
    # It puts these objects back together with the release.
    rules = program.one("Role", "rollback-controller").inputs["rules"]
    granted = {kind for rule in rules if "monitoring.coreos.com" in rule["apiGroups"] for kind in rule["resources"]}
    assert granted == {"alertmanagerconfigs", "podmonitors", "probes", "prometheusrules", "servicemonitors"}


def test_nothing_waits_for_it_and_a_release_does_not_change_it(config: dict[str, Any]) -> None:
    before = run_program(config)
    later = {**RELEASE, "revision": 2, "image": RELEASE["image"].replace("a" * 64, "b" * 64)}
    after = run_program({**config, "runbook:release": later})
    pod = before.one("Deployment", "rollback-controller")
    assert not [one.name for one in before.objects if before.waits_for(one, pod) and one.kind != "Service"]
    assert after.one("Deployment", "rollback-controller").inputs == pod.inputs


def test_alertmanager_notifies_it_when_it_exists(config: dict[str, Any]) -> None:
    def configuration(of: dict[str, Any]) -> str:
        return str([one.inputs.get("stringData", "") for one in run_program(of).all("Secret")])

    assert "http://rollback-controller:8080/alerts" in configuration(config)
    without = {**MONITORING, "rollback": {"enabled": True}}
    assert "rollback-controller" not in configuration({**config, "runbook:monitoring": without})


@pytest.mark.parametrize("missing", ["image", "state", "apiServer"])
def test_half_a_controller_is_refused(config: dict[str, Any], missing: str) -> None:
    half = {key: value for key, value in MONITORING["rollback"].items() if key != missing}
    with pytest.raises(Exception, match=missing):
        run_program({**config, "runbook:monitoring": {**MONITORING, "rollback": half}})
