"""Objects of the monitoring: network policies, secrets, dependencies, and files that the servers accept."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.monitoring.monitoring import for_lib_pq
from components.monitoring.prometheus_operator import alertmanager_config
from monitoring.alertmanager import Places, alertmanager, inhibitions
from settings.base import EXAMPLE_DIGEST
from settings.monitoring import Monitoring
from tasks.credentials.redis import MONITOR_RULES
from tests.support.monitored_config import OPERATED, PLAIN, watched
from tests.support.program import Program, Registered, run_program, secrets_for
from tests.unit.test_backup_components import chosen
from tests.unit.test_settings_rotation import state

SERVERS, EXPORTERS = {"prometheus", "alertmanager"}, {"blackbox", "postgres-exporter", "redis-exporter"}
SOURCE = {
    "host": "them.monitoring.svc",
    "port": 9100,
    "pods": {"namespace": "monitoring", "podLabels": {"app": "them"}},
}
WITH_NODES = {
    **PLAIN,
    "infrastructure": {},
    "prometheus": {
        "kubelet": {"addresses": ["10.0.0.1"], "egress": ["10.0.0.0/24"]},
        "nodes": SOURCE,
        "kubeState": SOURCE,
        "ingress": {**SOURCE, "port": 8082},
    },
}


@pytest.fixture(scope="module")
def plain() -> Program:
    return run_program(watched())


@pytest.fixture(scope="module")
def complete() -> Program:
    return run_program(watched(monitoring=WITH_NODES))


@pytest.fixture(scope="module")
def operated() -> Program:
    return run_program(watched(monitoring=OPERATED))


def mounted(program: Program, name: str) -> Mapping[str, str]:
    """The files that a server is given."""
    (volume,) = [v for v in (program.one("StatefulSet", name).pod or {})["volumes"] if v["name"] == "files-0"]
    if "configMap" in volume:
        return program.one("ConfigMap", volume["configMap"]["name"]).inputs["data"]
    return program.one("Secret", volume["secret"]["secretName"]).inputs["stringData"]


def ways(program: Program, name: str, direction: str) -> Iterator[Mapping[str, Any]]:
    """The rules of all policies that select the pods of this workload."""
    pod = next(r for kind in ("StatefulSet", "Deployment") for r in program.all(kind) if r.object_name == name)
    assert pod.template
    for policy in program.all("NetworkPolicy"):
        if chosen(policy.inputs["spec"]["podSelector"], pod.template["metadata"]["labels"]):
            yield from policy.inputs["spec"].get(direction, [])


def jobs(program: Program) -> dict[str, Any]:
    config = yaml.safe_load(mounted(program, "prometheus")["prometheus.yaml"])
    return {job["job_name"]: job for job in config["scrape_configs"]}


# -- dependencies ----------------------------------------------------------------------------------------


def test_monitoring_changes_no_other_object(plain: Program) -> None:
    """But where the exporters' logins are given to who makes them."""
    config = watched()
    del config["runbook:monitoring"]
    before = {resource.urn: resource for resource in run_program(config).resources}
    logins = {before[urn].object_name for urn in before if before[urn].inputs != by_urn(plain)[urn].inputs}
    assert logins == {"redis-password", "rotation"}


def by_urn(program: Program) -> dict[str, Registered]:
    return {resource.urn: resource for resource in program.resources}


def test_nothing_depends_on_it_and_prometheus_waits_for_the_services(plain: Program) -> None:
    mine = {urn for urn in by_urn(plain) if "runbook:monitoring:Monitoring" in urn}
    assert len(mine) > 25
    for resource in plain.resources:
        assert resource.urn in mine or not mine & resource.depends_on, resource.urn
    assert plain.waits_for(plain.one("StatefulSet", "prometheus"), plain.one("Deployment", "backend"))
    assert not plain.waits_for(plain.one("Deployment", "blackbox"), plain.one("Deployment", "backend"))


def test_without_a_release_there_are_no_exporters() -> None:
    config = watched()
    del config["runbook:release"]
    assert not {r.object_name for r in run_program(config).all("Deployment")} & EXPORTERS


# -- network policies ------------------------------------------------------------------------------------


def test_only_required_pods_may_connect_to_servers_and_exporters(plain: Program) -> None:
    assert not list(ways(plain, "prometheus", "ingress"))
    (rule,) = ways(plain, "alertmanager", "ingress")
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]] == ["prometheus"]
    for name in EXPORTERS:
        (rule,) = ways(plain, name, "ingress")
        assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]] == ["prometheus"]


