"""Neighbours that are addresses instead of pods, and the pods that answer for a certificate."""

from __future__ import annotations

from typing import Any

import pytest

from settings import SettingsError, StackFile, parse
from tests.support.program import RELEASE, committed, run_program

POD = {"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}, "ports": [53]}


def policies(file: str, network: dict[str, Any], **ingress: Any) -> dict[str, Any]:
    config = committed(file, release=RELEASE)
    config["runbook:network"] = {**config["runbook:network"], **network}
    config["runbook:ingress"] = {**config["runbook:ingress"], **ingress}
    program = run_program(config)
    return {policy.object_name: policy.inputs["spec"] for policy in program.all("NetworkPolicy")}


def test_a_dns_cache_on_each_node_may_be_asked() -> None:
    found = policies("Pulumi.prod.yaml", {"dns": {**POD, "cidrs": ["169.254.20.10/32"]}})
    (rule,) = found["allow-dns"]["egress"]
    assert rule["to"][1] == {"ipBlock": {"cidr": "169.254.20.10/32"}}
    assert rule["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}


def test_a_load_balancer_that_is_no_pod_may_call_the_services_and_the_maintenance_page() -> None:
    address = {"ipBlock": {"cidr": "10.20.0.0/16"}}
    found = policies("Pulumi.prod.yaml", {"ingressController": {"cidrs": ["10.20.0.0/16"]}})
    assert found["allow-clients-into-services-3000"]["ingress"][0]["from"][0] == address
    config = committed("Pulumi.prod.yaml", release=RELEASE, maintenance={"reason": "x"})
    config["runbook:network"]["ingressController"] = {"cidrs": ["10.20.0.0/16"]}
    page = run_program(config).one("NetworkPolicy", "allow-into-maintenance")
    assert page.inputs["spec"]["ingress"][0]["from"] == [address]


@pytest.mark.parametrize("annotation", ["cert-manager.io/issuer", "cert-manager.io/cluster-issuer"])
def test_the_ingress_controller_reaches_the_solver_of_a_certificates_challenge(annotation: str) -> None:
    found = policies("Pulumi.prod.yaml", {}, annotations={annotation: "letsencrypt"})
    solver = found["allow-into-acme-solver"]
    assert solver["podSelector"] == {"matchLabels": {"acme.cert-manager.io/http01-solver": "true"}}
    assert solver["ingress"][0]["ports"] == [{"port": 8089, "protocol": "TCP"}]
    assert solver["ingress"][0]["from"] == [
        rule for rule in found["allow-clients-into-services-3000"]["ingress"][0]["from"] if "namespaceSelector" in rule
    ]


def test_without_an_issuer_there_is_no_such_opening() -> None:
    assert "allow-into-acme-solver" not in policies("Pulumi.prod.yaml", {}, annotations={})


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        ({}, "namespace and podLabels of its pods, or cidrs"),
        ({"namespace": "traefik"}, "labels of its pods"),
        ({"podLabels": {"app": "traefik"}}, "namespace of the pods"),
        ({"cidrs": ["10.20.0.0"]}, "cidrs"),
    ],
)
def test_a_neighbour_that_is_nowhere_is_refused(peer: dict[str, Any], words: str) -> None:
    config = committed("Pulumi.prod.yaml", release=RELEASE)
    config["runbook:network"] = {**config["runbook:network"], "ingressController": peer}
    values = {key: value for key, value in config.items() if key.startswith("runbook:")}
    with pytest.raises(SettingsError, match=words):
        parse(StackFile("Pulumi.prod.yaml", values, frozenset()))
