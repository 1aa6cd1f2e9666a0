"""The built-in tasks on a SQLite file: `analyze`, `vacuum-analyze`, `reindex` and `statistics`.

SQLite has one writer at a time: what writes here makes the application's writers wait. So each statement is short, or
does nothing unless it is worth it.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from pathlib import Path

from tasks.errors import TaskError
from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say, size

_ROWS = 1000
"""Rows of an index that ANALYZE looks at: it ends within milliseconds, and its numbers are estimates anyway."""
_TABLES = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
    "AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
)
_SIZES = (
    "SELECT coalesce(s.tbl_name, d.name), coalesce(s.type, 'table'), sum(d.pgsize) FROM dbstat d "
    "LEFT JOIN sqlite_schema s ON s.name = d.name WHERE d.aggregate = TRUE GROUP BY 1, 2"
)
_LARGEST = 20
_MESSAGES = 100
_INDEX = re.compile(r"(?:row \d+ missing from|wrong # of entries in|non-unique entry in) index (.+)")
"""Faults of an index alone, which is built again from its table."""


def analyze(context: Context) -> Outcome:
    """Statistics for the planner, table by table."""
    with context.opened() as connection:
        done, left = _analyze(context, connection)
    say(f"  {done} tables" + (f", {len(left)} left out" if left else ""))
    return Outcome(notes=left, measures={"tables done": float(done), "tables left out": float(len(left))})


def vacuum_analyze(context: Context) -> Outcome:
    """VACUUM, where enough of the file is free and the volume has room for it; then statistics.

    VACUUM writes the file anew: no one else writes meanwhile, and it needs twice the file's size beside it.
    """
    with context.opened() as connection:
        before, free = _file_bytes(connection)
        path = context.database_file
        notes = list[str]()
        if free < context.plan.bloat_bytes or free < context.plan.bloat_ratio * before:
            notes.append(
                f"not vacuumed: {size(free)} of {size(before)} are free, less than maintenanceTasks.bloat asks"
            )
        elif (room := shutil.disk_usage(path.parent).free) < 2 * before:
            notes.append(f"not vacuumed: it needs {size(2 * before)} beside the file, and {size(room)} are free")
        else:
            # The pod's own temporary folder is small.
            os.environ["SQLITE_TMPDIR"] = str(path.parent)
            if context.run(connection, "VACUUM"):
                # In WAL mode, the log has the whole file now.
                context.run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                notes.append(f"not vacuumed: no lock within {context.plan.lock_timeout_seconds:.0f} s")
        after, _ = _file_bytes(connection)
        done, left = _analyze(context, connection)
    say(f"  {size(before)} before, {size(after)} now; {done} tables")
    measures = {"database bytes": float(after), "bytes freed": float(before - after), "tables done": float(done)}
    return Outcome(notes=[*notes, *left], measures=measures)


def reindex(context: Context) -> Outcome:
    """`PRAGMA integrity_check`; an index that does not fit its table is built again. Any other fault fails the task:
    only a backup repairs it."""
    with context.opened() as connection:
        faults = _check(context, connection)
        indexes = sorted({found[1] for text in faults if (found := _INDEX.fullmatch(text))})
        rebuilt = list[str]()
        if faults and all(_INDEX.fullmatch(text) for text in faults):
            for name in indexes:
                if not context.run(connection, f"REINDEX {_quoted(name)}"):
                    raise TaskError("lock_timeout", f"index {name} is not sound, and no lock was free to rebuild it")
                rebuilt.append(f"{name}: was not sound, and is rebuilt")
            faults = _check(context, connection)
    say(f"  integrity_check: {faults[0] if faults else 'ok'}")
    failure = None
    if faults:
        failure = f"integrity_check: {'; '.join(faults[:3])}. `runbook restore start` brings a sound backup back"
    return Outcome(
        notes=rebuilt or ([] if faults else ["integrity_check: ok"]),
        measures={"indexes rebuilt": float(len(rebuilt)), "faults": float(len(faults))},
        failure=failure,
    )


def read_statistics(context: Context) -> Outcome:
    """Sizes of the file, its log, and its largest tables with their indexes."""
    with context.opened() as connection:
        total, free = _file_bytes(connection)
        tables = len(context.ask(connection, _TABLES))
        notes, sizes = list[str](), list[tuple[str, str, int]]()
        try:
            sizes = context.ask(connection, _SIZES)
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            notes.append("sizes of tables are not known: this SQLite has no dbstat")
    log = context.database_file.with_name(f"{context.database_file.name}-wal")
    measures = {
        "database bytes": float(total),
        "free bytes": float(free),
        "log bytes": float(_size_of(log)),
        "free bytes of the volume": float(shutil.disk_usage(context.database_file.parent).free),
        "tables": float(tables),
    }
    by_table: dict[str, dict[str, int]] = {}
    for table, kind, of in sizes:
        by_table.setdefault(table, {"table": 0, "index": 0})["index" if kind == "index" else "table"] += of
    for table, of in sorted(by_table.items(), key=lambda item: -sum(item[1].values()))[:_LARGEST]:
        measures |= {f"{table}: table bytes": float(of["table"]), f"{table}: index bytes": float(of["index"])}
    say(f"  {size(total)}, {tables} tables")
    return Outcome(notes=notes, measures=measures)


def _analyze(context: Context, connection: sqlite3.Connection) -> tuple[int, list[str]]:
    """How many tables are done; which ones are left out, and why."""
    context.run(connection, f"PRAGMA analysis_limit = {_ROWS}")
    done, left = 0, list[str]()
    for (name,) in context.ask(connection, _TABLES):
        if context.run(connection, f"ANALYZE {_quoted(name)}"):
            done += 1
        else:
            left.append(f"{name}: no lock within {context.plan.lock_timeout_seconds:.0f} s")
    return done, left


def _check(context: Context, connection: sqlite3.Connection) -> list[str]:
    found = [text for (text,) in context.ask(connection, f"PRAGMA integrity_check({_MESSAGES})")]
    return [] if found == ["ok"] else found


def _file_bytes(connection: sqlite3.Connection) -> tuple[int, int]:
    """Of the file, and what is free in it."""
    pages, free, of = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return pages * of, free * of


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
