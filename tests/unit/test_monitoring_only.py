"""A stack without an application, which only monitors what belongs to others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from monitoring.alerts.stack import domains
from monitoring.dashboards.render import files
from monitoring.dashboards.stack import boards
from ops.commands import budget, check, deploy, go_live, lockdown, maintenance, promote, restart, rollback
from ops.commands.status import is_healthy, list_servers
from ops.commands.update import LockPolicy
from ops.decisions import doctor
from ops.errors import Refused
from settings import Maintenance, SettingsError, StackFile, StackSettings, parse
from tests.support.grafana import judged as judged_by_grafana
from tests.support.program import Program, run_program, secrets_for

IMAGE = "registry.example.com/monitoring@sha256:" + "3" * 64
NOTHING = {"kubelet": False, "nodes": False, "kubeState": False}
OUTSIDE = [{"cidr": "203.0.113.0/24", "ports": [443]}]
DOOR = {"address": "https://shop.example.com", "egress": OUTSIDE}
EXPORTER = {
    "host": "node-exporter.monitoring.svc",
    "port": 9100,
    "pods": {"namespace": "monitoring", "podLabels": {"a": "b"}},
}
POSTGRES = {"mode": "external", "egress": [{"cidr": "10.0.5.0/24", "ports": [5432]}]}
REDIS = {"mode": "external", "egress": [{"cidr": "10.0.6.0/24", "ports": [6379]}]}
THEIRS = {"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "prometheus"}}

CONTROLLER = {
    "image": IMAGE,
    "state": {"url": "s3://state?region=eu-west-3", "egress": OUTSIDE},
    "apiServer": OUTSIDE,
}


def alone(data: dict[str, Any] | None = None, **monitoring: Any) -> dict[str, Any]:
    """A stack file whose only chapter is monitoring; of a public address, unless `monitoring` says otherwise."""
    given = {"image": IMAGE, "infrastructure": NOTHING, "frontDoor": DOOR, "slack": {"egress": OUTSIDE}, **monitoring}
    return {
        "kubernetes:context": "a-cluster",
        "runbook:namespace": "watch",
        "runbook:environment": "production",
        "runbook:image": "registry.example.com/tasks@sha256:" + "1" * 64,
        **({"runbook:data": data} if data else {}),
        "runbook:monitoring": {key: value for key, value in given.items() if value is not None},
    }


def judged(config: dict[str, Any]) -> StackSettings:
    return parse(StackFile("Pulumi.watch.yaml", config, frozenset(f"secrets:{name}" for name in secrets_for(config))))


def refusal(config: dict[str, Any]) -> SettingsError:
    with pytest.raises(SettingsError) as refused:
        judged(config)
    return refused.value


def alerts_of(settings: StackSettings) -> set[str]:
    assert settings.monitoring
    return {
        alert.name
        for domain in domains("watch", settings.monitoring, [], settings.backup, settings.rotations())
        for alert in domain.alerts
    }


def names(program: Program, kind: str) -> set[str]:
    return {made.object_name for made in program.all(kind)}


def file_of(program: Program, name: str, file: str) -> Any:
    [made] = [
        one for one in program.all("ConfigMap") if one.object_name.startswith(f"{name}-") and file in one.inputs["data"]
    ]
    return yaml.safe_load(made.inputs["data"][file])


WATCHING = {
    "Watchdog", "TargetAway", "MetricsMissing", "RulesFail", "RulesMissed", "AlertsUndelivered", "MessagesUndelivered",
}  # fmt: skip


def test_a_public_address_is_probed_and_nothing_of_an_application_is_registered() -> None:
    made = run_program(alone())
    assert names(made, "StatefulSet") == {"prometheus", "alertmanager"}
    assert names(made, "Deployment") == {"blackbox"}
    assert made.all("CronJob") == made.all("Job") == []
    assert not {one for one in names(made, "Secret") if one.startswith(("app-secrets", "database", "rotation"))}
    jobs = file_of(made, "prometheus", "prometheus.yaml")["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["front-door", "prometheus", "alertmanager"]
    assert jobs[0]["params"]["target"] == ["https://shop.example.com/"]
    openings = made.one("NetworkPolicy", "allow-http-checks").inputs["spec"]["egress"]
    assert [rule["to"][0]["ipBlock"]["cidr"] for rule in openings] == ["203.0.113.0/24"]


def test_its_alerts_are_of_what_it_measures() -> None:
    assert alerts_of(judged(alone())) == {"FrontDoorClosed", "CertificateEndsSoon", "CertificateEnds", *WATCHING}
    plain = {"address": "http://shop.shop.svc:8080", "egress": OUTSIDE}
    assert "CertificateEnds" not in alerts_of(judged(alone(frontDoor=plain))), "there is no certificate"


def test_nodes_alone_are_watched() -> None:
    settings = judged(alone(frontDoor=None, infrastructure={**NOTHING, "nodes": True}, prometheus={"nodes": EXPORTER}))
    assert {"NodeCpu", "NodeMemory", "NodeDiskFull"} <= alerts_of(settings)
    assert not {"FrontDoorClosed", "PostgresAway", "RedisAway"} & alerts_of(settings)


def test_restarts_are_watched_and_no_cron_job_or_autoscaler_that_is_not_there() -> None:
    settings = judged(alone(infrastructure={**NOTHING, "kubeState": True}, prometheus={"kubeState": EXPORTER}))
    assert "PodRestarts" in alerts_of(settings)
    assert not {"CronJobMissed", "CronJobFailed", "AutoscalerBlind", "SamplesNearLimit"} & alerts_of(settings)


@pytest.mark.parametrize(
    ("data", "exporter", "alert"),
    [({"postgres": POSTGRES}, "postgres-exporter", "PostgresAway"), ({"redis": REDIS}, "redis-exporter", "RedisAway")],
)
def test_a_server_of_others_is_watched_by_its_exporter(data: dict[str, Any], exporter: str, alert: str) -> None:
    config = alone(data, frontDoor=None)
    made = run_program(config)
    assert names(made, "Deployment") == {exporter}
    assert alert in alerts_of(judged(config))
    assert len({"PostgresAway", "RedisAway"} & alerts_of(judged(config))) == 1
    assert ("database" in names(made, "Secret")) == ("postgres" in data)


def test_rules_alone_need_no_image() -> None:
    """For the operator's Prometheus, which has the exporters of the cluster."""
    config = alone(mode="operator", operator={"prometheus": THEIRS}, image=None, frontDoor=None, infrastructure=None)
    made = run_program(config)
    kinds = {one.inputs["kind"] for one in made.objects if one.type.startswith("kubernetes:monitoring.coreos.com")}
    assert kinds == {"PrometheusRule", "AlertmanagerConfig"}
    assert made.all("Deployment") == made.all("StatefulSet") == []
    [rules] = [one for one in made.objects if one.inputs["kind"] == "PrometheusRule"]
    assert "NodeDiskFull" in json.dumps(rules.inputs["spec"])


