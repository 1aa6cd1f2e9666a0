"""A restore in place after rotations, on a managed server: plain owner, logins that act as it, sessions of all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres_majors import HAS_CLIENTS, clients, postgres_of
from tests.support.restore_world import Shop, new_shop
from tests.support.servers import Postgres, postgres
from tests.support.task_processes import task

SERVERS: dict[str, Callable[[], AbstractContextManager[Postgres]]] = {
    "14": lambda: postgres_of(14),
    "15": postgres,
    "16": lambda: postgres_of(16),
}


@dataclass
class Managed:
    """The shop on a managed server: its administrator may create roles, and is no superuser."""

    shop: Shop
    server: Postgres

    def url(self, role: str) -> str:
        return self.server.url(self.shop.name, role, "pw")

    def rotate(self, new: str, old: str) -> None:
        """What the rotation does until the overlap begins: both logins are accepted."""
        environment = {
            "ROTATE_DATABASE_ADMIN_URL": self.url("dba"),
            "ROTATE_DATABASE_ADMIN_FIXED": "true",
            "ROTATE_DATABASE_OWNER": "owner",
            "ROTATE_DATABASE_NEW_URL": self.url(new),
            "ROTATE_DATABASE_OLD_URL": self.url(old),
        }
        done = task(environment, "credentials", "prepare", "database")
        assert done.exit_code == 0, done.message
        self.shop.environment["DATABASE_URL"] = self.url(new)


needs_clients = pytest.mark.skipif(not HAS_CLIENTS, reason="there are no programs of version 17 for this machine")


@pytest.fixture(scope="module", params=["14", "15", pytest.param("16", marks=needs_clients)])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    with SERVERS[request.param]() as server:
        server.execute("CREATE ROLE owner LOGIN CREATEDB PASSWORD 'pw'; CREATE ROLE dba LOGIN CREATEROLE PASSWORD 'pw'")
        if server.connect().info.server_version >= 160_000:
            server.execute("GRANT owner TO dba WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
        yield server


@pytest.fixture
def managed(server: Postgres, tmp_path: Path) -> Iterator[Managed]:
    with server.database() as name:
        shop = new_shop(server, name, tmp_path / "store", tmp_path / "scratch")
        server.execute(f"ALTER DATABASE {name} OWNER TO owner")
        server.execute(
            "ALTER TABLE orders OWNER TO owner; ALTER SCHEMA people OWNER TO owner;"
            "ALTER TABLE people.customers OWNER TO owner; GRANT ALL ON SCHEMA public TO owner",
            name,
        )
        shop.environment["DATABASE_URL"] = server.url(name, "owner", "pw")
        if HAS_CLIENTS:
            shop.environment["PATH"] = f"{clients()}:{os.defpath}"
        made = Managed(shop, server)
        yield made
        shop.drop_copies()
        server.execute("DROP OWNED BY owner", name)
    for role in ("owner_a", "owner_b"):
        server.execute(f"DROP ROLE IF EXISTS {role}")


def connected(managed: Managed, stack: ExitStack, *roles: str, database: str | None = None) -> list[psycopg.Connection]:
    found: list[psycopg.Connection] = []
    for role in roles:
        url = managed.url(role).replace(f"/{managed.shop.name}", f"/{database or managed.shop.name}")
        found.append(stack.enter_context(psycopg.connect(url, autocommit=True, application_name=f"pod of {role}")))
    return found


def test_after_the_first_rotation(managed: Managed) -> None:
    """The login of now ends its own sessions and the owner's, without help."""
    managed.rotate("owner_b", "owner")
    backup = managed.shop.back_up()
    managed.server.execute("DELETE FROM orders WHERE what = 'mint'", managed.shop.name)
    managed.shop.run("restore", "prepare", "--backup", backup)
    with ExitStack() as stack:
        live = connected(managed, stack, "owner", "owner_b", "owner_b")
        replaced = managed.shop.run("restore", "swap").json["replaced"]
        for each in live:
            with pytest.raises(psycopg.OperationalError):
                each.execute("SELECT 1")
        connected(managed, stack, "owner", "owner_b", database=replaced)
        assert managed.shop.run("restore", "finish").json["phase"] == "idle"
    assert managed.shop.databases() == {managed.shop.name}
    assert managed.shop.orders() == ["thyme", "mint", "sage"]


def test_sessions_of_the_login_before(managed: Managed) -> None:
    """The administrator, who may create roles only, ends them."""
    managed.rotate("owner_b", "owner")
    managed.rotate("owner_a", "owner_b")
    backup = managed.shop.back_up()
    with ExitStack() as stack:
        managed.shop.environment["DATABASE_ADMIN_URL"] = managed.url("dba")
        managed.shop.run("restore", "prepare", "--backup", backup)
        connected(managed, stack, "owner", "owner_b", "owner_a")
        replaced = managed.shop.run("restore", "swap").json["replaced"]
        connected(managed, stack, "owner_b", "owner_a", database=replaced)
        managed.shop.run("restore", "undo")
        connected(managed, stack, "owner_b", "owner_a")
        managed.shop.run("restore", "finish")
    assert managed.shop.databases() == {managed.shop.name}
    # Nothing of what it took remains.
    memberships = "SELECT count(*) FROM pg_auth_members WHERE member = 'dba'::regrole AND roleid <> 'owner'::regrole"
    lasting = 2 if managed.server.connect().info.server_version >= 160_000 else 0  # who creates a role administers it
    assert managed.shop.query(memberships) == [lasting]


def test_who_holds_a_session_and_what_to_grant(managed: Managed) -> None:
    managed.rotate("owner_b", "owner")
    managed.rotate("owner_a", "owner_b")
    backup = managed.shop.back_up()
    managed.shop.run("restore", "prepare", "--backup", backup)
    with ExitStack() as stack:
        connected(managed, stack, "owner", "owner_b", "owner_a")
        failed = managed.shop.run("restore", "swap", expect=1)
        assert failed.code == "database_in_use"
        assert "owner_b by pod of owner_b" in failed.message
        assert "pod of owner_a" not in failed.message, "those it could end"
        assert 'GRANT "owner_b" TO "owner_a"' in failed.message
        assert managed.shop.phase() == "prepared"
        # As it says, by the administrator.
        with psycopg.connect(managed.url("dba")) as dba:
            dba.execute('GRANT "owner_b" TO "owner_a"')
        managed.shop.run("restore", "swap")
    managed.shop.run("restore", "finish")


def test_a_superusers_session_is_named(managed: Managed) -> None:
    backup = managed.shop.back_up()
    managed.shop.run("restore", "prepare", "--backup", backup)
    replaced = managed.shop.run("restore", "swap").json["replaced"]
    with managed.server.connect(replaced) as connection:
        failed = managed.shop.run("restore", "finish", expect=1, DATABASE_ADMIN_URL=managed.url("dba"))
        assert failed.code == "database_in_use"
        assert f"SELECT pg_terminate_backend({connection.info.backend_pid})" in failed.message
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (3,)
    with managed.server.connect(replaced):
        pass  # it is open again
    managed.shop.run("restore", "finish")
