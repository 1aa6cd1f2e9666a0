"""Roles, privileges and settings: part of a backup, of a restore test on a server of its own, and of one in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.restore_world import Shop, new_shop
from tests.support.servers import Postgres, postgres

LEVEL = "SELECT max(level) FROM migrations"


@pytest.fixture(scope="module")
def aside() -> Iterator[Postgres]:
    """The server of a restore test: it knows no role of the live one."""
    with postgres() as server:
        yield server


@pytest.fixture
def shop(postgres: Postgres, aside: Postgres, database: str, tmp_path: Path) -> Iterator[Shop]:
    """A shop of a role that owns its database and is no superuser, in a schema `app` that only a setting leads to."""
    shop = new_shop(postgres, database, tmp_path / "store", tmp_path / "scratch")
    role = f"owner_{database}"
    postgres.execute(f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'pw'; ALTER DATABASE {database} OWNER TO {role}")
    postgres.execute(
        f"""
        CREATE SCHEMA app AUTHORIZATION {role};
        CREATE TABLE migrations (level int); INSERT INTO migrations VALUES (1), (7);
        ALTER TABLE migrations SET SCHEMA app; ALTER TABLE orders SET SCHEMA app;
        ALTER TABLE app.migrations OWNER TO {role}; ALTER TABLE app.orders OWNER TO {role};
        ALTER SCHEMA people OWNER TO {role}; ALTER TABLE people.customers OWNER TO {role};
        """,  # noqa: S608 - our own names
        database,
    )
    shop.environment |= {
        "DATABASE_URL": postgres.url(database, role, "pw"),
        "RESTORE_DATABASE_URL": aside.url(f"{database}_test"),
        "SCHEMA_LEVEL_QUERY": LEVEL,
    }
    yield shop
    shop.drop_copies()
    postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")
    postgres.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    aside.execute(f"DROP DATABASE IF EXISTS {database}_test WITH (FORCE)")


def owner(shop: Shop) -> str:
    return f"owner_{shop.name}"


SETTINGS = {
    "of the database": "ALTER DATABASE {name} SET search_path = app, public",
    "of the role in all databases": "ALTER ROLE owner_{name} SET search_path = app, public",
    "of the role in this database": "ALTER ROLE owner_{name} IN DATABASE {name} SET search_path = app, public",
}


def in_place(shop: Shop, backup: str) -> list[str]:
    left_out = shop.run("restore", "prepare", "--backup", backup).json["left_out"]
    shop.run("restore", "swap")
    shop.run("restore", "finish")
    return left_out


def found_by_the_application(shop: Shop) -> list[int]:
    with psycopg.connect(shop.environment["DATABASE_URL"]) as connection:
        return [row[0] for row in connection.execute(LEVEL.encode()).fetchall()]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_setting_that_leads_to_the_tables(shop: Shop, aside: Postgres, setting: str) -> None:
    shop.server.execute(setting.format(name=shop.name))
    made = shop.run("backup", "create", "--kind", "manual").json
    assert made["schema_level"] == 7
    begun = shop.run("restore", "test-begin").json
    assert begun["release_finds"] == {"role": owner(shop), "search_path": "app, public", "schema_level": 7}
    # What the release does, by its URL alone.
    aside.execute("INSERT INTO migrations VALUES (8); CREATE TABLE stock ()", f"{shop.name}_test")
    assert shop.query("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    assert shop.run("restore", "test-conclude").json["result"] == "passed"

    # In place: as it was, also when the setting is lost meanwhile.
    shop.server.execute(setting.replace("SET search_path = app, public", "RESET ALL").format(name=shop.name))
    assert in_place(shop, made["id"]) == []
    assert found_by_the_application(shop) == [7]


def test_a_release_that_does_not_find_its_level_proves_nothing(shop: Shop, aside: Postgres) -> None:
    """What the restore test's URL leads to is asked, not only what was restored."""
    shop.server.execute(SETTINGS["of the database"].format(name=shop.name))
    shop.back_up()
    lost = aside.url(f"{shop.name}_test") + "?options=-csearch_path%3Dpublic"
    failed = shop.run("restore", "test-begin", expect=1, RESTORE_DATABASE_URL=lost)
    assert failed.code == "level_differs"
    assert "schema level 7" in failed.message
    assert shop.newest_test()["result"] == "failed"


def test_a_release_that_makes_its_tables_anew_proves_nothing(shop: Shop, aside: Postgres) -> None:
    shop.server.execute(SETTINGS["of the database"].format(name=shop.name))
    shop.back_up()
    shop.run("restore", "test-begin")
    aside.execute(
        "CREATE TABLE public.migrations (level int); INSERT INTO public.migrations VALUES (7);"
        "CREATE TABLE public.orders ()",
        f"{shop.name}_test",
    )
    failed = shop.run("restore", "test-conclude", expect=1)
    assert failed.code == "level_differs"
    assert "migrations, orders" in failed.message
    assert shop.run("evidence", "verify").json["passed"] == 0
    assert shop.run("restore", "test-conclude", expect=1).code == "not_proven"


