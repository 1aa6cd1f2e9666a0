"""A stack file made from an example is refused until its digests and its cluster are real."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from settings import SettingsError, StackFile, parse
from tests.support.program import RELEASE, ROOT, committed, secrets_for

REAL = committed("Pulumi.prod.yaml", release=RELEASE)
AS_COMMITTED = {**yaml.safe_load((ROOT / "Pulumi.prod.yaml").read_text())["config"], "runbook:release": RELEASE}


def judge(config: dict[str, Any]) -> str:
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    try:
        parse(StackFile("Pulumi.prod.yaml", config, sealed))
    except SettingsError as error:
        return str(error)
    return ""


def test_a_file_that_is_filled_in_is_accepted() -> None:
    assert judge(REAL) == ""


def test_the_committed_example_names_every_placeholder() -> None:
    message = judge(AS_COMMITTED)
    assert "runbook:image\n" in message
    assert "write the digest that your registry has for registry.example.com/runbook-tasks" in message
    assert "kubernetes:context\n" in message


def test_a_placeholder_deep_in_a_value_is_found() -> None:
    image = "registry.example.com/worker@sha256:" + "0" * 64
    release = {**RELEASE, "image": image}
    assert "runbook:release.image\n" in judge({**REAL, "runbook:release": release})


@pytest.mark.parametrize("key", ["kubernetes:context", "kubernetes:kubeconfig"])
def test_either_key_names_the_cluster(key: str) -> None:
    config = {name: value for name, value in REAL.items() if not name.startswith("kubernetes:")}
    assert "kubernetes:context\n" in judge(config)
    assert judge({**config, key: "a"}) == ""


def test_the_sandbox_goes_where_its_kubeconfig_leads() -> None:
    config = committed("Pulumi.sandbox.yaml", release=RELEASE)
    del config["kubernetes:context"]
    config["runbook:image"] = "localhost:15000/tasks@sha256:" + "0" * 64
    assert judge(config) == ""
