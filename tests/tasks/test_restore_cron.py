"""A restore in place beside a live pg_cron: each of its jobs is there once, or what to do is said before anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.restore import cron_jobs
from tests.support.postgres_cron import postgres_with_cron
from tests.support.restore_world import KILLED, Shop, new_shop, run

JOBS = "SELECT to_jsonb(job) FROM cron.job ORDER BY jobid"
NAMES = "SELECT jobname FROM cron.job ORDER BY jobid"
_RUN_SECONDS = 130
"""A job runs at the beginning of each minute."""


@contextmanager
def shop_with_cron(tmp_path: Path, of: str) -> Iterator[Shop]:
    """A shop on a server that runs the jobs of database `of` in sessions of its own."""
    options = ("cron.use_background_workers=on", "max_worker_processes=20")
    with postgres_with_cron(of, *options) as server, server.database("shop"):
        shop = new_shop(server, "shop", tmp_path / "store", tmp_path / "scratch")
        server.execute("CREATE TABLE runs (at timestamptz DEFAULT now(), by int DEFAULT pg_backend_pid())", "shop")
        server.execute("CREATE EXTENSION pg_cron", of)
        yield shop
        shop.drop_copies()


@pytest.fixture
def restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were version 1.6, of which Debian 12 has no package, and whose scheduler starts again by itself."""
    monkeypatch.setattr(cron_jobs, "STARTS_ANEW", (1, 4))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with shop_with_cron(tmp_path, "shop") as shop:
        shop.server.execute(
            """
            CREATE ROLE clerk; GRANT USAGE ON SCHEMA cron TO clerk;
            SELECT cron.schedule('count', '* * * * *', 'INSERT INTO runs DEFAULT VALUES');
            SELECT cron.schedule('gone', '0 3 * * *', 'SELECT 1'); SELECT cron.unschedule('gone');
            SELECT cron.schedule('nightly', '0 4 * * *', 'DELETE FROM orders WHERE false');
            UPDATE cron.job SET active = false WHERE jobname = 'nightly';
            """,
            "shop",
        )
        yield shop


def await_run(shop: Shop) -> None:
    """Until a job has run in the live database; no minute has two runs."""
    before = shop.query("SELECT count(*) FROM runs")[0]
    deadline = time.monotonic() + _RUN_SECONDS
    with shop.server.connect("shop") as connection:
        while True:
            ((runs, minutes),) = connection.execute(
                "SELECT count(*), count(DISTINCT date_trunc('minute', at)) FROM runs"
            ).fetchall()
            assert runs == minutes, "a job ran twice"
            if runs > before:
                return
            assert time.monotonic() < deadline, "the job does not run"
            time.sleep(0.2)


def kept(shop: Shop, before: list[Any]) -> bool:
    """Whether the live database has exactly these jobs, and what else belongs to them."""
    assert shop.query("SELECT has_schema_privilege('clerk', 'cron', 'USAGE')") == [True]
    return shop.query(JOBS) == before


@pytest.mark.usefixtures("restarted")
def test_jobs_of_the_live_database_are_kept(shop: Shop) -> None:
    backup = shop.back_up()
    shop.server.execute("SELECT cron.schedule('later', '0 5 * * *', 'SELECT 2')", "shop")
    before = shop.query(JOBS)
    prepared = shop.run("restore", "prepare", "--backup", backup).json
    assert prepared["left_out"] == ["EXTENSION - pg_cron: the live database keeps it, with its jobs; no copy gets them"]
    shop.run("restore", "swap")
    assert kept(shop, before)
    shop.run("restore", "finish")
    assert kept(shop, before)
    assert shop.query("SELECT cron.schedule('new', '0 6 * * *', 'SELECT 3')") == [max(j["jobid"] for j in before) + 1]


@pytest.mark.usefixtures("restarted")
def test_jobs_are_kept_by_an_undo(shop: Shop) -> None:
    backup = shop.back_up()
    before = shop.query(JOBS)
    for words in (("prepare", "--backup", backup), ("swap",), ("undo",), ("finish",)):
        shop.run("restore", *words)
    assert kept(shop, before)
    assert shop.databases() == {"shop"}


