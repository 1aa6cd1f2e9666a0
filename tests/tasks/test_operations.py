"""The tasks of the quick reference against a real PostgreSQL and Redis, and a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from tests.support import http_servers
from tests.support.monitored_stack import eventually
from tests.support.rotation_world import Cache
from tests.support.servers import Postgres
from tests.support.servers import postgres as start_postgres
from tests.support.task_processes import task

HOUR = ("--since", "2026-08-16T10:00:00+00:00", "--until", "2026-08-16T11:00:00+00:00", "--points", "6")
ORDERS = (
    "SELECT date_bin(:step, created_at, :since) AS time, count(*) AS orders, sum(total_cents) / 100.0 AS eur "
    "FROM orders WHERE created_at >= :since AND created_at < :until GROUP BY 1"
)


@pytest.fixture(scope="module")
def counting() -> Iterator[Postgres]:
    """A server with pg_stat_statements."""
    with start_postgres("-c", "shared_preload_libraries=pg_stat_statements") as server:
        yield server


@pytest.fixture(scope="module")
def shop(counting: Postgres) -> Iterator[str]:
    with counting.database() as name:
        counting.execute("CREATE SCHEMA extensions; CREATE EXTENSION pg_stat_statements SCHEMA extensions", name)
        counting.execute(
            "CREATE TABLE orders (id int PRIMARY KEY, total_cents int, email text, created_at timestamptz);"
            "INSERT INTO orders SELECT n, 1000, 'a@example.com', timestamptz '2026-08-16 10:05Z' + n * interval '1 min'"
            " FROM generate_series(0, 29) n",
            name,
        )
        yield name


def examine(url: str, *words: str) -> dict[str, Any]:
    done = task({"DATABASE_URL": url}, "debug", "database", *words)
    assert done.exit_code == 0, done
    return done.result


def test_slow_statements_are_found_without_their_values(counting: Postgres, shop: str) -> None:
    counting.execute("SELECT pg_sleep(0.15), count(*) FROM orders WHERE email = 'secret@example.com'", shop)
    counting.execute("SELECT count(*) FROM orders", shop)
    found = examine(counting.url(shop), "--least-ms", "100")
    (slow,) = [row for row in found["statements"] if "pg_sleep" in row["query"]]
    assert slow["mean_ms"] >= 150
    assert slow["calls"] == 1
    assert not [row for row in found["statements"] if row["query"] == "SELECT count(*) FROM orders"]
    assert "secret@example.com" not in json.dumps(found)


def test_without_the_extension_what_runs_now_is_shown_and_the_remedy(postgres: Postgres, database: str) -> None:
    with running(postgres, database, "SELECT pg_sleep(60), 'canary-5f0c'"):
        found = examine(postgres.url(database))
    assert found["statements"] is None
    assert any("CREATE EXTENSION pg_stat_statements" in note for note in found["notes"])
    (session,) = [row for row in found["activity"] if "pg_sleep" in row["query"]]
    assert session["query"] == "SELECT pg_sleep(?), ?"


def test_the_session_that_holds_a_lock_is_named(postgres: Postgres, database: str) -> None:
    postgres.execute("CREATE TABLE stock (id int); INSERT INTO stock VALUES (1)", database)
    with psycopg.connect(postgres.url(database), application_name="holder") as holder:
        holder.execute("LOCK TABLE stock IN ACCESS EXCLUSIVE MODE")
        with running(postgres, database, "UPDATE stock SET id = 2", "Lock"):
            (lock,) = examine(postgres.url(database))["locks"]
        pid = holder.info.backend_pid
    assert (lock["blocking_application"], lock["application"]) == ("holder", "waiter")
    assert lock["blocked_by"] == pid
    assert (lock["on_what"], lock["query"]) == ("stock", "UPDATE stock SET id = ?")
    assert lock["blocking_state"] == "idle in transaction"


def test_a_role_that_may_not_see_others_is_named_with_the_grant(postgres: Postgres, database: str) -> None:
    with postgres.role(database) as role, running(postgres, database, "SELECT pg_sleep(60)"):
        found = examine(postgres.url(database, role, f"{role}-pw"))
    assert any(f"GRANT pg_read_all_stats TO {role}" in note for note in found["notes"])


def test_bloat_is_measured(postgres: Postgres, database: str) -> None:
    postgres.execute("CREATE TABLE cart (id int) WITH (autovacuum_enabled = off)", database)
    postgres.execute("INSERT INTO cart SELECT generate_series(1, 4000)", database)
    postgres.execute("DELETE FROM cart WHERE id <= 3000; SELECT pg_stat_force_next_flush()", database)
    (table,) = examine(postgres.url(database))["bloat"]
    assert (table["table"], table["live"], table["dead"], table["dead_percent"]) == ("public.cart", 1000, 3000, 75.0)


def metric(url: str, query: str, *words: str) -> Any:
    return task({"DATABASE_URL": url}, "debug", "metric", "--query", query, *(words or HOUR))


def test_a_metric_is_points_of_equal_width(counting: Postgres, shop: str) -> None:
    done = metric(counting.url(shop), ORDERS)
    assert done.exit_code == 0, done
    assert done.result["stepSeconds"] == 600
    assert done.result["columns"] == {
        "orders": [5, 10, 10, 5, None, None],
        "eur": [50, 100, 100, 50, None, None],
    }
    assert done.result["times"][1] == "2026-08-16T10:10:00+00:00"


@pytest.mark.parametrize(
    ("query", "code", "why"),
    [
        ("SELECT nothing FROM orders WHERE now() > :since", "query_invalid", 'column "nothing" does not exist'),
        ("SELECT :since::timestamptz AS time", "query_invalid", "a time and one number or more; it has time"),
        ("SELECT 1 AS a, :since AS b", "query_invalid", "the first column, a, has to be a time"),
        ("SELECT :since AS a, 'x%' AS b", "query_invalid", "the column b has to be a number"),
        ("INSERT INTO orders VALUES (99) RETURNING now(), 1", "query_invalid", "read-only transaction"),
        ("SELECT :since AS a, 1 AS b FROM pg_sleep(30)", "too_slow", "cancelled after 1 s"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(counting: Postgres, shop: str, query: str, code: str, why: str) -> None:
    done = metric(counting.url(shop), query, *HOUR, "--seconds", "1")
    assert done.error == code
    assert why in done.message
    with counting.connect(shop) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (30,)


def test_rate_limits_of_one_user_only(cache: Cache) -> None:
    for words in (
        ("set", "ratelimit:login:42", "7", "EX", "60"),
        ("set", "ratelimit:login:421", "9"),
        ("set", "ratelimit:session:42", "secret-canary"),
        ("rpush", "ratelimit:api:42", "a", "b", "c"),
    ):
        cache.admin(*words)
    url = cache.url("default", cache.admin_password)
    done = task({"REDIS_URL": url}, "debug", "rate-limits", "--user", "42", "--key", "ratelimit:*:{user}")
    assert done.exit_code == 0, done
    found = {item["key"]: item for item in done.result["keys"]}
    assert set(found) == {"ratelimit:login:42", "ratelimit:session:42", "ratelimit:api:42"}
    assert found["ratelimit:login:42"]["value"] == 7
    assert 0 < found["ratelimit:login:42"]["expiresInSeconds"] <= 60
    assert found["ratelimit:api:42"]["entries"] == 3
    assert "secret-canary" not in json.dumps(done.result)
    everyone = task({"REDIS_URL": url}, "debug", "rate-limits", "--user", "*", "--key", "ratelimit:*:{user}")
    assert everyone.result["keys"] == []


class Slow(http_servers.Handler):
    def do_GET(self) -> None:
        threading.Event().wait(0.1)
        self.send_response(200)
        self.send_header("Content-Length", "2000")
        self.end_headers()
        self.wfile.write(b"a" * 1000)
        threading.Event().wait(0.2)
        self.wfile.write(b"b" * 1000)


def test_each_phase_of_a_request_is_measured() -> None:
    with http_servers.serve(Slow) as port:
        url = f"http://shop.localhost:{port}/x"
        done = task({}, "debug", "request", "--url", url, "--times", "2").result
    assert (done["statuses"], done["bytes"], done["requests"]) == ([200], 2000, 2)
    assert "tls" not in done["median"]
    assert 100 <= done["median"]["firstByte"] < 190
    assert 190 <= done["median"]["transfer"] < 300
    refused = task({}, "debug", "request", "--url", url).result
    assert (refused["phase"], refused["answered"]) == ("connect", 0)


@contextmanager
def running(server: Postgres, database: str, query: str, waits_for: str = "Timeout") -> Iterator[None]:
    """A query of application `waiter` that waits meanwhile; cancelled in the end."""
    seen = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = %s"
    with psycopg.connect(server.url(database), autocommit=True, application_name="waiter") as connection:
        thread = threading.Thread(target=lambda: _ignore_cancel(connection, query))
        thread.start()
        with server.connect(database) as other:
            eventually(lambda: other.execute(seen, (connection.info.backend_pid, waits_for)).fetchone(), 20)
        try:
            yield
        finally:
            connection.cancel_safe()
            thread.join()


def _ignore_cancel(connection: psycopg.Connection[Any], query: str) -> None:
    with suppress(psycopg.errors.QueryCanceled):
        connection.execute(query.encode())
