"""Administrator accounts: a query of the application's database names them and what second factor each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from tasks.backup.postgres import Database, url_schema
from tasks.go_live.line import Line
from tasks.reach import NotThere

_SHOWN = 5


def check_administrators(line: Line, settings: Mapping[str, Any]) -> None:
    line.variables(["DATABASE_URL"])
    line.step("second factor", lambda: _ask(line, settings["query"], settings["least"]))


def _ask(line: Line, query: str, least: int) -> str:
    url = line.environment.required("DATABASE_URL", "postgresql://user:password@host:5432/database")
    with Database.at(url).connect("runbook-go-live") as connection:
        connection.execute("BEGIN READ ONLY")
        connection.execute("SET LOCAL statement_timeout = '30s'")
        if schema := url_schema(url):
            connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
        rows = connection.execute(query.encode()).fetchall()
        connection.execute("ROLLBACK")
    if rows and len(rows[0]) < 2:
        raise NotThere("the query has one column; the first is the account, each other one a second factor")
    if len(rows) < least:
        raise NotThere(f"the query finds {len(rows)} accounts, and at least {least} are wanted")
    # The values themselves may be secrets of a TOTP: only whether there is one is looked at.
    if without := [str(row[0]) for row in rows if not any(row[1:])]:
        more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        raise NotThere(f"{len(without)} of {len(rows)} have no second factor: {', '.join(without[:_SHOWN])}{more}")
    return f"{len(rows)} accounts, each with a second factor"
