"""R1, R2: a release is not blamed for what others do in the database meanwhile, and customers do not wait for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.traffic import Traffic
from tests.cluster.test_release import FAILED_AND_ROLLED_BACK, serving
from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import eventually

pytestmark = pytest.mark.drill
"""Four minutes on two busy cores."""
BACKUPS = True
WITHOUT_PROOF = ("--without-proof", "a test of something else")
LOCK = "x'52756E626F6F6B'::bigint"
"""What a backup holds while it runs (tasks/backup/postgres_source.py)."""


@contextmanager
def session(stack: Stack, name: str, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """A session of the database that has done the first statements and does the last one, until the block ends."""
    psql = ["psql", "--username=shop", "--dbname=shop", "--quiet", "-v", "ON_ERROR_STOP=1"]
    named = ["env", f"PGAPPNAME={name}", *psql]
    command = ["kubectl", "--namespace", stack.namespace, "exec", "--stdin", "postgres-0", "--", *named]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert running.stdin
    running.stdin.write(";\n".join([*statements, ""]))
    running.stdin.close()
    try:
        busy = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}' AND query LIKE '%pg_sleep%'"  # noqa: S608 (a name of this test)
        eventually(lambda: stack.sql(busy) == "1")
        yield running
    finally:
        stack.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'")  # noqa: S608 (a name of this test)
        running.wait(timeout=30)


def test_a_migration_that_waits_for_a_lock_is_cancelled_and_the_release_is_innocent(
    stack: Stack, images: dict[str, str]
) -> None:
    """R2: a report reads the table that the migration changes."""
    before = stack.release
    report = ("BEGIN", "LOCK TABLE products IN ACCESS SHARE MODE", "SELECT pg_sleep(300)")
    with session(stack, "a-report", *report), Traffic(stack.url) as traffic:
        failed = stack.runbook("deploy", images["shop:v2"], "--yes", *WITHOUT_PROOF)
    assert failed.code == FAILED_AND_ROLLED_BACK, failed.text
    assert "a-report" in failed.text, "it says who held the lock"
    assert traffic.failures == []
    assert stack.release["image"] == before["image"]
    assert "runbook:quarantine" not in stack.config
    assert serving(stack) == before["git"]


def test_a_release_waits_for_a_backup_that_runs(stack: Stack, images: dict[str, str]) -> None:
    """R1: it has to make its own first."""
    with session(stack, "a-backup", f"SELECT pg_advisory_lock({LOCK})", "SELECT pg_sleep(20)"):
        stack.runbook("deploy", images["shop:v2"], "--yes", *WITHOUT_PROOF).check()
    assert stack.release["image"] == images["shop:v2"]
    assert serving(stack) == stack.release["git"]
    assert stack.changes() == {}