def test_every_dashboard_is_one_that_grafana_accepts() -> None:
    settings = judged(alone(infrastructure={**NOTHING, "kubeState": True}, prometheus={"kubeState": EXPORTER}))
    assert settings.monitoring
    alerts = domains("watch", settings.monitoring, [], None, settings.rotations())
    found = files(boards("watch", settings.monitoring, None, alerts), alerts, "watch")
    assert set(found) == {"availability.json", "infrastructure.json"}
    assert {name: judged_by_grafana(json.loads(text)) for name, text in found.items()} == {name: [] for name in found}


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"frontDoor": None}, "runbook:monitoring.frontDoor.address", "there is nothing to monitor"),
        ({"frontDoor": {"address": "https://shop.example.com"}}, "frontDoor.egress", "would always fail"),
        ({"rollback": CONTROLLER}, "rollback.image", "whose releases a controller could roll back: remove image"),
        ({"logs": {"apiServer": OUTSIDE}}, "runbook:monitoring.logs", "counts lines of its pods: remove it"),
        ({"prometheus": {"ingress": EXPORTER}}, "prometheus.ingress", "requests to its services: remove it"),
        ({"unmeasured": ["backend"]}, "unmeasured", "names services of it: remove it"),
        ({"image": None}, "runbook:monitoring.image", "is missing"),
    ],
)
def test_what_cannot_be_without_an_application_is_refused(changes: dict[str, Any], where: str, words: str) -> None:
    said = str(refusal(alone(**changes)))
    assert where in said
    assert words in said


@pytest.mark.parametrize("key", ["maintenanceTasks", "performance", "checklist"])
def test_a_chapter_of_an_application_is_refused_in_one_line(key: str) -> None:
    given = {
        "maintenanceTasks": {"apiServer": OUTSIDE},
        "performance": {"image": IMAGE},
        "checklist": {},
    }
    config = alone() | {f"runbook:{key}": given[key]}
    assert any(
        problem.path == (f"runbook:{key}",) and "remove it" in problem.why and "\n" not in problem.why
        for problem in refusal(config).problems
    )


