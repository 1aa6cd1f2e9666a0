"""Restores with server faults: connection lost, disk full on either side, roles missing, data damaged."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.errors import DataCorrupted

from tasks.restore.integrity import indexes, page_checksums
from tests.support.proxy import After, Stall, cut, proxy
from tests.support.restore_world import Shop, flip, new_shop
from tests.support.servers import postgres
from tests.support.small_disk import as_root, tiny
from tests.support.task_processes import ended, start

ORDERS = ["thyme", "mint", "sage"]


def test_a_test_that_is_ended_from_outside_is_recorded(shop: Shop) -> None:
    """SIGTERM while pg_restore is running, as the kubelet sends it at the pod's deadline."""
    shop.back_up_heavy()
    stall = Stall()
    with proxy(shop.server.port, up=After(4 << 20, stall)) as wire:
        url = shop.environment["RESTORE_DATABASE_URL"].replace(f":{shop.server.port}/", f":{wire.port}/")
        environment = shop.environment | {"RESTORE_DATABASE_URL": url}
        process = start(environment, "restore", "test-begin")
        assert stall.reached.wait(60)
        process.send_signal(signal.SIGTERM)
        stall.release()
        outcome = ended(process, environment)
    assert (outcome.exit_code, outcome.error) == (1, "interrupted")
    assert shop.newest_test()["result"] == "failed"
    shop.run("restore", "test-begin")  # finds the half-made database, and that it may go


def test_the_server_goes_away_while_restoring(shop: Shop) -> None:
    backup = shop.back_up_heavy()
    with proxy(shop.server.port, up=After(4 << 20, cut)) as wire:
        url = shop.environment["DATABASE_URL"].replace(f":{shop.server.port}/", f":{wire.port}/")
        into = ("restore", "into", "--backup", backup, "--database", f"{shop.name}_new")
        assert shop.run(*into, expect=1, DATABASE_URL=url).code == "database_unreachable"
    assert len(shop.databases()) == 2, "it could not be removed"
    shop.run(*into)
    assert shop.databases() == {shop.name, f"{shop.name}_new"}


def test_a_broken_index_is_found(shop: Shop) -> None:
    """An operator class whose order changes corrupts an index, as new libc collations do."""
    with shop.server.connect(shop.name) as connection:
        assert indexes(connection).broken == []
        connection.execute(
            """
            CREATE FUNCTION compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($1, $2)';
            CREATE OPERATOR CLASS fickle FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,
                OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compare(int, int);
            CREATE INDEX fickle_index ON orders (id fickle);
            CREATE OR REPLACE FUNCTION compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE
                AS 'SELECT btint4cmp($2, $1)';
            """
        )
    with shop.server.connect(shop.name) as connection:
        (broken,) = indexes(connection).broken
        assert broken.startswith("fickle_index:")


def test_a_broken_page_is_counted(shop: Shop) -> None:
    """A byte that changed on the server's disk, in a copy that it has not read yet."""
    copy = f"{shop.name}_copy"
    shop.server.execute("CHECKPOINT")
    shop.server.execute(f"CREATE DATABASE {copy} TEMPLATE {shop.name} STRATEGY file_copy")
    (path,) = shop.query("SELECT pg_relation_filepath('orders')", copy)
    flip(shop.server.data / path)
    with shop.server.connect(copy) as connection:
        assert page_checksums(connection) == {"available": True, "failures": 0}
        with pytest.raises(DataCorrupted):
            connection.execute("SELECT * FROM orders")
    with shop.server.connect(copy) as connection:
        assert page_checksums(connection) == {"available": True, "failures": 1}


