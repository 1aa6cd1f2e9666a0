"""Monitoring in a stack file: the runbooks' numbers, refusals, the time limit of a rollback, notification routes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring.alertmanager import Places, alertmanager
from monitoring.alerts.render import as_yaml
from monitoring.prometheus import MonitoredStack, prometheus
from sandbox import packages
from settings import Monitoring, SettingsError, StackFile, StackSettings, parse
from settings.budget import rollback_budget
from settings.monitoring import CHANNELS
from tests.support.monitored_config import OPERATED, PLAIN
from tests.support.program import secrets_for
from tests.unit.test_settings import edited, judged, prod, refusal

CONTROLLER = Places(controller="http://rollback:8080/alerts", switch="https://switch.example.com/shop")


def watched(**monitoring: Any) -> dict[str, Any]:
    return prod(monitoring={**PLAIN, **monitoring})


def settings(**monitoring: Any) -> StackSettings:
    return judged(watched(**monitoring))


# -- the declaration -----------------------------------------------------------------------------------


def test_the_numbers_are_the_runbooks_own() -> None:
    monitoring = Monitoring()
    triggers = monitoring.triggers
    assert (triggers.error_rate_percent, triggers.error_rate_seconds) == (5, 120)
    assert (triggers.response_milliseconds, triggers.response_seconds) == (3000, 300)
    assert triggers.health_failures == 3
    assert triggers.sql_injection_attempts == 10
    assert monitoring.critical.error_rate_percent == 2
    assert monitoring.critical.payment_failure_percent == 5
    assert monitoring.rollback.limit_seconds == 90
    assert monitoring.slack.escalation("critical") == ("<!channel>",)
    assert monitoring.slack.escalation("security") == ("<!channel>",)


def test_without_the_key_there_is_no_monitoring_and_no_secret_is_required() -> None:
    unwatched = judged(prod())
    assert unwatched.monitoring is None
    assert not [name for name in unwatched.secret_names if name.startswith("SLACK")]


@pytest.mark.parametrize(
    "name", ["@tech-lead", "tech-lead", "@U0123ABCD", "#alerts", "<@alice>", "<!subteam^devops>", ""]
)
def test_a_name_that_slack_would_notify_no_one_of_is_refused(name: str) -> None:
    said = str(refusal(watched(slack={**PLAIN["slack"], "escalationCritical": [name]})))
    assert "escalationCritical" in said
    assert "<!subteam^ID>" in said
    assert "Copy group ID" in said


@pytest.mark.parametrize(
    ("written", "mention"),
    [
        ("<!subteam^S0123ABCD>", "<!subteam^S0123ABCD>"),
        ("<!subteam^S0123ABCD|@devops>", "<!subteam^S0123ABCD|@devops>"),
        ("S0123ABCD", "<!subteam^S0123ABCD>"),
        ("<@U0123ABCD>", "<@U0123ABCD>"),
        ("W0123ABCD", "<@W0123ABCD>"),
        ("<!here>", "<!here>"),
    ],
)
def test_people_are_called_by_their_ids(written: str, mention: str) -> None:
    monitoring = settings(slack={**PLAIN["slack"], "escalationSecurity": [written]}).monitoring
    assert monitoring
    assert monitoring.slack.escalation("security") == (mention,)


def test_every_channel_has_its_secret() -> None:
    names = set(settings().secret_names)
    assert {f"SLACK_WEBHOOK_{channel.upper()}" for channel in CHANNELS} <= names
    assert "DEAD_MANS_SWITCH_URL" in names
    assert "DEAD_MANS_SWITCH_URL" not in settings(deadMansSwitch=False).secret_names


def test_a_missing_webhook_is_refused_with_the_command_that_sets_it() -> None:
    config = watched()
    error = refusal(config, set(secrets_for(config)) - {"SLACK_WEBHOOK_BUSINESS"})
    assert "needed by runbook:monitoring" in str(error)
    assert "pulumi config set --secret secrets:SLACK_WEBHOOK_BUSINESS" in str(error)


def test_a_webhook_in_plain_text_is_refused() -> None:
    config = watched() | {"secrets:SLACK_WEBHOOK_ALERTS": "https://hooks.example.com/T0/B0/x"}
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(watched()))
    with pytest.raises(SettingsError, match="a secret in plain text") as caught:
        parse(StackFile("Pulumi.test.yaml", config, sealed))
    assert "T0/B0" not in str(caught.value)


@pytest.mark.parametrize(
    ("monitoring", "where", "says"),
    [
        ({"errorRate": 5}, "runbook:monitoring.errorRate", "unknown key"),
        ({"uncountedRoutes": ['/a"} or up{']}, "uncountedRoutes[0]", "/api/live"),
        ({"triggers": {"errorRatePercent": 0}}, "triggers.errorRatePercent", "greater than 0"),
        ({"triggers": {"errorRatePercent": 101}}, "triggers.errorRatePercent", "less than or equal to 100"),
        ({"triggers": {"healthFailures": 0}}, "triggers.healthFailures", "greater than or equal to 1"),
        ({"triggers": {"responseQuantile": 1}}, "triggers.responseQuantile", "less than 1"),
        ({"triggers": {"rateSeconds": 15}}, "triggers.rateSeconds", "rateSeconds: 20"),
        ({"scrapeSeconds": 10, "triggers": {"rateSeconds": 39}}, "triggers.rateSeconds", "rateSeconds: 40"),
        ({"triggers": {"sqlInjectionSeconds": 10}}, "sqlInjectionSeconds", "must be at least four scrapes"),
        ({"critical": {"errorRatePercent": 5}}, "critical.errorRatePercent", "must be below the rollback's threshold"),
        ({"rollback": {"cooldownSeconds": 60}}, "rollback.cooldownSeconds", "before the first is done (90 s)"),
        ({"slo": {"objectivePercent": 90}}, "slo.burns[0].budgetPercent", "could not fire if every request failed"),
        ({"slo": {"burns": []}}, "slo.burns", "at least 1"),
        (
            {"slo": {"burns": [{"budgetPercent": 2, "longSeconds": 3600, "shortSeconds": 3600, "page": True}]}},
            "slo.burns[0].shortSeconds",
            "not shorter than the long one",
        ),
        (
            {"infrastructure": {"certificateCriticalDays": 21}},
            "infrastructure.certificateCriticalDays",
            "must be lower than the warning",
        ),
    ],
)
def test_what_cannot_work_is_refused(monitoring: dict[str, Any], where: str, says: str) -> None:
    message = str(refusal(watched(**monitoring)))
    assert where in message
    assert says in message


def test_alerts_without_a_metrics_source_are_refused() -> None:
    message = str(refusal(prod(monitoring={})))
    assert "runbook:monitoring.image" in message
    for name in ("kubelet", "nodes", "kubeState"):
        assert f"runbook:monitoring.infrastructure.{name}" in message
        assert f"set prometheus.{name}" in message
    kubelet = {"addresses": ["10.0.0.1"], "egress": ["10.0.0.0/8"]}
    measured = {"infrastructure": {"nodes": False, "kubeState": False}, "prometheus": {"kubelet": kubelet}}
    assert settings(**measured)


def test_operator_mode_needs_the_operators_settings() -> None:
    assert "runbook:monitoring.operator" in str(refusal(watched(mode="operator")))
    assert judged(prod(monitoring=OPERATED))


def test_notifications_need_egress() -> None:
    config = edited(watched(slack={}), "network.egress", [])
    assert "runbook:monitoring.slack.egress" in str(refusal(config))
    assert judged(edited(watched(), "network.egress", []))


def test_the_quota_includes_monitoring() -> None:
    assert "monitoring need" in str(refusal(edited(watched(), "guards", {"quota": {"cpu": "6"}})))
    assert "the volumes need" in str(refusal(watched(prometheus={"storage": "500Gi"})))


def test_a_probe_that_would_hide_errors_is_refused() -> None:
    config = edited(watched(), "application.services.0.probes.readiness.path", "/ready")
    message = str(refusal(config))
    assert "runbook:monitoring.uncountedRoutes" in message
    assert "probes request /ready" in message
    assert "- /ready" in message
    assert judged(edited(config, "monitoring.uncountedRoutes", ["/metrics", "/api/live", "/ready"]))
    assert judged(edited(config, "monitoring.healthPath", "/ready"))


# -- time limit of a rollback --------------------------------------------------------------------------


def test_the_worst_case_is_the_sum_of_its_parts() -> None:
    stack = settings()
    assert stack.monitoring
    budget = rollback_budget(stack.monitoring, stack.application)
    assert {part.name: part.seconds for part in budget.parts} == {
        "scrape": 5,
        "evaluation": 5,
        "delivery": 1,
        "engine": 12,
        "rollout": 4 * (5 + 2 + 5),  # ten pods, three at a time
        "drain": 10,
        "health": 5,
    }
    assert budget.total == 86
    assert budget.kept
    assert budget.windows == {
        "RollbackErrorRate": 15 + 120,
        "RollbackResponseTime": 15 + 300,
        "RollbackHealth": 15,
        "RollbackRestarts": 300,
    }


def test_how_long_the_last_release_took_to_start_counts_once_it_is_known() -> None:
    stack = settings()
    assert stack.monitoring
    assert rollback_budget(stack.monitoring, stack.application, startup_seconds=1.5).total == 86 - 4 * 3.5
    assert not rollback_budget(stack.monitoring, stack.application, startup_seconds=6.5).kept


def test_exactly_the_limit_is_kept_and_a_second_less_is_refused() -> None:
    assert settings(rollback={"limitSeconds": 86})
    message = str(refusal(watched(rollback={"limitSeconds": 85})))
    assert "runbook:monitoring.rollback.limitSeconds" in message
    assert "can take 86 s from trigger to healthy" in message
    assert "with runbook:application.surge: 4 it keeps to 85 s" in message


def test_the_refusal_of_an_impossible_limit_names_the_least_possible() -> None:
    assert "limitSeconds: 86" in str(refusal(watched(rollback={"limitSeconds": 30})))


def test_the_refusal_of_a_slow_rollout_names_the_surge_to_set() -> None:
    message = str(refusal(edited(watched(), "application.surge", 2)))
    assert "can take 98 s" in message
    assert "with runbook:application.surge: 3 it keeps to 90 s" in message


def test_without_rollback_there_is_no_limit_to_keep_to() -> None:
    assert judged(edited(watched(rollback={"enabled": False}), "application.surge", 1))


# -- routes --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def amtool() -> str:
    return packages.require("amtool")


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    file = tmp_path / "alertmanager.yaml"
    file.write_text(as_yaml(alertmanager(Monitoring(), CONTROLLER)))
    return file


def test_alertmanager_takes_the_configuration(amtool: str, routes: Path) -> None:
    done = subprocess.run([amtool, "check-config", routes], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ("alertname=RollbackHealth action=rollback channel=critical severity=critical", "rollback,slack-critical"),
        ("alertname=SqlInjection action=lockdown channel=security severity=critical", "rollback,slack-security"),
        ("alertname=HealthCheckFailing channel=critical severity=critical", "slack-critical"),
        ("alertname=ErrorRateHigh channel=alerts severity=warning", "slack-alerts"),
        ("alertname=PaymentFailures channel=business severity=critical", "slack-business"),
        ("alertname=NodeIo channel=performance severity=warning", "slack-performance"),
        ("alertname=Watchdog channel=critical severity=none", "dead-mans-switch"),
        ("alertname=OfSomebodyElse", "slack-alerts"),
    ],
)
def test_receivers_by_labels(amtool: str, routes: Path, labels: str, receivers: str) -> None:
    command = [amtool, "config", "routes", "test", f"--config.file={routes}", *labels.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == receivers


def test_the_controller_is_notified_at_once_with_a_token_from_a_file() -> None:
    config = alertmanager(Monitoring(), CONTROLLER)
    route = next(route for route in config["route"]["routes"] if route["receiver"] == "rollback")
    assert (route["group_wait"], route["group_by"], route["continue"]) == ("0s", ["..."], True)
    hook = next(receiver for receiver in config["receivers"] if receiver["name"] == "rollback")["webhook_configs"][0]
    assert hook["http_config"]["authorization"] == {"type": "Bearer", "credentials_file": CONTROLLER.token}


def test_routes_without_a_controller_and_a_dead_mans_switch(amtool: str, tmp_path: Path) -> None:
    file = tmp_path / "alertmanager.yaml"
    file.write_text(as_yaml(alertmanager(Monitoring(dead_mans_switch=False), Places())))
    assert subprocess.run([amtool, "check-config", file], capture_output=True).returncode == 0
    for labels, receiver in (("alertname=Watchdog", "none"), ("action=rollback channel=critical", "slack-critical")):
        command = [amtool, "config", "routes", "test", f"--config.file={file}", *labels.split()]
        assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == receiver


def test_webhooks_are_read_from_files_and_stand_nowhere() -> None:
    config = alertmanager(Monitoring(), Places(controller="http://rollback:8080/alerts", secrets="/secrets"))
    for channel in CHANNELS:
        receiver = next(one for one in config["receivers"] if one["name"] == f"slack-{channel}")
        assert receiver["slack_configs"][0]["api_url_file"] == f"/secrets/SLACK_WEBHOOK_{channel.upper()}"
        assert receiver["slack_configs"][0]["send_resolved"] is True
    switch = next(one for one in config["receivers"] if one["name"] == "dead-mans-switch")
    assert switch["webhook_configs"][0]["url_file"] == "/secrets/DEAD_MANS_SWITCH_URL"


# -- limits of Prometheus itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "percent"),
    [({}, 70), ({"diskPercent": 70}, 55), ({"diskPercent": 95}, 70), ({"diskPercent": 10}, 5)],
)
def test_metrics_are_deleted_before_their_volume_counts_as_full(change: dict[str, Any], percent: int) -> None:
    monitoring = Monitoring.model_validate({"prometheus": {"storage": "100Gi"}, "infrastructure": change})
    assert monitoring.retention_bytes == 100 * 2**30 * percent // 100
    assert monitoring.retention_bytes < 0.95 * monitoring.infrastructure.disk_percent / 100 * 100 * 2**30


def test_a_target_of_the_application_has_limits() -> None:
    config = watched(prometheus={"sampleLimit": 5000, "labelLimit": 20, "labelValueLength": 300})
    made = judged(config)
    assert made.monitoring
    stack = MonitoredStack(
        namespace="shop", monitoring=made.monitoring, application=made.application, ingress=made.ingress, rotations={}
    )
    jobs = {job["job_name"]: job for job in prometheus(stack)["scrape_configs"]}
    service = made.application.main_service.name
    assert (jobs[service]["sample_limit"], jobs[service]["label_limit"]) == (5000, 20)
    assert jobs[service]["label_value_length_limit"] == 300
    assert not [name for name, job in jobs.items() if "sample_limit" in job and name != service]
