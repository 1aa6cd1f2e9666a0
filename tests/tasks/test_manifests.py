"""A linter with its default checks finds nothing in the objects of any stack, whatever is switched on."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import toolchain
from tests.support.monitored_config import PLAIN, watched
from tests.support.program import RELEASE, committed, run_program, stack_config
from tests.unit.test_controller import controlled
from tests.unit.test_pod_shapes import shaped_config

_MAINTENANCE = {"maintenance": {"reason": "a restore"}}
_LOCKDOWN = {
    "lockdown": {"reason": "an attack", "since": "2026-11-22T10:00:00Z", "until": "2026-11-22T11:00:00Z"},
}


@pytest.fixture(scope="module")
def kube_score() -> Path:
    return toolchain.build_kube_score()


def lint(kube_score: Path, documents: list[dict[str, Any]]) -> tuple[int, str]:
    done = subprocess.run(
        [str(kube_score), "score", "--exit-one-on-warning", "--output-format", "ci", "-"],
        input=yaml.safe_dump_all(documents, sort_keys=False),
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if not line.startswith(("[OK]", "[SKIPPED]"))]
    return done.returncode, "\n".join(found) + done.stderr


@pytest.mark.parametrize("changes", [{}, _MAINTENANCE, _LOCKDOWN], ids=["in service", "in maintenance", "locked"])
@pytest.mark.parametrize("file", ["Pulumi.sandbox.yaml", "Pulumi.staging.yaml", "Pulumi.prod.yaml"])
def test_kube_score_finds_nothing(kube_score: Path, file: str, changes: dict[str, Any]) -> None:
    program = run_program(committed(file, release=RELEASE, **changes))
    documents = [dict(resource.inputs) for resource in program.objects]
    assert len(documents) > 20
    assert lint(kube_score, documents) == (0, "")


def test_kube_score_finds_nothing_in_pods_of_another_shape(kube_score: Path) -> None:
    documents = [dict(resource.inputs) for resource in run_program(shaped_config()).objects]
    assert {"uploads", "media"} <= {document["metadata"]["name"] for document in documents}
    assert lint(kube_score, documents) == (0, "")


def test_kube_score_finds_nothing_in_what_watches(kube_score: Path) -> None:
    logs = {"apiServer": [{"cidr": "10.0.0.1/32", "ports": [6443]}]}
    documents = [dict(resource.inputs) for resource in run_program(watched(monitoring={**PLAIN, "logs": logs})).objects]
    assert {"prometheus", "log-counter"} <= {document["metadata"]["name"] for document in documents}
    assert lint(kube_score, documents) == (0, "")


def test_kube_score_finds_nothing_in_the_rollback_controller(kube_score: Path) -> None:
    documents = [dict(resource.inputs) for resource in run_program(controlled()).objects]
    assert any(document["metadata"]["name"] == "rollback-controller" for document in documents)
    assert lint(kube_score, documents) == (0, "")


def test_kube_score_would_find_a_pod_without_limits(kube_score: Path) -> None:
    program = run_program(stack_config("Pulumi.prod.yaml", release=RELEASE))
    deployments = [dict(resource.inputs) for resource in program.objects if resource.kind == "Deployment"]
    for deployment in deployments:
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            container["resources"].pop("limits")
    code, found = lint(kube_score, deployments)
    assert code == 1
    assert "CPU limit is not set" in found
