"""Tables whose rows may move on a sound restore, or go while the backup waits: what is compared stays the same."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import psycopg

from tests.support.restore_world import Shop
from tests.support.servers import BIN

BY_ENUM = """
CREATE TYPE state AS ENUM ('new', 'paid', 'packed', 'sent', 'back');
DROP TYPE state;
CREATE TYPE state AS ENUM ('new', 'paid', 'packed', 'sent', 'back');
CREATE TABLE parcels (id int, state state) PARTITION BY HASH (state);
CREATE TABLE parcels_0 PARTITION OF parcels FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE parcels_1 PARTITION OF parcels FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE parcels_2 PARTITION OF parcels FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO parcels SELECT n, s FROM generate_series(1, 100) n, unnest(enum_range(NULL::state)) s;
"""


def test_rows_partitioned_by_the_hash_of_an_enum(shop: Shop) -> None:
    """An enum's hash comes from object ids, which a restore gives anew: the rows change partitions."""
    shop.server.execute(BY_ENUM, shop.name)
    made = shop.run("backup", "create", "--kind", "manual").json
    assert made["tables"]["public.parcels"] == 500
    assert not {name for name in made["tables"] if name.startswith("public.parcels_")}
    shop.run("restore", "test-begin")
    assert shop.run("restore", "test-conclude").json["result"] == "passed"
    shop.swap_in(made["id"])
    shop.run("restore", "finish")
    assert shop.query("SELECT count(*) FROM parcels") == [500]


def test_rows_partitioned_by_a_collation(shop: Shop) -> None:
    """The order of a collation belongs to a library of the server: the dump names the root, which sorts rows anew."""
    shop.server.execute(
        """
        CREATE COLLATION words (provider = icu, locale = 'en');
        CREATE TABLE names (name text COLLATE words) PARTITION BY RANGE (name);
        CREATE TABLE names_low PARTITION OF names FOR VALUES FROM (MINVALUE) TO ('m');
        CREATE TABLE names_high PARTITION OF names FOR VALUES FROM ('m') TO (MAXVALUE);
        INSERT INTO names VALUES ('Ada'), ('alan'), ('Mary'), ('zoe');
        """,
        shop.name,
    )
    made = shop.run("backup", "create", "--kind", "manual").json
    assert made["tables"]["public.names"] == 4
    dump = Path(shop.environment["BACKUP_STORE"].removeprefix("file://")) / "backups" / made["id"]
    # Both partitions' data go through the root, so that another order puts each row where it belongs.
    script = subprocess.run(
        [BIN / "pg_restore", "--data-only", "--file=-", dump / f"{made['id']}.dump"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert script.count("COPY public.names ") == 2
    shop.run("restore", "test-begin", "--jobs", "2")
    assert shop.run("restore", "test-conclude").json["result"] == "passed"


def test_a_backup_of_before_that_lists_partitions(shop: Shop) -> None:
    """Manifests that were written when each partition was listed by itself."""
    shop.server.execute(BY_ENUM, shop.name)
    backup = shop.back_up()
    manifest = Path(shop.environment["BACKUP_STORE"].removeprefix("file://")) / "backups" / backup / "manifest.json"
    text = manifest.read_text()
    counted = '"public.parcels": 500'
    assert counted in text
    parts = '"public.parcels_0": 200, "public.parcels_1": 100, "public.parcels_2": 200'
    manifest.write_text(text.replace(counted, parts))
    shop.run("restore", "test-begin")


def test_a_table_that_is_truncated_while_the_backup_waits_for_it(shop: Shop) -> None:
    """TRUNCATE is seen by snapshots of before: so the locks come first, and then the snapshot."""
    done: dict[str, object] = {}

    def back_up() -> None:
        done["backup"] = shop.run("backup", "create", "--kind", "manual").json

    with shop.server.connect(shop.name) as holder, shop.server.connect(shop.name) as watching:
        with holder.transaction():
            holder.execute("TRUNCATE orders")
            thread = threading.Thread(target=back_up)
            thread.start()
            _await_waiting(watching)
        thread.join()
    made = done["backup"]
    assert isinstance(made, dict)
    assert made["tables"]["public.orders"] == 0
    shop.run("restore", "test-begin")
    assert shop.run("restore", "test-conclude").json["result"] == "passed"


def _await_waiting(connection: psycopg.Connection[object]) -> None:
    waiting = """SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
        AND pid <> pg_backend_pid()"""
    pause = threading.Event()
    for _ in range(1000):
        if connection.execute(waiting).fetchone():
            # What counts rows beside pg_dump has passed this table by now, or waits for it too.
            return
        pause.wait(0.02)
    raise AssertionError("nothing waited for the table")
