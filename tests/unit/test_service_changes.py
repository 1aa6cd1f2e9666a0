"""A path that moves to another service, and a port that changes: customers are served throughout (K3)."""

from __future__ import annotations

from collections.abc import Callable
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


SERVICES = {"matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["service"]}]}


def of_services(program: Program) -> dict[str, set[Any]]:
    """Ports of the rules that let a client reach the services' pods, by policy."""
    found: dict[str, set[Any]] = {}
    for policy in program.all("NetworkPolicy"):
        spec = policy.inputs["spec"]
        rules = [rule for rule in spec.get("egress", []) if {"podSelector": SERVICES} in rule.get("to", [])]
        if spec["podSelector"] == SERVICES:
            rules += spec.get("ingress", [])
        if rules:
            found[policy.object_name] = {port["port"] for rule in rules for port in rule["ports"]}
    return found


PROGRAMS = [
    pytest.param(
        lambda: run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE)), {"clients"}, {3000}, id="release"
    ),
    pytest.param(lambda: two_services(lockdown=LOCKDOWN), {"clients", "lockdown"}, {3000, 8080}, id="lockdown"),
    pytest.param(
        lambda: run_program(watched(monitoring=PLAIN)),
        {"clients", "prometheus", "blackbox"},
        {3000},
        id="monitoring",
    ),
    pytest.param(lambda: run_program(controlled()), {"clients", "rollback-controller"}, {3000}, id="controller"),
]


@pytest.mark.parametrize(("run", "parts", "ports"), PROGRAMS)
def test_policies_into_services_have_numbers_and_are_named_by_them(
    run: Callable[[], Program], parts: set[str], ports: set[int]
) -> None:
    """A rule with one name for two numbers is refused for a moment by kube-router, at each of its updates."""
    program = run()
    which = "-".join(map(str, sorted(ports)))
    found = of_services(program)
    assert set(found) >= {
        f"allow-{part}-{direction}-services-{which}" for part in parts for direction in ("to", "into")
    }
    for name, numbers in found.items():
        assert name.endswith(f"-services-{which}"), f"{name} keeps its name when a port changes"
        assert numbers == ports, name


def test_a_service_without_a_port_opens_no_port() -> None:
    """No ports in a rule would mean all of them."""
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    worker = config["runbook:application"]["services"][0] | {"name": "worker", "command": "npm run worker"}
    worker["probes"] = {kind: {"command": f"node {kind}.js"} for kind in ("startup", "readiness", "liveness")}
    del worker["port"], worker["paths"]
    before = of_services(run_program(config))
    config["runbook:application"]["services"].append(worker)
    config["runbook:application"]["main"] = "backend"
    config["runbook:guards"] = {}
    assert of_services(run_program(config)) == before


@pytest.mark.parametrize("file", ["Pulumi.sandbox.yaml", "Pulumi.staging.yaml", "Pulumi.prod.yaml"])
def test_pods_and_services_have_a_port_of_that_name(file: str) -> None:
    program = run_program(committed(file, release=RELEASE))
    (port,) = program.one("Deployment", "backend").containers[0]["ports"]
    assert (port["name"], port["containerPort"]) == ("http", 3000)
    (way,) = program.one("Service", "backend").inputs["spec"]["ports"]
    assert (way["name"], way["targetPort"]) == ("http", "http")


def test_a_changed_port_has_policies_of_its_own_before_its_pods() -> None:
    """The engine makes what is new first, and deletes what is gone when the old pods are."""
    before, after = (stack_config("Pulumi.sandbox.yaml", release=RELEASE) for _ in range(2))
    after["runbook:application"]["services"][0]["port"] = 8080
    old, new = run_program(before), run_program(after)
    changed = {made.object_name for made in new.all("NetworkPolicy")} ^ {
        made.object_name for made in old.all("NetworkPolicy")
    }
    names = {"allow-clients-to-services", "allow-clients-into-services"}
    assert changed >= {f"{name}-{port}" for name in names for port in (3000, 8080)}
    assert old.one("Ingress", "ingress").inputs == new.one("Ingress", "ingress").inputs
    pods = new.one("Deployment", "backend")
    for name in names:
        assert new.waits_for(pods, new.one("NetworkPolicy", f"{name}-8080")), name
    assert new.waits_for(new.one("Service", "backend"), pods)
