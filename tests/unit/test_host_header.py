"""An application that answers 400 to hosts it does not know (X1)."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.support.program import RELEASE, Program, committed, run_program

HOST = {"name": "Host", "value": "shop.example.com"}


def run(**application: Any) -> Program:
    config = committed("Pulumi.sandbox.yaml", release=RELEASE)
    config["runbook:application"] = {**config["runbook:application"], **application}
    return run_program(config)


def probes(program: Program) -> list[tuple[str, Any]]:
    """Of every container of the application with a port; the kind of its owner first."""
    return [
        (owner.kind, container[kind]["httpGet"])
        for owner in program.objects
        for container in (owner.containers if owner.pod else ())
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        if container["name"] == "backend" and "httpGet" in container.get(kind, {})
    ]


def health_module(program: Program) -> Any:
    (checks,) = [one for one in program.all("ConfigMap") if "blackbox.yaml" in one.inputs.get("data", {})]
    return yaml.safe_load(checks.inputs["data"]["blackbox.yaml"])["modules"]["health"]["http"]


def test_probes_and_the_health_check_name_the_host() -> None:
    program = run(hostHeader="shop.example.com")
    found = probes(program)
    assert {kind for kind, _ in found} == {"Deployment", "Job", "CronJob"}, "the rehearsal and the restore test too"
    assert all(get["httpHeaders"] == [HOST] for _, get in found)
    assert health_module(program)["headers"] == {"Host": "shop.example.com"}


def test_without_the_setting_nothing_changes() -> None:
    program = run()
    assert not any("httpHeaders" in get for _, get in probes(program))
    assert "headers" not in health_module(program)


@pytest.mark.parametrize("kind", ["rehearsal", "smoke"])
def test_checks_are_made_again_with_another_host(kind: str) -> None:
    """A Job is immutable: with another probe it needs another name."""

    def name(program: Program) -> str:
        (job,) = [one for one in program.all("Job") if one.object_name.startswith(kind)]
        return job.object_name

    assert name(run()) != name(run(hostHeader="shop.example.com"))
