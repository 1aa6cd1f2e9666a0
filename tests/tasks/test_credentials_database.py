"""PostgreSQL only: an administrator without superuser, ownership, errors that are no refusal."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from tests.support.postgres_majors import postgres_of
from tests.support.rotation_world import Cache
from tests.support.servers import BIN, Postgres, free_ports, postgres
from tests.support.task_processes import Outcome, task

PREPARE, RETIRE, TRY, REPAIR, MONITOR = (
    ["credentials", *words.split()]
    for words in ("prepare database", "retire database", "try", "repair database", "monitor")
)


class External:
    """An external database: an owner, and an administrator that may create roles and end sessions."""

    def __init__(self, server: Postgres, database: str) -> None:
        self.server, self.database = server, database
        self.owner = f"shop_{secrets.token_hex(3)}"
        self.admin = f"{self.owner}_dba"
        for role, rights in ((self.owner, ""), (self.admin, "CREATEROLE")):
            server.execute(f"CREATE ROLE {role} LOGIN {rights} PASSWORD 'first/{role}'")
        server.execute(f"GRANT pg_signal_backend TO {self.admin}; ALTER DATABASE {database} OWNER TO {self.owner}")

    def password(self, end: str) -> str:
        """Of the owner's role with this end of its name."""
        return f"{end}/secret" if end else f"first/{self.owner}"

    def url(self, role: str, password: str | None = None) -> str:
        return self.server.url(self.database, role, password or f"first/{role}")

    def environment(self, new: str, old: str) -> dict[str, str]:
        values = {
            "ADMIN_URL": self.url(self.admin),
            "ADMIN_FIXED": "true",
            "OWNER": self.owner,
            "NEW_URL": self.url(f"{self.owner}{new}", self.password(new)),
            "OLD_URL": self.url(f"{self.owner}{old}", self.password(old)),
        }
        return {f"ROTATE_DATABASE_{name}": value for name, value in values.items()}

    def run(self, words: list[str], new: str, old: str, **changed: str) -> Outcome:
        return task(self.environment(new, old) | changed, *words)


class Named(External):
    """The same with names and passwords that have to be quoted; the administrator may only create roles."""

    def __init__(self, server: Postgres, database: str, name: str) -> None:
        self.server, self.database, self.owner, self.admin = server, database, name, f"{name} dba"
        for role, rights in ((self.owner, ""), (self.admin, "CREATEROLE")):
            secret = self.password("" if role == self.owner else "dba").replace("'", "''")
            server.execute(f"CREATE ROLE {quoted(role)} LOGIN {rights} PASSWORD '{secret}'")
        server.execute(f"ALTER DATABASE {database} OWNER TO {quoted(self.owner)}")

    def password(self, end: str) -> str:
        return f"it's {end or 'first'}/\"@%"

    def url(self, role: str, password: str | None = None) -> str:
        place = self.server.url(self.database, "x", "y").partition("@")[2]
        return f"postgresql://{quote(role, safe='')}:{quote(password or self.password('dba'), safe='')}@{place}"

    def drop(self) -> None:
        self.server.execute(f"ALTER DATABASE {self.database} OWNER TO postgres")
        made = [f"{self.owner}{end}" for end in ("_a", "_b", "_monitor", "")] + [self.admin]
        for role in [role for role in made if exists(self.server, role)]:
            self.server.execute(f"DROP OWNED BY {quoted(role)}", self.database)
        for role in [role for role in made if exists(self.server, role)]:
            self.server.execute(f"DROP ROLE {quoted(role)}")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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


def test_a_redis_that_shows_no_clients_hides_none_of_the_database(external: External, cache: Cache) -> None:
    """A managed Redis gives its users no CLIENT LIST: production's status said nothing of the database either."""
    cache.done("prepare", 1, 0)
    plain = {"ROTATE_REDIS_ADMIN_URL": cache.url("shop-b", cache.of_period(1)), "ROTATE_REDIS_ADMIN_FIXED": "true"}
    with psycopg.connect(external.url(external.owner)):
        found = external.run(["credentials", "sessions"], "_b", "", **plain).result
    assert [row["role"] for row in found["database"] if row["previous"]] == [external.owner]
    assert found["redis"] == []
    assert "client|list" in found["unknown"]["redis"]


