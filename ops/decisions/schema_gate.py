"""Whether a release can serve on the schema level of the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ops.errors import Refused
from ops.stack.history import Entry
from settings import Release, SchemaRange


@dataclass(frozen=True)
class Database:
    """The schema level of the database; a range when no pod can report it and the history leaves it open."""

    low: int
    high: int
    source: Literal["measured", "recorded", "empty"]

    def __str__(self) -> str:
        level = str(self.low) if self.low == self.high else f"{self.low} or {self.high}"
        return level if self.source == "measured" else f"{level} ({self.source})"


def exact_database(level: int) -> Database:
    return Database(level, level, "measured")


def recorded_database(history: Iterable[Entry]) -> Database:
    """From the history, when no pod can report it: the level of the last good deploy, or of a later
    failed one whose migrations may have run."""
    high = 0
    for entry in history:
        if entry.kind == "destroy" and entry.result == "succeeded" and entry.bundled_database:
            break
        release = entry.release
        if entry.kind != "update" or release is None or not release.migrate:
            continue
        high = max(high, release.schema_.level)
        if entry.succeeded:
            return Database(release.schema_.level, high, "recorded")
    return Database(0, high, "recorded" if high else "empty")


@dataclass(frozen=True)
class Block:
    """Why the schema gate refuses; `restore` says that only an older database would help."""

    code: Literal["database_ahead", "database_behind", "running_cannot_serve"]
    why: str
    then: str
    database: Database
    schema: SchemaRange
    restore: bool = False

    def refusal(self) -> Refused:
        return Refused(f"{self.why}\n{self.then}")


def deploy_gate(
    new: SchemaRange, running: Release | None, database: Database, *, allow_downtime: bool = False
) -> Block | None:
    """Whether the release can serve on the database as it will be, and the old one while it is replaced."""
    if database.high > new.max:
        return Block(
            "database_ahead",
            f"The database is at schema level {database}, but this release serves only levels {_range(new)}.",
            f"Build the release with the migrations up to level {database.high}, or deploy a newer one.",
            database,
            new,
            restore=True,
        )
    after = max(database.high, new.level)
    if running and after > running.schema_.max and not allow_downtime:
        return Block(
            "running_cannot_serve",
            f"This release brings the database from schema level {database} to {after}, but the running "
            f"revision {running.revision} serves only levels {_range(running.schema_)}: it would "
            "fail during the rollout.",
            "Expand first, contract later: deploy a release whose range includes both levels, then this one. "
            "Or accept errors until the new version serves: --allow-downtime.",
            database,
            running.schema_,
        )
    return None


def rollback_gate(target: Release, database: Database) -> Block | None:
    """Whether the older release can serve on the database as it is: a rollback runs no migrations."""
    serves = target.schema_
    if database.high > serves.max:
        return Block(
            "database_ahead",
            f"Revision {target.revision} serves schema levels {_range(serves)}, but the database is at level "
            f"{database}: migration {serves.max + 1} cannot be undone by running the older code.",
            f"Deploy a new release that works on level {database.high}, or choose a revision whose range includes it "
            "(`runbook history`), or also restore the earlier data: --restore-database.",
            database,
            serves,
            restore=True,
        )
    if database.low < serves.min:
        return Block(
            "database_behind",
            f"Revision {target.revision} serves schema levels {_range(serves)}, but the database is only at "
            f"level {database}, and a rollback runs no migrations.",
            f"Deploy its image again, with its migrations: `runbook deploy {target.image}`.",
            database,
            serves,
        )
    return None


def _range(schema: SchemaRange) -> str:
    return str(schema.min) if schema.min == schema.max else f"{schema.min} to {schema.max}"
