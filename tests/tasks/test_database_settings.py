"""Databases with other encodings than UTF-8, and with settings meant for the application's requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tasks.backup.postgres import Database
from tests.support.restore_world import Shop, new_shop
from tests.support.servers import Postgres

ENCODED = "ENCODING '{}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"


@pytest.fixture(params=["UTF8", "SQL_ASCII", "LATIN1"])
def shop(postgres: Postgres, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with postgres.database() as name:
        postgres.execute(f"DROP DATABASE {name}")
        postgres.execute(f"CREATE DATABASE {name} {ENCODED.format(request.param)}")
        shop = new_shop(postgres, name, tmp_path / "store", tmp_path / "scratch")
        yield shop
        shop.drop_copies()


def test_a_database_of_any_encoding_is_restored_with_its_names(shop: Shop, postgres: Postgres) -> None:
    owner = f"owner_{shop.name}"
    postgres.execute(f"CREATE ROLE {owner}")
    with psycopg.connect(postgres.url(shop.name), autocommit=True, client_encoding="UTF8") as connection:
        connection.execute(f'CREATE TABLE "café" (x text); ALTER TABLE "café" OWNER TO {owner}'.encode())
    backup = shop.back_up()
    postgres.execute(f"REASSIGN OWNED BY {owner} TO postgres; DROP ROLE {owner}", shop.name)
    made = shop.run("restore", "into", "--backup", backup, "--database", f"{shop.name}_new").json
    assert len(shop.orders(made["database"])) == 3
    # Its owner is gone; it is named as it is called.
    assert [named for named in made["left_out"] if "café" in named and owner in named]


@pytest.mark.parametrize("shop", ["SQL_ASCII"], indirect=True)
def test_bytes_of_another_encoding_come_back(shop: Shop, postgres: Postgres) -> None:
    """SQL_ASCII takes any bytes: an old application writes LATIN1 into it."""
    with psycopg.connect(postgres.url(shop.name), autocommit=True, client_encoding="SQL_ASCII") as connection:
        connection.execute(b"INSERT INTO orders (what) VALUES ('th\xe9')")
    backup = shop.back_up()
    for words in (("test-begin",), ("prepare", "--backup", backup), ("swap",), ("finish",)):
        shop.run("restore", *words)
    with psycopg.connect(postgres.url(shop.name), client_encoding="SQL_ASCII") as connection:
        rows = connection.execute("SELECT what FROM orders ORDER BY id").fetchall()
    assert rows == [(b"thyme",), (b"mint",), (b"sage",), (b"th\xe9",)]


SETTINGS = {
    "default_transaction_read_only": "on",
    "datestyle": "German, DMY",
    "client_encoding": "LATIN1",
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("shop", ["UTF8"], indirect=True)
def test_settings_for_requests_do_not_stop_backup_and_restore(shop: Shop, postgres: Postgres, name: str) -> None:
    # A character that LATIN1 has not.
    postgres.execute("CREATE TABLE cost AS SELECT '€' AS of", shop.name)
    postgres.execute(f"ALTER DATABASE {shop.name} SET {name} = {SETTINGS[name]}")
    backup = shop.back_up()
    shop.run("restore", "prepare", "--backup", backup)
    shop.run("restore", "swap")
    shop.run("restore", "finish")
    kept = f"SELECT setconfig[1] FROM pg_db_role_setting WHERE setconfig[1] ILIKE '{name}=%'"  # noqa: S608 - our own
    assert shop.query(kept, "postgres")


LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")


@pytest.mark.parametrize("shop", ["UTF8"], indirect=True)
def test_limits_for_requests_are_not_for_tasks(shop: Shop, postgres: Postgres) -> None:
    """A database of some size is counted, restored and analyzed for longer than a request may take."""
    for name in LIMITS:
        postgres.execute(f"ALTER DATABASE {shop.name} SET {name} = '7s'")
    for unlimited, limit in ((True, "0"), (False, "7s")):
        with Database.at(postgres.url(shop.name)).connect(unlimited=unlimited) as connection:
            found = {name: connection.execute(f"SHOW {name}".encode()).fetchall()[0][0] for name in LIMITS}
        assert found == dict.fromkeys(LIMITS, limit)


@pytest.mark.parametrize("shop", ["UTF8"], indirect=True)
def test_a_view_that_relies_on_the_search_path_has_its_rows(shop: Shop, postgres: Postgres) -> None:
    postgres.execute(
        """
        CREATE FUNCTION sold() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM orders';
        CREATE FUNCTION broken() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1 / (SELECT count(*) FROM away); END';
        CREATE MATERIALIZED VIEW totals AS SELECT sold() AS orders;
        CREATE TABLE away AS SELECT 1; CREATE MATERIALIZED VIEW lost AS SELECT broken(); DROP TABLE away;
        """,
        shop.name,
    )
    made = shop.run("restore", "into", "--backup", shop.back_up(), "--database", f"{shop.name}_new").json
    assert shop.query("SELECT orders FROM totals", made["database"]) == [3]
    assert made["left_out"] == ['MATERIALIZED VIEW DATA public lost postgres: relation "away" does not exist']


@pytest.mark.parametrize("shop", ["UTF8"], indirect=True)
def test_an_index_that_relies_on_the_search_path_is_made(shop: Shop, postgres: Postgres) -> None:
    """A function of an extension is called without its schema: one of the most common reasons why a dump fails."""
    postgres.execute(
        """
        CREATE FUNCTION plain(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';
        CREATE FUNCTION search(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN plain($1); END';
        CREATE UNIQUE INDEX found ON orders (search(what));
        COMMENT ON INDEX found IS 'of the search';
        ALTER TABLE orders CLUSTER ON found;
        CREATE TABLE parts (name text, part int) PARTITION BY LIST (part);
        CREATE TABLE first PARTITION OF parts FOR VALUES IN (1);
        CREATE INDEX ON parts (search(name));
        """,
        shop.name,
    )
    shop.back_up()
    shop.run("restore", "test-begin")
    valid = "SELECT count(*) FROM pg_index WHERE indexrelid::regclass::text ~ 'found|search' AND indisvalid"
    assert shop.query(valid, f"{shop.name}_test") == [3]
    kept = "SELECT obj_description(indexrelid, 'pg_class') FROM pg_index WHERE indisclustered"
    assert shop.query(kept, f"{shop.name}_test") == ["of the search"]


@pytest.mark.parametrize("shop", ["UTF8"], indirect=True)
def test_a_check_that_relies_on_the_search_path_is_named_with_its_remedy(shop: Shop, postgres: Postgres) -> None:
    postgres.execute(
        """
        CREATE FUNCTION known(int) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM orders WHERE id = $1)';
        CREATE TABLE paid (of int CHECK (known(of))); INSERT INTO paid VALUES (1);
        """,
        shop.name,
    )
    shop.back_up()
    failed = shop.run("restore", "test-begin", expect=1)
    assert failed.code == "restore_failed"
    assert "ALTER FUNCTION known SET search_path" in failed.message
    postgres.execute("ALTER FUNCTION known SET search_path = public", shop.name)
    shop.back_up()
    shop.run("restore", "test-begin")


@pytest.mark.parametrize("shop", ["UTF8"], indirect=True)
def test_an_event_trigger_that_forbids_ddl_does_not_stop_a_restore(shop: Shop, postgres: Postgres) -> None:
    shop.back_up()  # makes its own schema
    postgres.execute(
        """
        CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no DDL'; END$$;
        CREATE EVENT TRIGGER forbid ON ddl_command_start EXECUTE FUNCTION forbid();
        """,
        shop.name,
    )
    backup = shop.back_up()
    shop.run("restore", "prepare", "--backup", backup)
    shop.run("restore", "swap")
    shop.run("restore", "finish")
    assert shop.query("SELECT evtname FROM pg_event_trigger") == ["forbid"]
    shop.run("restore", "test-begin", "--backup", backup)


@pytest.mark.parametrize("shop", ["UTF8"], indirect=True)
def test_large_objects_of_another_role_are_named_before_the_dump(shop: Shop, postgres: Postgres) -> None:
    with postgres.role(shop.name) as role:
        postgres.execute(
            f"GRANT CREATE ON DATABASE {shop.name} TO {role}; GRANT pg_read_all_data TO {role};"
            "SELECT lo_from_bytea(4711, 'a'); SELECT lo_from_bytea(4712, 'b'); SELECT lo_from_bytea(4713, 'c');"
            f"GRANT SELECT ON LARGE OBJECT 4712 TO PUBLIC; ALTER LARGE OBJECT 4713 OWNER TO {role}",
            shop.name,
        )
        login = postgres.url(shop.name, role, f"{role}-pw")
        refused = shop.run("backup", "create", "--kind", "manual", expect=1, DATABASE_URL=login)
        assert refused.code == "database_unreadable"
        assert f"GRANT SELECT ON LARGE OBJECT 4711 TO {role}" in refused.message
        assert not {"4712", "4713"} & set(refused.message.split())
        postgres.execute(f"GRANT SELECT ON LARGE OBJECT 4711 TO {role}", shop.name)
        shop.run("backup", "create", "--kind", "manual", DATABASE_URL=login)


def test_a_database_with_the_longest_name_is_restored_in_place(postgres: Postgres, tmp_path: Path) -> None:
    name = f"shop_{'feature_' * 8}"[:63]
    with postgres.database(name):
        shop = new_shop(postgres, name, tmp_path / "store", tmp_path / "scratch")
        backup = shop.back_up()
        postgres.execute("DELETE FROM orders", name)
        for verb in (["prepare", "--backup", backup], ["swap"], ["finish"]):
            shop.run("restore", *verb)
        assert shop.orders() == ["thyme", "mint", "sage"]
        assert shop.phase() == "idle"
