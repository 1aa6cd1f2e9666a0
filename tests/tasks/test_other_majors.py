"""Backups between servers of different major versions: real ones, older and newer than our own programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.backup.postgres import program_version
from tests.support.postgres_majors import HAS_CLIENTS, clients, postgres_17, postgres_of
from tests.support.restore_world import new_shop
from tests.support.servers import Postgres


@pytest.mark.parametrize(
    "words", [("test-begin",), ("into", "--of-another", "--database", "new"), ("prepare", "--of-another")], ids=" ".join
)
def test_a_dump_of_a_newer_server_is_not_restored_into_an_older_one(
    postgres: Postgres, database: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    shop = new_shop(postgres, database, tmp_path / "store", tmp_path / "scratch")
    backup = shop.back_up()
    with postgres_of(14) as older, older.database(database):
        shop.environment |= {
            "DATABASE_URL": older.url(database),
            "RESTORE_DATABASE_URL": older.url(f"{database}_test"),
        }
        failed = shop.run("restore", words[0], "--backup", backup, *words[1:], expect=2)
        shop.server = older
        assert failed.code == "server_older_than_dump"
        assert "version 15 or newer" in failed.message
        assert shop.databases() == {database}


def test_a_dump_of_an_older_server_is_restored_into_a_newer_one(
    postgres: Postgres, database: str, tmp_path: Path
) -> None:
    with postgres_of(14) as older, older.database(database):
        shop = new_shop(older, database, tmp_path / "store", tmp_path / "scratch")
        backup = shop.back_up()
    shop.environment["DATABASE_URL"] = postgres.url(database)
    shop.server = postgres
    shop.run("restore", "into", "--backup", backup, "--of-another", "--database", f"{database}_new")
    assert shop.orders(f"{database}_new") == ["thyme", "mint", "sage"]
    shop.drop_copies()


needs_17 = pytest.mark.skipif(not HAS_CLIENTS, reason="there are no programs of version 17 for this machine")


@needs_17
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_programs_newer_than_the_server(database: str, tmp_path: Path, jobs: str) -> None:
    """pg_restore 17 sets transaction_timeout, which no server before 17 knows."""
    with postgres_of(16) as older, older.database(database):
        shop = new_shop(older, database, tmp_path / "store", tmp_path / "scratch")
        shop.environment["PATH"] = f"{clients()}:{os.defpath}"
        made = shop.run("backup", "create", "--kind", "manual").json
        assert made["tools"]["pg_dump"].startswith("17.")
        shop.run("restore", "test-begin", "--jobs", jobs)
        assert shop.run("restore", "test-conclude").json["result"] == "passed"
        older.execute("DELETE FROM orders", database)
        shop.swap_in(made["id"], "--jobs", jobs)
        shop.run("restore", "finish")
        assert shop.orders() == ["thyme", "mint", "sage"]


@needs_17
def test_the_programs_closest_to_the_server_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{clients()}:{os.defpath}")
    assert [program_version("pg_dump", server).split(".")[0] for server in ("14.1", "15.2", "16.3", "17.4")] == [
        *("15", "15", "17", "17")
    ]
    assert program_version("pg_dump", "18.1").startswith("17."), "older than the server, which a backup refuses"
    # What 17 has written, 15 cannot read: the server's own version does not help then.
    assert program_version("pg_restore", "15.2", least=17).startswith("17.")


def test_a_dump_of_newer_programs_is_refused_by_older_ones(postgres: Postgres, database: str, tmp_path: Path) -> None:
    shop = new_shop(postgres, database, tmp_path / "store", tmp_path / "scratch")
    backup = shop.back_up()
    manifest = tmp_path / "store" / "backups" / backup / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"pg_dump": "15.', '"pg_dump": "17.'))
    failed = shop.run("restore", "test-begin", expect=2)
    assert failed.code == "server_older_than_dump"
    assert "version 17 or newer" in failed.message


def test_a_server_newer_than_our_programs_is_not_backed_up_by_half(database: str, tmp_path: Path) -> None:
    with postgres_of(16) as newer, newer.database(database):
        shop = new_shop(newer, database, tmp_path / "store", tmp_path / "scratch")
        failed = shop.run("backup", "create", "--kind", "manual", expect=1)
        assert failed.code == "client_older_than_server"
        assert "version 16 or newer" in failed.message
        assert shop.run("backup", "list").json == []


@needs_17
@pytest.mark.parametrize("major", [14, 16, 17])
def test_roles_and_settings_of_every_version(database: str, tmp_path: Path, major: int) -> None:
    """A plain owner, who reaches its tables by a setting and by a membership: what scripts say of these has changed."""
    server_of = postgres_17 if major == 17 else lambda: postgres_of(major)
    with server_of() as live, server_of() as aside, live.database(database):
        shop = new_shop(live, database, tmp_path / "store", tmp_path / "scratch")
        live.execute(
            f"CREATE ROLE team; CREATE ROLE login LOGIN CREATEDB PASSWORD 'pw' IN ROLE team; CREATE ROLE reader;"
            f"ALTER ROLE login SET role = team; ALTER DATABASE {database} OWNER TO team;"
            f"ALTER DATABASE {database} SET search_path = app; ALTER ROLE login SET statement_timeout = '70s'"
        )
        live.execute(
            "CREATE SCHEMA app AUTHORIZATION team; ALTER TABLE public.orders SET SCHEMA app;"
            "ALTER TABLE app.orders OWNER TO team; ALTER SCHEMA people OWNER TO team;"
            "ALTER TABLE people.customers OWNER TO team; GRANT SELECT ON app.orders TO reader",
            database,
        )
        shop.environment |= {
            "PATH": f"{clients()}:{os.defpath}",
            "DATABASE_URL": live.url(database, "login", "pw"),
            "RESTORE_DATABASE_URL": aside.url(f"{database}_test"),
            "SCHEMA_LEVEL_QUERY": "SELECT max(id) FROM orders",
        }
        made = shop.run("backup", "create", "--kind", "manual").json
        assert (made["application"]["login"], made["application"]["role"]) == ("login", "team")
        begun = shop.run("restore", "test-begin").json
        assert begun["release_finds"] == {"role": "team", "search_path": "app", "schema_level": 3}
        # It acts as the team, which has not the right that the login has.
        assert ["ALTER ROLE team CREATEDB" in one for one in begun["in_place_needs"]] == [True]
        with aside.connect(f"{database}_test") as connection:
            assert connection.execute("SHOW statement_timeout").fetchone() == ("70s",)
        assert shop.run("restore", "test-conclude").json["result"] == "passed"
        assert "CREATEDB" in shop.run("restore", "prepare", "--backup", made["id"], expect=1).message
        live.execute("ALTER ROLE team CREATEDB")
        prepared = shop.run("restore", "prepare", "--backup", made["id"]).json
        assert prepared["left_out"] == []
        shop.run("restore", "swap")
        assert shop.run("restore", "finish").json["late_backup"] is None
        granted = "SELECT has_table_privilege('reader', 'app.orders', 'SELECT')"
        assert shop.query(granted) == [True]
