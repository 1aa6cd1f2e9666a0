"""The rollback controller: when it acts, which alerts it accepts, and what it may do in the cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.controller.alerts import Alert, Hint, Malformed, Unreachable, hints
from ops.controller.guard import Situation, decide
from ops.controller.metrics import Metrics
from ops.controller.web import Webhook, server
from ops.decisions.release_state import locked_since, released_since
from ops.stack.history import Entry
from settings import Lockdown, Maintenance, Release
from settings.lockdown import LOCKDOWN
from settings.monitoring import Rollback
from tests.support.program import RELEASE, run_program, stack_config
from tests.unit.test_settings import refusal

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HINT = Hint("f1", NOW - timedelta(seconds=5))
ALERT = Alert(
    HINT, {"alertname": "RollbackErrorRate", "action": "rollback", "namespace": "shop"}, {"summary": "errors"}
)


def release(revision: int, action: str = "deploy", image: str = "b", git: str = "1a2b3c4", **rest: Any) -> Release:
    more: dict[str, Any] = (
        {"action": "rollback", "rollbackOf": revision - 1, "migrate": False} if action == "rollback" else {}
    )
    schema = {"min": 1, "max": 2, "level": 1}
    reference = f"registry.example.com/shop@sha256:{image * 64}"
    return Release.model_validate(
        {"revision": revision, "image": reference, "git": git, "schema": schema, **more, **rest}
    )


def update(
    of: Release,
    seconds_ago: float,
    result: str = "succeeded",
    message: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Entry:
    ended = NOW - timedelta(seconds=seconds_ago)
    said = of.message if message is None else message
    everything = {"runbook:release": of.to_config(), **(config or {})}
    return Entry("update", result, ended - timedelta(seconds=40), ended, said, {}, everything, {})


def situation(*updates: Entry, **changes: Any) -> Situation:
    newest = updates[0].release if updates else None
    return replace(Situation(NOW, "shop", Rollback(), None, None, newest, updates), **changes)


FRESH = (update(release(2), 60), update(release(1, image="a"), 5000))


def test_a_fresh_release_is_rolled_back() -> None:
    assert decide(ALERT, situation(*FRESH)).act == "rollback"


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (situation(update(release(2), 3601), FRESH[1]), "runs for 60 min"),
        (situation(update(release(2), 3600), FRESH[1]), None),
        (situation(update(release(2), 60, "failed"), FRESH[1]), "the last update failed"),
        (situation(update(release(3, "rollback"), 60), *FRESH), "is a rollback already"),
        # A rotation later carries the same revision: the release is as old as its own update.
        (
            situation(update(release(2), 60, message="rotate x"), update(release(2), 9999)),
            "runs for 2.8 h",
        ),
        (
            situation(update(release(4), 60), update(release(3, "rollback"), 899), *FRESH),
            "is within the cooldown: 1 s left",
        ),
        (situation(update(release(4), 60), update(release(3, "rollback"), 900), *FRESH), None),
        (situation(update(release(2), -60), FRESH[1]), "fired before revision 2"),
        (situation(*FRESH, maintenance=Maintenance(reason="moving house")), "moving house"),
        (
            situation(*FRESH, settings=Rollback(enabled=False)),
            "automatic rollback is off (runbook:monitoring.rollback.enabled)",
        ),
        (situation(*FRESH, namespace="other"), "its namespace is shop"),
        (situation(), "nothing was ever released"),
    ],
)
def test_objections_to_a_rollback(at: Situation, why: str | None) -> None:
    verdict = decide(ALERT, at)
    assert verdict.act == ("report" if why else "rollback")
    assert not why or why in verdict.why


# -- which release it is about -------------------------------------------------------------------------

BAD, FIX = release(6, git="aaaaaaa1", version="1.6.0"), release(7, git="bbbbbbb2", version="1.7.0")


def about(seconds_ago: float, **labels: str) -> Alert:
    return Alert(Hint("f1", NOW - timedelta(seconds=seconds_ago)), {**ALERT.labels, **labels}, {})


def fixed(seconds_ago: float) -> Situation:
    """The fix was deployed so long ago, in 40 s."""
    windows = {"RollbackHealth": 25.0, "RollbackErrorRate": 45.0}
    return replace(situation(update(FIX, seconds_ago), update(BAD, 3000)), windows=windows)


@pytest.mark.parametrize(
    ("alert", "why"),
    [
        # It fires since before the fix was begun, or it names the release before by a label or an annotation.
        (about(120, alertname="RollbackHealth"), "fired before revision 7 was released"),
        (about(50, git="aaaaaaa1"), "it is about revision 6 (git aaaaaaa1), and revision 7 (git bbbbbbb2) runs"),
        (about(50, git="aaaaaaa"), "it is about revision 6"),
        (about(50, git="aaaaaaa1ffff"), "it is about revision 6"),
        (about(50, release="1.6.0"), "it is about revision 6"),
        (about(50, revision="6"), "it is about revision 6"),
        (replace(about(50), annotations={"revision": "6"}), "it is about revision 6"),
        (about(5, git="aaaaaaa1"), "it is about revision 6"),
        # A label that happens to be called so (`release: prometheus`) names no release.
        (about(5, release="prometheus"), None),
        (about(5, git="unknown"), None),
        (about(5, git="bbbbbbb2", release="1.6.0"), None),
        (about(5), None),
        (about(50, git="bbbbbbb2"), None),
        # The clock of the machine that deployed it is ahead of Prometheus's.
        (about(120, git="bbbbbbb2"), None),
    ],
)
def test_the_fix_is_not_taken_back_for_an_alert_about_the_release_before(alert: Alert, why: str | None) -> None:
    verdict = decide(alert, fixed(30))
    assert verdict.act == ("report" if why else "rollback"), verdict
    assert not why or why in verdict.why
    assert verdict.again_seconds is None, "final"


def test_an_alert_without_a_release_from_the_time_of_the_update_has_to_outlast_its_window() -> None:
    alert = about(60, alertname="RollbackHealth")
    early = decide(alert, fixed(22))
    assert early.again_seconds == 3
    assert "began while revision 7 was being deployed" in early.why
    assert decide(alert, fixed(25)).act == "rollback", "it still fires, although revision 6 is long gone"
    unknown = decide(about(60, alertname="Mine"), fixed(25))
    assert unknown.again_seconds == 20, "the longest window"


def test_a_release_with_the_same_commit_as_the_one_before_is_not_accused_by_it() -> None:
    """Only its configuration is new."""
    both = [release(7, git="bbbbbbb2"), release(6, git="bbbbbbb2")]
    at = replace(situation(update(both[0], 10), update(both[1], 3000)), windows={"RollbackHealth": 25.0})
    assert decide(about(30, git="bbbbbbb2"), at).again_seconds
    assert decide(about(5, git="bbbbbbb2"), at).act == "rollback"


@pytest.mark.parametrize(
    ("at", "again"),
    [
        (situation(*FRESH, maintenance=Maintenance(reason="moving house")), 60),
        (situation(update(release(4), 60), update(release(3, "rollback"), 800), *FRESH), 100),
        (situation(update(release(2), 60, "failed"), FRESH[1]), 60),
        (situation(update(release(2), 3601), FRESH[1]), None),
        (situation(update(release(3, "rollback"), 60), *FRESH), None),
        (situation(update(release(2), -60), FRESH[1]), None),
        (situation(*FRESH, settings=Rollback(enabled=False)), None),
    ],
)
def test_only_what_stays_so_is_a_final_verdict(at: Situation, again: float | None) -> None:
    verdict = decide(ALERT, at)
    assert (verdict.act, verdict.again_seconds) == ("report", again)
    assert bool(verdict.topic) == bool(again)


# -- lockdown ------------------------------------------------------------------------------------------

ATTACK = replace(ALERT, labels={**ALERT.labels, "action": "lockdown"})


def locked(seconds_ago: float, minutes: int = 60, *, automatic: bool = True) -> Entry:
    """The update that began a lockdown."""
    since = NOW - timedelta(seconds=seconds_ago)
    made = Lockdown(reason="x", since=since, until=since + timedelta(minutes=minutes), automatic=automatic)
    return update(release(2), seconds_ago, message="lockdown on", config={LOCKDOWN: made.to_config()})


@pytest.mark.parametrize(
    ("updates", "left"),
    [
        ([locked(5400)], 86_400 - 1800),
        # Ended sooner, by an operator: the cooldown counts from there.
        ([update(release(2), 4960, message="lockdown off"), locked(5400)], 86_400 - 5000),
        ([locked(3600 + 86_399)], 1),
        ([locked(3600 + 86_400)], None),
        ([locked(5400, automatic=False)], None),
        ([update(release(2), 60)], None),
    ],
)
def test_an_automatic_lockdown_has_a_cooldown_in_which_people_are_called(
    updates: list[Entry], left: int | None
) -> None:
    """Ten requests an hour would keep the shop closed otherwise."""
    at = situation(*updates, lockdown_cooldown_seconds=86_400, escalation=("@security-team",))
    verdict = decide(ATTACK, at)
    assert verdict.again_seconds == left
    assert (verdict.act, verdict.mentions) == (("report", ("@security-team",)) if left else ("lockdown", ()))


def test_an_attack_always_locks_down_and_never_rolls_back() -> None:
    attack = ATTACK
    old = update(release(2), 99_999)
    assert decide(attack, situation(old)).act == decide(attack, situation(*FRESH)).act == "lockdown"
    lockdown = Lockdown(reason="x", since=NOW - timedelta(hours=1), until=NOW + timedelta(seconds=1))
    assert decide(attack, situation(*FRESH, lockdown=lockdown)).act == "report"
    over = Lockdown(reason="x", since=NOW - timedelta(hours=1), until=NOW)
    assert decide(attack, situation(*FRESH, lockdown=over)).act == "lockdown"


def test_an_alert_without_an_action_is_reported() -> None:
    assert decide(replace(ALERT, labels={"namespace": "shop"}), situation(*FRESH)).act == "report"


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
    inside = [(to["podSelector"], port) for to, port in ways if "ipBlock" not in to]
    services = {"key": "app.kubernetes.io/component", "operator": "In", "values": ["service"]}
    (alertmanager, asked), (application, health) = inside
    assert (alertmanager["matchLabels"]["app.kubernetes.io/name"], asked) == ("alertmanager", 9093)
    assert (application, health) == ({"matchExpressions": [services]}, 3000), "the health check, and nothing else"
    into = program.one("NetworkPolicy", "allow-rollback-controller-into-services").inputs["spec"]
    assert into["podSelector"] == application
    (rule,) = into["ingress"]
    assert rule == {"from": [{"podSelector": spec["podSelector"]}], "ports": [{"port": 3000, "protocol": "TCP"}]}
    # No other policy selects the controller's pods.
    others = [
        one for one in program.all("NetworkPolicy") if "rollback-controller" in str(one.inputs["spec"]["podSelector"])
    ]
    assert [one.object_name for one in others] == ["allow-rollback-controller"]


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
