"""Dashboards: Grafana's types accept them, Prometheus answers what they ask, their lines are the alerts' limits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import units

from monitoring.alerts.rule import Alert, Domain, scoped_series
from monitoring.alerts.stack import domains
from monitoring.dashboards.board import Board, Panel, Query
from monitoring.dashboards.render import files
from monitoring.dashboards.stack import boards, marks
from settings import Application, Backup, Credentials, Data, RotationSettings
from settings.base import EXAMPLE_DIGEST
from settings.monitoring import Monitoring
from settings.performance import Performance
from settings.rotation import find_rotations
from tests.support.grafana import judged
from tests.support.metrics import AT, NODES, OTHERS, RUNBOOK, SHOP, STEP
from tests.support.program import ROOT, stack_config

SHOPS_NAMESPACE = "shop"
DEFAULTS = Monitoring.model_validate({"postgres": {"replicas": 1}})
GATEWAY = {
    "host": "traefik.traefik.svc",
    "port": 9100,
    "pods": {"namespace": "traefik", "podLabels": {"app": "traefik"}},
}
OTHER_LIMITS = Monitoring.model_validate(
    {
        "healthSeconds": 7,
        "triggers": {
            "errorRatePercent": 7.5,
            "responseMilliseconds": 1234,
            "responseQuantile": 0.9,
            "healthFailures": 4,
            "sqlInjectionAttempts": 17,
            "sqlInjectionSeconds": 120,
            "rateSeconds": 45,
            "restarts": 7,
        },
        "prometheus": {"ingress": GATEWAY},
        "critical": {"errorRatePercent": 1.5, "paymentFailurePercent": 6.5, "paymentSeconds": 600},
        "slo": {"objectivePercent": 99.5, "windowDays": 14},
        "security": {"windowSeconds": 120, "refusedLogins": 33, "refusedWebhooks": 7},
        "infrastructure": {
            "cpuPercent": 71,
            "throttledPercent": 31,
            "memoryPercent": 72,
            "ioPercent": 73,
            "diskPercent": 74,
            "certificateDays": 40,
            "certificateCriticalDays": 11,
            "restarts": 5,
            "cronGraceSeconds": 111,
        },
        "postgres": {
            "connectionsPercent": 61,
            "exclusiveLocks": 13,
            "deadlocks": 9,
            "transactionSeconds": 333,
            "replicas": 2,
            "replicaLagSeconds": 22,
        },
        "redis": {"memoryPercent": 62, "evictions": 8, "rejectedConnections": 6},
        "rollback": {"enabled": False},
    }
)

PAGES = Performance.model_validate({"image": f"lighthouse@{EXAMPLE_DIGEST}", "continuous": {}})
Made = tuple[tuple[Domain, ...], tuple[Board, ...], dict[str, dict[str, Any]]]


def made(monitoring: Monitoring, namespace: str = SHOPS_NAMESPACE, *, backups: bool = True) -> Made:
    config = stack_config("Pulumi.prod.yaml")
    application = Application.model_validate(config["runbook:application"])
    data = Data.model_validate(config["runbook:data"])
    credentials = Credentials.model_validate(config.get("runbook:credentials") or {})
    backup = Backup.model_validate(config["runbook:backup"]) if backups else None
    rotating = find_rotations(application, data, credentials, backup, RotationSettings(), {})
    alerts = domains(namespace, monitoring, ["backend"], backup, rotating, performance=PAGES if backups else None)
    found = boards(namespace, monitoring, backup, alerts)
    return alerts, found, {name: json.loads(text) for name, text in files(found, alerts, namespace).items()}


@pytest.fixture(scope="module", params=[DEFAULTS, OTHER_LIMITS], ids=["defaults", "other limits"])
def everything(request: pytest.FixtureRequest) -> Made:
    return made(request.param)


@pytest.fixture(scope="module")
def dashboards() -> dict[str, dict[str, Any]]:
    return made(DEFAULTS)[2]


def panels(found: tuple[Board, ...]) -> Iterator[Panel]:
    return (panel for board in found for row in board.rows for panel in row.panels)


def shown(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


# --- one declaration of thresholds ---

STATES_AND_TRENDS = {
    "AutoscalerBlind": "a word",
    "BackupEvidenceChanged": "a word", "BackupExporterAway": "no data", "BackupNeverRan": "no data",
    "BackupRetentionFails": "a word", "BackupShrank": "a curve: the limit is part of the backup before",
    "BackupStoreUnreadable": "a word", "CronJobFailed": "a moment", "AlertsUndelivered": "a moment",
    "FrontDoorClosed": "a word", "HealthCheckFailing": "the line of RollbackHealth",
    "MessagesUndelivered": "a moment", "MetricsMissing": "no data", "NodeDiskFills": "a trend",
    "PostgresAway": "a word", "RedisAway": "a word", "RestoreTestFailed": "a word", "RestoreTestNeverRan": "no data",
    "RotationStatusUnreadable": "no data", "RulesFail": "a moment", "SecretEmergencyRotation": "a moment",
    "RulesMissed": "a moment", "ResponseTimeUnmeasured": "no data", "SamplesNearLimit": "the limit differs by target",
    "SecretNeverRotated": "a word", "SecretNotRetired": "a time that runs", "SecretPreviousUsedAfterOverlap": "any use",
    "SecretRotationOverdue": "each has its own limit: drawn in percent of it", "SecretRotationStuck": "a phase",
    "SecretVerificationFailed": "a word", "TargetAway": "a word", "VolumeFills": "a trend", "Watchdog": "always",
}  # fmt: skip
"""Alerts that no line could stand for, and what shows them instead."""


def test_every_line_is_the_limit_of_a_rule_on_the_same_query(everything: Made) -> None:
    alerts, found, _ = everything
    rules = {alert.name: alert for domain in alerts for alert in domain.alerts}
    for panel in panels(found):
        for line in panel.lines:
            if line.alert:
                assert any(asks(rules[line.alert], query, line.value, below=line.below) for query in panel.queries), (
                    f"{panel.title}: {line} and {rules[line.alert].expr}"
                )


def asks(rule: Alert, query: Query, limit: float, *, below: bool) -> bool:
    """Whether the rule without its limit is, or begins with, the query."""
    signs = ("<",) if below else (">=", ">")
    comparisons = [f" {sign} {text}" for sign in signs for text in (f"{limit:.9g}", str(int(limit)))]
    return any(written in rule.expr and query.expr in rule.expr.replace(written, "") for written in comparisons)


def test_lines_without_an_alert_are_no_thresholds_of_alerts(everything: Made) -> None:
    _, found, _ = everything
    assert {panel.title for panel in panels(found) if any(not line.alert for line in panel.lines)} == {
        "Age, in percent of the maximum",
        "Error budget left",
        *(panel.title for panel in panels(found) if "not fail in" in panel.title or "budget left of" in panel.title),
    }


def test_every_alert_has_a_line_or_a_reason(everything: Made) -> None:
    alerts, found, _ = everything
    drawn = {line.alert for panel in panels(found) for line in panel.lines if line.alert}
    there = {alert.name for domain in alerts for alert in domain.alerts}
    assert there - drawn == set(STATES_AND_TRENDS)


def test_lines_reach_grafana(everything: Made) -> None:
    alerts, found, texts = everything
    severities = {alert.name: alert.severity for domain in alerts for alert in domain.alerts}
    for board in found:
        by_title = {(panel["title"], panel["type"]): panel for panel in shown(texts[f"{board.slug}.json"])}
        for panel in (panel for row in board.rows for panel in row.panels if panel.lines):
            kind = {"graph": "timeseries", "number": "stat"}[panel.kind]
            defaults = by_title[panel.title, kind]["fieldConfig"]["defaults"]
            steps = defaults["thresholds"]["steps"]
            assert [step["value"] for step in steps] == [None, *sorted(line.value for line in panel.lines)]
            colors = {"critical": "red", "warning": "orange"}
            assert {step["color"] for step in steps} >= {
                colors[severities[line.alert]] for line in panel.lines if line.alert
            }
            if panel.kind == "graph":
                assert defaults["custom"]["thresholdsStyle"] == {"mode": "dashed"}
                assert defaults["custom"]["axisSoftMax"] > max(line.value for line in panel.lines), "out of sight"


def test_below_a_limit_is_the_color_of_its_alert(dashboards: dict[str, dict[str, Any]]) -> None:
    panel = next(
        panel for panel in shown(dashboards["infrastructure.json"]) if panel["title"].startswith("Certificate")
    )
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
        {"value": None, "color": "red"},
        {"value": 7, "color": "orange"},
        {"value": 21, "color": "green"},
    ]


def test_every_alert_that_can_end_is_on_a_dashboard(everything: Made) -> None:
    alerts, _, texts = everything
    asked = " ".join(panel["targets"][0]["expr"] for text in texts.values() for panel in shown(text))
    assert listed(asked) == {alert.name for domain in alerts for alert in domain.alerts} - {"Watchdog"}


def listed(asked: str) -> set[str]:
    return {name for names in re.findall(r'alertname=~"([^"]+)"', asked) for name in names.split("|")}


# --- what Grafana accepts ---


def test_grafanas_types_accept_every_dashboard(everything: Made) -> None:
    assert {name: judged(dashboard) for name, dashboard in everything[2].items()} == {
        name: [] for name in everything[2]
    }


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("panels", 1, "fieldConfig", "defaults", "color", "mode"), "rainbow"),
        (("panels", 1, "fieldConfig", "defaults", "thresholds", "steps", 0, "value"), "high"),
        (("panels", 1, "options", "showValue"), "sometimes"),
        (("panels", 1, "targets", 0, "expr"), 7),
        (("panels", 1, "gridPos", "w"), "wide"),
        (("panels", 1, "surprise"), 1),
        (("graphTooltip",), 9),
        (("templating", "list", 0, "type"), "guess"),
    ],
)
def test_what_grafana_would_not_accept_is_seen(
    dashboards: dict[str, dict[str, Any]], path: tuple[str | int, ...], wrong: Any
) -> None:
    broken = json.loads(json.dumps(dashboards["overview.json"]))
    node: Any = broken
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = wrong
    assert judged(broken)


def test_units_are_grafanas(everything: Made) -> None:
    known = {value for name, value in vars(units).items() if name[0].isupper()}
    assert {panel.unit for panel in panels(everything[1])} <= known


def test_no_panel_covers_another_and_no_line_has_a_hole(everything: Made) -> None:
    for name, dashboard in everything[2].items():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            rows, columns = range(place["y"], place["y"] + place["h"]), range(place["x"], place["x"] + place["w"])
            mine = {(y, x) for y in rows for x in columns}
            assert not mine & taken, f"{name}: {panel['title']}"
            taken |= mine
        assert taken == {(y, x) for y in range(max(taken)[0] + 1) for x in range(24)}, name


def test_ids_are_unique_and_stable(everything: Made) -> None:
    texts = everything[2]
    for dashboard in texts.values():
        numbers = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(numbers)) == len(numbers)
    long = made(DEFAULTS, "n" * 63)[2]
    uids = [dashboard["uid"] for found in (texts, long) for dashboard in found.values()]
    assert len(set(uids)) == len(uids)
    assert all(8 <= len(uid) <= 40 for uid in uids)
    assert texts["overview.json"]["uid"] == "overview-8d9001d32c6a"


def test_every_question_goes_to_the_chosen_data_source(dashboards: dict[str, dict[str, Any]]) -> None:
    for dashboard in dashboards.values():
        assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource"]
        asking = [*dashboard["annotations"]["list"], *shown(dashboard)]
        asking += [target for panel in shown(dashboard) for target in panel["targets"]]
        assert {each["datasource"]["uid"] for each in asking} == {"${datasource}"}


def test_a_config_map_can_hold_each(dashboards: dict[str, dict[str, Any]]) -> None:
    assert all(len(json.dumps(dashboard)) < 200_000 for dashboard in dashboards.values())


def test_without_backups_nothing_is_shown_of_them() -> None:
    assert {"backups.json", "rotations.json", "pages.json"} == set(made(DEFAULTS)[2]) - set(
        made(DEFAULTS, backups=False)[2]
    )


def test_releases_rollbacks_and_maintenance_are_marked(dashboards: dict[str, dict[str, Any]]) -> None:
    for dashboard in dashboards.values():
        titles = {mark["name"]: mark["titleFormat"] for mark in dashboard["annotations"]["list"]}
        assert titles == {
            "Releases": "Release {{release}} ({{git}})",
            "Rollbacks and lockdowns": "{{action}}: {{alertname}}",
            "Maintenance": "Maintenance",
        }


# --- what Prometheus answers ---


def test_prometheus_answers_every_question(everything: Made, tmp_path: Path) -> None:
    """Not one panel or mark is empty while everything is there."""
    _, found, texts = everything
    asked = {query.expr for panel in panels(found) for query in panel.queries}
    assert asked == {target["expr"] for text in texts.values() for panel in shown(text) for target in panel["targets"]}
    asked |= {mark.query.expr for mark in marks(SHOPS_NAMESPACE)}
    assert unanswered(asked, tmp_path) == set()


def test_an_empty_panel_is_seen(tmp_path: Path) -> None:
    assert unanswered({"shop_cats_total", 'pg_up{namespace="shop"}'}, tmp_path) == {"shop_cats_total"}


def unanswered(asked: set[str], folder: Path) -> set[str]:
    mine = scoped_series(SHOP | RUNBOOK | OTHERS, SHOPS_NAMESPACE)
    names = {
        name for exprs in asked for names in re.findall(r'alertname=~"([^"]+)"', exprs) for name in names.split("|")
    }
    for name in {*names, "MaintenanceMode"}:
        labels = f'alertname="{name}",alertstate="firing",action="rollback",namespace="{SHOPS_NAMESPACE}"'
        mine[f"ALERTS{{{labels}}}"] = "1+0x300"
    questions = sorted(asked)
    checks = [
        {"expr": f"count({expr}) > bool 0", "eval_time": f"{AT}s", "exp_samples": [{"labels": "{}", "value": 1}]}
        for expr in questions
    ]
    test = {
        "evaluation_interval": f"{STEP}s",
        "tests": [
            {
                "interval": f"{STEP}s",
                "input_series": [{"series": name, "values": values} for name, values in (mine | NODES).items()],
                "promql_expr_test": checks,
            }
        ],
    }
    file = folder / "dashboards.test.yaml"
    file.write_text(yaml.safe_dump(test))
    run = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    if run.returncode == 0:
        return set()
    empty = {expr for expr in questions if f"count({expr}) > bool 0" in run.stdout + run.stderr}
    assert empty, run.stdout + run.stderr
    return empty


def test_the_projects_own_metrics_are_those_of_its_programs() -> None:
    sources = [*(ROOT / "tasks").rglob("*.py"), ROOT / "sandbox/shop/backend/src/metrics.ts"]
    written = " ".join(source.read_text() for source in sources)
    names = {re.sub(r"\{.*|_(count|bucket)\{.*", "", name) for name in {**SHOP, **RUNBOOK}}
    assert {name for name in names if f'"{name}"' not in written} == set()


# --- the SDK is for those who draw ---


def test_settings_do_not_load_grafanas_sdk() -> None:
    look = "import sys, monitoring.dashboards.stack; print([name for name in sys.modules if 'grafana' in name])"
    run = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout == "[]\n"
