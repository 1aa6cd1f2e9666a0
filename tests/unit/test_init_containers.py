"""Sidecars, init containers, ports, labels and annotations of a service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ops.adapters.task_jobs import _keep_only  # pyright: ignore[reportPrivateUsage]
from ops.decisions.doctor import list_images
from settings import SettingsError, StackFile, StackSettings, parse
from settings.base import quantity
from settings.containers import resources
from settings.init_containers import add_up
from tests.support.program import RELEASE, Program, Registered, committed, run_program

DIGEST = "sha256:" + "ab" * 32
PROXY: dict[str, Any] = {
    "name": "db-proxy",
    "sidecar": True,
    "image": f"registry.example.com/db-proxy@{DIGEST}",
    "args": "--port=5433 --structured-logs",
    "env": {"LEVEL": "info"},
    "secrets": ["DATABASE_URL"],
    "port": 5433,
    "probes": {"startup": {"tcp": True, "failureThreshold": 4}, "readiness": {"tcp": True}, "liveness": {"tcp": True}},
    "uid": 65532,
    "inJobs": True,
}
ASSETS: dict[str, Any] = {
    "name": "assets",
    "command": "node scripts/assets.js",
    "serviceEnv": True,
    "mounts": ["/app/.cache"],
    "startSeconds": 20,
}
POD = {"writablePaths": ["/app/.cache", "/app/tmp"]}


def with_service(file: str = "Pulumi.prod.yaml", **service: Any) -> dict[str, Any]:
    """The committed file, with more keys in its first service."""
    config = committed(file, release=RELEASE)
    config["runbook:application"]["services"][0].update(service)
    config["runbook:guards"]["quota"].update(cpu="40", memory="160Gi", limitsCpu="160", limitsMemory="320Gi")
    return config


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as raised:
        read(config)
    return str(raised.value)


def read(config: dict[str, Any]) -> StackSettings:
    values = {key: value for key, value in config.items() if key.startswith(("runbook:", "kubernetes:"))}
    sealed = frozenset(f"secrets:{name}" for name in run_names(config))
    return parse(StackFile("Pulumi.prod.yaml", values, sealed))


def run_names(config: dict[str, Any]) -> Iterable[str]:
    from tests.support.program import secrets_for

    return secrets_for(config)


@pytest.fixture(scope="module")
def program() -> Program:
    config = with_service(initContainers=[PROXY, ASSETS], pod=POD)
    return run_program({**config, "runbook:checklist": {}})


def first(made: Registered) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in (made.pod or {}).get("initContainers", [])}


def job(program: Program, name: str) -> Registered:
    return next(made for made in program.all("Job") if made.object_name.rsplit("-", 1)[0] == name)


def test_what_starts_first_complies_with_restricted_and_has_limits(program: Program) -> None:
    pod = program.one("Deployment", "backend").pod or {}
    assert [one["name"] for one in pod["initContainers"]] == ["db-proxy", "assets"]
    for one in pod["initContainers"]:
        security = one["securityContext"]
        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
        assert security["capabilities"] == {"drop": ["ALL"]}
        for side in ("requests", "limits"):
            assert set(one["resources"][side]) == {"cpu", "memory", "ephemeral-storage"}
        assert "@sha256:" in one["image"]


def test_a_sidecar_has_what_is_written_and_no_more(program: Program) -> None:
    proxy = first(program.one("Deployment", "backend"))["db-proxy"]
    assert (proxy["restartPolicy"], proxy["args"]) == ("Always", ["--port=5433", "--structured-logs"])
    assert "command" not in proxy
    assert "envFrom" not in proxy
    secret = proxy["env"][1]["valueFrom"]["secretKeyRef"]
    assert proxy["env"][0] == {"name": "LEVEL", "value": "info"}
    assert secret["key"] == "DATABASE_URL"
    assert program.one("Secret", secret["name"])
    assert (proxy["securityContext"]["runAsUser"], proxy["securityContext"]["runAsGroup"]) == (65532, 65532)
    assert proxy["startupProbe"]["tcpSocket"] == {"port": 5433}
    assert {"readinessProbe", "livenessProbe"} <= set(proxy)
    assert [mount["mountPath"] for mount in proxy["volumeMounts"]] == ["/tmp"]


def test_each_has_a_tmp_of_its_own_and_the_folders_that_are_shared(program: Program) -> None:
    pod = program.one("Deployment", "backend").pod or {}
    own = {one["name"]: one["volumeMounts"] for one in [*pod["initContainers"], *pod["containers"]]}
    scratch = {name: mounted[0]["name"] for name, mounted in own.items()}
    assert scratch == {"db-proxy": "tmp-of-db-proxy", "assets": "tmp-of-assets", "backend": "tmp"}
    assert set(scratch.values()) <= {volume["name"] for volume in pod["volumes"]}
    assert [mount["mountPath"] for mount in own["assets"]] == ["/tmp", "/app/.cache"]
    assert own["assets"][1]["name"] == own["backend"][1]["name"]


def test_an_init_container_has_the_image_and_if_asked_the_variables_of_the_service(program: Program) -> None:
    made = program.one("Deployment", "backend")
    assets, [backend] = first(made)["assets"], made.containers[2:]
    assert assets["image"] == backend["image"]
    assert assets["envFrom"] == backend["envFrom"]
    assert assets["command"] == ["node", "scripts/assets.js"]
    assert "restartPolicy" not in assets


def test_the_rehearsal_starts_them_in_front_of_the_service(program: Program) -> None:
    made = job(program, "rehearsal")
    pod = made.pod or {}
    assert [one["name"] for one in pod["initContainers"]] == ["db-proxy", "assets", "backend"]
    assert [one.get("restartPolicy") for one in pod["initContainers"]] == ["Always", None, "Always"]
    assert not {"readinessProbe", "livenessProbe"} & set(pod["initContainers"][0])
    assert "startupProbe" in pod["initContainers"][0]
    assert {"tmp-of-db-proxy", "tmp-of-assets"} <= {volume["name"] for volume in pod["volumes"]}
    plain = job(run_program(with_service(pod=POD)), "rehearsal")
    longer = made.inputs["spec"]["activeDeadlineSeconds"] - plain.inputs["spec"]["activeDeadlineSeconds"]
    assert longer == 4 * 5 + 20


def test_what_stays_out_of_the_rehearsal() -> None:
    config = with_service(initContainers=[{**PROXY, "rehearse": False}], pod=POD)
    assert set(first(job(run_program(config), "rehearsal"))) == {"backend"}


@pytest.mark.parametrize("name", ["migrate", "cache", "smoke"])
def test_a_proxy_runs_beside_the_commands_of_a_release_and_does_not_decide_them(program: Program, name: str) -> None:
    made = job(program, name)
    assert next(iter(first(made))) == "db-proxy"
    assert "assets" not in first(made)
    assert (made.pod or {})["restartPolicy"] == "Never"
    assert not {"readinessProbe", "livenessProbe"} & set(first(made)["db-proxy"])


def test_a_proxy_runs_beside_what_an_operator_starts(program: Program) -> None:
    for name in ("go-live", "operations"):
        template = program.one("CronJob", name)
        assert list(first(template)) == ["db-proxy"], name
    spec: dict[str, Any] = {
        "template": {"spec": {"containers": [{"name": "command"}], "initContainers": [{"name": "p"}]}}
    }
    _keep_only("command", [["a"], ["b"]])(spec)
    pod = spec["template"]["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["p", "command-1"]
    assert [one["command"] for one in pod["containers"]] == [["b"]]


def test_maintenance_commands_reach_the_database_through_the_proxy() -> None:
    config = with_service(initContainers=[PROXY])
    found = [made for made in run_program(config).all("CronJob") if made.object_name.startswith("maintenance-")]
    running = [made for made in found if "application" in first(made)]
    assert running
    assert all(list(first(made)) == ["db-proxy", "application"] for made in running)


def test_a_restore_test_runs_none_of_them(program: Program) -> None:
    assert not {"db-proxy", "assets"} & set(first(program.one("CronJob", "restore-test")))


def test_without_these_keys_nothing_is_registered_and_no_hash_changes(prod: Program) -> None:
    service = read(committed("Pulumi.prod.yaml", release=RELEASE)).application.services[0]
    assert not {"ports", "initContainers", "labels", "annotations"} & set(service.to_config())
    assert "initContainers" not in (prod.one("Deployment", "backend").pod or {})


def test_a_pod_counts_with_its_sidecars_in_the_quota() -> None:
    service = read(with_service(initContainers=[PROXY, ASSETS], pod=POD)).application.services[0]
    need, alone, proxy = service.pod_resources, service.resources, service.before[0].resources
    assert quantity(need.requests.memory) == quantity(alone.requests.memory) + quantity(proxy.requests.memory)
    big = resources("2", "8Gi", "1Gi", limits=("2", "8Gi", "1Gi"))
    peak = add_up(alone, [service.before[0], service.before[1].model_copy(update={"resources": big})])
    assert quantity(peak.requests.memory) == quantity("8Gi") + quantity(proxy.requests.memory)
    assert quantity(peak.limits.cpu) == quantity("2") + quantity(proxy.limits.cpu)
    assert add_up(alone, []) is alone
    small = with_service(initContainers=[{**PROXY, "resources": big.to_config()}])
    small["runbook:guards"]["quota"]["memory"] = "64Gi"
    assert "requests.memory" in refusal(small)


def test_images_of_init_containers_are_known_to_doctor_and_to_quarantine() -> None:
    config = with_service(initContainers=[PROXY])
    assert list_images(read(config), None)["db-proxy of backend"] == PROXY["image"]
    entry = {"digest": DIGEST, "revision": 1, "reason": "it leaks"}
    assert "this digest is quarantined" in refusal({**config, "runbook:quarantine": [entry]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": 0}, "root is refused"),
        ({"image": "registry.example.com/proxy:1"}, "has no digest"),
        ({"name": "backend"}, "already the name of the service's container"),
        ({"name": "migrate"}, "a name the program uses itself"),
        ({"name": "command-1"}, "a name the program uses itself"),
        ({"args": "'"}, "not a command line"),
        ({"args": "--dsn=$(DATABASE_URL)"}, "would have the secret DATABASE_URL as an argument"),
        ({"env": {"DATABASE_URL": "x"}}, "is also in secrets"),
        ({"secrets": ["NO_SUCH"]}, "no such secret; there are: "),
        ({"serviceEnv": True}, "serviceEnv gives it all secrets"),
        ({"serviceEnv": True, "secrets": []}, "the migration runs before the service has its variables"),
        ({"mounts": ["/tmp"], "inJobs": False}, "a /tmp of its own"),
        (
            {"mounts": ["/app/uploads"]},
            "the service has no such folder; pod.writablePaths and pod.volumes have: /app/.c",
        ),
        ({"sidecar": False}, "only a sidecar has probes"),
        ({"port": None}, "is missing: its startup probe asks there"),
        ({"port": 3000}, "listens on 3000, in the same pod"),
        ({"privileged": True}, "unknown key"),
    ],
)
def test_what_no_init_container_may_have_is_refused(change: dict[str, Any], words: str) -> None:
    assert words in refusal(with_service(initContainers=[{**PROXY, **change}], pod=POD))


def test_two_of_one_name_are_refused_and_so_are_starts_that_last_longer_than_a_rollout() -> None:
    assert "db-proxy stands here twice" in refusal(with_service(initContainers=[PROXY, PROXY]))
    slow = {**ASSETS, "startSeconds": 600}
    found = refusal(with_service(initContainers=[slow], pod=POD))
    assert "what starts before it allow" in found


def two_services(other: dict[str, Any]) -> dict[str, Any]:
    config = with_service(initContainers=[PROXY])
    [backend, *rest] = config["runbook:application"]["services"]
    worker = {
        **{key: value for key, value in backend.items() if key not in ("port", "paths")},
        "name": "worker",
        "probes": {kind: {"command": f"node {kind}.js"} for kind in ("startup", "readiness", "liveness")},
        "rehearse": True,
        "initContainers": [other],
    }
    config["runbook:application"]["main"] = backend["name"]
    config["runbook:application"]["services"] = [backend, worker, *rest]
    return config


def test_services_that_are_rehearsed_together_share_one_proxy() -> None:
    program = run_program(two_services(PROXY))
    assert list(first(job(program, "rehearsal"))) == ["db-proxy", "backend", "worker"]


def test_a_service_in_the_rehearsal_of_another_keeps_its_own_volumes_and_user() -> None:
    config = two_services(PROXY)
    backend, worker = config["runbook:application"]["services"][:2]
    backend["pod"] = {"writablePaths": ["/app/cache"], "volumes": [{"name": "uploads", "path": "/uploads"}]}
    worker["pod"] = {
        "uid": 1000,
        "writablePaths": ["/work"],
        "volumes": [{"name": "reports", "path": "/reports"}],
    }
    worker["initContainers"] = [{**PROXY, "name": "unpack", "port": 5434, "mounts": ["/reports"]}]
    config["runbook:data"]["volumes"] = {"uploads": {"size": "1Gi"}, "reports": {"size": "1Gi"}}
    pod = job(run_program(config), "rehearsal").pod or {}
    places = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {
        (one["name"], mount["mountPath"]): places[mount["name"]]
        for one in (*pod["initContainers"], *pod["containers"])
        for mount in one["volumeMounts"]
    }
    claims = {
        where: volume["persistentVolumeClaim"]["claimName"]
        for where, volume in mounted.items()
        if "persistentVolumeClaim" in volume
    }
    reports = {("worker", "/reports"): "reports", ("unpack", "/reports"): "reports"}
    assert claims == {("backend", "/uploads"): "uploads", ("rehearsal", "/uploads"): "uploads", **reports}
    assert mounted["worker", "/work"] != mounted["backend", "/app/cache"]
    users = {one["name"]: one["securityContext"].get("runAsUser") for one in pod["initContainers"]}
    assert (users["worker"], users["backend"]) == (1000, None)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({**PROXY, "args": "--port=5433 --other"}, "shares a pod with db-proxy of backend, which is another"),
        ({**PROXY, "name": "other-proxy"}, "shares a pod, and port 5433, with db-proxy"),
    ],
)
def test_proxies_that_cannot_share_the_pod_of_a_rehearsal_are_refused(other: dict[str, Any], words: str) -> None:
    assert words in refusal(two_services(other))


def test_services_that_listen_on_the_same_extra_port_are_not_rehearsed_together() -> None:
    config = two_services(PROXY)
    for service in config["runbook:application"]["services"][:2]:
        service["ports"] = [{"name": "grpc", "port": 50051, "fromServices": ["backend"]}]
    assert "in a rehearsal it shares a pod, and port 50051, with backend" in refusal(config)


# -- ports, labels and annotations ------------------------------------------------------------------------


PORTS = [
    {"name": "grpc", "port": 50051, "fromServices": ["backend"]},
    {
        "name": "metrics",
        "port": 9100,
        "fromOutside": {"namespace": "observability", "podLabels": {"app": "agent"}, "cidrs": ["10.1.0.0/16"]},
    },
    {"name": "statsd", "port": 8125, "protocol": "UDP", "fromServices": ["backend"]},
]


def test_more_ports_are_reached_through_the_service() -> None:
    program = run_program(with_service(ports=PORTS))
    service = program.one("Service", "backend").inputs["spec"]["ports"]
    assert [(one["name"], one["port"], one["targetPort"], one["protocol"]) for one in service] == [
        ("http", 3000, "http", "TCP"),
        ("grpc", 50051, "grpc", "TCP"),
        ("metrics", 9100, "metrics", "TCP"),
        ("statsd", 8125, "statsd", "UDP"),
    ]
    [container] = program.one("Deployment", "backend").containers
    assert [one["containerPort"] for one in container["ports"]] == [3000, 50051, 9100, 8125]


def test_only_the_named_clients_reach_a_port() -> None:
    program = run_program(with_service(ports=PORTS))
    of = {"app.kubernetes.io/name": "backend", "app.kubernetes.io/component": "service"}
    callers = {
        "matchLabels": {"app.kubernetes.io/component": "service"},
        "matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": ["backend"]}],
    }
    into = program.one("NetworkPolicy", "allow-into-backend-grpc-50051")
    assert into.inputs["spec"] == {
        "podSelector": {"matchLabels": of},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": callers}], "ports": [{"port": 50051, "protocol": "TCP"}]}],
    }
    out = program.one("NetworkPolicy", "allow-services-to-backend-grpc-50051").inputs["spec"]
    assert out["podSelector"] == callers
    assert out["egress"] == [
        {"to": [{"podSelector": {"matchLabels": of}}], "ports": [{"port": 50051, "protocol": "TCP"}]}
    ]
    [rule] = program.one("NetworkPolicy", "allow-into-backend-metrics-9100").inputs["spec"]["ingress"]
    assert [set(one) for one in rule["from"]] == [{"namespaceSelector", "podSelector"}, {"ipBlock"}]
    names = {made.object_name for made in program.all("NetworkPolicy")}
    assert "allow-services-to-backend-metrics-9100" not in names
    for made in program.all("NetworkPolicy"):
        opened = {port.get("port") for rule in made.inputs["spec"].get("ingress", []) for port in rule.get("ports", [])}
        if opened & {50051, 9100, 8125}:
            assert made.object_name.startswith("allow-into-backend-"), made.object_name
    assert program.waits_for(program.one("Deployment", "backend"), into)


def test_a_lockdown_closes_ports_to_clients_from_outside() -> None:
    lockdown = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00Z", "reason": "an attack"}
    config = {**with_service(ports=PORTS), "runbook:lockdown": lockdown}
    names = {made.object_name for made in run_program(config).all("NetworkPolicy")}
    assert "allow-into-backend-grpc-50051" in names
    assert "allow-into-backend-metrics-9100" not in names


def test_a_worker_with_a_port_for_its_neighbours_has_a_service() -> None:
    config = two_services(PROXY)
    worker = config["runbook:application"]["services"][1]
    worker["ports"] = [{"name": "grpc", "port": 50051, "fromServices": ["backend"]}]
    ports = run_program(config).one("Service", "worker").inputs["spec"]["ports"]
    assert [one["name"] for one in ports] == ["grpc"]


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ({"name": "grpc", "port": 50051}, "no client may call this port"),
        ({"name": "http", "port": 50051, "fromServices": ["backend"]}, "the program gives `port` this name"),
        ({"name": "grpc", "port": 50051, "fromServices": ["shop"]}, "no such service; there are: backend"),
        ({"name": "grpc", "port": 3000, "fromServices": ["backend"]}, "3000 is the port of backend, and the network"),
        ({"name": "GRPC", "port": 50051, "fromServices": ["backend"]}, "pattern"),
        ({"name": "grpc", "port": 50051, "fromOutside": {"cidrs": ["10.0.0.0/8"], "ports": [1]}}, "remove it"),
    ],
)
def test_ports_that_no_client_or_every_client_could_call_are_refused(port: dict[str, Any], words: str) -> None:
    assert words in refusal(with_service(ports=[port]))


def test_a_port_that_stands_there_twice_is_refused() -> None:
    assert "grpc stands here twice" in refusal(with_service(ports=[PORTS[0], PORTS[0]]))
    assert "50051 (TCP) stands here twice" in refusal(with_service(ports=[PORTS[0], {**PORTS[0], "name": "other"}]))


def test_labels_and_annotations_of_deployment_and_service() -> None:
    more: dict[str, Any] = {"labels": {"team": "web"}, "annotations": {"reloader.stakater.com/auto": "true"}}
    program = run_program(with_service(**more))
    for kind in ("Deployment", "Service"):
        found = program.one(kind, "backend").inputs["metadata"]
        assert found["labels"]["team"] == "web", kind
        assert found["labels"]["app.kubernetes.io/name"] == "backend", kind
        assert found["annotations"]["reloader.stakater.com/auto"] == "true", kind
    assert "the program sets the labels" in refusal(with_service(labels={"app.kubernetes.io/name": "x"}))
    assert "the program sets this annotation" in refusal(with_service(annotations={"pulumi.com/skipAwait": "x"}))
