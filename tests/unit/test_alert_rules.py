"""Every alert, tested by promtool: at its limits, in its namespace, and against other thresholds."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from monitoring.__main__ import ALERTS_FILE, alerts_text
from monitoring.alerts.lockdown import LOCKED
from monitoring.alerts.render import prometheus_rule, promtool_files, rule_files
from monitoring.alerts.rule import Alert, Domain, scoped
from monitoring.alerts.self_monitoring import IN_MAINTENANCE, WATCHDOG
from monitoring.alerts.stack import domains
from sandbox import packages
from settings import Maintenance, MaintenanceTasks, Monitoring, Precautions
from settings.base import EXAMPLE_DIGEST
from settings.monitoring import CHANNELS
from settings.performance import Performance
from tests.support.command_line import unknown_words
from tests.support.program import ROOT, stack_config
from tests.unit.test_settings import judged

SHOP = "shop"
GATEWAY = {
    "host": "traefik.traefik.svc",
    "port": 9100,
    "pods": {"namespace": "traefik", "podLabels": {"app": "traefik"}},
}
OTHER: dict[str, Any] = {
    "scrapeSeconds": 4, "evaluationSeconds": 4, "healthSeconds": 6,
    "prometheus": {"ingress": {**GATEWAY, "controller": "ingress-nginx"}},
    "triggers": {
        "errorRatePercent": 7, "errorRateSeconds": 126, "responseMilliseconds": 4000, "responseSeconds": 360,
        "responseQuantile": 0.9, "healthFailures": 4, "sqlInjectionAttempts": 13, "sqlInjectionSeconds": 240,
        "rateSeconds": 20, "leastRequests": 12, "leastFailures": 6, "quietSeconds": 800, "dataGraceSeconds": 50,
        "restarts": 5, "restartSeconds": 240,
    },
    "critical": {
        "errorRatePercent": 3, "errorRateSeconds": 150, "paymentFailurePercent": 8, "paymentSeconds": 600,
        "leastPayments": 7, "leastFailedPayments": 4,
    },
    "slo": {"objectivePercent": 99.5, "windowDays": 28},
    "security": {"windowSeconds": 240, "refusedLogins": 60, "refusedWebhooks": 6},
    "infrastructure": {
        "lastingSeconds": 900, "cpuPercent": 95, "throttledPercent": 35, "memoryPercent": 95, "ioPercent": 95,
        "diskPercent": 90, "diskFullHours": 12, "diskTrendHours": 6, "certificateDays": 14,
        "certificateCriticalDays": 5, "restarts": 4, "cronGraceSeconds": 1200, "targetSeconds": 120,
    },
    "postgres": {
        "awaySeconds": 60, "connectionsPercent": 90, "connectionsSeconds": 420, "exclusiveLocks": 25,
        "locksSeconds": 180, "deadlocks": 4, "transactionSeconds": 900, "replicas": 2, "replicaLagSeconds": 90,
    },
    "redis": {
        "awaySeconds": 60, "memoryPercent": 90, "memorySeconds": 420, "evictions": 1, "rejectedConnections": 1,
    },
}  # fmt: skip
"""Every threshold is another one than the default, and further away."""


LOGS = {"apiServer": [{"cidr": "10.0.0.1/32", "ports": [6443]}]}
LOGGED: dict[str, Any] = {
    "logs": LOGS,
    "scrapeSeconds": 4,
    "security": {"windowSeconds": 240, "refusedLogins": 60},
    "prometheus": {"ingress": GATEWAY},
}
"""Log lines count, too; the last of the three limits is odd."""


PAGES = Performance.model_validate({"image": f"lighthouse@{EXAMPLE_DIGEST}", "continuous": {}})
TASKS = MaintenanceTasks.model_validate({"apiServer": LOGS["apiServer"]})


@cache
def made(which: str) -> tuple[Domain, ...]:
    settings = judged(stack_config("Pulumi.prod.yaml"))
    monitoring = Monitoring.model_validate({"default": {}, "other": OTHER, "logged": LOGGED}[which])
    maintenance = Maintenance(reason="restore of {{ the }} database")
    # Of long ago: promtool's clock begins in 1970.
    lockdown = Precautions().lockdown("{{ an }} attack", datetime(1970, 1, 1, tzinfo=UTC))
    services = ["backend", "worker"]
    stack = (settings.backup, settings.rotations(), maintenance, lockdown, TASKS, PAGES)
    return domains(SHOP, monitoring, services, *stack)


NAMES = [domain.name for domain in made("default")]
ON_LOGS = ("triggers", "service", "logs", "watching")
"""Domains that are others when log lines count."""


def domain(name: str, which: str = "default") -> Domain:
    return next(domain for domain in made(which) if domain.name == name)


def alerts(which: str = "default") -> list[Alert]:
    return [alert for each in made(which) for alert in each.alerts]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # Less garbage collection: promtool runs for a second or two, and takes a sixth less time.
    environment = {**os.environ, "GOGC": "400"}
    return subprocess.run([packages.require("promtool"), *arguments], env=environment, capture_output=True, text=True)


def per_alert(each: Domain) -> list[Domain]:
    """A domain for each alert, with the domain's recordings: promtool evaluates all rules of a file for every case."""
    names = dict.fromkeys(alert.name for alert in each.alerts)
    return [
        replace(each, name=f"{each.name}-{name}", alerts=tuple(alert for alert in each.alerts if alert.name == name))
        for name in names
    ]


