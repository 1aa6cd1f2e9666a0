"""Maintenance runs on a real PostgreSQL with data and traffic, in a real store."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasks.backup.postgres_source import LOCK
from tasks.environment import Environment
from tasks.exporter import Exporter
from tasks.maintenance_tasks import report as reports
from tasks.restore import evidence
from tasks.store import open_store, window
from tests.support.exposition import expose
from tests.support.maintenance_world import ApiServer, Customers, World, application, fill
from tests.support.monitored_stack import eventually
from tests.support.servers import Postgres
from tests.support.task_processes import ended, start, task

SMALL: dict[str, Any] = {"bloat": {"bytes": 100_000, "ratio": 0.4}}
EVERYTHING = [{"task": "analyze"}, {"task": "vacuum-analyze"}, {"task": "reindex"}, {"task": "statistics"}]


@pytest.fixture
def world(settings: dict[str, str], postgres: Postgres, database: str, tmp_path: Path) -> World:
    url = postgres.url(database)
    fill(url)
    open_store(Environment(settings)).prepare()
    return World({**settings, "DATABASE_URL": url, "MAINTENANCE_BOX": str(tmp_path)}, url)


@pytest.fixture
def on_disk(postgres: Postgres, database: str, tmp_path: Path) -> World:
    """The same with a folder as its store, for what no store decides."""
    url = postgres.url(database)
    fill(url)
    settings = {"BACKUP_STORE": f"file://{tmp_path}/store", "DATABASE_URL": url, "MAINTENANCE_BOX": str(tmp_path)}
    open_store(Environment(settings)).prepare()
    return World(settings, url)


def steps(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in report["tasks"]}


def test_every_task_does_its_work_beside_the_customers_and_a_report_is_kept(world: World) -> None:
    customers = Customers(world.url)
    with customers.shopping():
        first = world.run(EVERYTHING, **SMALL)
        second = world.run(EVERYTHING, **SMALL)
    assert not customers.failed
    assert customers.answered > 50
    assert (first.exit_code, first.result["result"]) == (0, "done"), first.progress
    done = steps(first.result)
    assert done["vacuum-analyze"]["measures"]["dead rows before"] >= 40_000
    assert done["vacuum-analyze"]["measures"]["dead rows after"] < 10_000
    assert done["reindex"]["measures"]["indexes rebuilt"] >= 2
    assert any(note.startswith("public.orders_code: rebuilt") for note in done["reindex"]["notes"])
    assert done["statistics"]["measures"]["public.orders: live rows"] > 15_000
    assert any(note.startswith("public.orders_note: never scanned") for note in done["statistics"]["notes"])
    # The second has nothing to rebuild, and says what changed.
    assert (second.exit_code, second.result["result"]) == (0, "done"), second.progress
    assert steps(second.result)["reindex"]["measures"]["indexes rebuilt"] == 0
    changes = {(one["task"], one["what"]): one for one in second.result["changes"]}
    assert second.result["previous"] == first.result["run"]
    assert changes["reindex", "indexes rebuilt"]["now"] == 0
    store = open_store(Environment(world.environment))
    kept = {entry.key for entry in store.entries("maintenance/daily/")}
    assert kept == {f"maintenance/daily/{run}.{form}" for run in
                    {first.result["run"], second.result["run"]} for form in ("json", "html")}  # fmt: skip
    shown = task(world.environment, "maintenance", "report", "daily")
    assert shown.result["report"]["run"] == second.result["run"]
    assert "<!doctype html>" in shown.result["html"]


def test_an_index_that_is_not_bloated_stays(on_disk: World) -> None:
    with on_disk.connect() as connection:
        connection.execute("VACUUM (ANALYZE) orders")
        connection.execute("REINDEX TABLE orders")
        connection.execute("ANALYZE")
        before = connection.execute("SELECT pg_relation_filenode('orders_code')").fetchone()
        done = on_disk.run([{"task": "reindex"}], bloat={"bytes": 8192, "ratio": 0.3})
        assert done.result["tasks"][0]["measures"]["indexes rebuilt"] == 0, done.result
        assert connection.execute("SELECT pg_relation_filenode('orders_code')").fetchone() == before


def test_what_a_killed_rebuild_left_is_removed_and_other_invalid_indexes_are_named(on_disk: World) -> None:
    with on_disk.connect() as connection, on_disk.connect() as other:
        other.execute("BEGIN")
        other.execute("UPDATE orders SET note = '' WHERE id = 1")
        connection.execute("SET statement_timeout = '1s'")
        for statement in ("REINDEX INDEX CONCURRENTLY orders_code", "CREATE INDEX CONCURRENTLY mine ON orders (note)"):
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute(statement)
        other.execute("ROLLBACK")
        done = on_disk.run([{"task": "reindex"}])
        found = done.result["tasks"][0]
        assert found["measures"]["leftovers removed"] == 1
        assert "public.orders_code_ccnew: the rest of a rebuild that was stopped, removed" in found["notes"]
        assert any(note.startswith("public.mine is invalid") for note in found["notes"])
        invalid = connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()
        assert invalid == [("mine",)]


def test_a_table_that_is_locked_is_left_out_and_no_client_waits_behind_the_run(on_disk: World) -> None:
    with on_disk.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE visits IN SHARE MODE")
        with on_disk.connect() as customer:
            customer.execute("SET statement_timeout = '1s'")
            done = on_disk.run([{"task": "vacuum-analyze"}])
            customer.execute("SELECT count(*) FROM visits")
    found = done.result["tasks"][0]
    assert found["result"] == "done"
    assert [note for note in found["notes"] if note.startswith("public.visits: ")]


def test_one_that_fails_does_not_stop_the_others_and_the_summary_names_it(on_disk: World, tmp_path: Path) -> None:
    tasks = [
        {"name": "broken", "run": "sh -c 'exit 3'", "retries": 1},
        {"task": "analyze"},
        {"name": "cache", "run": ["true", "sh -c 'echo warm >&2'"]},
    ]
    with application(tmp_path):
        done = on_disk.run(tasks)
    assert done.exit_code == 1
    assert done.result["summary"] == "2 of 3 tasks done; failed: broken"
    broken = steps(done.result)["broken"]
    assert broken["attempts"] == 2
    assert "exit code 3" in broken["why"]
    report = task_report(on_disk)
    assert report["result"] == "failed"


def task_report(world: World) -> dict[str, Any]:
    found = reports.read_newest(open_store(Environment(world.environment)), "daily")
    assert found
    return found


def test_tasks_after_a_failure_do_not_run_where_the_settings_say_so(on_disk: World, tmp_path: Path) -> None:
    broken = {"name": "broken", "run": "false", "retries": 0, "continueOnError": False}
    with application(tmp_path):
        done = on_disk.run([broken, {"task": "analyze"}])
    assert done.result["summary"] == "0 of 2 tasks done; failed: broken; not run: analyze"
    assert steps(done.result)["analyze"]["why"] == "broken failed, and continueOnError is false"


def test_a_command_that_takes_too_long_is_ended(on_disk: World, tmp_path: Path) -> None:
    slow = {"name": "slow", "run": "sleep 100", "timeoutSeconds": 1, "retries": 0}
    with application(tmp_path):
        done = on_disk.run([slow, {"name": "next", "run": "true"}])
    assert steps(done.result)["slow"]["why"] == "it did not end within 1 s"
    assert steps(done.result)["next"]["result"] == "done"


def test_a_container_that_is_started_again_fails_the_command(on_disk: World, tmp_path: Path) -> None:
    """As when a command needs more memory than its container has."""
    begun = tmp_path / "begun"
    slow = f"sh -c 'touch {begun}; exec sleep 20'"
    environment = on_disk.plan([{"name": "slow", "run": slow, "retries": 0}, {"name": "next", "run": "true"}])
    with application(tmp_path) as first:
        process = start(environment, "maintenance", "run", "daily")
        # Not before: a container that is started again in time runs the command.
        eventually(begun.exists)
        first.kill()
        first.wait()
        with application(tmp_path):
            done = ended(process, environment)
    assert "container_restarted" in steps(done.result)["slow"]["why"]
    assert steps(done.result)["next"]["result"] == "done"


def test_the_applications_container_ends_with_the_runner(tmp_path: Path) -> None:
    """As process 1 it would ignore the signal, and the pod would last for its grace period."""
    with application(tmp_path) as agent:
        agent.terminate()
        assert agent.wait(timeout=5) == 0


def test_a_statement_that_takes_too_long_is_ended(on_disk: World) -> None:
    with on_disk.connect() as connection, on_disk.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT txid_current(), count(*) FROM orders")
        connection.execute("ANALYZE")
        # Rebuilding an index concurrently waits for this transaction.
        done = on_disk.run([{"task": "reindex", "timeoutSeconds": 2, "retries": 0}], **SMALL)
    assert steps(done.result)["reindex"]["why"] == "it did not end within 2 s"


def test_under_load_heavy_tasks_are_put_off_and_it_says_why(on_disk: World) -> None:
    with on_disk.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT txid_current(), pg_sleep(1.1)")
        done = on_disk.run([{"task": "vacuum-analyze"}, {"task": "statistics"}], load={"transactionSeconds": 1})
    assert (done.exit_code, done.result["result"]) == (0, "put off")
    assert done.result["summary"] == "1 of 2 tasks done; put off: vacuum-analyze"
    assert "load.transactionSeconds: 1" in steps(done.result)["vacuum-analyze"]["why"]


def test_many_active_sessions_are_load(on_disk: World) -> None:
    customers = [on_disk.connect() for _ in range(3)]
    threads = [threading.Thread(target=one.execute, args=("SELECT pg_sleep(2)",)) for one in customers]
    for thread in threads:
        thread.start()
    done = on_disk.run([{"task": "analyze"}], load={"activeSessions": 3})
    for thread in threads:
        thread.join()
    assert "3 sessions run a statement" in steps(done.result)["analyze"]["why"]


@contextmanager
def locked(world: World, key: str) -> Iterator[None]:
    with world.connect("the lock of another") as other:
        other.execute(f"SELECT pg_advisory_lock({key})".encode())
        yield


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (str(LOCK), "a backup or a migration runs"),
        ("hashtextextended('runbook restore of ' || current_database(), 0)", "a restore runs"),
        ("hashtextextended('runbook maintenance', 0)", "another maintenance run is running"),
    ],
)
def test_nothing_runs_during_a_migration_a_restore_or_another_run(on_disk: World, key: str, why: str) -> None:
    with locked(on_disk, key):
        done = on_disk.run([{"task": "analyze"}, {"task": "statistics"}])
    assert done.result["summary"] == "0 of 2 tasks done; put off: analyze, statistics"
    assert {step["why"] for step in done.result["tasks"]} == {why}


def test_a_run_waits_for_a_backup_to_end(on_disk: World) -> None:
    environment = on_disk.plan([{"task": "analyze"}], waitSeconds=60)
    with locked(on_disk, str(LOCK)):
        process = start(environment, "maintenance", "run", "daily")
        assert process.stderr is not None
        assert "analyze" in process.stderr.readline()
        assert "Waiting for it" in process.stderr.readline()
    done = ended(process, environment)
    assert done.result["result"] == "done", done.progress


def test_only_waiting_counts_as_waiting(on_disk: World, tmp_path: Path) -> None:
    """A release that begins late in a long run is waited for as long as one that was there at its start."""
    go, script = tmp_path / "go", tmp_path / "script"
    script.write_text(f"until [ -e {go} ]; do sleep 0.1; done")
    environment = on_disk.plan(
        [{"name": "long", "run": "sleep 4"}, {"name": "late", "run": f"sh {script}"}], waitSeconds=4
    )
    with application(tmp_path):
        process = start(environment, "maintenance", "run", "daily")
        assert process.stderr is not None
        assert any("  sh (" in line for line in process.stderr)
        with locked(on_disk, str(LOCK)):
            assert any("Waiting for it" in line for line in process.stderr)
        go.touch()
        done = ended(process, environment)
    assert done.result["result"] == "done", done.result["summary"]


def test_a_release_that_begins_stops_a_rebuild_at_once_which_is_made_afterwards(on_disk: World, tmp_path: Path) -> None:
    """The migration of a release waits for no index that is being rebuilt, and does not deadlock with it."""
    environment = on_disk.plan([{"task": "reindex"}], waitSeconds=60, **SMALL)
    ready = tmp_path / "ready"
    words = ["guard-migration", "--level", "2", "--lock-seconds", "5", "--ready", str(ready)]
    with on_disk.connect() as release:
        release.execute("ANALYZE")
        # An old transaction: the rebuild waits for it.
        with on_disk.connect() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT txid_current(), count(*) FROM orders")
            process = start(environment, "maintenance", "run", "daily")
            waiting = "SELECT count(*) FROM pg_stat_progress_create_index WHERE command = 'REINDEX CONCURRENTLY'"
            await_true(lambda: release.execute(waiting).fetchone() == (1,), "no rebuild began")
            guard = start({**on_disk.environment, "SCHEMA_LEVEL_QUERY": "SELECT 1"}, "backup", *words)
            await_true(ready.exists, "the migration may not begin")
            reader.execute("ROLLBACK")
        release.execute("SET lock_timeout = '1s'")
        release.execute("ALTER TABLE orders ADD COLUMN price int")
        guard.send_signal(signal.SIGTERM)
        assert ended(guard, on_disk.environment).exit_code == 0
        done = ended(process, environment)
    assert done.result["result"] == "done", done.progress
    found = steps(done.result)["reindex"]
    assert found["measures"]["indexes rebuilt"] >= 2
    with on_disk.connect() as connection:
        assert connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def await_true(condition: Callable[[], bool], otherwise: str) -> None:
    waiter = threading.Event()
    for _ in range(600):
        if condition():
            return
        waiter.wait(0.05)
    pytest.fail(otherwise)


def test_a_run_that_is_ended_says_how_far_it_came(on_disk: World, tmp_path: Path) -> None:
    environment = on_disk.plan([{"task": "analyze"}, {"name": "slow", "run": "sleep 100"}, {"task": "statistics"}])
    with application(tmp_path):
        process = start(environment, "maintenance", "run", "daily")
        assert process.stderr is not None
        for line in process.stderr:
            if "  sleep (" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert ended(process, environment).error == "interrupted"
    report = task_report(on_disk)
    assert report["summary"] == "1 of 3 tasks done; not run: slow, statistics"


def test_some_tasks_alone_do_not_count_as_a_run(on_disk: World) -> None:
    done = on_disk.run(EVERYTHING, "--task", "statistics")
    assert [step["name"] for step in done.result["tasks"]] == ["statistics"]
    assert reports.read_newest(open_store(Environment(on_disk.environment)), "daily") is None
    refused = on_disk.run(EVERYTHING, "--task", "statistic")
    assert (refused.exit_code, refused.error) == (2, "task_unknown")
    assert "analyze, vacuum-analyze, reindex, statistics" in refused.message


def test_an_audit_becomes_a_part_of_the_report_and_what_others_print_does_not(on_disk: World, tmp_path: Path) -> None:
    audit = {
        "vulnerabilities": {
            "lodash": {"severity": "high", "fixAvailable": {"name": "lodash", "version": "4.17.21"}},
            "tar": {"severity": "low", "fixAvailable": False},
        }
    }
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    tasks = [
        {"name": "audit", "run": f"sh -c 'cat {tmp_path}/audit.json; exit 1'", "report": "npm-audit"},
        {"name": "prints-a-secret", "run": "echo sk_live_CANARY"},
    ]
    with application(tmp_path) as agent:
        done = on_disk.run(tasks)
    found = steps(done.result)["audit"]
    assert found["result"] == "failed"
    assert found["attempts"] == 1, "an audit that found something is not tried again"
    assert found["why"] == "1 vulnerable packages of severity high or higher"
    assert found["measures"]["low vulnerabilities"] == 1
    assert found["notes"] == ["high: lodash (lodash 4.17.21 fixes it)", "low: tar (no fix yet)"]
    assert "CANARY" not in json.dumps(done.result) + done.progress
    assert agent.stdout is not None
    assert "CANARY" in agent.stdout.read()


def test_old_reports_are_deleted(on_disk: World) -> None:
    store = open_store(Environment(on_disk.environment))
    now = datetime.now(UTC)
    for days in (500, 450, 420, 10):
        run = reports.name_run(now - timedelta(days=days), partial=False)
        for form in ("json", "html"):
            store.put(f"maintenance/daily/{run}.{form}", b"of an older version")
    on_disk.run([{"task": "analyze"}], reports={"days": 400, "least": 3})
    left = reports.list_runs(store, "daily")
    assert len(left) == 3
    assert reports.name_run(now - timedelta(days=420), partial=False) in left


def test_a_database_that_is_away_puts_the_run_off(on_disk: World) -> None:
    on_disk.environment["DATABASE_URL"] = "postgresql://shop:geheim@127.0.0.1:1/shop?connect_timeout=1"
    done = on_disk.run([{"task": "analyze"}])
    assert done.result["result"] == "put off"
    assert "cannot be reached" in done.result["tasks"][0]["why"]
    assert "geheim" not in json.dumps(done.result)


# -- the command lock, and the nodes -------------------------------------------------------------------


@pytest.fixture
def api(on_disk: World, tmp_path: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path)
    with server.serving() as environment:
        on_disk.environment |= environment
        yield server


def test_nothing_runs_while_a_command_changes_the_stack(on_disk: World, api: ApiServer) -> None:
    api.hold("alice")
    done = on_disk.run([{"task": "analyze"}, {"task": "statistics"}])
    assert done.result["summary"] == "0 of 2 tasks done; put off: analyze, statistics"
    assert done.result["tasks"][0]["why"] == "a command of alice@laptop changes the stack"
    path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/runbook-command"
    assert (path, "Bearer a-token") in api.asked


@pytest.mark.parametrize("case", ["none", "released", "not renewed"])
def test_a_lock_that_is_free_does_not_hold_it_back(on_disk: World, api: ApiServer, case: str) -> None:
    if case == "released":
        api.lease = {"spec": {"holderIdentity": "", "renewTime": None}}
    if case == "not renewed":
        api.hold("alice", ago=timedelta(seconds=40))
    assert on_disk.run([{"task": "analyze"}]).result["result"] == "done"


def test_a_release_that_begins_ends_a_command_which_runs_again_afterwards(
    on_disk: World, api: ApiServer, tmp_path: Path
) -> None:
    count, script = tmp_path / "count", tmp_path / "script"
    # The first time it runs until it is ended.
    script.write_text(f"echo . >> {count}; [ $(wc -l < {count}) -gt 1 ] || exec sleep 100")
    environment = on_disk.plan([{"name": "slow", "run": f"sh {script}"}], waitSeconds=60)
    with application(tmp_path):
        process = start(environment, "maintenance", "run", "daily")
        assert process.stderr is not None
        for line in process.stderr:
            if "  sh (" in line:
                api.hold("alice")
            if "Waiting for it" in line:
                api.lease = None
                break
        done = ended(process, environment)
    assert done.result["result"] == "done", done.progress
    assert steps(done.result)["slow"]["attempts"] == 2
    assert count.read_text().count(".") == 2


def test_without_an_answer_of_the_api_server_nothing_runs(on_disk: World, tmp_path: Path) -> None:
    on_disk.environment |= {"API_NAMESPACE": "shop", "API_URL": "http://127.0.0.1:1", "API_IDENTITY": str(tmp_path)}
    done = on_disk.run([{"task": "analyze"}])
    assert "maintenanceTasks.apiServer" in done.result["tasks"][0]["why"]
    assert done.result["result"] == "put off"


def test_unused_images_of_the_nodes_are_listed(on_disk: World, api: ApiServer) -> None:
    old = {"names": ["registry.example.com/shop@sha256:bb"], "sizeBytes": 2048}
    used = {"names": ["registry.example.com/shop@sha256:aa"], "sizeBytes": 4096}
    api.nodes = [{"metadata": {"name": "node-1"}, "status": {"images": [old, used]}}]
    on_disk.environment["MAINTENANCE_IMAGES"] = "registry.example.com/shop@sha256:aa"
    found = on_disk.run([{"task": "unused-images"}]).result["tasks"][0]
    assert found["measures"] == {"unused images": 1, "unused image bytes": 2048}
    assert found["notes"] == ["node-1: 1 images, 2.0 KiB: registry.example.com/shop@sha256:bb"]


# -- backups, and metrics ------------------------------------------------------------------------------


def test_backups_are_verified_by_the_store_and_the_record_of_restore_tests(on_disk: World) -> None:
    environment = {"BACKUP_INTERVAL_SECONDS": "86400", "RESTORE_TEST_MAX_AGE_HOURS": "48"}
    on_disk.environment |= environment
    only = [{"task": "backup-verification", "retries": 0}]
    assert "there is no whole backup" in on_disk.run(only).result["tasks"][0]["why"]
    made = task(on_disk.environment, "backup", "create", "--kind", "scheduled").result
    assert "no restore has ever been proven" in on_disk.run(only).result["tasks"][0]["why"]
    store = open_store(Environment(on_disk.environment))
    evidence.append(store, {"backup": made["id"], "result": "passed", "at": datetime.now(UTC).isoformat()})
    done = on_disk.run(only).result["tasks"][0]
    assert (done["result"], done["measures"]["backups"]) == ("done", 1), done
    store.delete([f"backups/{made['id']}/{made['id']}.dump"])
    assert "there is no whole backup" in on_disk.run(only).result["tasks"][0]["why"]


def metrics(world: World) -> dict[str, float]:
    environment = Environment({**world.environment, "MAINTENANCE_SCHEDULES": "daily weekly"})
    made = Exporter(environment, open_store(environment))
    made.refresh()
    text = expose(made)
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("runbook_maintenance")]
    return {name.removeprefix("runbook_maintenance_"): float(value) for name, _, value in lines}


def test_the_exporter_reports_when_a_run_was_and_what_failed(on_disk: World, tmp_path: Path) -> None:
    ran = 'last_run_timestamp_seconds{schedule="daily"}'
    assert metrics(on_disk) == {ran: 0, ran.replace("daily", "weekly"): 0}
    began = datetime.now(UTC).timestamp()
    tasks = [{"name": "broken", "run": "false", "retries": 0}, {"task": "analyze"}]
    with application(tmp_path):
        on_disk.run(tasks)
    first = metrics(on_disk)
    assert first[ran] >= int(began)
    assert first['task_failed{schedule="daily",task="broken"}'] == 1
    assert first['task_failed{schedule="daily",task="analyze"}'] == 0
    # One that was put off as a whole is no run, and takes nothing back.
    with locked(on_disk, str(LOCK)):
        on_disk.run(tasks)
    then = metrics(on_disk)
    assert then[ran] == first[ran]
    assert then['task_failed{schedule="daily",task="broken"}'] == 1
    assert then['tasks{result="put off",schedule="daily"}'] == 2
    (report,) = [name for name in then if name.startswith("report_timestamp_seconds")]
    assert 'summary="0 of 2 tasks done; put off: broken, analyze"' in report


def test_a_report_goes_through_the_window_of_the_store(on_disk: World) -> None:
    real = open_store(Environment(on_disk.environment))
    server = window.serve(real, "127.0.0.1", 0, "a-token")
    try:
        port = server.server_address[1]
        on_disk.environment |= {"BACKUP_STORE": f"http://127.0.0.1:{port}", "STORE_TOKEN": "a-token"}
        done = on_disk.run([{"task": "analyze"}], reports={"days": 1, "least": 2})
    finally:
        server.shutdown()
    assert done.result["result"] == "done"
    assert json.loads(real.get(done.result["key"]))["run"] == done.result["run"]