def test_grants_owners_and_default_privileges_to_others_survive(shop: Shop, aside: Postgres) -> None:
    name, gone = shop.name, f"gone_{shop.name}"
    reader, team = f"reader_{name}", f"bi team {name}"
    shop.server.execute(
        f'CREATE ROLE {reader}; CREATE ROLE "{team}"; CREATE ROLE {gone}; GRANT CREATE ON DATABASE {name} TO "{team}"'
    )
    shop.server.execute(SETTINGS["of the database"].format(name=name))
    shop.server.execute(
        f"""
        GRANT USAGE ON SCHEMA app TO {reader}; GRANT SELECT ON app.orders TO {reader}, {gone};
        GRANT UPDATE (what) ON app.orders TO {reader};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner(shop)} IN SCHEMA app GRANT SELECT ON TABLES TO {reader};
        CREATE VIEW app.sold AS SELECT * FROM app.orders; ALTER VIEW app.sold OWNER TO "{team}";
        GRANT SELECT ON app.sold TO {reader};
        GRANT CREATE ON SCHEMA app TO "{team}";
        """,  # noqa: S608 - our own names
        name,
    )
    rights = f"""SELECT concat_ws(' ', c.oid::regclass, privilege_type) FROM pg_class c,
        aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE rolname = '{reader}'
        UNION ALL SELECT 'column ' || attname FROM pg_attribute, aclexplode(attacl) a
        JOIN pg_roles r ON r.oid = a.grantee WHERE rolname = '{reader}'
        UNION ALL SELECT 'default ' || privilege_type FROM pg_default_acl, aclexplode(defaclacl) a
        JOIN pg_roles r ON r.oid = a.grantee WHERE rolname = '{reader}' ORDER BY 1"""  # noqa: S608 - our own names
    try:
        before = shop.query(rights)
        assert len(before) == 4
        made = shop.back_up()
        shop.server.execute(f"REVOKE ALL ON app.orders FROM {gone}", name)
        shop.server.execute(f"DROP ROLE {gone}")

        new = shop.run("restore", "into", "--backup", made, "--database", f"{name}_new")
        assert shop.query(rights, f"{name}_new") == before
        named = " ".join(new.json["left_out"])
        assert gone in named
        assert f'OWNER TO "{team}"' in named
        views = "SELECT viewowner FROM pg_views WHERE viewname = 'sold'"
        assert shop.query(views, f"{name}_new") == [owner(shop)]

        shop.server.execute(f'GRANT "{team}" TO {owner(shop)}')
        left_out = in_place(shop, made)
        assert shop.query(rights) == before
        assert shop.query(views) == [team]
        assert gone in " ".join(left_out)
    finally:
        shop.drop_copies()
        shop.server.execute(f'DROP OWNED BY {reader}, "{team}"', name)
        shop.server.execute(f'DROP OWNED BY "{team}"; DROP ROLE {reader}, "{team}"; DROP ROLE IF EXISTS {gone}')


def test_what_only_a_superuser_may_make(shop: Shop, aside: Postgres) -> None:
    shop.server.execute(SETTINGS["of the database"].format(name=shop.name))
    shop.server.execute(
        """
        CREATE SCHEMA tools; CREATE EXTENSION pg_stat_statements SCHEMA tools; CREATE EXTENSION citext;
        COMMENT ON EXTENSION citext IS 'of the superuser';
        CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION noted();
        CREATE PUBLICATION everything FOR ALL TABLES;
        """,
        shop.name,
    )
    made = shop.back_up()
    begun = shop.run("restore", "test-begin").json
    for what in ("pg_stat_statements", "audit", "everything"):
        assert what in " ".join(begun["in_place_needs"]), begun["in_place_needs"]
    test = f"{shop.name}_test"
    with aside.connect(test) as connection:
        assert connection.execute("SELECT evtname FROM pg_event_trigger").fetchall() == [("audit",)]
    assert shop.run("restore", "test-conclude").json["result"] == "passed"
    left_out = in_place(shop, made)
    for what in ("pg_stat_statements", "audit", "everything"):
        assert what in " ".join(left_out), left_out
    assert found_by_the_application(shop) == [7]


