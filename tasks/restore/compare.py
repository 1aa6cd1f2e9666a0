"""What was restored against what the manifest promises."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.backup.sqlite import SENTINEL_TABLE

SHOWN = 5
OURS = ("runbook.", f"main.{SENTINEL_TABLE}")
"""The sentinels, which every backup writes: no data of the application."""


def by_root(counts: Mapping[str, int], roots: Mapping[str, str]) -> dict[str, int]:
    """The counts of a manifest that lists partitions by themselves, as every one did before, per root."""
    found: dict[str, int] = {}
    for table, rows in counts.items():
        root = roots.get(table, table)
        found[root] = found.get(root, 0) + rows
    return found


def differences(promised: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """The application's tables with another number of rows, named; the first few and how many more."""
    wrong: list[str] = []
    for table in sorted(promised.keys() | found.keys()):
        if table.startswith(OURS):
            continue
        if table not in found:
            wrong.append(f"{table} is missing")
        elif table not in promised:
            wrong.append(f"{table} is not in the manifest")
        elif promised[table] != found[table]:
            wrong.append(f"{table} has {found[table]} rows, the manifest says {promised[table]}")
    if len(wrong) > SHOWN:
        wrong[SHOWN:] = [f"and {len(wrong) - SHOWN} tables more"]
    return wrong


def built_anew(promised: Mapping[str, int], found: Mapping[str, int]) -> str | None:
    """Most tables of one schema, made a second time in another: what migrations do that start from nothing."""
    before, now = _by_schema(promised), _by_schema(found)
    for schema, tables in before.items():
        for other, there in now.items():
            twice = tables & (there - before.get(other, set())) & now.get(schema, set())
            if other != schema and 2 * len(twice) > len(tables) and (len(twice) > 1 or len(promised) < SHOWN):
                names = ", ".join(sorted(twice)[:SHOWN])
                return f"{names} are in the schemas {schema} and {other}"
    return None


def _by_schema(tables: Mapping[str, int]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name in tables:
        if not name.startswith(OURS):
            schema, _, table = name.partition(".")
            found.setdefault(schema, set()).add(table)
    return found
