"""What acts by itself does not act in a restored copy: jobs, subscriptions, other servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres_cron import postgres_with_cron
from tests.support.restore_world import Shop, new_shop
from tests.support.servers import Postgres, postgres


@pytest.fixture(scope="module")
def publisher() -> Iterator[Postgres]:
    with postgres("-c", "wal_level=logical") as server:
        yield server


def test_a_subscription_stays_with_the_live_database(shop: Shop, publisher: Postgres) -> None:
    publisher.execute("CREATE TABLE prices (id int PRIMARY KEY); CREATE PUBLICATION prices FOR TABLE prices")
    shop.server.execute("CREATE TABLE prices (id int PRIMARY KEY)", shop.name)
    url = publisher.url().replace("'", "")
    shop.server.execute(f"CREATE SUBSCRIPTION prices_of_{shop.name} CONNECTION '{url}' PUBLICATION prices", shop.name)
    shop.server.execute(f"COMMENT ON SUBSCRIPTION prices_of_{shop.name} IS 'of the supplier'", shop.name)
    try:
        backup = shop.back_up()
        begun = shop.run("restore", "test-begin").json
        into = shop.run("restore", "into", "--backup", backup, "--database", f"{shop.name}_new").json
        for left_out in (begun["in_place_needs"], into["left_out"]):
            assert f"SUBSCRIPTION - prices_of_{shop.name}" in " ".join(left_out)
        count = "SELECT datname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid"
        assert shop.query(count, "postgres") == [shop.name]
        shop.run("restore", "test-begin")  # the one before can be dropped
        _require_refused(shop, backup, f"subscriptions (prices_of_{shop.name})")
    finally:
        shop.server.execute(f"DROP SUBSCRIPTION prices_of_{shop.name}", shop.name)
    shop.swap_in(backup)
    shop.run("restore", "finish")


def test_a_slot_stays_with_the_live_database(tmp_path: Path, publisher: Postgres) -> None:
    """Of a program that captures changes, such as Debezium."""
    with publisher.database("captured"):
        shop = new_shop(publisher, "captured", tmp_path / "store", tmp_path / "scratch")
        publisher.execute("SELECT pg_create_logical_replication_slot('orders_s', 'pgoutput')", "captured")
        try:
            backup = shop.back_up()
            _require_refused(shop, backup, "logical replication slots (orders_s)")
        finally:
            publisher.execute("SELECT pg_drop_replication_slot('orders_s')", "captured")
        shop.swap_in(backup)
        shop.run("restore", "finish")


def test_a_prepared_transaction_is_named(tmp_path: Path) -> None:
    """It has no session that could be ended, and what it wrote may still be committed."""
    with postgres("-c", "max_prepared_transactions=5") as server, server.database("payments"):
        shop = new_shop(server, "payments", tmp_path / "store", tmp_path / "scratch")
        backup = shop.back_up()
        shop.run("restore", "prepare", "--backup", backup)
        server.execute("BEGIN; UPDATE orders SET paid = true; PREPARE TRANSACTION 'bank''s'", "payments")
        stopped = shop.run("restore", "swap", expect=1)
        assert stopped.code == "database_in_use"
        assert "in payments, COMMIT PREPARED 'bank''s', or ROLLBACK PREPARED" in stopped.message
        server.execute("COMMIT PREPARED 'bank''s'", "payments")
        shop.run("restore", "swap")
        # It committed after the safety backup: what it wrote is in another one.
        assert "orders: 3 rows newer than the backup" in str(shop.run("restore", "finish").json["late"])


def _require_refused(shop: Shop, backup: str, says: str) -> None:
    """Before anything changed: replication would go on with the replaced database."""
    before = shop.databases()
    for words in (("state",), ("prepare",)):
        refused = shop.run("restore", *words, "--backup", backup, expect=2)
        assert refused.code == "replication_in_database"
        assert says in refused.message
        assert shop.databases() == before


def test_passwords_for_other_servers_are_not_in_a_test(shop: Shop, publisher: Postgres) -> None:
    """The tables behind them are there, and cannot be reached."""
    publisher.execute("CREATE TABLE IF NOT EXISTS stock (id int)")
    shop.server.execute(
        f"""
        CREATE EXTENSION postgres_fdw;
        CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw
            OPTIONS (host '127.0.0.1', port '{publisher.port}', dbname 'postgres');
        CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'postgres', password '{publisher.password}');
        CREATE FOREIGN TABLE stock (id int) SERVER other;
        """,
        shop.name,
    )
    backup = shop.back_up()
    shop.run("restore", "test-begin")
    mapped = "SELECT count(*) FROM pg_user_mappings"
    assert shop.query(mapped, f"{shop.name}_test") == [0]
    assert shop.query("SELECT 1 FROM pg_foreign_table", f"{shop.name}_test") == [1]
    shop.swap_in(backup)
    shop.run("restore", "finish")
    assert shop.query(mapped) == [1], "in place it is what it was"
    assert shop.query("SELECT count(*) FROM stock") == [0]


def test_jobs_do_not_run_in_a_test(database: str, tmp_path: Path) -> None:
    """pg_cron on both servers, and on the test's for the restored database: the job is not in it."""
    test = f"{database}_test"
    with postgres_with_cron(database) as live, postgres_with_cron(test) as aside, live.database(database):
        shop = new_shop(live, database, tmp_path / "store", tmp_path / "scratch")
        live.execute(
            "CREATE EXTENSION pg_cron; SELECT cron.schedule('minutely', '* * * * *', 'DELETE FROM orders')", database
        )
        shop.environment["RESTORE_DATABASE_URL"] = aside.url(test)
        backup = shop.back_up()
        assert shop.run("restore", "test-begin").json["in_place_needs"] == []
        with aside.connect(test) as connection:
            assert connection.execute("SELECT count(*) FROM cron.job").fetchone() == (0,)
        assert shop.run("restore", "test-conclude").json["result"] == "passed"

        # In place it is another matter: tests/tasks/test_restore_cron.py.
        into = shop.run("restore", "into", "--backup", backup, "--database", f"{database}_new").json
        assert "pg_cron" in " ".join(into["left_out"])
        assert shop.orders(f"{database}_new") == ["thyme", "mint", "sage"]
        shop.drop_copies()
