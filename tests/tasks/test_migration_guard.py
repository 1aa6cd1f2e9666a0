"""R2: what runs beside a release's migration keeps backups away, and does not let customers wait behind it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest

from tasks.backup.postgres_source import LOCK
from tests.support.servers import Postgres
from tests.support.task_processes import Outcome, ended, start

QUERY = "SELECT max(level) FROM levels"


@pytest.fixture
def settings(postgres: Postgres, database: str) -> dict[str, str]:
    with postgres.connect(database) as connection:
        connection.execute("CREATE TABLE levels (level int)")
        connection.execute("INSERT INTO levels VALUES (1)")
        connection.execute("CREATE TABLE products (id int)")
    return {"DATABASE_URL": postgres.url(database), "SCHEMA_LEVEL_QUERY": QUERY}


def connect(settings: dict[str, str], name: str = "") -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(settings["DATABASE_URL"], autocommit=True, application_name=name)


@contextmanager
def guard(settings: dict[str, str], ready: Path, *, level: int = 2, lock_seconds: int = 1) -> Iterator[list[Outcome]]:
    """Runs until the block ends; its outcome is in the list then."""
    words = ["--level", str(level), "--lock-seconds", str(lock_seconds), "--ready", str(ready)]
    process = start(settings, "backup", "guard-migration", *words)
    outcomes: list[Outcome] = []
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "backup" in said, said
        yield outcomes
    finally:
        process.send_signal(signal.SIGTERM)
        outcomes.append(ended(process, settings))


def test_no_backup_begins_while_a_release_migrates(settings: dict[str, str], tmp_path: Path) -> None:
    with guard(settings, tmp_path / "ready") as outcomes, connect(settings) as other:
        assert other.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() == (False,)
    assert outcomes[0].exit_code == 0, outcomes[0].progress


def test_backups_may_run_while_there_is_nothing_to_migrate(settings: dict[str, str], tmp_path: Path) -> None:
    with guard(settings, tmp_path / "ready", level=1) as outcomes, connect(settings) as other:
        assert other.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone() == (True,)
    assert outcomes[0].exit_code == 0


def test_a_migration_waits_for_the_backup_that_runs(settings: dict[str, str], tmp_path: Path) -> None:
    patient = {**settings, "BACKUP_WAIT_SECONDS": "60"}
    ready = tmp_path / "ready"
    words = ["--level", "2", "--lock-seconds", "1", "--ready", str(ready)]
    with connect(settings) as backup:
        backup.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        process = start(patient, "backup", "guard-migration", *words)
        assert process.stderr is not None
        assert "another backup of" in process.stderr.readline()
        assert not ready.exists()
    assert "no backup begins" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert ended(process, patient).exit_code == 0


def test_a_migration_that_waits_for_a_lock_is_cancelled_and_names_who_held_it(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with guard(settings, tmp_path / "ready") as outcomes, connect(settings, "a report") as report:
        report.execute("BEGIN")
        report.execute("LOCK TABLE products IN ACCESS SHARE MODE")
        with connect(settings) as migration, pytest.raises(psycopg.errors.QueryCanceled):
            migration.execute("ALTER TABLE products ADD COLUMN price int")
        pid = report.info.backend_pid
    assert (outcomes[0].exit_code, outcomes[0].error) == (1, "migration_locked")
    assert "1 s for a lock on products" in outcomes[0].message
    assert f"pid {pid} (a report of " in outcomes[0].message
    assert "idle in transaction" in outcomes[0].message


def ended_by_its_own_timeout() -> AbstractContextManager[object]:
    return pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout")


def test_what_blocks_no_client_may_wait(settings: dict[str, str], tmp_path: Path) -> None:
    """A row's lock, an index that is built beside the traffic, and a timeout that is switched off."""
    with connect(settings) as other, connect(settings) as session:
        other.execute("BEGIN")
        other.execute("UPDATE levels SET level = 1")
        session.execute("SET statement_timeout = '3s'")
        for statement in ("UPDATE levels SET level = 1", "CREATE INDEX CONCURRENTLY ON levels (level)"):
            with guard(settings, tmp_path / "ready") as outcomes, ended_by_its_own_timeout():
                session.execute(statement)
            assert outcomes[0].exit_code == 0, statement
        with guard(settings, tmp_path / "ready", lock_seconds=0) as outcomes, ended_by_its_own_timeout():
            session.execute("ALTER TABLE levels ADD COLUMN name text")
        assert outcomes[0].exit_code == 0


def test_a_database_that_is_away_fails_the_migration_itself(tmp_path: Path) -> None:
    away = {"DATABASE_URL": "postgresql://shop:secret@127.0.0.1:1/shop?connect_timeout=1"}
    words = ["--level", "2", "--lock-seconds", "1", "--ready", str(tmp_path / "ready")]
    done = ended(start(away, "backup", "guard-migration", *words), away)
    assert (done.exit_code, done.error) == (1, "database_unreachable")
    assert (tmp_path / "ready").exists()