def test_grafana_may_read_when_it_is_named() -> None:
    grafana = {"namespace": "grafana", "podLabels": {"app": "grafana"}}
    program = run_program(watched(monitoring={**PLAIN, "prometheus": {"readers": [grafana]}}))
    (rule,) = ways(program, "prometheus", "ingress")
    assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "grafana"}
    assert rule["ports"] == [{"port": 9090, "protocol": "TCP"}]


def test_each_exporter_reaches_its_own_server_and_nothing_else(plain: Program) -> None:
    for name, server in (("postgres-exporter", "postgres"), ("redis-exporter", "redis")):
        reached = [
            peer for rule in ways(plain, name, "egress") for peer in rule["to"] if "namespaceSelector" not in peer
        ]
        assert reached == [{"podSelector": {"matchLabels": {
            "app.kubernetes.io/name": server, "app.kubernetes.io/component": server,
        }}}]  # fmt: skip


def test_only_alertmanager_has_egress_to_addresses_outside(plain: Program) -> None:
    for name in SERVERS | EXPORTERS:
        outside = [peer for rule in ways(plain, name, "egress") for peer in rule["to"] if "ipBlock" in peer]
        assert bool(outside) == (name == "alertmanager"), name


# -- configuration and secrets ---------------------------------------------------------------------------


def test_webhooks_and_logins_are_in_secrets_alone(plain: Program) -> None:
    files = mounted(plain, "alertmanager")
    assert "value-of-dead_mans_switch_url" in files["alertmanager.yaml"]
    assert {name for name in files if name.startswith("SLACK_WEBHOOK_")} == set(
        Monitoring().slack.secret_names.values()
    )
    login = next(secret for secret in plain.all("Secret") if secret.object_name.startswith("postgres-exporter-"))
    assert login.inputs["stringData"]["DATA_SOURCE_NAME"].endswith("/shop?sslmode=disable&connect_timeout=3")
    redis = next(secret for secret in plain.all("Secret") if secret.object_name.startswith("redis-exporter-"))
    assert redis.inputs["stringData"]["REDIS_ADDR"] == "redis://redis:6379/0"
    for resource in plain.all("ConfigMap"):
        assert "made-up-" not in str(resource.inputs), resource.object_name
        assert "value-of-" not in str(resource.inputs), resource.object_name


def exporter_variables(program: Program, name: str) -> Mapping[str, str]:
    found = (secret for secret in program.all("Secret") if secret.object_name.startswith(f"{name}-"))
    return next(found).inputs["stringData"]


def monitor_job(program: Program) -> Registered:
    (job,) = [job for job in program.all("Job") if job.object_name.startswith("monitor-logins-")]
    return job


def test_exporters_have_logins_of_their_own_which_exist_before_they_start(plain: Program) -> None:
    password = "made-up-redis-monitor-password"
    postgres, redis = (exporter_variables(plain, name) for name in ("postgres-exporter", "redis-exporter"))
    url = "postgresql://shop_monitor:made-up-postgres-monitor-password@postgres:5432/shop"
    assert postgres["DATA_SOURCE_NAME"].startswith(f"{url}?")
    assert (redis["REDIS_USER"], redis["REDIS_PASSWORD"]) == ("monitor", password)
    for_tasks = plain.one("Secret", "rotation").inputs["stringData"]
    assert for_tasks["ROTATE_DATABASE_MONITOR_URL"] == url
    assert for_tasks["ROTATE_REDIS_MONITOR_URL"] == f"redis://monitor:{password}@redis:6379/0"
    line = f"user monitor on #{hashlib.sha256(password.encode()).hexdigest()} {MONITOR_RULES}\n"
    assert line in plain.one("Secret", "redis-password").inputs["stringData"]["users"]
    job = monitor_job(plain)
    assert (job.pod or {})["containers"][0]["command"][-2:] == ["credentials", "monitor"]
    for name in ("postgres-exporter", "redis-exporter"):
        assert plain.waits_for(plain.one("Deployment", name), job)


