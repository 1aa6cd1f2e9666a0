"""A restore over the live database: every phase, and SIGKILL after everything it does at the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasks.restore import swap_databases
from tasks.sessions import Sessions
from tests.support.restore_world import KILLED, Shop, flip, run

OLD = ["thyme", "mint", "sage"]
NEW = ["mint", "sage", "rue"]
"""The live orders after the backup: one was deleted, one added."""


@pytest.fixture
def backup(shop: Shop) -> str:
    """A backup with the old orders; the live database has the new ones."""
    made = shop.back_up()
    change(shop)
    return made


def change(shop: Shop) -> None:
    shop.server.execute("DELETE FROM orders WHERE what = 'thyme'; INSERT INTO orders (what) VALUES ('rue')", shop.name)


def test_prepare_swap_finish(shop: Shop, backup: str) -> None:
    prepared = shop.run("restore", "prepare", "--backup", backup).json
    assert (prepared["phase"], prepared["backup"]) == ("prepared", backup)
    assert shop.orders() == NEW, "nothing happens to the live database before the swap"
    assert shop.orders(prepared["restored"]) == OLD

    swapped = shop.run("restore", "swap").json
    assert (swapped["phase"], swapped["backup"], swapped["safety"]) == ("swapped", backup, prepared["safety"])
    assert shop.orders() == OLD
    assert shop.orders(swapped["replaced"]) == NEW

    assert shop.run("restore", "finish").json["phase"] == "idle"
    assert shop.databases() == {shop.name}
    assert shop.orders() == OLD

    listed = {row["id"]: row["kind"] for row in shop.run("backup", "list").json}
    assert listed[prepared["safety"]] == "safety"
    shop.run("restore", "into", "--backup", prepared["safety"], "--database", f"{shop.name}_before")
    assert shop.orders(f"{shop.name}_before") == NEW, "the safety backup has what was replaced"


def test_undo_after_swap(shop: Shop, backup: str) -> None:
    shop.swap_in(backup)
    shop.server.execute("INSERT INTO orders (what) VALUES ('since')", shop.name)
    undone = shop.run("restore", "undo").json
    assert undone["phase"] == "undone"
    assert shop.orders() == NEW
    assert shop.orders(undone["undone"]) == [*OLD, "since"], "what was written since the swap is still there"
    assert shop.run("restore", "finish").json["phase"] == "idle"
    assert shop.databases() == {shop.name}


def test_every_verb_twice_is_as_good_as_once(shop: Shop, backup: str) -> None:
    first = shop.run("restore", "prepare", "--backup", backup).json
    again = shop.run("restore", "prepare", "--backup", backup).json
    assert again["restored"] == first["restored"]
    assert again["safety"] != first["safety"], "the safety backup is of now"
    assert shop.run("restore", "swap").json == shop.run("restore", "swap").json
    assert shop.orders() == OLD
    assert shop.run("restore", "undo").json == shop.run("restore", "undo").json
    assert shop.orders() == NEW
    assert shop.run("restore", "finish").json == shop.run("restore", "finish").json


def test_a_verb_out_of_turn_is_refused_and_says_what_to_do(shop: Shop, backup: str) -> None:
    before = shop.databases()
    refused = shop.run("restore", "swap", expect=2)
    assert refused.code == "restore_phase"
    assert "restore prepare" in refused.message
    shop.run("restore", "prepare", "--backup", backup)
    assert shop.run("restore", "finish", expect=2).code == "restore_phase"
    other = shop.back_up()
    assert shop.run("restore", "prepare", "--backup", other, expect=2).code == "restore_phase"
    shop.run("restore", "undo")
    assert shop.databases() == before
    assert shop.orders() == NEW


WRITTEN = {
    "a new row": ("INSERT INTO orders (what) VALUES ('late')", [*NEW, "late"]),
    "a changed row": ("UPDATE orders SET what = 'mint, two' WHERE what = 'mint'", ["mint, two", "sage", "rue"]),
    "a row gone": ("DELETE FROM orders WHERE what = 'mint'", ["sage", "rue"]),
    "a new column": ("ALTER TABLE orders ADD note text", NEW),
    "one for another": (
        "DELETE FROM orders WHERE what = 'rue'; INSERT INTO orders (what) VALUES ('late')",
        ["mint", "sage", "late"],
    ),
}


@pytest.mark.parametrize(("statement", "orders"), WRITTEN.values(), ids=WRITTEN.keys())
def test_what_was_written_after_the_safety_backup_is_kept_and_named(
    shop: Shop, backup: str, statement: str, orders: list[str]
) -> None:
    """No maintenance mode: clients write until the swap."""
    safety = shop.run("restore", "prepare", "--backup", backup).json["safety"]
    shop.server.execute(statement, shop.name)
    shop.run("restore", "swap")
    done = shop.run("restore", "finish").json
    assert done["late_backup"] not in (None, safety)
    assert "public.orders" in " ".join(done["late"])
    assert shop.databases() == {shop.name}
    shop.run("restore", "into", "--backup", done["late_backup"], "--database", f"{shop.name}_late")
    assert sorted(shop.orders(f"{shop.name}_late")) == sorted(orders)


def test_nothing_written_after_the_safety_backup_needs_no_other(shop: Shop, backup: str) -> None:
    shop.swap_in(backup)
    assert shop.run("restore", "finish").json["late_backup"] is None


def test_what_was_written_between_swap_and_undo_is_kept_and_named(shop: Shop, backup: str) -> None:
    shop.swap_in(backup)
    shop.server.execute("INSERT INTO orders (what) VALUES ('since')", shop.name)
    shop.run("restore", "undo")
    late = shop.run("restore", "finish").json["late_backup"]
    assert shop.orders() == NEW
    shop.run("restore", "into", "--backup", late, "--database", f"{shop.name}_late")
    assert shop.orders(f"{shop.name}_late") == [*OLD, "since"]


def test_finish_verifies_the_safety_backup_before_it_drops(shop: Shop, backup: str, tmp_path: Path) -> None:
    safety = shop.run("restore", "prepare", "--backup", backup).json["safety"]
    replaced = shop.run("restore", "swap").json["replaced"]
    dump = tmp_path / "store" / "backups" / safety / f"{safety}.dump"
    flip(dump)
    failed = shop.run("restore", "finish", expect=1)
    assert failed.code == "checksum_mismatch"
    assert dump.name in failed.message
    assert shop.orders(replaced) == NEW


def test_swap_under_traffic(shop: Shop, backup: str) -> None:
    """Clients that reconnect at once get the old or the new database, never none for long, and end on the new one."""
    shop.run("restore", "prepare", "--backup", backup)
    done = threading.Event()
    seen: list[tuple[Any, ...]] = []
    refusals: set[str] = set()

    def client() -> None:
        while not done.is_set():
            try:
                with shop.server.connect(shop.name) as connection:
                    while not done.is_set():
                        seen.append(tuple(row[0] for row in connection.execute("SELECT what FROM orders ORDER BY id")))
            except psycopg.OperationalError as error:
                refusals.add(str(error))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    try:
        shop.run("restore", "swap")
        already = len(seen)
        while len(seen) < already + 20:
            done.wait(0.01)
    finally:
        done.set()
        for each in clients:
            each.join()
    assert set(seen[:1]) <= {tuple(NEW)}
    assert seen[-1] == tuple(OLD)
    assert refusals
    assert not any("not currently accepting connections" in refusal for refusal in refusals)


def test_swap_keeps_owner_privileges_settings_comment_and_limit(shop: Shop) -> None:
    shop.server.execute(
        f"""
        CREATE ROLE "owner of {shop.name}" LOGIN; CREATE ROLE "reader of {shop.name}" LOGIN;
        ALTER DATABASE {shop.name} OWNER TO "owner of {shop.name}";
        REVOKE ALL ON DATABASE {shop.name} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {shop.name} TO "reader of {shop.name}" WITH GRANT OPTION;
        ALTER DATABASE {shop.name} CONNECTION LIMIT 77;
        ALTER DATABASE {shop.name} SET search_path = public, "Odd, name";
        ALTER DATABASE {shop.name} SET my.setting = 'it''s = this';
        ALTER ROLE "reader of {shop.name}" IN DATABASE {shop.name} SET work_mem = '7MB';
        COMMENT ON DATABASE {shop.name} IS 'the shop''s';
        """
    )
    looked_at = """
        SELECT (d.datallowconn, d.datconnlimit, pg_get_userbyid(d.datdba), d.encoding, d.datcollate, d.datctype,
                (SELECT array_agg(a ORDER BY a) FROM unnest(d.datacl::text[]) a),
                (SELECT array_agg((s.setrole, s.setconfig)::text ORDER BY 1) FROM pg_db_role_setting s
                 WHERE s.setdatabase = d.oid),
                shobj_description(d.oid, 'pg_database'))::text
        FROM pg_database d WHERE datname = %s"""
    try:
        backup = shop.back_up()
        before = shop.query(looked_at, "postgres", shop.name)
        assert "Odd, name" in before[0]
        shop.swap_in(backup)
        assert shop.query(looked_at, "postgres", shop.name) == before
        shop.run("restore", "undo")
        assert shop.query(looked_at, "postgres", shop.name) == before
        shop.run("restore", "finish")
    finally:
        shop.drop_copies()
        shop.server.execute(
            f"""ALTER DATABASE {shop.name} OWNER TO postgres; REVOKE ALL ON DATABASE {shop.name}
            FROM "reader of {shop.name}"; DROP OWNED BY "reader of {shop.name}", "owner of {shop.name}";
            DROP ROLE "reader of {shop.name}", "owner of {shop.name}" """
        )


def kill_points(shop: Shop, *words: str, again: Callable[[], object], every: int = 1) -> Iterator[int]:
    """Kill the verb after its 1st, 2nd … act, or after each `every`th; hand each killed moment to the test; until it
    gets through unkilled."""
    for point in range(1, 1000, every):
        done = run(shop.environment, *words, kill_after=point)
        if done.status == 0:
            assert point > 2, "the verb did hardly anything"
            return
        assert done.status == KILLED, done.err
        shop.settle()
        yield point
        again()
    raise AssertionError("it does not end")


def allowed(shop: Shop) -> bool:
    return shop.query("SELECT datallowconn FROM pg_database WHERE datname = %s", "postgres", shop.name) == [True]


def test_swap_killed_anywhere_can_be_continued(shop: Shop, backup: str) -> None:
    def start_over() -> None:
        shop.run("restore", "undo")
        shop.run("restore", "finish")
        shop.run("restore", "prepare", "--backup", backup)

    shop.run("restore", "prepare", "--backup", backup)
    phases: set[str] = set()
    for _point in kill_points(shop, "restore", "swap", again=start_over):
        phase = shop.phase()
        phases.add(phase)
        assert allowed(shop)
        assert shop.orders() == {"prepared": NEW, "swapped": OLD}[phase]
        swapped = shop.run("restore", "swap").json
        assert shop.orders() == OLD
        assert shop.orders(swapped["replaced"]) == NEW
    assert phases == {"prepared", "swapped"}
    assert shop.phase() == "swapped"


def test_swap_killed_anywhere_can_be_undone(shop: Shop, backup: str) -> None:
    def start_over() -> None:
        shop.run("restore", "finish")
        shop.run("restore", "prepare", "--backup", backup)

    shop.run("restore", "prepare", "--backup", backup)
    for _point in kill_points(shop, "restore", "swap", again=start_over):
        assert shop.run("restore", "undo").json["phase"] in ("idle", "undone")
        assert allowed(shop)
        assert shop.orders() == NEW


def test_undo_killed_anywhere_can_be_done_again(shop: Shop, backup: str) -> None:
    def start_over() -> None:
        shop.run("restore", "finish")
        shop.swap_in(backup)

    shop.swap_in(backup)
    for _point in kill_points(shop, "restore", "undo", again=start_over):
        assert allowed(shop)
        assert shop.orders() == {"swapped": OLD, "undone": NEW}[shop.phase()]
        undone = shop.run("restore", "undo").json
        assert shop.orders() == NEW
        assert shop.orders(undone["undone"]) == OLD


def test_prepare_killed_anywhere_can_be_continued_or_undone(shop: Shop, backup: str) -> None:
    phases: set[str] = set()
    for point in kill_points(shop, "restore", "prepare", "--backup", backup, again=lambda: shop.run("restore", "undo")):
        phases.add(shop.phase())
        assert shop.orders() == NEW
        if point % 2:
            prepared = shop.run("restore", "prepare", "--backup", backup).json
            assert prepared["phase"] == "prepared"
            assert shop.orders(prepared["restored"]) == OLD
        else:
            assert shop.run("restore", "undo").json["phase"] == "idle"
            assert shop.databases() == {shop.name}
    assert phases == {"idle", "preparing", "prepared"}


def test_finish_killed_anywhere_can_be_done_again(shop: Shop, backup: str) -> None:
    def swapped() -> None:
        shop.server.execute(
            "DELETE FROM orders; INSERT INTO orders (what) VALUES ('mint'), ('sage'), ('rue')", shop.name
        )
        shop.swap_in(backup)

    swapped()
    phases: set[str] = set()
    for _point in kill_points(shop, "restore", "finish", again=swapped):
        phases.add(shop.phase())
        assert shop.run("restore", "finish").json["phase"] == "idle"
        assert shop.databases() == {shop.name}
        assert shop.orders() == OLD
    assert phases == {"swapped", "idle"}


def test_finish_killed_anywhere_can_be_undone_until_the_drop(shop: Shop, backup: str) -> None:
    def swapped() -> None:
        if shop.phase() == "undone":
            shop.run("restore", "finish")
        shop.swap_in(backup)
        # A late backup is due.
        replaced = shop.run("restore", "state").json["replaced"]
        shop.server.execute("INSERT INTO orders (what) VALUES ('late')", replaced)

    swapped()
    undone = 0
    for _point in kill_points(shop, "restore", "finish", again=swapped, every=4):
        if shop.run("restore", "state").json["replaced"]:
            assert shop.run("restore", "undo").json["phase"] == "undone"
            assert allowed(shop)
            assert shop.orders() == [*NEW, "late"]
            undone += 1
        else:
            shop.run("restore", "finish")
        shop.server.execute(
            "DELETE FROM orders; INSERT INTO orders (what) VALUES ('mint'), ('sage'), ('rue')", shop.name
        )
    assert undone > 3


def test_a_drop_that_outlived_its_command_is_said(shop: Shop, backup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends a killed command's DROP DATABASE while the next command has read that the database is there."""
    shop.swap_in(backup)
    swap = swap_databases.swap_databases

    def after_the_drop(sessions: Sessions, live: str, incoming: str, outgoing: str) -> None:
        shop.server.execute(f"DROP DATABASE {incoming}")
        swap(sessions, live, incoming, outgoing)

    monkeypatch.setattr(swap_databases, "swap_databases", after_the_drop)
    refused = shop.run("restore", "undo", expect=2)
    assert refused.code == "restore_phase"
    assert "`restore state`" in refused.message
    monkeypatch.undo()
    shop.run("restore", "finish")
    assert shop.phase() == "idle"