NAMES = ("shop", 'bi team\'s "own"')


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("major", [14, 15, 16])
def test_an_administrator_with_createrole_only(postgres: Postgres, major: int, name: str) -> None:
    """It made no other role, may signal no session, and, since version 16, grants only what it has to grant."""
    with ExitStack() as stack:
        server = postgres if major == 15 else stack.enter_context(postgres_of(major))
        database = stack.enter_context(server.database(f"d{secrets.token_hex(3)}"))
        world = Named(server, database, name)
        stack.callback(world.drop)
        outcome = world.run(PREPARE, "_b", "")
        if major >= 16:
            assert (outcome.exit_code, outcome.error) == (2, "admin_without_rights")
            assert f"GRANT {quoted(name)} TO {quoted(world.admin)} WITH ADMIN OPTION" in outcome.message
            assert not exists(server, f"{name}_b"), "nothing was changed"
            least = "ADMIN TRUE, INHERIT FALSE, SET FALSE"
            server.execute(f"GRANT {quoted(name)} TO {quoted(world.admin)} WITH {least}")
            outcome = world.run(PREPARE, "_b", "")
        assert outcome.exit_code == 0, outcome.message
        for new, old in (("_b", ""), ("_a", "_b"), ("_b", "_a")):
            assert world.run(PREPARE, new, old).exit_code == 0
            with psycopg.connect(world.url(f"{name}{old}", world.password(old))) as used:
                assert world.run(RETIRE, new, old).error == "still_used"
                ended = world.run([*RETIRE, "--force"], new, old)
                assert ended.exit_code == 0, ended.message
                assert ended.result["ended_sessions"] == 1
                with pytest.raises(psycopg.OperationalError):
                    used.execute("SELECT 1")
            assert world.run(TRY, new, old).result["database"]["old"] == "refused"
            with psycopg.connect(world.url(f"{name}{new}", world.password(new))) as connection:
                assert connection.execute("SELECT current_user").fetchone() == (name,)
        query = """
            SELECT count(*) FROM pg_auth_members AS given JOIN pg_roles AS role ON role.oid = given.member
            WHERE rolname = %s AND NOT admin_option
        """
        with server.connect() as superuser:
            found = superuser.execute(query, [world.admin]).fetchone()
        assert found == (0,), "the administrator is a member of no role any more"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("major", [14, 15, 16])
def test_the_exporters_login_reads_statistics_and_nothing_else(postgres: Postgres, major: int, name: str) -> None:
    with ExitStack() as stack:
        server = postgres if major == 15 else stack.enter_context(postgres_of(major))
        database = stack.enter_context(server.database(f"d{secrets.token_hex(3)}"))
        world = Named(server, database, name)
        stack.callback(world.drop)
        server.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
        server.execute(f"GRANT CONNECT ON DATABASE {database} TO {quoted(world.admin)} WITH GRANT OPTION")
        url = world.url(f"{name}_monitor", world.password("eye"))
        monitor = {"ROTATE_DATABASE_MONITOR_URL": url}
        outcome = world.run(MONITOR, "_b", "", **monitor)
        assert outcome.exit_code == 0, outcome.message
        assert outcome.result["roles"] == {"database": f"{name}_monitor"}
        if major == 16:  # where who may create roles grants only what it has to grant
            assert f'GRANT "pg_monitor" TO {quoted(f"{name}_monitor")}' in outcome.progress
            for right in ("pg_monitor", "pg_use_reserved_connections"):
                server.execute(f"GRANT {right} TO {quoted(world.admin)} WITH ADMIN OPTION")
            outcome = world.run(MONITOR, "_b", "", **monitor)
        assert "warning" not in outcome.progress, outcome.progress
        server.execute("CREATE TABLE orders (n int)", database)
        with psycopg.connect(url, autocommit=True) as eye, psycopg.connect(world.url(name, world.password(""))):
            states = eye.execute("SELECT state FROM pg_stat_activity WHERE usename = %s", [name]).fetchall()
            assert states == [("idle",)], "it sees what others do"
            for refused in ("SELECT * FROM orders", f"SET ROLE {quoted(name)}", "CREATE SCHEMA other"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    eye.execute(refused.encode())
            newer = monitor | {"ROTATE_DATABASE_MONITOR_URL": world.url(f"{name}_monitor", world.password("new"))}
            assert world.run(MONITOR, "_b", "", **newer).exit_code == 0
            assert eye.execute("SELECT 1").fetchone() == (1,), "its connection stays when its password changes"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url)


def test_a_repair_makes_the_exporters_login_again(external: External) -> None:
    monitor = {"ROTATE_DATABASE_MONITOR_URL": external.url(f"{external.owner}_monitor", "eye/secret")}
    assert external.run(PREPARE, "_b", "").exit_code == 0
    try:
        assert external.run(REPAIR, "_b", "", **monitor).exit_code == 0
        psycopg.connect(monitor["ROTATE_DATABASE_MONITOR_URL"]).close()
    finally:
        external.server.execute(f"DROP ROLE IF EXISTS {external.owner}_monitor")


def test_an_administrator_may_not_create_roles(external: External) -> None:
    external.server.execute(f"ALTER ROLE {external.admin} NOCREATEROLE")
    outcome = external.run(PREPARE, "_b", "")
    assert (outcome.exit_code, outcome.error) == (2, "admin_without_rights")
    assert f'ALTER ROLE "{external.admin}" CREATEROLE' in outcome.message


