"""The cluster tests run on the sandbox that `make up` started, each group in a stack and namespace of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.paths import ENV_FILE, STATE
from tests.support.cluster_stack import Stack
from tests.support.ordering import put_longest_first, skip_without_time
from tests.support.secret_search import assert_secrets_stay_secret

LONGEST_FIRST = (
    "production",
    "triggers",
    "release",
    "rotation",
    "backups",
    "second_application",
    "controller",
    "operator",
    "sqlite_application",
    "monitoring",
    "interruptions",
    "lockdown",
    "unmeasured_application",
    "first_release",
)
"""Modules in the order in which workers take them: the last ones are short, so that all workers end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    put_longest_first(items, Path(__file__).parent, LONGEST_FIRST)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: a stack that no test uses takes minutes."""
    skip_without_time(item.nodeid)


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The images `make up` built and pushed, by name: `shop:v1`, `shop:v2`, …"""
    if not ENV_FILE.exists():
        pytest.fail("the sandbox is not running: `make up`, then `. ./.sandbox/env`")
    return json.loads((STATE / "images.json").read_text())


@pytest.fixture(scope="module")
def stack(
    request: pytest.FixtureRequest, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack of this test module's own, with the shop's version 1 released. `BACKUPS = True` in it: with backups.

    Whatever the tests did with it, in the end no secret has leaked.
    """
    name = request.module.__name__.rsplit("_", 1)[-1]
    backups = getattr(request.module, "BACKUPS", False)
    if backups and "RUNBOOK_S3" not in os.environ:
        pytest.skip("this sandbox has no S3 server: the cluster is not its own")
    made = Stack.create(name, tmp_path_factory.mktemp(name), backups=backups)
    try:
        made.runbook("deploy", images["shop:v1"], "--yes").check()
        yield made
        assert_secrets_stay_secret(made)
    finally:
        made.remove() if backups else made.forget()  # its keys to the store of backups are revoked by destroying it