def write(folder: Path, files: Mapping[str, Any]) -> list[Path]:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return sorted(folder / name for name in files)


@pytest.mark.parametrize(
    ("name", "which"),
    [*((name, which) for which in ("default", "other") for name in NAMES), *((name, "logged") for name in ON_LOGS)],
)
def test_alerts_fire_at_their_limits_and_not_before(name: str, which: str, tmp_path: Path) -> None:
    each = domain(name, which)
    checked = promtool("check", "rules", "--lint-fatal", *write(tmp_path, rule_files([each], SHOP)))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    write(tmp_path, rule_files(per_alert(each), SHOP))
    tested = promtool("test", "rules", *write(tmp_path, promtool_files(per_alert(each), SHOP)))
    assert tested.returncode == 0, tested.stdout + tested.stderr


WITHOUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a server": ({"postgres": None, "redis": None}, ["backend", "worker"]),
    "Redis alone": ({"postgres": None}, ["backend"]),
    "an application": ({"postgres": None, "redis": None, "frontDoor": {"address": "https://shop.example.com"}}, []),
}
"""What a stack may lack: changes of its settings, and its services."""


@pytest.mark.parametrize("which", WITHOUT)
def test_the_rules_of_a_stack_that_lacks_something_hold_in_what_is_left(which: str, tmp_path: Path) -> None:
    changes, services = WITHOUT[which]
    monitoring = Monitoring.model_validate(changes)
    others = made("default")
    found = [each for each in domains(SHOP, monitoring, services, None, {}) if each not in others]
    assert {each.name for each in found} >= {"watching"}
    checked = promtool("check", "rules", "--lint-fatal", *write(tmp_path, rule_files(found, SHOP)))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for each in found:
        folder = tmp_path / each.name
        folder.mkdir()
        write(folder, rule_files(per_alert(each), SHOP))
        tested = promtool("test", "rules", *write(folder, promtool_files(per_alert(each), SHOP)))
        assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("backups", "rotations", "maintenance", "pages", "watching")]
)
@pytest.mark.parametrize(("rules", "tests"), [("other", "default"), ("default", "other")])
def test_other_thresholds_fail_every_alerts_cases(name: str, rules: str, tests: str, tmp_path: Path) -> None:
    """The cases are so close to the limits that other rules fail them: what is just beyond the nearer limit is within
    the further one, and what is just within that is beyond the nearer."""
    ours = per_alert(domain(name, tests))
    write(tmp_path, rule_files((replace(each, alerts=()) for each in ours), SHOP))  # some alerts only one of them has
    write(tmp_path, rule_files(per_alert(domain(name, rules)), SHOP))
    files = promtool_files(ours, SHOP)
    if rules == "other":
        # What is silent at the nearer limit is silent at the further one.
        for file in files.values():
            file["tests"] = [test for test in file["tests"] if _fires(test)]
    tested = promtool("test", "rules", *write(tmp_path, {name: file for name, file in files.items() if file["tests"]}))
    failed = set(re.findall(r"alertname: (\w+)", tested.stdout + tested.stderr))
    # Its limit is 0: there is no other.
    expected = {alert.name for alert in domain(name, tests).alerts} - {"ContainerOutOfMemory"}
    if name == "workloads":
        expected -= {"CronJobFailed"}  # compares two moments
    assert failed == expected


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("nodes", "watching")])
def test_what_happens_in_another_namespace_is_another_stacks(name: str, tmp_path: Path) -> None:
    each = domain(name)
    write(tmp_path, rule_files(per_alert(each), SHOP))
    files = promtool_files(per_alert(each), SHOP)
    absent = {alert.name for alert in each.alerts if alert.on_absence}
    for file in files.values():
        # What is silent here is silent there.
        file["tests"] = [test for test in file["tests"] if _fires(test) and test["name"].split(":")[0] not in absent]
        for test in file["tests"]:
            for series in test["input_series"]:
                assert f'namespace="{SHOP}"' in series["series"]
                series["series"] = series["series"].replace(f'namespace="{SHOP}"', 'namespace="elsewhere"')
            for check in test["alert_rule_test"]:
                check["exp_alerts"] = []
    tested = promtool("test", "rules", *write(tmp_path, {name: file for name, file in files.items() if file["tests"]}))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def _fires(test: Mapping[str, Any]) -> bool:
    return any(check["exp_alerts"] for check in test["alert_rule_test"])