def test_a_stack_of_nothing_is_refused() -> None:
    config = {key: value for key, value in alone().items() if key != "runbook:monitoring"}
    [problem] = refusal(config).problems
    assert problem.path == ("runbook:data", "postgres")


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """The part of a session that these commands look at first. Anything else is an error."""
    config = {**alone(), **{f"secrets:{name}": {"secure": "x"} for name in secrets_for(alone())}}
    file = tmp_path / "Pulumi.watch.yaml"
    file.write_text(yaml.safe_dump({"config": config}))
    return SimpleNamespace(file=file, stack="watch")


POLICY = LockPolicy(False, lambda _: False)
COMMANDS: dict[str, Callable[[Any], object]] = {
    "deploy": lambda session: deploy.deploy(session, deploy.Wish("shop:v1"), POLICY),
    "roll back": lambda session: rollback.rollback(session, rollback.Wish(), POLICY, lambda *_: False),
    "release": lambda session: check.check(session, None, None),
    "restart": lambda session: restart.restart(session, POLICY, []),
    "lock": lambda session: lockdown.switch_lockdown(session, POLICY, None),
    "take out of service": lambda session: maintenance.switch_maintenance(session, POLICY, Maintenance(reason="x")),
    "go live with": lambda session: go_live.go_live(session, None),
    "promote": lambda session: promote.plan_promotion(SimpleNamespace(file=Path("other")), session),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_of_releases_says_in_one_line_what_is_missing(verb: str, session: Any) -> None:
    with pytest.raises(Refused) as refused:
        COMMANDS[verb](session)
    said = str(refused.value)
    assert said.startswith(f"Pulumi.watch.yaml has no runbook:application, so there is nothing to {verb}")
    assert "`pulumi up`" in said
    assert "\n" not in said


def test_the_budget_of_a_rollback_needs_an_application(session: Any) -> None:
    with pytest.raises(Refused, match="nothing to roll back"):
        budget.read_budget(session)


def test_the_doctor_asks_for_what_the_stack_has() -> None:
    settings = judged(alone({"postgres": POSTGRES}))
    assert doctor.list_images(settings, None) == {"runbook:image": settings.image, "monitoring.image": IMAGE}
    assert list(doctor.names_database(settings)) == ["DATABASE_URL"]
    assert list(doctor.names_database(judged(alone()))) == []
    assert {right.resource for right in doctor.list_rights(settings)} >= {"statefulsets", "configmaps"}


def test_a_database_that_is_only_monitored_needs_no_right_to_change_it() -> None:
    found = {"version": 160_004, "user": "watcher", "database": "shop", "create": False}
    assert doctor.judge_database(found, writes=False) == "PostgreSQL 16, role watcher, database shop"
    assert isinstance(doctor.judge_database(found), doctor.Fault)


def workload(name: str, ready: int, **status: int) -> dict[str, Any]:
    made = {"replicas": 1, "readyReplicas": ready, "updatedReplicas": 1, "observedGeneration": 2, **status}
    containers = [{"name": name, "image": IMAGE}]
    return {
        "metadata": {"name": name, "generation": 2},
        "spec": {"replicas": 1, "template": {"spec": {"containers": containers}}},
        "status": made,
    }


def test_status_is_that_of_the_servers_that_run() -> None:
    def found(*workloads: dict[str, Any]) -> dict[str, Any]:
        return {
            "application": False,
            "revision": None,
            "services": list_servers(workloads),
            "lastUpdate": {"result": "succeeded"},
        }

    well = found(workload("prometheus", 1), workload("alertmanager", 1))
    assert [one["name"] for one in well["services"]] == ["alertmanager", "prometheus"]
    assert is_healthy(well)
    assert not is_healthy(found(workload("prometheus", 0)))
    assert not is_healthy(found(workload("prometheus", 1, observedGeneration=1))), "an older template's pods"
    assert not is_healthy({**well, "lastUpdate": {"result": "failed"}})
    assert not is_healthy({**well, "lastUpdate": None}), "never applied"


def test_backups_of_a_database_are_monitored_without_an_application() -> None:
    config = alone({"postgres": POSTGRES}, frontDoor=None) | {
        "runbook:backup": {
            "destination": {"mode": "volume", "size": "1Gi"},
            "restoreTest": {"postgresImage": "registry.example.com/postgres@sha256:" + "2" * 64},
        }
    }
    made = run_program(config)
    assert names(made, "Deployment") == {"backup-exporter", "postgres-exporter"}
    assert {"BackupMissed", "RestoreNotProven", "PostgresAway"} <= alerts_of(judged(config))
    jobs = {job["job_name"] for job in file_of(made, "prometheus", "prometheus.yaml")["scrape_configs"]}
    assert jobs == {"postgres", "prometheus", "alertmanager", "backups"}
