"""Metrics keep their names, labels and values: alerts, dashboards and recorded series depend on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from ops.controller.metrics import Metrics
from tasks import exporter
from tasks.environment import Environment
from tasks.exporter import Exporter
from tasks.logs.counts import Counts, events_of
from tasks.restore import evidence
from tasks.serving import serve
from tasks.store import open_store
from tests.support.exposition import expose

RECORDED = Path(__file__).with_name("exposition")
"""The text that each program exposed for the input below before it used prometheus_client."""
NOW = datetime(2026, 11, 29, 9, 30, tzinfo=UTC)


def controller() -> Metrics:
    made = Metrics()
    made.gauge("leader", 1)
    made.refused("malformed")
    made.alert("accepted")
    made.alert("repeated")
    made.alert("repeated")
    made.action("rollback")
    made.slack_failed()
    return made


def log_counter() -> Counts:
    events = {"sql_injection": {"field": "event", "pattern": "^sql", "source": "ip"},
              "refused_login": {"field": "status", "pattern": "^401$"}}  # fmt: skip
    made = Counts(events_of(Environment({"LOGS_EVENTS": json.dumps(events)})), clock=NOW.timestamp)
    made.add("backend-1", ready=True)
    made.add("backend-2", ready=False)
    made.set_watching(True)
    for line in (b'{"event": "sql_injection", "ip": "192.0.2.1", "level": "warn"}', b'{"status": 401}', b"text", None):
        made.line("backend-1", line)
    return made


def store_exporter(folder: Path) -> Exporter:
    status = folder / "rotation.json"
    secret = {"secret": "JWT_SECRET", "phase": "retired", "rotated_at": "2026-11-15T00:00:04Z", "overlap_until": None,
              "max_age_seconds": 1468800, "failure": None, "emergency_at": None}  # fmt: skip
    status.write_text(json.dumps([secret, secret | {"secret": "SMTP_URL", "max_age_seconds": None, "failure": "401"}]))
    environment = Environment({
        "BACKUP_STORE": f"file://{folder}", "BACKUP_INTERVAL_SECONDS": "3600", "RESTORE_TEST_MAX_AGE_HOURS": "26",
        "BACKUP_RETENTION_DAYS": "7", "BACKUP_KEEP_LEAST": "1", "ROTATION_STATUS": str(status),
    })  # fmt: skip
    store = open_store(environment)
    for at, kind, size in ((7, "scheduled", 1000), (8, "scheduled", 990), (9, "pre-release", 123456789)):
        name, made_at = f"20261129T{at:02}0000Z-{kind}-0001", f"2026-11-29T{at:02}:00:00.250000+00:00"
        manifest = {
            "id": name, "kind": kind, "created_at": made_at, "finished_at": made_at, "engine": "postgresql",
            "server_version": "15.1", "database": "shop", "format": "custom", "schema_level": None, "release": None,
            "tables": {}, "sentinel": {"token": "t", "written_at": made_at}, "size_bytes": size,
            "files": [{"name": f"{name}.dump", "size": size, "sha256": "0" * 64}], "database_bytes": 5000,
            "key_ids": [], "tools": {}, "previous": None, "origin": {"stack": None, "server": None},
        }  # fmt: skip
        store.put(f"backups/{name}/manifest.json", json.dumps(manifest).encode())
    proof = {"backup": "20261129T070000Z-scheduled-0001", "result": "passed", "at": "2026-11-29T08:00:00+00:00"}
    evidence.append(store, proof | {"rto_seconds": 12.5, "rpo_seconds": 60})
    made = Exporter(environment, store)
    made.refresh()
    return made


def families(text: str, parse: Callable[[str], Iterable[Metric]] = text_string_to_metric_families) -> dict[str, Any]:
    """Family → its type and the value of each series. A family without series says nothing."""
    return {
        each.name: (each.type, {(one.name, *sorted(one.labels.items())): one.value for one in each.samples})
        for each in parse(text)
        if each.samples
    }


class _Frozen(datetime):
    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return NOW


@pytest.mark.parametrize("program", ["controller", "log_counter", "store_exporter"])
def test_the_same_input_exposes_the_same_series(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "datetime", _Frozen)
    sources = {
        "controller": lambda: controller().registry,
        "log_counter": log_counter,
        "store_exporter": lambda: store_exporter(tmp_path),
    }
    found = families(expose(sources[program]()))
    assert found == families((RECORDED / f"{program}.prom").read_text())


def test_every_format_that_prometheus_asks_for_has_the_same_series() -> None:
    counter = log_counter()
    server = serve("127.0.0.1", 0, counter)
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        plain = httpx.get(url)
        open_metrics = httpx.get(url, headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    finally:
        server.shutdown()
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert families(open_metrics.text, openmetrics_parser.text_string_to_metric_families) == families(plain.text)
