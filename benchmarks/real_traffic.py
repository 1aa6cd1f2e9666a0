"""How long the error-rate trigger takes on real requests: a real Prometheus with the program's rules, and shops whose
pods answer over HTTP and count with prometheus_client. Takes an hour: innocent releases are watched as well.

`triggers` asks the same of many more shops, without waiting: promtool evaluates their traffic.
"""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest

from monitoring.alerts.release import triggers
from monitoring.alerts.render import rule_files
from monitoring.alerts.requests import COUNT
from monitoring.alerts.rule import within
from settings import Monitoring
from tests.support import http_servers
from tests.support.prometheus import query, serve_prometheus
from tests.support.trigger_traffic import PODS, ROUTES

_ALERT = "RollbackErrorRate"
_HOUR = 3600
_RATES = {0.3: 5, 1.0: 5, 20.0: 1}
"""Requests per second, and shops with so many for each percentage of errors."""
_ERRORS = (10, 50)
_INNOCENT = 1
"""Percent of errors."""
_STORES = "pg_up 1\nredis_up 1\n"


@dataclass
class Pod:
    """A server of one release. Its counters appear with their first request, as those of client libraries do."""

    release: str
    error_percent: float
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        ProcessCollector(registry=self.registry)

    @cached_property
    def _seconds(self) -> Histogram:
        name, labels = COUNT.removesuffix("_count"), ["route", "status", "release", "git"]
        return Histogram(name, "Requests.", labels, registry=self.registry)

    def answer(self, path: str) -> tuple[int, bytes]:
        if path == "/metrics":
            return 200, generate_latest(self.registry)
        status = 500 if random.random() * 100 < self.error_percent else 200  # noqa: S311 (traffic)
        self._seconds.labels(path, str(status), self.release, "git").observe(0.01)
        return status, b""

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Its port."""
        with serve(self.answer) as port:
            yield port


@contextmanager
def serve(answer: Any) -> Iterator[int]:
    class Handler(http_servers.Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content = answer(self.path)
            with suppress(ConnectionError):  # Prometheus is stopped in the middle of a scrape
                self.answer(status, content, {"Content-Type": "text/plain; version=0.0.4"})

    with http_servers.serve(Handler) as port:
        yield port


@dataclass
class Shop:
    """A release and its customers."""

    name: str
    requests_per_second: float
    error_percent: float
    ports: Sequence[int]
    asked: int = 0
    failed: int = 0
    noticed_seconds: float | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        """Requests at random times, until `ended`."""
        pods = [HTTPConnection("127.0.0.1", port, timeout=10) for port in self.ports]
        routes, parts = list(ROUTES), list(ROUTES.values())
        due = time.monotonic()
        while True:
            due += random.expovariate(self.requests_per_second)
            if self.ended.wait(max(0.0, due - time.monotonic())):
                return
            pod = random.choice(pods)  # noqa: S311 (traffic)
            pod.request("GET", random.choices(routes, parts)[0])  # noqa: S311 (traffic)
            answer = pod.getresponse()
            answer.read()
            self.asked += 1
            self.failed += answer.status == 500


@contextmanager
def watched(monitoring: Monitoring, shops: Sequence[Shop], stores: int, folder: Path) -> Iterator[str]:
    """The URL of a Prometheus with the program's rules, scrapes and evaluations."""
    for name, rules in rule_files([within(triggers(monitoring, ["backend"]), "shop")], "shop").items():
        (folder / name).write_text(json.dumps(rules))
    targets = {"backend": [port for shop in shops for port in shop.ports], "stores": [stores]}
    config = {
        "global": {
            "scrape_interval": f"{monitoring.scrape_seconds}s",
            "scrape_timeout": f"{monitoring.scrape_seconds}s",
            "evaluation_interval": f"{monitoring.evaluation_seconds}s",
        },
        "rule_files": ["*.rules.yaml"],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [
                    {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"namespace": "shop"}}
                ],
            }
            for job, ports in targets.items()
        ],
    }
    with serve_prometheus(folder, config) as url:
        yield url


def firing(url: str) -> set[str]:
    """Releases that the alert blames now."""
    alerts = httpx.get(f"{url}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
    return {
        alert["labels"]["release"]
        for alert in alerts
        if alert["labels"]["alertname"] == _ALERT and alert["state"] == "firing"
    }


def await_known_stores(url: str, seconds: int) -> None:
    """Until the data services were known to be there for so long, nothing counts."""
    known = f"min_over_time(pg_up[{seconds}s:1s]) == 1 and count_over_time(pg_up[{seconds}s:1s]) >= {seconds}"
    while not query(url, known):
        time.sleep(1)


def measure(_runs: int) -> dict[str, Any]:
    monitoring = Monitoring()
    with ExitStack() as stack:
        shops: list[Shop] = []
        for rate, count in _RATES.items():
            for errors in (*_ERRORS, _INNOCENT):
                for number in range(count):
                    name = f"{rate:g}-{errors}-{number}"
                    ports = [stack.enter_context(Pod(name, errors).serving()) for _ in range(PODS)]
                    shops.append(Shop(name, rate, errors, ports))
        stores = stack.enter_context(serve(lambda _path: (200, _STORES.encode())))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(watched(monitoring, shops, stores, folder))
        await_known_stores(url, monitoring.notice_seconds + monitoring.triggers.data_grace_seconds + 10)
        began = time.monotonic()
        for shop in shops:
            threading.Thread(target=shop.send, daemon=True).start()
        while (passed := time.monotonic() - began) < _HOUR:
            found = firing(url)
            for shop in shops:
                if shop.name in found and shop.noticed_seconds is None:
                    shop.noticed_seconds = round(passed, 1)
                    print(f"  {shop.name}: after {passed:.0f} s, {shop.asked} requests", flush=True)
                    if shop.error_percent != _INNOCENT:
                        shop.ended.set()
            time.sleep(1)
        for shop in shops:
            shop.ended.set()
    return {"triggers_on_real_traffic": _summary(shops)}


def _summary(shops: Sequence[Shop]) -> dict[str, Any]:
    rows = []
    for rate in _RATES:
        for errors in (*_ERRORS, _INNOCENT):
            some = [shop for shop in shops if (shop.requests_per_second, shop.error_percent) == (rate, errors)]
            seconds = sorted(shop.noticed_seconds for shop in some if shop.noticed_seconds is not None)
            row: dict[str, Any] = {"requests_per_second": rate, "error_percent": errors, "releases": len(some)}
            row |= {"blamed": len(seconds), "seconds_to_decision": seconds}
            row["median_seconds"] = median(seconds) if seconds else None
            row["requests"] = {"asked": [shop.asked for shop in some], "failed": [shop.failed for shop in some]}
            rows.append(row)
    return {
        "what": "seconds from a release's first request until RollbackErrorRate fires, within an hour; real requests "
        "over HTTP to two pods, three routes, counted by prometheus_client, scraped and judged by a real Prometheus "
        "with the program's rules at their defaults; a release that is blamed gets no more requests",
        "releases": rows,
    }
