"""A path that moves to another service, and a port that changes: customers are served throughout (K3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.monitored_config import PLAIN, watched
from tests.support.program import RELEASE, Program, committed, run_program, stack_config
from tests.unit.test_controller import controlled

LOCKDOWN = {"reason": "an attack", "since": "2026-11-22T10:00:00Z", "until": "2026-11-22T11:00:00Z"}
MODES: dict[str, dict[str, Any]] = {
    "release": {},
    "rollback": {"release": RELEASE | {"revision": 2, "action": "rollback", "rollbackOf": 1, "migrate": False}},
}


def two_services(**changes: Any) -> Program:
    """The shop's pages move from `backend` to `frontend`."""
    config = stack_config("Pulumi.sandbox.yaml", **{"release": RELEASE, **changes})
    first = config["runbook:application"]["services"][0]
    pages = first | {"name": "frontend", "port": 8080, "paths": ["/"]}
    config["runbook:application"]["services"] = [first | {"paths": ["/api"]}, pages]
    config["runbook:guards"] = {}
    return run_program(config)


@pytest.mark.parametrize("mode", MODES)
def test_the_ingress_leads_to_a_service_once_its_pods_are_ready(mode: str) -> None:
    program = two_services(**MODES[mode])
    ingress = program.one("Ingress", "ingress")
    for name in ("backend", "frontend"):
        assert program.waits_for(ingress, program.one("Deployment", name)), name
        assert program.waits_for(ingress, program.one("Service", name)), name


@pytest.mark.parametrize("changes", [{"maintenance": {"reason": "a restore"}}, {"lockdown": LOCKDOWN}], ids=str)
def test_the_page_and_the_gate_wait_for_no_service_that_may_be_broken(changes: dict[str, Any]) -> None:
    program = two_services(**changes)
    ingress = program.one("Ingress", "ingress")
    for name in ("backend", "frontend"):
        assert not program.waits_for(ingress, program.one("Deployment", name)), name


def into_services(program: Program) -> dict[str, list[Any]]:
    """Ports of every rule that lets a client reach the services' pods, by policy and direction."""
    parts = {"matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["service"]}]}
    services = ({"matchLabels": {"app.kubernetes.io/component": "service"}}, parts)
    found: dict[str, list[Any]] = {}
    for policy in program.all("NetworkPolicy"):
        spec = policy.inputs["spec"]
        if spec["podSelector"] in services:
            found[f"{policy.object_name} (ingress)"] = [rule["ports"] for rule in spec.get("ingress", [])]
        to = [rule["ports"] for rule in spec.get("egress", []) if {"podSelector": services[0]} in rule.get("to", [])]
        to += [rule["ports"] for rule in spec.get("egress", []) if {"podSelector": parts} in rule.get("to", [])]
        if to:
            found[f"{policy.object_name} (egress)"] = to
    return found


def test_policies_name_the_services_port_instead_of_its_number() -> None:
    """Old pods listen on 3000 and new ones on 8080 while both serve: the name means each pod's own."""
    by_name = [{"port": "http", "protocol": "TCP"}]
    programs = [
        two_services(),
        two_services(lockdown=LOCKDOWN),
        run_program(watched(monitoring=PLAIN)),
        run_program(controlled()),
    ]
    seen: set[str] = set()
    for program in programs:
        for where, rules in into_services(program).items():
            seen.add(where)
            assert all(ports == by_name for ports in rules), where
    assert seen >= {
        "allow-into-services (ingress)", "allow-to-services (egress)",
        "allow-lockdown-into-services (ingress)", "allow-lockdown-to-services (egress)",
        "allow-metrics-of-services (ingress)", "allow-prometheus (egress)", "allow-http-checks (egress)",
        "allow-rollback-controller-into-services (ingress)", "allow-rollback-controller (egress)",
    }  # fmt: skip


@pytest.mark.parametrize("file", ["Pulumi.sandbox.yaml", "Pulumi.staging.yaml", "Pulumi.prod.yaml"])
def test_pods_and_services_have_a_port_of_that_name(file: str) -> None:
    program = run_program(committed(file, release=RELEASE))
    (port,) = program.one("Deployment", "backend").containers[0]["ports"]
    assert (port["name"], port["containerPort"]) == ("http", 3000)
    (way,) = program.one("Service", "backend").inputs["spec"]["ports"]
    assert (way["name"], way["targetPort"]) == ("http", "http")


def test_a_changed_port_changes_no_policy_and_no_path() -> None:
    before, after = (stack_config("Pulumi.sandbox.yaml", release=RELEASE) for _ in range(2))
    after["runbook:application"]["services"][0]["port"] = 8080
    old, new = run_program(before), run_program(after)
    for kind in ("NetworkPolicy", "Ingress"):
        assert {made.urn: made.inputs for made in old.all(kind)} == {made.urn: made.inputs for made in new.all(kind)}
    assert new.waits_for(new.one("Service", "backend"), new.one("Deployment", "backend"))