def test_the_schema_of_the_url(shop: Shop, aside: Postgres) -> None:
    """Prisma's parameter: its application looks there whatever search_path says."""
    shop.environment["DATABASE_URL"] += "?schema=app"
    made = shop.run("backup", "create", "--kind", "manual").json
    assert made["schema_level"] == 7
    assert made["application"]["schema"] == "app"
    # A release with another URL would migrate an empty schema.
    failed = shop.run("restore", "test-begin", expect=2)
    assert failed.code == "environment_invalid"
    assert "schema=app" in failed.message
    shop.environment["RESTORE_DATABASE_URL"] += "?schema=app"
    begun = shop.run("restore", "test-begin").json
    assert begun["release_finds"]["schema_level"] == 7
    assert shop.run("restore", "test-conclude").json["result"] == "passed"
    assert in_place(shop, made["id"]) == []
    assert shop.run("backup", "create", "--kind", "manual").json["schema_level"] == 7


def test_tables_that_their_owner_may_not_read(shop: Shop) -> None:
    """FORCE ROW LEVEL SECURITY: backups have a login of their own, which restores compare by as well."""
    shop.server.execute(SETTINGS["of the database"].format(name=shop.name))
    shop.server.execute(
        "ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE app.orders FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY paid ON app.orders USING (paid)",
        shop.name,
    )
    login = f"backup_{shop.name}"
    shop.server.execute(f"CREATE ROLE {login} LOGIN BYPASSRLS PASSWORD 'pw'; GRANT pg_read_all_data TO {login}")
    try:
        shop.environment["BACKUP_DATABASE_URL"] = shop.server.url(shop.name, login, "pw")
        made = shop.run("backup", "create", "--kind", "manual").json
        assert made["tables"]["app.orders"] == 3
        assert made["application"]["role"] == owner(shop)
        shop.run("restore", "test-begin")
        assert shop.run("restore", "test-conclude").json["result"] == "passed"
        shop.run("restore", "prepare", "--backup", made["id"])
        shop.server.execute("UPDATE app.orders SET paid = true WHERE what = 'mint'", shop.name)
        shop.run("restore", "swap")
        done = shop.run("restore", "finish").json
        assert "app.orders" in " ".join(done["late"])
        late = shop.run("restore", "into", "--backup", done["late_backup"], "--database", f"{shop.name}_late").json
        assert shop.query("SELECT count(*) FROM app.orders WHERE paid", late["database"]) == [1]
        assert shop.query("SELECT relforcerowsecurity FROM pg_class WHERE relname = 'orders'") == [True]
    finally:
        shop.drop_copies()
        shop.server.execute(f"DROP ROLE {login}")


def _add_foreign_table(shop: Shop, postgres: Postgres) -> None:
    """`people.stock`, made by the owner with an extension that only a superuser may make."""
    wrapper = "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO"
    postgres.execute(f"{wrapper} {owner(shop)}", shop.name)
    with psycopg.connect(shop.environment["DATABASE_URL"]) as connection:
        connection.execute(
            """
            CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '9', dbname 'prices');
            CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (user 'reader', password 'remote');
            CREATE FOREIGN TABLE people.stock (id int) SERVER other;
            """
        )


def test_foreign_tables_of_an_owner_without_superuser(shop: Shop, postgres: Postgres) -> None:
    """The extension is not trusted: a test's superuser makes it; in place it is left out and named, before the swap."""
    _add_foreign_table(shop, postgres)
    with psycopg.connect(shop.environment["DATABASE_URL"]) as connection:
        connection.execute("COMMENT ON COLUMN people.stock.id IS 'of the supplier'")
    backup = shop.back_up()
    needs = " ".join(shop.run("restore", "test-begin").json["in_place_needs"])
    assert "EXTENSION - postgres_fdw" in needs
    made = "SELECT count(*) FROM pg_foreign_table t JOIN pg_class c ON c.oid = ftrelid WHERE relowner = %s::regrole"
    with psycopg.connect(shop.environment["RESTORE_DATABASE_URL"]) as connection:
        assert connection.execute(made, (owner(shop),)).fetchall() == [(1,)]
    prepared = shop.run("restore", "prepare", "--backup", backup).json
    left_out = " ".join(prepared["left_out"])
    for what in ("EXTENSION - postgres_fdw", "SERVER - other", "FOREIGN TABLE people stock"):
        assert what in left_out, left_out
    assert "remote" not in left_out
    shop.run("restore", "swap")
    shop.run("restore", "finish")
    assert shop.query("SELECT count(*) FROM app.orders") == [3]


def test_passwords_for_other_servers_are_in_no_error(shop: Shop, postgres: Postgres) -> None:
    """A view of a foreign table cannot be left out: the restore ends, and its error repeats statements."""
    _add_foreign_table(shop, postgres)
    with psycopg.connect(shop.environment["DATABASE_URL"]) as connection:
        connection.execute("CREATE VIEW people.available AS SELECT id FROM people.stock")
    backup = shop.back_up()
    refused = shop.run("restore", "prepare", "--backup", backup, expect=1)
    assert 'relation "people.stock" does not exist' in refused.message
    assert "USER MAPPING FOR" in refused.message
    for text in (refused.out, refused.err):
        assert "remote" not in text
    assert shop.phase() == "idle"
