"""What a start of the program loads and does: every preview and every update pays for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.monitored_config import watched
from tests.support.program import RELEASE, ROOT, stack_config

_FOR_OTHERS = {
    "boto3": "tasks and the command",
    "botocore": "tasks and the command",
    "grafana_foundation_sdk": "stacks with monitoring",
    "httpx": "the command",
    "lightkube": "the command",
    "ops": "the command",
    "prometheus_client": "tasks and the rollback controller",
    "psycopg": "tasks",
    "pyrage": "tasks",
    "redis": "tasks",
    "rich": "the command",
    "tasks": "pods",
    "typer": "the command",
}
"""What the program has no use for, and who has."""

_RUN = """
import json, linecache, sys
from tests.support.program import run_program
import settings
read = [file for file in linecache.cache if file.startswith(settings.__path__[0])]
run_program(json.loads(sys.stdin.read()))
from settings.stack import StackSettings, json_schema
print(json.dumps({
    "modules": list(sys.modules),
    "sources of settings read": read,
    "whole schema": StackSettings.__pydantic_complete__ or json_schema.cache_info().currsize > 0,
}))
"""


def started(config: dict[str, Any]) -> dict[str, Any]:
    """One run of the program in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN], cwd=ROOT, input=json.dumps(config), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def start() -> dict[str, Any]:
    return started(stack_config("Pulumi.sandbox.yaml", release=RELEASE))


def packages(start: dict[str, Any]) -> set[str]:
    return {name.split(".", 1)[0] for name in start["modules"]}


def test_a_start_loads_nothing_that_only_others_use(start: dict[str, Any]) -> None:
    assert packages(start) & set(_FOR_OTHERS) == set()


def test_a_start_loads_no_api_group_that_it_registers_nothing_of(start: dict[str, Any]) -> None:
    groups = {name.split(".")[1] for name in start["modules"] if name.count(".") == 2 and _is_group(name)}
    assert groups == {"apps", "batch", "core", "meta", "networking", "policy"}


def _is_group(name: str) -> bool:
    return name.startswith("pulumi_kubernetes.") and name.rsplit(".", 1)[1].startswith("v")


def test_dashboards_are_loaded_where_there_is_monitoring() -> None:
    assert packages(started(watched())) & set(_FOR_OTHERS) == {"grafana_foundation_sdk"}


def test_a_start_reads_no_docstring_and_makes_no_schema(start: dict[str, Any]) -> None:
    """They are for editors and for messages about a bad stack file."""
    assert start["sources of settings read"] == []
    assert not start["whole schema"]
