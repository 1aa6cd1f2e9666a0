"""The exporter as Prometheus and the kubelet see it; its alerts by Prometheus' own promtool."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tasks import exporter
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.exporter import Exporter
from tasks.restore import evidence
from tasks.store import open_store
from tests.support.exposition import expose, parse_samples, read_samples
from tests.support.restore_world import Shop, new_shop
from tests.support.servers import S3, Postgres, free_ports
from tests.support.task_processes import start

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {
        "BACKUP_STORE": f"file://{tmp_path}",
        "BACKUP_INTERVAL_SECONDS": "3600",
        "RESTORE_TEST_MAX_AGE_HOURS": "26",
        "BACKUP_RETENTION_DAYS": "7",
        "BACKUP_KEEP_LEAST": "1",
    }


def backup(
    settings: dict[str, str], age: timedelta, size: int = 1000, kind: str = "scheduled", stack: str | None = None
) -> str:
    """A backup that is only a manifest, which is all that metrics are made of."""
    at = NOW - age
    made = f"{at:%Y%m%dT%H%M%SZ}-{kind}-{abs(hash(at)) % 0x10000:04x}"
    content = {
        "id": made,
        "kind": kind,
        "created_at": at.isoformat(),
        "finished_at": at.isoformat(),
        "engine": "postgresql",
        "server_version": "15.1",
        "database": "shop",
        "format": "custom",
        "schema_level": None,
        "release": None,
        "tables": {},
        "sentinel": {"token": "t", "written_at": at.isoformat()},
        "files": [{"name": f"{made}.dump", "size": size, "sha256": "0" * 64}],
        "size_bytes": size,
        "database_bytes": 5000,
        "key_ids": [],
        "tools": {},
        "previous": None,
        "origin": {"stack": stack, "server": None},
    }
    open_store(Environment(settings)).put(f"backups/{made}/manifest.json", json.dumps(content).encode())
    return made


def record_test(settings: dict[str, str], name: str, result: str, age: timedelta) -> None:
    content = {"backup": name, "result": result, "at": (NOW - age).isoformat(), "rto_seconds": 12.5, "rpo_seconds": 60}
    evidence.append(open_store(Environment(settings)), content)


def metrics(settings: dict[str, str]) -> dict[str, float]:
    made = Exporter(Environment(settings), open_store(Environment(settings)))
    made.refresh()
    return read_samples(made)


def test_an_empty_store(settings: dict[str, str]) -> None:
    found = metrics(settings)
    assert found["runbook_backup_store_up"] == 1
    assert found["runbook_backups"] == 0
    for never in (
        "runbook_backup_last_success_timestamp_seconds",
        "runbook_backup_last_scheduled_timestamp_seconds",
        "runbook_backup_last_proven_timestamp_seconds",
        "runbook_restore_test_last_timestamp_seconds",
    ):
        assert found[never] == 0
    assert "runbook_restore_test_passed" not in found


def test_backups_and_tests(settings: dict[str, str]) -> None:
    proven = backup(settings, timedelta(hours=3), 900)
    newest = backup(settings, timedelta(hours=1), 400, kind="pre-release")
    record_test(settings, proven, "passed", timedelta(hours=2))
    record_test(settings, newest, "failed", timedelta(minutes=5))
    found = metrics(settings)
    assert found["runbook_backups"] == 2
    assert found["runbook_backup_last_success_timestamp_seconds"] == pytest.approx(NOW.timestamp() - 3600, abs=1)
    assert found["runbook_backup_last_scheduled_timestamp_seconds"] == pytest.approx(NOW.timestamp() - 3 * 3600, abs=1)
    assert found["runbook_backup_last_proven_timestamp_seconds"] == pytest.approx(NOW.timestamp() - 2 * 3600, abs=1)
    assert found["runbook_restore_test_last_timestamp_seconds"] == pytest.approx(NOW.timestamp() - 300, abs=1)
    assert found["runbook_backup_size_bytes"] == 900, "of those that the schedule makes"
    assert "runbook_backup_previous_size_bytes" not in found
    assert found["runbook_restore_test_passed"] == 0
    assert (found["runbook_restore_test_rto_seconds"], found["runbook_restore_test_rpo_seconds"]) == (12.5, 60)
    assert found['runbook_restore_test_records{result="failed"}'] == 1
    assert found["runbook_backup_interval_seconds"] == 3600
    assert found["runbook_restore_test_max_age_seconds"] == 26 * 3600


@pytest.mark.parametrize(
    ("sizes", "usual"),
    [
        # Oldest first; `p` is proven.
        ("100p 10", 100),
        ("100p 10 10", 100),
        ("100p 10p 10", 100),  # a restore test proves that it comes back, not that nothing is missing
        ("100 10 10", 100),
        ("100 10p 10p 10p", 100),
        ("100p 60p 40", 60),  # it shrinks in steps that are no alarm
        ("100p 1000 100", 100),  # not proven
        ("100p 1000p 100", 1000),
        ("100p 10p 90p 90", 90),  # normal again
        ("100", None),
        ("", None),
    ],
)
def test_the_newest_backup_is_compared_with_the_usual_size(
    sizes: str, usual: int | None, settings: dict[str, str]
) -> None:
    words = sizes.split()
    for place, word in enumerate(words):
        made = backup(settings, timedelta(hours=len(words) - place), int(word.rstrip("p")))
        if word.endswith("p"):
            record_test(settings, made, "passed", timedelta(0))
    backup(settings, timedelta(minutes=1), 1, kind="pre-release")
    found = metrics(settings)
    assert found.get("runbook_backup_previous_size_bytes") == usual
    assert found.get("runbook_backup_size_bytes") == (int(words[-1].rstrip("p")) if words else None)


def test_an_accepted_backup_is_the_usual_one(settings: dict[str, str]) -> None:
    backup(settings, timedelta(hours=3), 100)
    accepted = backup(settings, timedelta(hours=2), 10)
    assert metrics(settings)["runbook_backup_previous_size_bytes"] == 100
    settings["BACKUP_SIZE_ACCEPTED"] = accepted
    assert "runbook_backup_previous_size_bytes" not in metrics(settings)
    backup(settings, timedelta(hours=1), 9)
    assert metrics(settings)["runbook_backup_previous_size_bytes"] == 10


def test_the_settings_say_what_is_much_smaller(settings: dict[str, str]) -> None:
    for hours, size in ((3, 100), (2, 40), (1, 40)):
        backup(settings, timedelta(hours=hours), size)
    assert metrics(settings)["runbook_backup_previous_size_bytes"] == 100
    assert metrics(settings | {"BACKUP_SIZE_RATIO": "0.25"})["runbook_backup_previous_size_bytes"] == 40
    with pytest.raises(TaskError, match="a number between 0 and 1"):
        metrics(settings | {"BACKUP_SIZE_RATIO": "50 %"})


OVERDUE, INVALID, CLOCK = (
    f'runbook_backup_retention_problems{{problem="{name}"}}' for name in ("overdue", "invalid", "clock")
)


def test_what_another_stack_on_the_same_store_has_is_no_backup_and_no_proof_of_this_one(
    settings: dict[str, str],
) -> None:
    old = backup(settings, timedelta(hours=30), stack="shop/prod")
    record_test(settings, old, "passed", timedelta(hours=29))
    record_test(settings, backup(settings, timedelta(hours=1), stack="shop/staging"), "passed", timedelta(minutes=5))
    found = metrics(settings | {"BACKUP_STACK": "shop/prod"})
    assert found["runbook_backups"] == 1
    assert found["runbook_backup_last_success_timestamp_seconds"] == (NOW - timedelta(hours=30)).timestamp()
    assert found["runbook_backup_last_proven_timestamp_seconds"] == (NOW - timedelta(hours=29)).timestamp()


def test_retention_that_does_not_work(settings: dict[str, str]) -> None:
    backup(settings, timedelta(days=7, hours=1))
    backup(settings, timedelta(hours=1))
    assert metrics(settings)[OVERDUE] == 0, "the next cleanup has not been yet"
    backup(settings, timedelta(days=7, hours=3))
    found = metrics(settings)
    assert (found[OVERDUE], found[INVALID], found[CLOCK]) == (1, 0, 0)
    assert metrics(settings | {"BACKUP_RETENTION_DAYS": "0"})[INVALID] == 1
    backup(settings, timedelta(hours=-1))
    assert metrics(settings)[CLOCK] == 1


def test_changed_evidence_proves_nothing(settings: dict[str, str], tmp_path: Path) -> None:
    name = backup(settings, timedelta(hours=1))
    record_test(settings, name, "passed", timedelta(0))
    made = Exporter(Environment(settings), open_store(Environment(settings)))
    made.refresh()
    assert read_samples(made)["runbook_restore_test_evidence_intact"] == 1
    file = tmp_path / "evidence" / "00000001.json"
    file.write_text(file.read_text().replace("12.5", "11.5"))
    made.refresh()
    found = read_samples(made)
    assert found["runbook_restore_test_evidence_intact"] == 0, "what was read before is read again when it changed"
    assert found["runbook_backup_last_proven_timestamp_seconds"] == 0


def test_a_store_that_goes_away_leaves_the_last_state(settings: dict[str, str], tmp_path: Path) -> None:
    backup(settings, timedelta(hours=1))
    made = Exporter(Environment(settings), open_store(Environment(settings)))
    made.refresh()
    before = read_samples(made)
    tmp_path.rename(tmp_path.with_name("away"))
    try:
        made.refresh()
    finally:
        tmp_path.with_name("away").rename(tmp_path)
    after = read_samples(made)
    assert (before["runbook_backup_store_up"], after["runbook_backup_store_up"]) == (1, 0)
    assert after | {"runbook_backup_store_up": 1} == before


def test_an_object_is_read_once(s3: S3, bucket: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings |= s3.environment(bucket)
    for hours in range(3):
        record_test(settings, backup(settings, timedelta(hours=hours)), "passed", timedelta(0))
    store = open_store(Environment(settings))
    read: list[str] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda key: (read.append(key), get(key))[1])
    made = Exporter(Environment(settings), store)
    made.refresh()
    assert len(read) == 6
    made.refresh()
    assert len(read) == 6
    assert read_samples(made)["runbook_backups"] == 3


@contextmanager
def serving(settings: dict[str, str], *, refresh: str = "1") -> Iterator[str]:
    (port,) = free_ports(1)
    environment = {"EXPORTER_PORT": str(port), "EXPORTER_HOST": "127.0.0.1", "EXPORTER_REFRESH_SECONDS": refresh}
    process = start(settings | environment, "exporter")
    assert process.stderr is not None
    try:
        while f"listening on port {port}" not in (line := process.stderr.readline()):
            assert line, "it ended"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_over_http_with_real_backups(postgres: Postgres, database: str, tmp_path: Path) -> None:
    shop: Shop = new_shop(postgres, database, tmp_path / "store", tmp_path / "scratch")
    shop.back_up()
    try:
        shop.run("restore", "test-begin")
        shop.run("restore", "test-conclude")
        with serving(shop.environment) as url:
            client = httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=0))
            while client.get("/readyz").status_code == 503:
                pass
            assert client.get("/healthz").status_code == 200
            assert client.get("/other").status_code == 404
            answer = client.get("/metrics")
            found = parse_samples(answer.text)
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert answer.elapsed < timedelta(seconds=0.5)
            assert found["runbook_restore_test_passed"] == 1
            shop.back_up()
            while parse_samples(client.get("/metrics").text)["runbook_backups"] < 2:
                pass
    finally:
        shop.drop_copies()


def test_without_a_store_it_is_alive_and_says_so(settings: dict[str, str], tmp_path: Path) -> None:
    with serving(settings | {"BACKUP_STORE": f"file://{tmp_path}/none/none"}) as url:
        while httpx.get(f"{url}/readyz").status_code == 503:
            pass
        assert parse_samples(httpx.get(f"{url}/metrics").text)["runbook_backup_store_up"] == 0


def expressions() -> dict[str, str]:
    """What the module's documentation promises for alerts."""
    block = re.search(r"The alerts, as expressions:\n\n(.*)", exporter.__doc__ or "", re.DOTALL)
    assert block
    found: dict[str, str] = {}
    for title, expression, more in re.findall(
        r"^ {4}(\S.*?) {2,}(\S.*?)(?: {3}\(for: .*\))?$(\n {30,}> .*)?", block[1], re.MULTILINE
    ):
        found[title] = f"{expression} {more.strip()}".strip()
    return found