def test_a_name_that_the_server_would_cut_is_refused(external: External) -> None:
    """Both roles that take turns would have the same 63 bytes."""
    long = external.url("s" * 62 + "_b", "x")
    outcome = external.run(PREPARE, "_b", "", ROTATE_DATABASE_NEW_URL=long)
    assert (outcome.exit_code, outcome.error) == (2, "environment_invalid")
    assert "longer than 63 bytes" in outcome.message


def test_a_setting_that_cannot_be_copied_is_named_and_the_others_are_copied(external: External) -> None:
    external.server.execute(f"ALTER ROLE {external.owner} SET transaction_read_only = on")
    external.server.execute(f"ALTER ROLE {external.owner} SET lock_timeout = '3s'")
    external.server.execute(f"ALTER ROLE {external.owner} SET app.tenant = 'it''s \"one\"'")
    outcome = external.run(PREPARE, "_b", "")
    assert "does not get the setting transaction_read_only" in outcome.progress, outcome.message
    assert outcome.exit_code == 0, outcome.message
    assert settings_of(external, "_b")["lock_timeout"] == "3s"
    assert "does not get the setting app.tenant" in outcome.progress, "a superuser set it"


SNAPSHOTS = {
    "before the first rotation": [],
    "of the rotation before": [(PREPARE, "_b", ""), (RETIRE, "_b", ""), (PREPARE, "_a", "_b"), (RETIRE, "_a", "_b")],
}


@pytest.mark.parametrize("retired", [True, False], ids=["retired", "within the overlap"])
@pytest.mark.parametrize("before", SNAPSHOTS)
def test_roles_of_a_snapshot_are_brought_back_in_line(before: str, retired: bool) -> None:
    """The provider restores the whole server, roles and passwords too, as it was before a rotation."""
    with postgres() as server, server.database("shop") as database:
        world = External(server, database)
        for step in SNAPSHOTS[before]:
            assert world.run(*step).exit_code == 0
        new, old = ("_b", "_a") if SNAPSHOTS[before] else ("_b", "")
        snapshot = dump_roles(server)
        changed = {"ROTATE_DATABASE_NEW_URL": world.url(f"{world.owner}{new}", "newest/secret")}
        assert world.run(PREPARE, new, old, **changed).exit_code == 0
        if retired:
            assert world.run(RETIRE, new, old, **changed).exit_code == 0
        restore_roles(server, snapshot)
        assert world.run(TRY, new, old, **changed).result["database"]["old"] == "accepted"
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(changed["ROTATE_DATABASE_NEW_URL"])

        words = [*REPAIR, "--retired"] if retired else REPAIR
        with psycopg.connect(world.url(f"{world.owner}{old}", f"{old}/secret" if old else None)) as stale:
            done = world.run(words, new, old, **changed)
            assert done.exit_code == 0, done.message
            assert (done.result["admitted"], done.result["refused"]) == ([f"{world.owner}{new}"], retired)
            if retired:
                with pytest.raises(psycopg.OperationalError):
                    stale.execute("SELECT 1")
        psycopg.connect(changed["ROTATE_DATABASE_NEW_URL"]).close()
        answer = world.run(TRY, new, old, **changed).result["database"]["old"]
        assert answer == ("refused" if retired else "accepted")
        again = world.run(words, new, old, **changed)
        assert (again.result["admitted"], again.result["refused"]) == ([], False), "nothing is left to repair"


def dump_roles(server: Postgres) -> str:
    command = [BIN / "pg_dumpall", "--roles-only", "-d", server.url()]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def restore_roles(server: Postgres, snapshot: str) -> None:
    """The roles as they were: those that came later are gone."""
    with server.connect() as admin:
        found = admin.execute("SELECT rolname FROM pg_roles WHERE rolname ~ '^shop_.*_[ab]$'").fetchall()
        for (role,) in found:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
        for line in snapshot.splitlines():
            if line.startswith(("CREATE ROLE shop_", "ALTER ROLE shop_", "GRANT shop_")):
                with suppress(psycopg.errors.DuplicateObject):
                    admin.execute(line.encode())


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


def test_a_role_has_the_owners_limit_of_connections(external: External) -> None:
    """One that takes no logins itself (0) stands for no limit."""
    limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = %s"
    for new, old, given, wanted in (("_b", "", 40, 40), ("_a", "_b", -1, -1), ("_b", "_a", 0, -1)):
        external.server.execute(f"ALTER ROLE {external.owner} CONNECTION LIMIT {given}")
        assert external.run(PREPARE, new, old).exit_code == 0
        with external.server.connect() as connection:
            assert connection.execute(limit, [f"{external.owner}{new}"]).fetchall() == [(wanted,)]
        assert external.run(RETIRE, new, old).exit_code == 0


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