def test_the_exporters_logins_change_with_the_servers_and_with_nothing_else(plain: Program) -> None:
    rotated = run_program(watched(rotated={"DATABASE_URL": state("verified")}))
    login = exporter_variables(rotated, "postgres-exporter")["DATA_SOURCE_NAME"]
    assert ":made-up-postgres-monitor-password-b@" in login
    assert monitor_job(rotated).object_name != monitor_job(plain).object_name, "the new password is made there"
    assert exporter_variables(rotated, "redis-exporter") == exporter_variables(plain, "redis-exporter")
    tools = run_program(watched(image=f"registry.example.com/tools@{EXAMPLE_DIGEST}"))
    assert monitor_job(tools).object_name == monitor_job(plain).object_name, "a rollback does not need the servers"


@pytest.mark.parametrize("admin", [True, False])
def test_an_external_server_gets_the_login_only_from_an_administrator(*, admin: bool) -> None:
    config = watched()
    test = {"restoreTest": {"postgresImage": f"registry.example.com/postgres@{EXAMPLE_DIGEST}"}}
    config["runbook:backup"] = {**config["runbook:backup"], **test}
    egress = [{"cidr": "10.9.0.0/24", "ports": [5432]}]
    config["runbook:data"] = {
        **config["runbook:data"],
        "postgres": {"mode": "external", "admin": admin, "egress": egress},
    }
    program = run_program(config, secrets_for(config))
    login = exporter_variables(program, "postgres-exporter")["DATA_SOURCE_NAME"]
    assert ("://url_monitor:made-up-postgres-monitor-password@" in login) == admin
    assert ("ROTATE_DATABASE_MONITOR_URL" in program.one("Secret", "rotation").inputs["stringData"]) == admin


def test_other_content_is_another_object_and_replaces_the_pod() -> None:
    config = watched()
    limit = watched(monitoring={**PLAIN, "triggers": {"errorRatePercent": 7}})
    first, other = run_program(config), run_program(limit)
    for name in SERVERS:
        same = first.one("StatefulSet", name).pod == other.one("StatefulSet", name).pod
        assert same == (name == "alertmanager"), name


@pytest.mark.parametrize(
    ("given", "tls", "dsn"),
    [
        ("postgresql://u:p@db:5432/shop", False, "postgresql://u:p@db:5432/shop?sslmode=disable&connect_timeout=3"),
        (
            "postgresql://u:p%40@db/shop?schema=public&sslmode=verify-full&connection_limit=5",
            True,
            "postgresql://u:p%40@db/shop?sslmode=verify-full&connect_timeout=3",
        ),
    ],
)
def test_a_dsn_as_the_exporter_reads_it(given: str, tls: bool, dsn: str) -> None:
    assert for_lib_pq(given, tls=tls) == dsn