def test_a_series_is_narrowed_once() -> None:
    assert scoped('sum by (le) (rate(http_request_duration_seconds_bucket{route!~"/a|pg_up"}[5m]))', "a") == (
        'sum by (le) (rate(http_request_duration_seconds_bucket{namespace="a",route!~"/a|pg_up"}[5m]))'
    )
    assert scoped("pg_up{} == 0 or redis_up{} == 0 or node_load1 > 9", "a") == (
        'pg_up{namespace="a"} == 0 or redis_up{namespace="a"} == 0 or node_load1 > 9'
    )
    assert (
        scoped("sum_over_time(slo:errors:rate1m{}[5m])", "a") == 'sum_over_time(slo:errors:rate1m{namespace="a"}[5m])'
    )


def test_every_alert_is_seen_firing_and_not_firing() -> None:
    for alert in alerts("logged"):
        outcomes = {firing for case in alert.cases for _, firing in case.checks}
        constant = alert.name == IN_MAINTENANCE
        assert outcomes == ({True} if constant else {True, False}), alert.name


def test_every_alert_with_a_time_is_seen_just_before_it_is_up() -> None:
    for alert in (alert for alert in alerts("logged") if alert.lasting):
        edges = {
            (firing, before)
            for case in alert.cases
            for (earlier, before), (at, firing) in zip(case.checks, case.checks[1:], strict=False)
            if at - earlier == case.step
        }
        assert (True, False) in edges, alert.name


@pytest.mark.parametrize("which", ["default", "other", "logged"])
def test_every_alert_can_be_routed_and_understood(which: str) -> None:
    names = {alert.name for alert in alerts(which)}
    for alert in alerts(which):
        assert alert.about, alert.name
        assert alert.channel in CHANNELS, alert.name
        assert alert.advice, alert.name
        assert alert.missing, alert.name
        for named in re.findall(r"`([A-Z]\w+)`", alert.missing):
            assert named in names, f"{alert.name} names {named}, which does not exist"


