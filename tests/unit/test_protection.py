"""What `guards.protectData` protects: what holds data, and nothing that an update has to replace."""

from __future__ import annotations

import ast
from pathlib import Path

import pulumi
import pytest

from tests.support.program import RELEASE, ROOT, committed, run_program

_COMPONENTS = sorted((ROOT / "components").rglob("*.py"))
_OF_PULUMI = {
    *(name for of in (pulumi.Resource, pulumi.ComponentResource) for name in (*vars(of), *of.__annotations__)),
}
"""Attributes with a meaning for Pulumi: `_protect`, for one, is inherited by every child."""


@pytest.mark.parametrize("file", ["Pulumi.sandbox.yaml", "Pulumi.staging.yaml", "Pulumi.prod.yaml"])
@pytest.mark.parametrize("protect", [True, False])
def test_only_what_holds_data_is_protected(file: str, protect: bool) -> None:
    config = committed(file, release=RELEASE)
    config["runbook:guards"] = {**config.get("runbook:guards", {}), "protectData": protect}
    program = run_program(config)
    protected = {resource.kind for resource in program.resources if resource.protect}
    holding = {"Namespace", "StatefulSet", "PersistentVolumeClaim"}
    assert protected <= holding
    assert ("Namespace" in protected) == protect
    data = [resource for resource in program.all("StatefulSet") if resource.object_name in ("postgres", "redis")]
    assert [resource.protect for resource in data] == [protect] * len(data)


@pytest.mark.parametrize("file", _COMPONENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_component_sets_an_attribute_of_pulumi(file: Path) -> None:
    tree = ast.parse(file.read_text())
    found = [
        f"{file.name}:{node.lineno}: self.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and node.attr in _OF_PULUMI
    ]
    assert found == []