def test_all_that_rules_ask_for_is_read(complete: Program, plain: Program) -> None:
    assert set(jobs(plain)) == {
        "backend", "health", "front-door", "postgres", "redis", "prometheus", "alertmanager", "backups",
    }  # fmt: skip
    assert set(jobs(complete)) - set(jobs(plain)) == {"kubelet", "containers", "nodes", "kube-state", "ingress"}
    for name, job in jobs(complete).items():
        labelled = {"target_label": "namespace", "replacement": "shop"}
        assert job["relabel_configs"][-1] == labelled, name
    assert jobs(plain)["health"]["params"]["target"] == ["http://backend:3000/api/health"]
    assert jobs(plain)["front-door"]["params"]["target"] == ["http://localhost:18080/api/live"]
    pods = jobs(plain)["backend"]["dns_sd_configs"][0]
    service = plain.one("Service", pods["names"][0]).inputs["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)


@pytest.mark.parametrize(
    ("controller", "labels", "kept"),
    [
        ("traefik", {"__name__": "traefik_service_requests_total", "service": "shop-backend-3000@kubernetes"}, True),
        ("traefik", {"__name__": "traefik_service_requests_total", "service": "shop-2-backend-3000@kubernetes"}, False),
        ("traefik", {"__name__": "traefik_service_requests_total", "service": "shop-page-80@kubernetes"}, False),
        ("traefik", {"__name__": "process_start_time_seconds"}, True),
        (
            "traefik",
            {"__name__": "traefik_service_request_duration_seconds_count", "service": "shop-backend-1@k"},
            False,
        ),
        (
            "ingress-nginx",
            {
                "__name__": "nginx_ingress_controller_requests",
                "exported_namespace": "shop",
                "exported_service": "backend",
            },
            True,
        ),
        (
            "ingress-nginx",
            {
                "__name__": "nginx_ingress_controller_requests",
                "exported_namespace": "other",
                "exported_service": "backend",
            },
            False,
        ),
    ],
)
def test_of_the_ingress_controllers_metrics_only_this_stacks_are_kept(
    controller: str, labels: Mapping[str, str], kept: bool
) -> None:
    ingress = {**SOURCE, "port": 8082, "controller": controller}
    program = run_program(watched(monitoring={**PLAIN, "prometheus": {"ingress": ingress}}))
    (rule,) = jobs(program)["ingress"]["metric_relabel_configs"]
    value = ";".join(labels.get(name, "") for name in rule["source_labels"])
    assert bool(re.fullmatch(rule["regex"], value)) == kept
    (way,) = [
        one for one in ways(program, "prometheus", "egress") if one.get("ports") == [{"port": 8082, "protocol": "TCP"}]
    ]
    assert way["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_an_identity_only_where_kubelets_ask_for_one(complete: Program, plain: Program) -> None:
    assert (plain.one("StatefulSet", "prometheus").pod or {})["automountServiceAccountToken"] is False
    assert not plain.all("ClusterRole")
    assert (complete.one("StatefulSet", "prometheus").pod or {})["automountServiceAccountToken"] is True
    assert complete.one("ClusterRole").inputs["rules"] == [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}
    ]


def test_the_servers_accept_what_is_mounted(complete: Program, tmp_path: Path) -> None:
    made_up = {
        "value-of-dead_mans_switch_url": "https://switch.example.com",
        "/var/run/secrets/kubernetes.io/serviceaccount": str(tmp_path),
    }
    for name in ("token", "ca.crt"):
        (tmp_path / name).touch()
    for name, content in {**mounted(complete, "prometheus"), **mounted(complete, "alertmanager")}.items():
        real = reduce(lambda text, both: text.replace(*both), made_up.items(), content)
        (tmp_path / name).write_text(real)
    for command in (
        ["promtool", "check", "config", "prometheus.yaml"],
        ["amtool", "check-config", "alertmanager.yaml"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout


def test_dashboards_are_where_grafanas_sidecar_looks(plain: Program) -> None:
    (board,) = [c for c in plain.all("ConfigMap") if c.inputs["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert len(board.inputs["data"]) == 7
    assert all(json.loads(text)["title"].startswith("shop: ") for text in board.inputs["data"].values())
    assert len(str(board.inputs)) < 900_000, "a ConfigMap holds 1 MiB"


# -- the operator's objects ----------------------------------------------------------------------------


def test_an_operator_is_given_objects_and_no_servers(operated: Program) -> None:
    assert not {r.object_name for r in operated.all("StatefulSet")} & SERVERS
    assert {r.object_name for r in operated.all("Deployment")} >= EXPORTERS
    kinds = [
        (r.kind, r.object_name) for r in operated.resources if r.type.startswith("kubernetes:monitoring.coreos.com")
    ]
    assert sorted(kinds) == [
        ("AlertmanagerConfig", "runbook"), ("PodMonitor", "backend"), ("Probe", "front-door"), ("Probe", "health"),
        ("PrometheusRule", "runbook"), ("ServiceMonitor", "backup-exporter"), ("ServiceMonitor", "blackbox"),
        ("ServiceMonitor", "postgres-exporter"), ("ServiceMonitor", "redis-exporter"),
    ]  # fmt: skip
    for name in EXPORTERS:
        (rule,) = ways(operated, name, "ingress")
        assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_an_operators_routes_are_ours_in_its_words() -> None:
    monitoring = Monitoring()
    made = alertmanager_config(alertmanager(monitoring, Places(secrets="webhooks")), "webhooks-1")
    assert made["route"]["groupBy"] == ["namespace", "about"]
    watchdog, *channels = made["route"]["routes"]
    assert watchdog["matchers"] == [{"name": "alertname", "matchType": "=", "value": "Watchdog"}]
    assert [route["receiver"] for route in channels] == [f"slack-{name}" for name in monitoring.slack.secret_names]
    urls = {config["apiURL"]["key"] for receiver in made["receivers"] for config in receiver.get("slackConfigs", [])}
    assert urls == set(monitoring.slack.secret_names.values())
    assert len(made["inhibitRules"]) == len(inhibitions())
    assert all(rule["sourceMatch"] and rule["targetMatch"] for rule in made["inhibitRules"])
