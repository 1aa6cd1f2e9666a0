"""`pulumi preview` of staging and prod: works, prints no secret, and the two differ only by values."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sandbox.paths import ROOT
from tests.support.cluster_stack import Stack
from tests.support.program import secrets_for

SECRET = "preview-secret-that-must-not-show"
SCHEMES = {"DATABASE": "postgresql", "REDIS": "redis", "SMTP": "smtp"}
CONTENT_HASH = re.compile(r"-[0-9a-f]{10}$")
"""What a name of other content ends in: that is a value, not the structure."""
RELEASE = {
    "revision": 1,
    "image": "registry.example.com/shop@sha256:" + "0123456789abcdef" * 4,
    "git": "0000000",
    "schema": {"min": 1, "max": 1, "level": 1},
}


def preview(name: str, folder: Path) -> tuple[dict[str, Any], str]:
    """A fresh stack from the committed stack file, placeholders filled in, secrets set, one release: what
    `pulumi preview` says."""
    folder.mkdir()
    committed = ROOT / f"Pulumi.{name}.yaml"
    file = folder / committed.name
    file.write_text(committed.read_text().replace("0" * 64, "0" * 63 + "1"))
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    stack = Stack(name, file)
    backend = folder / "backend"
    backend.mkdir()
    stack_environment = {"PULUMI_BACKEND_URL": f"file://{backend}"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in stack_environment.items():
            patch.setenv(key, value)
        stack.run("pulumi", "stack", "init", name, "--cwd", str(folder), config_file=False).check()
        words: list[str] = []
        for secret in secrets_for(stack.config):
            scheme = next((found for part, found in SCHEMES.items() if part in secret), "https")
            database = "0" if scheme == "redis" else "name"
            value = f"{scheme}://role:{SECRET}@host:5432/{database}" if secret.endswith("_URL") else SECRET
            words += ["--secret", f"secrets:{secret}={value}"]
        stack.run("pulumi", "config", "set-all", "--stack", name, *words).check()
        yaml = YAML()
        document = yaml.load(file)
        document["config"]["runbook:release"] = RELEASE
        current = stack.run("kubectl", "config", "current-context").check().out.strip()
        document["config"]["kubernetes:context"] = current
        yaml.dump(document, file)
        done = stack.run("pulumi", "preview", "--stack", name, "--json", "--non-interactive").check()
        readable = stack.run("pulumi", "preview", "--stack", name, "--diff", "--non-interactive").check()
    return json.loads(done.out), done.text + readable.text


def shape(value: Any) -> Any:
    """The structure without the values: keys of objects, and one shape for all entries of a list."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in sorted(value.items())}
    return "list" if isinstance(value, list) else "value"


def test_staging_and_prod_differ_only_by_values(images: dict[str, str], tmp_path: Path) -> None:
    programs = {}
    for name in ("staging", "prod"):
        plan, text = preview(name, tmp_path / name)
        assert SECRET not in text
        programs[name] = {
            CONTENT_HASH.sub("", "::".join(step["urn"].split("::")[2:])): step["newState"]["type"]
            for step in plan["steps"]
            if step["newState"]["type"] != "pulumi:pulumi:Stack"
        }
        assert len(programs[name]) > 20
    assert programs["staging"] == programs["prod"]


def test_the_two_stack_files_have_the_same_keys() -> None:
    staging, prod = (YAML(typ="safe").load(ROOT / f"Pulumi.{name}.yaml")["config"] for name in ("staging", "prod"))
    assert shape(staging) == shape(prod)
