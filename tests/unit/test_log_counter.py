"""Log counter: its settings, its objects, and that nothing changes without it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from monitoring.alerts.self_monitoring import sources
from monitoring.alerts.stack import domains
from monitoring.dashboards.stack import boards
from settings import Monitoring
from settings.logs import EVENTS
from tasks.environment import Environment
from tasks.logs.counts import events_of
from tests.support.monitored_config import OPERATED, PLAIN, watched
from tests.support.program import Program, run_program, stack_config
from tests.unit.test_alert_rules import LOGGED, LOGS, domain
from tests.unit.test_monitoring_components import by_urn, jobs, ways
from tests.unit.test_monitoring_settings import watched as written
from tests.unit.test_settings import judged, refusal

NAME = "log-counter"
HERE = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "monitoring"}


@pytest.fixture(scope="module")
def without() -> Program:
    return run_program(watched())


@pytest.fixture(scope="module")
def plain() -> Program:
    return run_program(watched(monitoring={**PLAIN, "logs": LOGS}))


@pytest.fixture(scope="module")
def operated() -> Program:
    return run_program(watched(monitoring={**OPERATED, "logs": LOGS}))


# -- the declaration -----------------------------------------------------------------------------------


def test_without_it_nothing_reads_logs() -> None:
    assert Monitoring().logs is None
    assert "logs" not in sources(Monitoring(), backups=True, application=True)


def test_the_address_of_the_api_server_suffices() -> None:
    logs = Monitoring.model_validate({"logs": LOGS}).logs
    assert logs
    assert {name: (event.field, event.pattern) for name, event in logs.events.items()} == {
        name: ("event", f"^{name}$") for name in EVENTS
    }


@pytest.mark.parametrize(
    ("logs", "where", "says"),
    [
        ({}, "logs.apiServer", "- cidr: 10.0.0.1/32"),
        ({**LOGS, "apiServer": []}, "logs.apiServer", "at least 1"),
        ({**LOGS, "events": {}}, "logs.events", "at least 1"),
        ({**LOGS, "events": {"sql_inject": {"pattern": "x"}}}, "logs.events.sql_inject", "did you mean sql_injection?"),
        ({**LOGS, "events": {"x": {"pattern": "x"}}}, "logs.events.x", "refused_login, refused_webhook"),
        ({**LOGS, "events": {"sql_injection": {"pattern": "(x"}}}, "sql_injection.pattern", "pattern: (?i)sql.?injec"),
        ({**LOGS, "events": {"sql_injection": {"pattern": "(x"}}}, "sql_injection.pattern", "missing ), unterminated"),
        ({**LOGS, "events": {"sql_injection": {"pattern": "x*"}}}, "sql_injection.pattern", "and so every line"),
        ({**LOGS, "events": {"sql_injection": {"pattern": "x", "field": "a..b"}}}, "sql_injection.field", "event"),
        ({**LOGS, "silentSeconds": 10}, "logs.silentSeconds", "greater than or equal to 60"),
    ],
)
def test_what_cannot_work_is_refused(logs: dict[str, Any], where: str, says: str) -> None:
    message = str(refusal(written(logs=logs)))
    assert where in message
    assert says in message


def test_it_counts_in_the_quota() -> None:
    huge = {"requests": {"cpu": "20m", "memory": "64Mi", "ephemeralStorage": "16Mi"}}
    huge["limits"] = {"cpu": "1", "memory": "900Gi", "ephemeralStorage": "64Mi"}
    assert judged(written(logs=LOGS))
    message = str(refusal(written(logs={**LOGS, "resources": huge})))
    assert "runbook:guards.quota.limitsMemory" in message
    assert "monitoring need 9" in message


# -- rules ---------------------------------------------------------------------------------------------


def test_only_what_is_looked_for_is_asked_of_the_log() -> None:
    some = {**LOGGED, "logs": {**LOGS, "events": {"refused_login": {"pattern": "x"}}}}
    made = domains("shop", Monitoring.model_validate(some), ["backend"], None, {})
    asking = {alert.name for each in made for alert in each.alerts if "runbook_log_events_total" in alert.expr}
    assert asking == {"LoginsRefused"}
    every = {alert.name for name in ("triggers", "service") for alert in domain(name, "logged").alerts}
    assert {"SqlInjection", "LoginsRefused", "WebhooksForged"} <= every


def test_dashboards_show_what_alerts_judge_by() -> None:
    monitoring = Monitoring.model_validate(LOGGED)
    alerts = domains("shop", monitoring, ["backend"], None, {})
    shown = {
        query.expr
        for board in boards("shop", monitoring, None, alerts)
        for row in board.rows
        for panel in row.panels
        for query in panel.queries
    }
    judged_by = [
        alert.expr.rpartition(" >= ")[0] for each in alerts for alert in each.alerts if "runbook_log_ev" in alert.expr
    ]
    assert len(judged_by) == len(EVENTS)
    assert set(judged_by) <= shown


def test_without_it_no_rule_and_no_dashboard_asks_for_it(without: Program) -> None:
    assert not [resource.urn for resource in without.resources if "runbook_log_" in str(resource.inputs)]
    assert not [resource.urn for resource in without.resources if NAME in str(resource.inputs)]


# -- objects -------------------------------------------------------------------------------------------


def test_of_the_other_objects_only_prometheus_and_dashboards_change(without: Program, plain: Program) -> None:
    before, after = by_urn(without), by_urn(plain)
    changed = {urn for urn, resource in before.items() if urn not in after or after[urn].inputs != resource.inputs}
    kinds = {(before[urn].kind, re.sub("-[0-9a-f]{10}$", "", before[urn].name)) for urn in changed}
    assert kinds == {
        ("ConfigMap", "dashboards"), ("ConfigMap", "prometheus"), ("StatefulSet", "prometheus"),
        ("NetworkPolicy", "allow-prometheus"),
    }  # fmt: skip
    for resource in plain.resources:
        assert not any(NAME in urn for urn in resource.depends_on) or NAME in resource.urn, resource.urn


def test_its_identity_lists_pods_and_reads_logs_here_and_nothing_else(plain: Program) -> None:
    assert plain.one("Role", NAME).inputs["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    binding = plain.one("RoleBinding", NAME).inputs
    assert binding["roleRef"]["name"] == NAME
    assert [subject["name"] for subject in binding["subjects"]] == [NAME]
    account = plain.one("ServiceAccount", NAME).inputs
    assert account["automountServiceAccountToken"] is False
    pods = {
        one.object_name: one.pod for one in plain.all("Deployment") if (one.pod or {})["serviceAccountName"] == NAME
    }
    assert {name: (pod or {})["automountServiceAccountToken"] for name, pod in pods.items()} == {NAME: True}
    assert NAME not in str(plain.all("ClusterRole"))


def test_its_pod_is_as_small_as_the_others(plain: Program) -> None:
    deployment = plain.one("Deployment", NAME)
    spec, pod, (container,) = deployment.inputs["spec"], deployment.pod or {}, deployment.containers
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")]
    assert probes == ["/readyz", "/healthz"]
    assert container["image"] == stack_config("Pulumi.sandbox.yaml")["runbook:image"]


def test_the_task_reads_its_environment() -> None:
    events = {"sql_injection": {"field": "message", "pattern": r"(?i)sql.?injection\b"}}
    program = run_program(watched(monitoring={**PLAIN, "logs": {**LOGS, "events": events}}))
    (container,) = program.one("Deployment", NAME).containers
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert container["command"] == ["python3", "-m", "tasks", "logs"]
    assert environment["LOGS_NAMESPACE"] == "shop"
    key, _, value = environment["LOGS_SELECTOR"].partition("=")
    template = program.one("Deployment", "backend").template or {}
    assert template["metadata"]["labels"][key] == value
    (read,) = events_of(Environment(environment)).values()
    assert read.matches({"message": "SQL injection tried"})
    others = [one.template for kind in ("Deployment", "StatefulSet", "Job", "CronJob") for one in program.all(kind)]
    serving = [one for one in others if one and one["metadata"]["labels"].get(key) == value]
    assert serving == [template]


def test_it_reaches_the_api_server_and_is_reached_by_prometheus_alone(plain: Program, operated: Program) -> None:
    out = [peer for rule in ways(plain, NAME, "egress") for peer in rule["to"] if "namespaceSelector" not in peer]
    assert out == [{"ipBlock": {"cidr": "10.0.0.1/32", "except": []}}]
    port = [{"port": 9189, "protocol": "TCP"}]
    (rule,) = ways(plain, NAME, "ingress")
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]] == ["prometheus"]
    assert rule["ports"] == port
    assert {"to": [{"podSelector": {"matchLabels": HERE}}], "ports": port} in list(ways(plain, "prometheus", "egress"))
    (rule,) = ways(operated, NAME, "ingress")
    assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_prometheus_reads_it_its_own_and_an_operators(without: Program, plain: Program, operated: Program) -> None:
    assert set(jobs(plain)) - set(jobs(without)) == {"logs"}
    assert jobs(plain)["logs"]["static_configs"] == [{"targets": [f"{NAME}:9189"]}]
    service = plain.one("Service", NAME).inputs["spec"]
    assert service["selector"] == HERE
    monitor = operated.one("ServiceMonitor", NAME).inputs["spec"]
    # Its label `pod` names the pod of the log; without `honorLabels` the operator replaces it by the counter's own pod.
    assert monitor == {
        "selector": {"matchLabels": HERE},
        "endpoints": [{"port": "http", "interval": "5s", "honorLabels": True}],
    }
    assert not [one for one in operated.all("ServiceMonitor") if one.object_name != NAME and _honours(one.inputs)]


def _honours(inputs: Mapping[str, Any]) -> bool:
    return any("honorLabels" in endpoint for endpoint in inputs["spec"]["endpoints"])
