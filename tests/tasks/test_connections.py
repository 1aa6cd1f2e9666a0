"""Databases as others have them: tables that the application's role may not read, URLs of other clients."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.support.go_live_world import issue_certificate
from tests.support.servers import BIN, Postgres
from tests.support.servers import postgres as server
from tests.support.task_processes import task

TABLES = """
CREATE TABLE orders (id int, shop text);
CREATE TABLE levels (level int);
INSERT INTO orders SELECT n, CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 100) n;
INSERT INTO levels VALUES (4);
"""
POLICY = """
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE orders FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON orders USING (shop = current_setting('app.shop', true));
"""


@pytest.fixture
def owner(postgres: Postgres) -> Iterator[tuple[str, str]]:
    """A database of a plain role, and the role."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres.database())
        role = stack.enter_context(postgres.role(database))
        postgres.execute(f"ALTER DATABASE {database} OWNER TO {role}")
        postgres.execute(f"ALTER SCHEMA public OWNER TO {role}", database)
        with psycopg.connect(postgres.url(database, role, f"{role}-pw"), autocommit=True) as connection:
            connection.execute(TABLES.encode())
        yield database, role
        postgres.execute(f"ALTER DATABASE {database} OWNER TO postgres")


@pytest.fixture
def settings(postgres: Postgres, owner: tuple[str, str], tmp_path: Path) -> dict[str, str]:
    database, role = owner
    (tmp_path / "store").mkdir()
    return {
        "BACKUP_STORE": f"file://{tmp_path}/store",
        "DATABASE_URL": postgres.url(database, role, f"{role}-pw"),
        "SCHEMA_LEVEL_QUERY": "SELECT max(level) FROM levels",
        "SCRATCH": str(tmp_path),
    }


@pytest.fixture
def login(postgres: Postgres, owner: tuple[str, str]) -> Iterator[str]:
    """URL of a login for backups, with the rights that the message names."""
    with postgres.role(owner[0]) as role:
        postgres.execute(f"ALTER ROLE {role} BYPASSRLS; GRANT pg_read_all_data TO {role}")
        yield postgres.url(owner[0], role, f"{role}-pw")


