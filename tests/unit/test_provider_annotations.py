"""What the official provider is asked to do differently, on every object that the program registers."""

from __future__ import annotations

import pytest

from tests.support.program import RELEASE, Program, committed, run_program

FILES = ("Pulumi.sandbox.yaml", "Pulumi.staging.yaml", "Pulumi.prod.yaml")


@pytest.fixture(scope="module", params=FILES)
def program(request: pytest.FixtureRequest) -> Program:
    return run_program(committed(request.param, release=RELEASE, maintenance={"reason": "a test"}))


def annotations_of(program: Program, kinds: set[str]) -> dict[str, dict[str, str]]:
    return {
        f"{each.kind}/{each.object_name}": each.inputs["metadata"].get("annotations", {})
        for each in program.objects
        if not kinds or each.kind in kinds
    }


def test_fields_of_other_managers_are_taken_over(program: Program) -> None:
    """Otherwise an update fails with a conflict after `kubectl scale`, `kubectl set image` or an autoscaler's write."""
    found = annotations_of(program, set())
    assert len(found) > 20
    assert [name for name, given in found.items() if given.get("pulumi.com/patchForce") != "true"] == []


def test_updates_do_not_wait_for_endpoints_and_addresses(program: Program) -> None:
    """The checks after them prove more: ten seconds less per changed Service, and no ingress controller needed."""
    found = annotations_of(program, {"Service", "Ingress"})
    assert len(found) > 2
    assert [name for name, given in found.items() if given.get("pulumi.com/skipAwait") != "true"] == []
