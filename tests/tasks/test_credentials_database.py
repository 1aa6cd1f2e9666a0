"""PostgreSQL only: an administrator without superuser, ownership, errors that are no refusal."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from tests.support.servers import Postgres, free_ports
from tests.support.task_processes import Outcome, task

PREPARE, RETIRE, TRY = (["credentials", *words.split()] for words in ("prepare database", "retire database", "try"))


class External:
    """An external database: an owner, and an administrator that may create roles and end sessions."""

    def __init__(self, server: Postgres, database: str) -> None:
        self.server, self.database = server, database
        self.owner = f"shop_{secrets.token_hex(3)}"
        self.admin = f"{self.owner}_dba"
        for role, rights in ((self.owner, ""), (self.admin, "CREATEROLE")):
            server.execute(f"CREATE ROLE {role} LOGIN {rights} PASSWORD 'first/{role}'")
        server.execute(f"GRANT pg_signal_backend TO {self.admin}; ALTER DATABASE {database} OWNER TO {self.owner}")

    def url(self, role: str, password: str | None = None) -> str:
        return self.server.url(self.database, role, password or f"first/{role}")

    def environment(self, new: str, old: str) -> dict[str, str]:
        values = {
            "ADMIN_URL": self.url(self.admin),
            "ADMIN_FIXED": "true",
            "OWNER": self.owner,
            "NEW_URL": self.url(f"{self.owner}{new}", f"{new}/secret"),
            "OLD_URL": self.url(f"{self.owner}{old}", f"{old}/secret" if old else None),
        }
        return {f"ROTATE_DATABASE_{name}": value for name, value in values.items()}

    def run(self, words: list[str], new: str, old: str, **changed: str) -> Outcome:
        return task(self.environment(new, old) | changed, *words)


@pytest.fixture
def external(postgres: Postgres, database: str) -> Iterator[External]:
    made = External(postgres, database)
    yield made
    roles = ", ".join(
        f"{made.owner}{end}" for end in ("_a", "_b", "", "_dba") if exists(postgres, f"{made.owner}{end}")
    )
    postgres.execute(f"ALTER DATABASE {database} RESET ALL; ALTER DATABASE {database} OWNER TO postgres")
    postgres.execute(f"DROP OWNED BY {roles}", database)
    postgres.execute(f"DROP ROLE {roles}")


def exists(server: Postgres, role: str) -> bool:
    with server.connect() as admin:
        return admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount == 1


def test_an_administrator_without_superuser(external: External) -> None:
    assert external.run(PREPARE, "_b", "").result["created"] is True
    with psycopg.connect(external.url(external.owner)):
        refused = external.run(RETIRE, "_b", "")
        assert refused.error == "still_used"
        assert external.owner in refused.message
        assert external.run([*RETIRE, "--force"], "_b", "").result["ended_sessions"] == 1
    assert external.run(PREPARE, "_a", "_b").exit_code == 0
    assert external.run(RETIRE, "_a", "_b").exit_code == 0
    assert external.run(TRY, "_a", "_b").result["database"] == {"old": "refused", "admin_previous": "none"}
    with psycopg.connect(external.url(external.admin)):
        pass  # its password has not changed


def test_every_role_works_on_what_every_other_made(external: External) -> None:
    external.run(PREPARE, "_b", "")
    external.run(PREPARE, "_a", "_b")
    with psycopg.connect(external.url(f"{external.owner}_b", "_b/secret")) as one:
        one.execute("CREATE TABLE orders (n integer)")
    with psycopg.connect(external.url(f"{external.owner}_a", "_a/secret")) as other:
        other.execute("ALTER TABLE orders ADD COLUMN m integer")
        found = other.execute("SELECT tableowner FROM pg_tables WHERE tablename LIKE 'orders' OR tablename ~ 'runbook'")
        assert found.fetchall() == [(external.owner,)], "and of the tests nothing is left"


def settings_of(external: External, end: str) -> dict[str, str]:
    with psycopg.connect(external.url(f"{external.owner}{end}", f"{end}/secret")) as connection:
        names = ("statement_timeout", "search_path", "lock_timeout", "application_name")
        found = {name: connection.execute("SELECT current_setting(%s, true)", [name]).fetchone() for name in names}
    return {name: row[0] if row and row[0] else "" for name, row in found.items()}


def test_a_role_has_the_settings_of_the_owner(external: External) -> None:
    """The ones for a single database and the lists of names too; the next role has what the owner has then."""
    owner, database, server = external.owner, external.database, external.server
    server.execute("CREATE SCHEMA IF NOT EXISTS app", database)
    server.execute(f"GRANT ALL ON SCHEMA app TO {owner}", database)
    server.execute(f"ALTER ROLE {owner} SET statement_timeout = '7s'")
    server.execute(f"ALTER ROLE {owner} IN DATABASE {database} SET search_path = app, public")
    server.execute(f"ALTER ROLE {owner} SET application_name = 'it''s, one'")
    assert external.run(PREPARE, "_b", "").exit_code == 0
    expected = {
        "statement_timeout": "7s",
        "search_path": "app, public",
        "lock_timeout": "0",
        "application_name": "it's, one",
    }
    assert settings_of(external, "_b") == expected

    server.execute(f"ALTER ROLE {owner} RESET statement_timeout; ALTER ROLE {owner} SET lock_timeout = '3s'")
    assert external.run(PREPARE, "_a", "_b").exit_code == 0
    assert external.run(RETIRE, "_a", "_b").exit_code == 0
    assert external.run(PREPARE, "_b", "_a").exit_code == 0
    expected |= {"statement_timeout": "0", "lock_timeout": "3s"}
    assert settings_of(external, "_a") == settings_of(external, "_b") == expected


def test_a_setting_that_only_a_superuser_may_set_is_named(external: External) -> None:
    external.server.execute(f"ALTER ROLE {external.owner} SET log_min_duration_statement = '1s'")
    outcome = external.run(PREPARE, "_b", "")
    assert outcome.exit_code == 0
    assert "log_min_duration_statement" in outcome.progress
    assert "only a superuser may set it" in outcome.progress


def test_a_role_that_cannot_write_is_not_ready(external: External) -> None:
    external.server.execute(f"ALTER DATABASE {external.database} SET default_transaction_read_only = on")
    outcome = external.run(PREPARE, "_b", "")
    assert (outcome.exit_code, outcome.error) == (1, "database_failed")
    assert "read-only" in outcome.message


def test_a_role_that_is_not_the_owner_is_not_ready(external: External) -> None:
    """An administrator changed it by hand."""
    external.run(PREPARE, "_b", "")
    external.server.execute(f"ALTER ROLE {external.owner}_b RESET role")
    outcome = external.run(PREPARE, "_b", "")
    assert (outcome.exit_code, outcome.error) == (1, "role_wrong")


def test_an_administrator_that_the_application_uses_cannot_retire(external: External) -> None:
    outcome = external.run(PREPARE, "_b", "_dba", ROTATE_DATABASE_OWNER=external.admin)
    assert (outcome.exit_code, outcome.error) == (2, "environment_invalid")
    assert "a role of its own" in outcome.message
    assert not exists(external.server, f"{external.owner}_b")


def test_an_administrator_without_the_rights(external: External) -> None:
    external.server.execute(f"ALTER ROLE {external.admin} NOCREATEROLE")
    outcome = external.run(PREPARE, "_b", "")
    assert (outcome.exit_code, outcome.error) == (1, "database_failed")
    assert "permission denied to create role" in outcome.message


def test_only_a_refusal_counts_as_one(external: External) -> None:
    """A server that is unreachable, or at its connection limit, has not refused the password."""
    external.run(PREPARE, "_b", "")
    external.server.execute(f"ALTER ROLE {external.owner} CONNECTION LIMIT 0")
    full = external.run(TRY, "_b", "")
    assert (full.exit_code, full.error) == (1, "database_unreachable")
    assert "too many connections" in full.message
    (closed,) = free_ports(1)
    away = external.url(external.owner).replace(f":{external.server.port}/", f":{closed}/") + "?connect_timeout=2"
    gone = external.run(TRY, "_b", "", ROTATE_DATABASE_OLD_URL=away)
    assert (gone.exit_code, gone.error) == (1, "database_unreachable")
