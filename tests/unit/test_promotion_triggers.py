"""What fired while a release served elsewhere keeps it from being promoted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ops.commands import promote
from ops.decisions.promotion import Candidate
from ops.errors import Refused
from settings import Release
from tests.unit.test_promotion import release

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SINCE = timedelta(minutes=40)


def record(kind: str, minutes_ago: int, **facts: Any) -> dict[str, Any]:
    opened = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    written = json.dumps({"kind": kind, "openedAt": opened, **facts})
    return {"metadata": {"name": f"incident-{kind}-1"}, "data": {"record.json": written}}


class Cluster:
    """An API server with records and a Prometheus behind it."""

    namespace = "shop"

    def __init__(self, records: list[Any], alerts: list[str] | None, status: int = 200) -> None:
        self.asked: list[httpx.Request] = []
        self._records, self._alerts, self._status = records, alerts, status

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        with httpx.Client(transport=httpx.MockTransport(self._answer), base_url="http://api") as client:
            yield client

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path.endswith("/configmaps"):
            return httpx.Response(self._status, json={"items": self._records, "metadata": {}})
        if self._alerts is None:
            return httpx.Response(404)
        series = [{"metric": {"alertname": name}, "value": [0, "1"]} for name in self._alerts]
        return httpx.Response(200, json={"data": {"result": series}})


def ask(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, monitoring: Mapping[str, Any] | None = {"on": True}) -> str:
    """Refuse or not; what was said."""
    said: list[str] = []
    settings = SimpleNamespace(monitoring=monitoring)
    monkeypatch.setattr(promote, "load_settings", lambda _: settings)
    monkeypatch.setattr(promote.stack_file, "read", lambda _: SimpleNamespace(config={}))
    source: Any = SimpleNamespace(
        stack="staging", file="f", say=lambda text, *_: said.append(text), cluster=lambda *_: cluster
    )
    target: Any = SimpleNamespace(stack="prod")
    candidate = Candidate(Release.model_validate(release(2)), SINCE)
    promote._refuse_after_triggers(source, target, candidate, NOW)
    return " ".join(said)


def test_nothing_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    old = record("alert", 41, alert="HighErrorRate")
    own = record("emergency-rotation", 5)
    cluster = Cluster([old, own], [])
    assert ask(monkeypatch, cluster) == ""
    assert "[2400s]" in cluster.asked[1].url.params["query"]


@pytest.mark.parametrize(
    ("records", "alerts", "words"),
    [
        ([record("alert", 39, alert="HighErrorRate")], [], r"HighErrorRate at 2026-11-29 11:21 UTC \(record incident-"),
        ([record("rollback", 3, alert={"labels": {"alertname": "SlowResponses"}})], None, r"SlowResponses at"),
        ([record("lockdown", 3)], [], r"lockdown at"),
        ([], ["HealthCheckFailing"], r"HealthCheckFailing \(Prometheus\)"),
    ],
)
def test_what_fired_is_named(
    monkeypatch: pytest.MonkeyPatch, records: list[Any], alerts: list[str] | None, words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        ask(monkeypatch, Cluster(records, alerts))
    assert "--stack prod" in str(refused.value)


def test_what_cannot_be_asked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ask(monkeypatch, Cluster([], None, status=403))
    assert "may not list configmaps" in said
    assert "Prometheus cannot be asked" in said
    assert "no monitoring" in ask(monkeypatch, Cluster([], []), monitoring=None)