@pytest.mark.usefixtures("restarted")
def test_killed_anywhere_no_job_is_lost_or_doubled(shop: Shop) -> None:
    backup = shop.back_up()
    before = shop.query(JOBS)
    without = 0
    for point in range(1, 100):
        shop.run("restore", "prepare", "--backup", backup)
        done = run(shop.environment, "restore", "swap", kill_after=point)
        shop.settle()
        without += shop.query("SELECT to_regclass('cron.job')::text") == [None]
        # Each way to continue.
        shop.run("restore", *("swap",) if point % 2 or shop.phase() == "prepared" else ("finish",))
        shop.run("restore", "finish")
        assert kept(shop, before), point
        if done.status == 0:
            break
        assert done.status == KILLED
    assert without, "it was never killed between the swap and the jobs"


def test_a_role_that_cannot_move_them_is_refused_before_anything_changes(shop: Shop) -> None:
    shop.server.execute("CREATE ROLE owner LOGIN CREATEDB PASSWORD 'pw'; ALTER DATABASE shop OWNER TO owner")
    shop.server.execute(
        "ALTER TABLE orders OWNER TO owner; ALTER TABLE runs OWNER TO owner; ALTER SCHEMA people OWNER TO owner;"
        "ALTER TABLE people.customers OWNER TO owner; GRANT pg_read_all_data TO owner; GRANT CREATE ON DATABASE shop"
        " TO owner; GRANT USAGE ON SCHEMA cron TO owner",
        "shop",
    )
    backup = shop.back_up()
    shop.environment["DATABASE_URL"] = shop.server.url("shop", "owner", "pw")
    for words in (("state",), ("prepare",)):
        refused = shop.run("restore", *words, "--backup", backup, expect=2)
        assert refused.code == "jobs_in_database"
        assert "cron.schedule_in_database(name, schedule, command, 'shop')" in refused.message
        assert shop.databases() == {"shop"}
        assert len(shop.run("backup", "list").json) == 1
    assert shop.run("restore", "into", "--backup", backup, "--database", "shop_new", "--of-another").status == 0


def test_a_version_that_would_not_run_them_again_is_refused(shop: Shop) -> None:
    """Ended once, its scheduler is away until the server is restarted."""
    backup = shop.back_up()
    refused = shop.run("restore", "prepare", "--backup", backup, expect=2)
    assert refused.code == "jobs_in_database"
    assert "version 1.4-1 does not start again" in refused.message
    assert "count, nightly" in refused.message
    assert "only a superuser" not in refused.message
    await_run(shop)
    shop.server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'pg_cron scheduler'"
    )
    scheduler = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_cron scheduler'"
    assert shop.query(scheduler) == [0]


def test_jobs_that_another_database_has_for_this_one(tmp_path: Path) -> None:
    with shop_with_cron(tmp_path, "postgres") as shop:
        shop.server.execute("CREATE ROLE owner LOGIN CREATEDB PASSWORD 'pw'; ALTER DATABASE shop OWNER TO owner")
        shop.server.execute(
            "ALTER TABLE orders OWNER TO owner; ALTER TABLE runs OWNER TO owner; ALTER SCHEMA people OWNER TO owner;"
            "ALTER TABLE people.customers OWNER TO owner",
            "shop",
        )
        shop.environment["DATABASE_URL"] = shop.server.url("shop", "owner", "pw")
        backup = shop.back_up()
        shop.server.execute(
            "SELECT cron.schedule_in_database('count', '* * * * *', 'INSERT INTO runs DEFAULT VALUES', 'shop')"
        )
        before = shop.query(JOBS, "postgres")
        for words in (("prepare", "--backup", backup), ("swap",), ("finish",)):
            assert shop.run("restore", *words).json["left_out"] == []
        assert shop.query(JOBS, "postgres") == before
        await_run(shop)