@pytest.fixture
def owner(shop: Shop) -> Iterator[str]:
    """The shop's database and all in it belong to a role that is no superuser but may create databases."""
    role = f"{shop.name}_owner"
    shop.server.execute(
        f"""CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'pw'; ALTER DATABASE {shop.name} OWNER TO {role}"""
    )
    shop.server.execute(
        f"""ALTER TABLE orders OWNER TO {role}; ALTER SCHEMA people OWNER TO {role};
        ALTER TABLE people.customers OWNER TO {role};
        REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO pg_monitor""",
        shop.name,
    )
    shop.environment["DATABASE_URL"] = shop.server.url(shop.name, role, "pw")
    yield role
    shop.drop_copies()
    shop.server.execute(f"DROP DATABASE {shop.name}")
    shop.server.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    shop.server.execute(f"CREATE DATABASE {shop.name}")


OWNERS = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'people', 'runbook')"


def test_an_owner_without_superuser_restores(shop: Shop, owner: str) -> None:
    backup = shop.back_up()
    new = shop.run("restore", "into", "--backup", backup, "--database", f"{shop.name}_new").json["database"]
    assert shop.query(OWNERS, new) == [owner]
    privileges = "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'"
    assert shop.query(privileges, new) == shop.query(privileges)
    with shop.server.connect(shop.name):  # a superuser's session, which the owner must not end
        shop.run("restore", "prepare", "--backup", backup)
        failed = shop.run("restore", "swap", expect=1)
    assert failed.code == "database_in_use"
    assert "postgres" in failed.message
    assert shop.phase() == "prepared"
    assert shop.orders() == ORDERS
    shop.run("restore", "swap")
    assert shop.query("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()") == [owner]
    shop.run("restore", "finish")


def test_owners_that_are_not_on_the_server(shop: Shop, owner: str) -> None:
    """A backup of a superuser's tables, restored by a role that may not change owners."""
    shop.server.execute("ALTER TABLE orders OWNER TO postgres; GRANT SELECT ON orders TO pg_monitor", shop.name)
    backup = shop.run("backup", "create", "--kind", "manual", DATABASE_URL=shop.server.url(shop.name)).json["id"]
    new = shop.run("restore", "into", "--backup", backup, "--database", f"{shop.name}_new").json["database"]
    assert shop.query(OWNERS, new) == [owner]


def test_a_restore_test_gives_owners_back(shop: Shop, owner: str) -> None:
    shop.back_up()
    shop.run("restore", "test-begin")
    assert shop.query(OWNERS, f"{shop.name}_test") == [owner]


@as_root
@pytest.mark.parametrize("format", ["custom", "directory"])
def test_the_scratch_disk_is_full(shop: Shop, format: str) -> None:
    shop.environment["BACKUP_FORMAT"] = format
    backup = shop.back_up_heavy()
    before = tiny(Path(shop.environment["SCRATCH"]), 4)
    process = start(shop.environment, "restore", "test-begin", before=before)
    outcome = ended(process, shop.environment)
    assert (outcome.exit_code, outcome.error) == (1, "disk_full")
    assert "SCRATCH" in outcome.message
    assert backup in outcome.message
    assert shop.newest_test()["result"] == "failed"


@as_root
def test_the_servers_disk_is_full_while_restoring(tmp_path: Path) -> None:
    """A server of its own, with the live database on a disk that has room for one of it and a bit."""
    # Not under pytest's folder: each pytest run resets its mode, so that the server's user loses access.
    disk = Path(tempfile.mkdtemp(prefix="runbook-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=22m", "none", disk], check=True)
    try:
        os.chown(disk, pwd.getpwnam("postgres").pw_uid, -1)
        with postgres() as server:
            with server.connect() as connection:
                connection.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(disk))))
            server.execute("CREATE DATABASE shop TABLESPACE small")
            shop = new_shop(server, "shop", tmp_path / "store", tmp_path / "scratch")
            backup = shop.back_up_heavy()
            server.execute("CHECKPOINT")  # a new database's files are mostly holes until then
            for verb, *more in (("into", "--database", "shop_new"), ("prepare",)):
                failed = shop.run("restore", verb, "--backup", backup, *more, expect=1)
                assert failed.code == "disk_full", failed.message
                assert shop.databases() == {"shop"}
            assert shop.orders() == ORDERS
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()
