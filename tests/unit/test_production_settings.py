"""What a production cluster asks of the namespace, its Deployments and its ingress."""

from __future__ import annotations

from typing import Any

import pytest

from settings import Data, Ingress, SettingsError, StackFile, parse
from settings.availability import list_outages
from tests.support.monitored_config import PLAIN, watched
from tests.support.program import RELEASE, committed, run_program
from tests.unit.test_controller import controlled


def with_ingress(**changes: Any) -> dict[str, Any]:
    config = committed("Pulumi.prod.yaml", release=RELEASE)
    config["runbook:ingress"] = {**config["runbook:ingress"], **changes}
    return config


def refusal(config: dict[str, Any]) -> str:
    values = {key: value for key, value in config.items() if key.startswith(("runbook:", "kubernetes:"))}
    with pytest.raises(SettingsError) as raised:
        parse(StackFile("Pulumi.prod.yaml", values, frozenset()))
    return str(raised.value)


# -- the namespace -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "v1.30", "latest"])
def test_the_namespace_enforces_a_pinned_version_and_warns_of_the_newest(version: str | None) -> None:
    config = committed("Pulumi.prod.yaml", release=RELEASE)
    if version:
        config["runbook:guards"]["podSecurityVersion"] = version
    labels = run_program(config).one("Namespace").inputs["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce-version"] == (version or "v1.34")
    for mode in ("warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}-version"] == "latest"


def test_another_version_is_refused() -> None:
    config = committed("Pulumi.prod.yaml", release=RELEASE)
    config["runbook:guards"]["podSecurityVersion"] = "1.30"
    assert "podSecurityVersion" in refusal(config)


# -- old revisions -------------------------------------------------------------------------------------


def test_no_deployment_keeps_revisions_whose_configuration_is_deleted() -> None:
    """ConfigMaps and Secrets are named by their content: what an old ReplicaSet refers to goes with the update."""
    lockdown = {"reason": "x", "since": "2026-11-22T10:00:00Z", "until": "2026-11-22T11:00:00Z"}
    logs = {"apiServer": [{"cidr": "10.0.0.1/32", "ports": [6443]}]}
    programs = [
        run_program(watched(monitoring={**PLAIN, "logs": logs})),
        run_program(controlled()),
        run_program(committed("Pulumi.prod.yaml", release=RELEASE, lockdown=lockdown)),
        run_program(committed("Pulumi.prod.yaml", release=RELEASE, maintenance={"reason": "x"})),
    ]
    deployments = {made.object_name: made for program in programs for made in program.all("Deployment")}
    assert set(deployments) >= {"backend", "lockdown", "maintenance", "rollback-controller", "log-counter", "blackbox"}
    for name, made in deployments.items():
        assert made.inputs["spec"]["revisionHistoryLimit"] == 0, name


# -- the ingress ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nginx", "nginx-internal"])
def test_nginx_gets_the_largest_body_and_the_longest_answer(name: str) -> None:
    program = run_program(with_ingress(className=name, maxBody="20Mi", timeoutSeconds=180))
    annotations = program.one("Ingress", "ingress").inputs["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == str(20 * 2**20)
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "180"
    assert annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"] == "180"
    # Of F5 NGINX, whose class has the same name.
    assert annotations["nginx.org/client-max-body-size"] == str(20 * 2**20)
    assert annotations["nginx.org/proxy-read-timeout"] == "180s"
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt"


def test_without_the_settings_there_is_no_such_annotation() -> None:
    annotations = run_program(with_ingress()).one("Ingress", "ingress").inputs["metadata"]["annotations"]
    assert not [key for key in annotations if "nginx" in key]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"className": "traefik", "maxBody": "20Mi"}, "buffering.maxRequestBodyBytes"),
        ({"className": "traefik", "timeoutSeconds": 90}, "respondingTimeouts"),
        ({"className": "alb", "timeoutSeconds": 90}, "ingress class alb are not known here"),
        ({"className": "gce", "maxBody": "1Gi"}, "ingress class gce are not known here"),
        (
            {"maxBody": "20Mi", "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "8m"}},
            "follows from maxBody or timeoutSeconds",
        ),
    ],
)
def test_what_the_ingress_would_ignore_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in " ".join(refusal(with_ingress(**changes)).split())


def test_annotations_of_other_controllers_are_passed_on() -> None:
    own = {"haproxy.org/timeout-server": "180s"}
    config = with_ingress(className="haproxy", annotations=own)
    assert own.items() <= run_program(config).one("Ingress", "ingress").inputs["metadata"]["annotations"].items()
    assert Ingress(host="shop.example.com", class_name="haproxy").limits == {}


def test_the_gate_of_a_lockdown_waits_as_long_as_the_ingress() -> None:
    config = with_ingress(timeoutSeconds=180)
    config["runbook:lockdown"] = {"reason": "x", "since": "2026-11-22T10:00:00Z", "until": "2026-11-22T11:00:00Z"}
    (file,) = [made for made in run_program(config).all("ConfigMap") if made.object_name.startswith("lockdown-gate-")]
    assert "timeout server 180s" in file.inputs["data"]["haproxy.cfg"]


# -- availability --------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_production_learns_that_a_bundled_server_is_one_replica(environment: str) -> None:
    values = {key: value for key, value in committed("Pulumi.sandbox.yaml").items() if key.startswith("runbook:data")}
    data = values["runbook:data"]
    settings = parse_data(data)
    found = list(list_outages(environment, settings))
    assert len(found) == (2 if environment == "production" else 0)
    assert all("one replica" in line and "outage" in line for line in found)
    external = parse_data(committed("Pulumi.prod.yaml")["runbook:data"])
    assert list(list_outages(environment, external)) == []


def parse_data(values: Any) -> Data:
    return Data.model_validate(values)


def test_a_budget_never_blocks_a_drain() -> None:
    """`minAvailable: 1` of a single pod would: a node could not be drained at all."""
    config = committed("Pulumi.staging.yaml", release=RELEASE)
    service = config["runbook:application"]["services"][0]
    service.pop("autoscaler", None)
    service["replicas"] = 1
    for budget in run_program(config).all("PodDisruptionBudget"):
        assert budget.inputs["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget.inputs["spec"]