def run_as_owner(settings: dict[str, str], query: str) -> None:
    with psycopg.connect(settings["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(query.encode())


@pytest.mark.parametrize("words", [("backup", "create", "--kind", "manual"), ("backup", "gate", "--within-hours", "9")])
def test_rows_that_are_hidden_from_the_owner_are_named(settings: dict[str, str], words: tuple[str, ...]) -> None:
    run_as_owner(settings, POLICY)
    done = task(settings, *words)
    assert (done.exit_code, done.error) == (1, "database_unreadable")
    assert "table public.orders (row-level security" in done.message
    assert "BYPASSRLS" in done.message
    assert "runbook:backup.ownLogin" in done.message
    assert not list(Path(settings["SCRATCH"], "store").iterdir())


def test_a_schema_of_others_is_named(postgres: Postgres, owner: tuple[str, str], settings: dict[str, str]) -> None:
    postgres.execute('CREATE SCHEMA "Billing"; CREATE TABLE "Billing".invoices (id int)', owner[0])
    shared = "CREATE SCHEMA shared; GRANT USAGE ON SCHEMA shared TO PUBLIC"
    postgres.execute(f"{shared}; CREATE TABLE shared.audit (id int); CREATE SEQUENCE shared.numbers", owner[0])
    done = task(settings, "backup", "create", "--kind", "scheduled")
    assert done.error == "database_unreadable"
    assert 'table "Billing".invoices (no USAGE on schema "Billing")' in done.message
    assert "table shared.audit (no SELECT)" in done.message
    assert "sequence shared.numbers (no SELECT)" in done.message


def test_the_backups_own_login_reads_all_rows(
    postgres: Postgres, owner: tuple[str, str], settings: dict[str, str], login: str
) -> None:
    run_as_owner(settings, POLICY)
    postgres.execute('CREATE SCHEMA "Billing"; CREATE TABLE "Billing".invoices (id int)', owner[0])
    postgres.execute('INSERT INTO "Billing".invoices VALUES (1)', owner[0])
    done = task(settings | {"BACKUP_DATABASE_URL": login}, "backup", "create", "--kind", "manual")
    assert done.exit_code == 0, done
    assert done.result["tables"] == {
        "Billing.invoices": 1, "public.levels": 1, "public.orders": 100, "runbook.sentinel": 1,
    }  # fmt: skip
    (dump,) = Path(settings["SCRATCH"], "store").rglob("*.dump")
    command = [BIN / "pg_restore", "--data-only", "--table=orders", "--file=-", dump]
    data = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert data.count("\ta\n") == data.count("\tb\n") == 50


def test_the_level_is_read_where_the_application_reads_it(settings: dict[str, str], login: str) -> None:
    run_as_owner(settings, "CREATE SCHEMA app; ALTER TABLE levels SET SCHEMA app; ALTER TABLE orders SET SCHEMA app")
    changed = {"DATABASE_URL": settings["DATABASE_URL"] + "?schema=app&connection_limit=3&sslmode=prefer"}
    for own in ({}, {"BACKUP_DATABASE_URL": login}):
        done = task(settings | changed | own, "backup", "create", "--kind", "manual")
        assert done.result["schema_level"] == 4, done
    assert task(settings, "backup", "create", "--kind", "manual").result["schema_level"] == 0


def test_a_login_of_another_database_is_refused(postgres: Postgres, settings: dict[str, str]) -> None:
    done = task(settings | {"BACKUP_DATABASE_URL": postgres.url()}, "backup", "create", "--kind", "manual")
    assert (done.exit_code, done.error) == (2, "environment_invalid")
    assert "BACKUP_DATABASE_URL is of the database postgres" in done.message


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that accepts encrypted sessions alone, with a certificate of an authority that no machine knows."""
    with server() as made:
        owns = made.data.stat()
        certificate = Path(shutil.copy(issue_certificate(tmp_path_factory.mktemp("tls")), made.data / "server.pem"))
        certificate.chmod(0o600)
        os.chown(certificate, owns.st_uid, owns.st_gid)
        for name, value in {"ssl_cert_file": "server.pem", "ssl_key_file": "server.pem", "ssl": "on"}.items():
            made.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        (made.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        made.execute("SELECT pg_reload_conf()")
        _await_encryption(made)
        yield made


def _await_encryption(made: Postgres) -> None:
    """It reads its changed settings a moment after the call."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(f"{made.url()}?sslmode=require").close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("query", ["sslmode=no-verify", "ssl=no-verify", "sslmode=require", "ssl=true"])
def test_an_encrypted_session_whose_certificate_is_not_verified(
    encrypted: Postgres, tmp_path: Path, query: str
) -> None:
    """As node-postgres spells it; libpq knows no `no-verify`."""
    (tmp_path / "store").mkdir()
    settings = {"BACKUP_STORE": f"file://{tmp_path}/store", "SCRATCH": str(tmp_path)}
    with encrypted.database() as database:
        url = encrypted.url(database)
        done = task(settings | {"DATABASE_URL": f"{url}?{query}"}, "backup", "create", "--kind", "manual")
        assert done.exit_code == 0, done.result
        for refused in ("sslmode=disable", "sslmode=verify-full"):
            failed = task(settings | {"DATABASE_URL": f"{url}?{refused}"}, "backup", "create", "--kind", "manual")
            assert failed.error == "database_unreachable", failed


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+psycopg", "jdbc:postgresql"])
def test_backups_with_urls_of_other_clients(settings: dict[str, str], scheme: str) -> None:
    url = settings["DATABASE_URL"].replace("postgresql", scheme, 1)
    changed = {"DATABASE_URL": f"{url}?ssl=false&connection_limit=1&pool_timeout=0"}
    assert task(settings | changed, "backup", "create", "--kind", "manual").exit_code == 0
