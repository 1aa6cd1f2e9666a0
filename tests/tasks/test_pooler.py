"""A real PgBouncer between the application and its database: tasks go past it, or refuse it and leave nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.support.pooler import Pooler, pgbouncer
from tests.support.restore_world import Shop, new_shop
from tests.support.servers import Postgres
from tests.support.task_processes import task

ORDERS = ["thyme", "mint", "sage"]
LEFT = """
SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
       (SELECT count(*) FROM pg_prepared_statements),
       (SELECT string_agg(name, ' ') FROM pg_settings WHERE source = 'session' AND name <> ALL(%s))
"""
OF_PGBOUNCER = ["application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"]
"""Settings that it gives each client anew."""


@pytest.fixture
def shop(postgres: Postgres, database: str, tmp_path: Path) -> Iterator[Shop]:
    """A shop of a plain role that may create databases."""
    shop = new_shop(postgres, database, tmp_path / "store", tmp_path / "scratch")
    role = f"{database}_owner"
    postgres.execute(f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'pw'; ALTER DATABASE {database} OWNER TO {role}")
    postgres.execute(
        f"ALTER TABLE orders OWNER TO {role}; ALTER SCHEMA people OWNER TO {role};"
        f"ALTER TABLE people.customers OWNER TO {role}; GRANT ALL ON SCHEMA public TO {role}",
        database,
    )
    shop.environment["DATABASE_URL"] = postgres.url(database, role, "pw")
    yield shop
    shop.drop_copies()
    postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")
    postgres.execute(f"DROP ROLE {role}")


def through(pooler: Pooler, shop: Shop) -> str:
    return pooler.url(shop.name, f"{shop.name}_owner", "pw")


@pytest.fixture(params=[False, True], ids=["the last first", "in turn"])
def pooler(request: pytest.FixtureRequest, shop: Shop) -> Iterator[Pooler]:
    with pgbouncer(shop.server, {f"{shop.name}_owner": "pw"}, turns=request.param) as pooler:
        with sessions(pooler, shop):
            pass  # it has three
        yield pooler


class sessions(ExitStack):
    """Clients that hold all sessions of the pool, each in a transaction; what is left in them."""

    def __init__(self, pooler: Pooler, shop: Shop) -> None:
        super().__init__()
        clients = [self.enter_context(psycopg.connect(through(pooler, shop))) for _ in range(3)]
        self.left = [client.execute(LEFT.encode(), [OF_PGBOUNCER], prepare=False).fetchall()[0] for client in clients]
        for client in clients:
            client.rollback()


REFUSED = {
    "a backup": ("backup", "create", "--kind", "manual"),
    "the gate of a release": ("backup", "gate", "--within-hours", "9"),
    "the state of a restore": ("restore", "state"),
    "a restore beside": ("restore", "into", "--backup", "{}", "--database", "{}_new"),
    "a restore in place": ("restore", "prepare", "--backup", "{}"),
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED.keys())
def test_without_a_direct_url_tasks_refuse_and_leave_nothing_in_the_pool(
    shop: Shop, pooler: Pooler, words: tuple[str, ...]
) -> None:
    backup = shop.back_up()
    given = [word.replace("{}", backup if word == "{}" else shop.name) for word in words]
    before = sorted(shop.databases())
    refused = shop.run(*given, expect=2, DATABASE_URL=through(pooler, shop))
    assert refused.code == "database_pooled"
    assert "pulumi config set --secret secrets:DIRECT_URL" in refused.message
    assert "runbook:application.secrets" in refused.message
    assert sorted(shop.databases()) == before
    assert len(shop.run("backup", "list").json) == 1
    with sessions(pooler, shop) as pool:
        assert pool.left == [(0, 0, None)] * 3


def test_a_schema_in_the_url_of_a_pooler(shop: Shop, pooler: Pooler) -> None:
    """It becomes a startup parameter, which PgBouncer refuses."""
    url = f"{through(pooler, shop)}?schema=people"
    failed = shop.run("backup", "create", "--kind", "manual", expect=1, DATABASE_URL=url)
    assert failed.code == "database_unreachable"
    assert "secrets:DIRECT_URL" in failed.message


def test_a_rotation_is_refused_too(shop: Shop, pooler: Pooler) -> None:
    role = f"{shop.name}_owner"
    environment = {
        "ROTATE_DATABASE_ADMIN_URL": shop.server.url(shop.name),
        "ROTATE_DATABASE_ADMIN_FIXED": "true",
        "ROTATE_DATABASE_OWNER": role,
        "ROTATE_DATABASE_NEW_URL": through(pooler, shop),
        "ROTATE_DATABASE_OLD_URL": shop.server.url(shop.name, "other", "pw"),
    }
    refused = task(environment, "credentials", "prepare", "database")
    assert (refused.exit_code, refused.error) == (2, "database_pooled")


def test_past_the_pooler_while_the_application_goes_through_it(shop: Shop, pooler: Pooler) -> None:
    """DATABASE_URL of tasks and migrations is the direct one: what components/credentials.py gives them."""
    application = psycopg.connect(through(pooler, shop), autocommit=True, prepare_threshold=None)
    with application:
        backup = shop.back_up()
        application.execute("DELETE FROM orders WHERE what = 'mint'")
        shop.run("restore", "test-begin", RESTORE_DATABASE_URL=shop.server.url(f"{shop.name}_test"))
        assert shop.run("restore", "test-conclude").json["result"] == "passed"
        assert shop.run("backup", "gate", "--within-hours", "9").status == 0
        for words in (("prepare", "--backup", backup), ("swap",), ("finish",)):
            shop.run("restore", *words)
        found: list[str] = []
        while not found:
            try:
                # The pooler's sessions were ended: it begins new ones for the same client, or ends the client.
                found = [row[0] for row in application.execute("SELECT what FROM orders ORDER BY id").fetchall()]
            except psycopg.OperationalError:
                application = psycopg.connect(through(pooler, shop), autocommit=True, prepare_threshold=None)
        assert found == ORDERS
    with sessions(pooler, shop) as pool:
        assert pool.left == [(0, 0, None)] * 3


def test_a_pooler_that_gives_each_client_its_own_session_is_no_hindrance(shop: Shop) -> None:
    with pgbouncer(shop.server, {f"{shop.name}_owner": "pw"}, "session") as pooler:
        done = shop.run("backup", "create", "--kind", "manual", DATABASE_URL=through(pooler, shop))
        assert done.json["tables"]["public.orders"] == 3