def test_alerts_fire_on_what_they_are_for(settings: dict[str, str], tmp_path: Path) -> None:
    """promtool evaluates the documented expressions over what the exporter says of a good and of a bad store."""
    good = {**settings, "BACKUP_STORE": f"file://{tmp_path}/good"}
    bad = {**settings, "BACKUP_STORE": f"file://{tmp_path}/bad"}
    idle = {**settings, "BACKUP_STORE": f"file://{tmp_path}/idle"}
    for made in (good, bad, idle):
        Path(made["BACKUP_STORE"].removeprefix("file://")).mkdir()
    backup(good, timedelta(hours=1, minutes=30), 1000)
    record_test(good, backup(good, timedelta(minutes=30), 900), "passed", timedelta(hours=25))
    backup(bad, timedelta(days=9), 1000)
    record_test(bad, backup(bad, timedelta(hours=3), 400), "passed", timedelta(hours=30))
    record_test(bad, backup(bad, timedelta(minutes=1), 1000, kind="manual"), "passed", timedelta(hours=29))
    record_test(bad, "b", "failed", timedelta(hours=4))
    backup(idle, timedelta(minutes=1), 1000, kind="pre-release")
    texts = {}
    for name, made in (("good", good), ("bad", bad), ("idle", idle)):
        one = Exporter(Environment(made), open_store(Environment(made)))
        one.refresh()
        texts[name] = expose(one)
    assert subprocess.run(["promtool", "check", "metrics"], input=texts["good"], text=True).returncode == 0

    fires = expressions()
    assert len(fires) == 11
    never = {
        "no backup within 2 intervals",
        "the schedule never ran",
        "no proven restore in the limit",
        "the restore test never ran",
    }
    expected = {
        "no backup within 2 intervals",
        "no proven restore in the limit",
        "the restore test failed",
        "size fell by half",
        "retention fails",
    }
    rules = [{"alert": title, "expr": expression} for title, expression in fires.items()]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "backups", "rules": rules}]}))
    # promtool's clock begins at 0: every time is moved so that now is two days after that.
    began = datetime.now(UTC).timestamp() - timedelta(days=2).total_seconds()
    for name, firing in (("good", set[str]()), ("bad", expected), ("idle", never)):
        series = [
            {"series": metric, "values": f"{value - began if value > began / 2 else value}+0x600"}
            for metric, value in parse_samples(texts[name]).items()
        ]
        alerts = [
            {"eval_time": "48h", "alertname": title, "exp_alerts": labels(title) if title in firing else []}
            for title in fires
        ]
        tests = [{"interval": "5m", "input_series": series, "alert_rule_test": alerts}]
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"rule_files": ["rules.json"], "evaluation_interval": "5m", "tests": tests}))
        done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def labels(title: str) -> list[dict[str, dict[str, str]]]:
    return [{"exp_labels": {"problem": "overdue"} if title == "retention fails" else {}}]


def test_a_wrong_setting_is_refused(settings: dict[str, str]) -> None:
    made = Exporter(Environment(settings | {"BACKUP_INTERVAL_SECONDS": "0"}), open_store(Environment(settings)))
    with pytest.raises(TaskError, match="BACKUP_INTERVAL_SECONDS"):
        made.refresh()
