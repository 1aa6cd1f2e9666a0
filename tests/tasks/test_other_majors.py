"""Backups between servers of different major versions: real ones, older and newer than our own programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgres_majors import postgres_of
from tests.support.restore_world import new_shop
from tests.support.servers import Postgres


@pytest.mark.parametrize("words", [("test-begin",), ("into", "--database", "new"), ("prepare",)], ids=" ".join)
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
    shop.run("restore", "into", "--backup", backup, "--database", f"{database}_new")
    assert shop.orders(f"{database}_new") == ["thyme", "mint", "sage"]
    shop.drop_copies()


def test_a_server_newer_than_our_programs_is_not_backed_up_by_half(database: str, tmp_path: Path) -> None:
    with postgres_of(16) as newer, newer.database(database):
        shop = new_shop(newer, database, tmp_path / "store", tmp_path / "scratch")
        failed = shop.run("backup", "create", "--kind", "manual", expect=1)
        assert failed.code == "client_older_than_server"
        assert "version 16 or newer" in failed.message
        assert shop.run("backup", "list").json == []
