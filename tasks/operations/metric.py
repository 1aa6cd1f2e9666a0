"""A business metric: the settings' SQL, in a read-only transaction, as points of equal width."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from tasks.errors import Refused
from tasks.operations.database import reading

_PARAMETERS = {"since": "timestamptz", "until": "timestamptz", "step": "interval"}
# A comment, a string, a quoted name or a cast stays as it is.
_PARTS = re.compile(
    r"--[^\n]*|/\*.*?\*/|(?P<tag>\$\w*\$).*?(?P=tag)|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"[^\"]*\"|::"
    r"|:(?P<name>since|until|step)\b|%",
    re.DOTALL,
)
_MOST_ROWS = 20_000


def bind(query: str) -> str:
    """The query with psycopg's placeholders for `:since`, `:until` and `:step`."""

    def replace(found: re.Match[str]) -> str:
        if name := found["name"]:
            return f"%({name})s::{_PARAMETERS[name]}"
        return found[0].replace("%", "%%")

    return _PARTS.sub(replace, query.strip().rstrip(";"))


def read_metric(url: str, query: str, *, since: datetime, until: datetime, points: int, seconds: int) -> dict[str, Any]:
    """`columns` (name → one number for each point) and `times`, when each point begins."""
    step = timedelta(seconds=max(1, math.ceil((until - since).total_seconds() / points)))
    given = {"since": since, "until": until, "step": step}
    with reading(url, seconds) as connection:
        try:
            cursor = connection.execute(bind(query).encode(), given)
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error as error:
            why = error.diag.message_primary or type(error).__name__
            raise Refused("query_invalid", f"PostgreSQL refuses the query: {why}") from None
        names = [column.name for column in cursor.description or ()]
        if len(names) < 2:
            found = f"it has {', '.join(names) or 'none'}"
            raise Refused("query_invalid", f"the query's columns have to be a time and one number or more; {found}")
        rows = cursor.fetchmany(_MOST_ROWS + 1)
    if len(rows) > _MOST_ROWS:
        raise Refused("query_invalid", f"more than {_MOST_ROWS} rows: group them by date_bin(:step, …)")
    return _spread(rows, names, since, until, step)


def _spread(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], since: datetime, until: datetime, step: timedelta
) -> dict[str, Any]:
    """Rows into points: several of one point add up, a point without a row is None."""
    count = max(1, math.ceil((until - since) / step))
    columns: dict[str, list[float | None]] = {name: [None] * count for name in names[1:]}
    for row in rows:
        place = int((_moment(row[names[0]], names[0]) - since) / step)
        if not 0 <= place < count:
            continue
        for name, points in columns.items():
            if row[name] is not None:
                points[place] = (points[place] or 0) + _number(row[name], name)
    return {
        "since": since.isoformat(timespec="seconds"),
        "until": until.isoformat(timespec="seconds"),
        "stepSeconds": int(step.total_seconds()),
        "times": [(since + place * step).isoformat(timespec="seconds") for place in range(count)],
        "columns": columns,
    }


def _moment(value: Any, name: str) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    raise Refused("query_invalid", f"the first column, {name}, has to be a time; it has {type(value).__name__}")


def _number(value: Any, name: str) -> float:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return float(value)
    raise Refused("query_invalid", f"the column {name} has to be a number; it has {type(value).__name__}")
