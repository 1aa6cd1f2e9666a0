"""The servers, each started once and only for the tests that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.environment import Environment
from tasks.store import Store, open_store
from tests.support import servers
from tests.support.ordering import put_longest_first
from tests.support.restore_world import Shop, new_shop
from tests.support.rotation_world import Cache

LONGEST_FIRST = (
    "ops_rotation",
    "at_once",
    "fresh_machine",
    "controller_engine",
    "rotation_output",
    "ops_engine",
    "ops_restore",
    "restore_writers",
    "rotation_engine",
)
"""Modules with a real engine or many servers, in the order in which workers take them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    put_longest_first(items, Path(__file__).parent, LONGEST_FIRST)


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[servers.S3]:
    with servers.s3() as server:
        yield server


@pytest.fixture
def database(postgres: servers.Postgres) -> Iterator[str]:
    """A new, empty database; its name."""
    with postgres.database() as name:
        yield name


@pytest.fixture
def shop(postgres: servers.Postgres, database: str, tmp_path: Path) -> Iterator[Shop]:
    """A shop with data in that database, and a folder for its backups."""
    shop = new_shop(postgres, database, tmp_path / "store", tmp_path / "scratch")
    yield shop
    shop.drop_copies()


@pytest.fixture
def bucket(s3: servers.S3) -> str:
    """A new, empty bucket; its name."""
    return s3.new_bucket()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    """A new Redis, as its image starts it."""
    cache = Cache(tmp_path)
    with cache.serving():
        yield cache


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Where backups are kept: in a folder, and in a bucket."""
    if request.param == "folder":
        return {"BACKUP_STORE": f"file://{tmp_path}/store", "SCRATCH": str(tmp_path)}
    server: servers.S3 = request.getfixturevalue("s3")
    return {**server.environment(request.getfixturevalue("bucket")), "SCRATCH": str(tmp_path)}


@pytest.fixture
def store(settings: dict[str, str]) -> Store:
    made = open_store(Environment(settings))
    made.prepare()
    return made
