"""What was restored against what the manifest promises."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.backup.sqlite import SENTINEL_TABLE

SHOWN = 5
OURS = ("runbook.", f"main.{SENTINEL_TABLE}")
"""The sentinels, which every backup writes: no data of the application."""


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
