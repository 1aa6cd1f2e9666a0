"""A stack registers only what it asks for: no Redis, no ingress, no cache command, no application."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.base.names import RESTORE_TEST
from monitoring.alerts.render import rule_files
from monitoring.alerts.stack import domains
from monitoring.dashboards.stack import boards
from monitoring.prometheus import MonitoredStack, prometheus
from settings import SettingsError, StackFile, parse
from tests.support.program import RELEASE, committed, run_program, secrets_for, stack_config

DATABASE_ONLY = {
    "runbook:namespace": "backups",
    "runbook:environment": "sandbox",
    "runbook:image": "registry.example.com/tasks@sha256:" + "1" * 64,
    "runbook:data": {"postgres": {"mode": "external", "egress": [{"cidr": "10.0.0.5/32", "ports": [5432]}]}},
    "runbook:backup": {
        "destination": {"mode": "volume", "size": "1Gi"},
        "restoreTest": {"postgresImage": "registry.example.com/postgres@sha256:" + "2" * 64},
    },
}


def judged(config: dict[str, Any]) -> Any:
    return parse(StackFile("Pulumi.test.yaml", config, frozenset(f"secrets:{name}" for name in secrets_for(config))))


def without_redis(config: dict[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in config["runbook:data"].items() if key != "redis"}
    return {**config, "runbook:data": data}


def test_without_redis_nothing_of_it_is_registered() -> None:
    config = without_redis(committed("Pulumi.sandbox.yaml", release=RELEASE))
    made = run_program(config)
    objects = json.dumps([[item.object_name, item.inputs.get("spec")] for item in made.objects])
    assert "redis" not in objects
    secrets = json.dumps([dict(item.inputs) for item in made.all("Secret")])
    assert "REDIS_URL" not in secrets
    assert "redis" in json.dumps([item.object_name for item in run_program(committed("Pulumi.sandbox.yaml")).objects])


def test_without_redis_nothing_of_it_is_watched_and_no_trigger_waits_for_it() -> None:
    settings = judged(without_redis(committed("Pulumi.sandbox.yaml", release=RELEASE)))
    watching = settings.monitoring
    alerts = domains("shop", watching, ("backend",), settings.backup, settings.rotations())
    rules = json.dumps(rule_files(alerts, "shop"))
    assert "RollbackErrorRate" in rules
    assert "redis" not in rules.lower()
    shown = boards("shop", watching, settings.backup, alerts)
    assert "redis" not in repr([(board.title, board.about, board.rows) for board in shown]).lower()
    stack = MonitoredStack(
        namespace="shop",
        monitoring=watching,
        application=settings.application,
        ingress=settings.ingress,
        rotations=settings.rotations(),
    )
    assert "redis" not in json.dumps(prometheus(stack))


def test_the_checklist_leaves_a_redis_out_that_there_is_none_of() -> None:
    settings = judged(without_redis(stack_config("Pulumi.sandbox.yaml", checklist={}, release=RELEASE)))
    assert settings.checklist.without == {"redis": "the stack has no Redis"}


def test_without_a_cache_command_the_smoke_check_follows_the_rollout() -> None:
    commands = stack_config("Pulumi.sandbox.yaml")["runbook:commands"]
    made = run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE, commands={**commands, "cache": None}))
    names = [job.object_name.rpartition("-")[0] for job in made.all("Job")]
    assert "cache" not in names
    smoke = next(job for job in made.all("Job") if job.object_name.startswith("smoke-"))
    assert made.waits_for(smoke, made.one("Deployment", "backend"))


def test_without_an_ingress_only_the_services_call_one_another() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    [backend] = config["runbook:application"]["services"]
    del config["runbook:ingress"], config["runbook:network"]
    config["runbook:application"] = {**config["runbook:application"], "services": [{**backend, "paths": []}]}
    made = run_program(config)
    assert made.all("Ingress") == []
    [rule] = made.one("NetworkPolicy", "allow-clients-into-services-3000").inputs["spec"]["ingress"]
    assert [set(source) for source in rule["from"]] == [{"podSelector"}]
    assert made.outputs["url"] == "http://backend:3000"


def test_a_stack_of_a_database_alone_backs_it_up_and_proves_it() -> None:
    made = run_program(DATABASE_ONLY)
    assert made.all("Deployment") == [made.one("Deployment", "backup-exporter")]
    for kind in ("StatefulSet", "Ingress", "Job", "Service"):
        assert [item.object_name for item in made.all(kind)] in ([], ["backup-exporter"], ["backup-store"]), kind
    assert {"backup", RESTORE_TEST} <= {item.object_name for item in made.all("CronJob")}
    test = made.one("CronJob", RESTORE_TEST)
    assert [item["name"] for item in test.containers] == ["postgres", "begin", "conclude"]
    generated = [item.name for item in made.resources if item.kind == "RandomPassword"]
    assert generated == ["backup-evidence-key", "restore-test-password"], "nothing for an application"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runbook:release": RELEASE}, "there is no runbook:application"),
        ({"runbook:ingress": {"host": "a.example.com", "className": "nginx"}}, "runbook:network.ingressController"),
        ({"runbook:performance": {"image": "lighthouse@sha256:" + "3" * 64}}, "there is no runbook:application"),
    ],
)
def test_chapters_that_need_an_application_are_refused_without_one(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        judged({**DATABASE_ONLY, **changes})
    assert words in str(refused.value)


def test_paths_need_an_ingress() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    del config["runbook:ingress"]
    with pytest.raises(SettingsError, match="runbook:ingress"):
        judged(config)
