"""The newest record of restore tests, remembered in the live database: an end that is cut from the store is noticed."""

from __future__ import annotations

from typing import Any

import psycopg

from tasks.backup.postgres import Database
from tasks.backup.sqlite import is_sqlite
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.progress import say
from tasks.restore import evidence
from tasks.store import Store

_MAKE = (
    ("SELECT to_regnamespace('runbook') IS NULL", b"CREATE SCHEMA runbook"),
    (
        "SELECT to_regclass('runbook.evidence_head') IS NULL",
        b"CREATE TABLE runbook.evidence_head (store text PRIMARY KEY, sequence bigint NOT NULL, sha256 text NOT NULL, "
        b"seen_at timestamptz NOT NULL)",
    ),
)
_READ = "SELECT sequence, sha256 FROM runbook.evidence_head WHERE store = %s"
_WRITE = """
INSERT INTO runbook.evidence_head VALUES (%s, %s, %s, clock_timestamp())
ON CONFLICT (store) DO UPDATE SET sequence = excluded.sequence, sha256 = excluded.sha256, seen_at = excluded.seen_at
WHERE evidence_head.sequence < excluded.sequence
"""


def check_end(environment: Environment, store: Store, chain: evidence.Chain) -> None:
    """`evidence_broken` if a record that was seen is gone; remembers the newest. Only where records have a key."""
    if not _applies(environment):
        return
    head = newest_seen(environment, store)
    # One that is older than the oldest that counts has expired.
    expired = head is not None and bool(chain.hashes) and head[0] < min(chain.hashes)
    if head is not None and not expired and chain.hashes.get(head[0]) != head[1]:
        raise TaskError(
            "evidence_broken",
            f"{store.url}: {evidence.evidence_key(head[0])} was there and is gone or replaced: the newest end of the "
            "evidence was cut off. Check who can write to the store. When it is known why, `runbook backup evidence "
            "begin-anew --reason …` begins a new chain (docs/backups.md)",
        )
    if chain.hashes:
        _remember(environment, store, max(chain.hashes.items()))


def newest_seen(environment: Environment, store: Store) -> tuple[int, str] | None:
    """Number and hash of the newest record that was seen of this store."""
    if not _applies(environment):
        return None
    try:
        with _connected(environment) as connection:
            row = connection.execute("SELECT to_regclass('runbook.evidence_head') IS NOT NULL").fetchone()
            found = connection.execute(_READ, (store.url,)).fetchone() if row and row[0] else None
    except psycopg.Error as error:
        say(f"warning: the newest evidence cannot be read from the database: {_why(error)}")
        return None
    return (found[0], found[1]) if found else None


def _remember(environment: Environment, store: Store, newest: tuple[int, str]) -> None:
    try:
        with _connected(environment) as connection:
            for missing, make in _MAKE:
                row = connection.execute(missing.encode()).fetchone()
                if row and row[0]:
                    connection.execute(make)
            connection.execute(_WRITE.encode(), (store.url, *newest))
    except psycopg.Error as error:
        say(f"warning: the newest evidence cannot be remembered in the database: {_why(error)}")


def _applies(environment: Environment) -> bool:
    url = environment.text("DATABASE_URL")
    return bool(environment.text("EVIDENCE_KEY") and url and not is_sqlite(url))


def _connected(environment: Environment) -> psycopg.Connection[Any]:
    return Database.at(environment.values["DATABASE_URL"]).connect("runbook evidence")


def _why(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