def test_every_command_that_an_alert_names_exists() -> None:
    page = ALERTS_FILE.read_text()
    for alert in alerts("logged"):
        rule = alert.to_prometheus()["annotations"]
        for named in re.findall(r"`runbook ([^`]+)`", f"{rule['summary']} {rule['advice']} {alert.missing}"):
            assert unknown_words(named) == [], f"{alert.name}: runbook {named}"
        file, anchor = rule["runbook_url"].split("#")
        assert ROOT / file == ALERTS_FILE
        assert f"### {anchor}\n" in page.lower(), f"{rule['runbook_url']} is no section"


def test_messages_lead_to_where_the_documents_are() -> None:
    monitoring = Monitoring.model_validate({"documentsUrl": "https://git.example.com/ops/docs"})
    found = [alert for domain in domains("shop", monitoring, ("backend",), None, {}) for alert in domain.alerts]
    urls = {alert.name: alert.to_prometheus()["annotations"]["runbook_url"] for alert in found}
    assert urls["PostgresAway"] == "https://git.example.com/ops/docs/alerts.md#postgresaway"
    assert all(url.startswith("https://git.example.com/ops/docs/alerts.md#") for url in urls.values())


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("journal", ["journal"]),
        ("logs:tail", []),
        ("backup prove", ["prove"]),
        ("rotate --dew", ["--dew"]),
        ("backup cleanup --dry-run", []),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, unknown: list[str]) -> None:
    assert unknown_words(line) == unknown


@pytest.mark.parametrize(
    ("prefix", "where"),
    [
        ("http_request|shop", "sandbox/shop/backend/src/metrics.ts"),
        (
            "runbook",
            "tasks/exporter.py tasks/rotation_status.py tasks/logs/counts.py tasks/maintenance_tasks/metrics.py "
            "tasks/pages/metrics.py",
        ),
    ],
)
def test_our_own_programs_export_what_alerts_query(prefix: str, where: str) -> None:
    exported = "".join((ROOT / file).read_text() for file in where.split())
    for alert in alerts("logged"):
        for name in re.findall(rf"\b((?:{prefix})_\w+)\{{", alert.expr):
            assert re.sub("_(count|bucket)$", "", name) in exported, f"{alert.name} queries {name}"


def test_an_alert_names_the_release_it_blames() -> None:
    for name in ("RollbackErrorRate", "RollbackResponseTime"):
        alert = next(alert for alert in alerts() if alert.name == name)
        firing = [case for case in alert.cases if any(outcome for _, outcome in case.checks)]
        assert all(case.labels == {"release": "2.0.0", "git": "bbb"} for case in firing)


def test_which_alerts_roll_back_and_which_lock_down() -> None:
    actions = {alert.name: alert.action for alert in alerts() if alert.action}
    assert actions == {
        "RollbackErrorRate": "rollback",
        "RollbackResponseTime": "rollback",
        "RollbackRestarts": "rollback",
        "RollbackHealth": "rollback",
        "SqlInjection": "lockdown",
    }


def test_maintenance_quiets_what_customers_notice_and_nothing_else() -> None:
    quiet = {alert.name for alert in alerts() if alert.quiet}
    assert {"RollbackHealth", "RollbackErrorRate", "HealthCheckFailing", "FrontDoorClosed", "PostgresAway"} <= quiet
    loud = {
        "SqlInjection",
        "WebhooksForged",
        "BackupMissed",
        "VolumeFull",
        "CertificateEnds",
        WATCHDOG,
        IN_MAINTENANCE,
        LOCKED,
    }
    assert not loud & quiet


def test_the_operators_object_has_the_same_rules() -> None:
    each = made("default")
    object_ = prometheus_rule(each, SHOP, {"release": "prometheus"})
    assert object_["spec"]["groups"] == [file["groups"][0] for file in rule_files(each, SHOP).values()]
    assert object_["metadata"]["labels"] == {"release": "prometheus"}


def test_the_page_is_current() -> None:
    assert ALERTS_FILE.read_text() == alerts_text(), "run `python -m monitoring` and commit the result"
