"""Logical replication into and out of the live database, which does not follow its name to a restored one.

A subscription writes into the database that has it, whatever its name, and a slot reads from it. After a restore in
place both would go on with the replaced database, which can then not be dropped, and the restored one has neither.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from tasks.errors import Refused

_SUBSCRIPTIONS = """
SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database() ORDER BY 1
"""
_SLOTS = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() AND NOT temporary ORDER BY 1"


def require_none(connection: Connection[Any], live: str) -> None:
    """Refuse where the live database has subscriptions or logical slots: what to drop, and what to make afterwards."""
    what: list[str] = []
    first: list[str] = []
    afterwards: list[str] = []
    if subscriptions := [name for (name,) in connection.execute(_SUBSCRIPTIONS).fetchall()]:
        what.append(f"subscriptions ({', '.join(subscriptions)})")
        for name in (sql.Identifier(name).as_string(connection) for name in subscriptions):
            first += [f"ALTER SUBSCRIPTION {name} DISABLE", f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)"]
            first.append(f"DROP SUBSCRIPTION {name}")
        afterwards.append(
            "CREATE SUBSCRIPTION … WITH (create_slot = false, slot_name = …) with the publisher's old slot"
        )
    if slots := [name for (name,) in connection.execute(_SLOTS).fetchall()]:
        what.append(f"logical replication slots ({', '.join(slots)})")
        drops = (sql.SQL("SELECT pg_drop_replication_slot({})").format(name) for name in map(sql.Literal, slots))
        first += [drop.as_string(connection) for drop in drops]
        afterwards.append("make the slots again, and give their clients a new snapshot")
    if what:
        raise Refused(
            "replication_in_database",
            f"{live} has {' and '.join(what)}, which would go on with the replaced database after a restore in place. "
            f"Nothing was changed. Stop the clients of the slots, if any, and run in {live}: {'; '.join(first)}. "
            f"After the restore: {'; '.join(afterwards)}. A restore beside it (`restore into`) needs none of this",
        )
