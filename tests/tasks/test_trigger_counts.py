"""A real Prometheus counts what a pod answered: each first error once, whenever it scrapes and evaluates the rules."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from monitoring.alerts.release import triggers
from monitoring.alerts.render import rule_files
from monitoring.alerts.requests import COUNT
from monitoring.alerts.rule import within
from sandbox import packages
from settings import Monitoring
from settings.monitoring import Triggers
from tests.support.servers import free_ports, running

ERRORS, ANSWERS = 60, 240
MONITORING = Monitoring(scrape_seconds=1, evaluation_seconds=1, triggers=Triggers(data_grace_seconds=0))


class Pod:
    """What a pod of a service and the exporters of the data services export."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.started = time.time()
        self._change = threading.Lock()

    def answer(self, route: str, status: int) -> None:
        with self._change:
            self.answers[f'{COUNT}{{route="{route}",status="{status}",release="2",git="b"}}'] += 1

    def start_again(self) -> None:
        with self._change:
            self.answers.clear()
            self.started = time.time()

    def text(self) -> str:
        with self._change:
            lines = [f"{name} {count}" for name, count in self.answers.items()]
        return "\n".join([*lines, f"process_start_time_seconds {self.started}", "pg_up 1", "redis_up 1", ""])


@contextmanager
def exporting(pod: Pod) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(pod.text().encode())

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    (port,) = free_ports(1)
    domain = within(triggers(MONITORING, ["backend"]), "shop")
    for name, rules in rule_files([domain], "shop").items():
        (folder / name).write_text(json.dumps(rules))
    job = {
        "job_name": "backend",
        "static_configs": [{"targets": [f"127.0.0.1:{target}"], "labels": {"namespace": "shop"}}],
    }
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = {"global": every, "rule_files": ["*.rules.yaml"], "scrape_configs": [job]}
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    command = [
        packages.require("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, "Server is ready"):
        yield f"http://127.0.0.1:{port}"


def ask(url: str, query: str) -> float:
    found = httpx.get(f"{url}/api/v1/query", params={"query": query}).raise_for_status().json()["data"]["result"]
    return float(found[0]["value"][1]) if found else 0


def until(url: str, query: str, wanted: float, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while (found := ask(url, query)) != wanted:
        assert time.monotonic() < end, f"{query} is {found}, not {wanted}"
        time.sleep(0.2)


def test_each_request_is_counted_once(tmp_path: Path) -> None:
    pod = Pod()
    counted = {what: f"sum(sum_over_time(triggers:{what}:step[5m]))" for what in ("errors", "requests")}
    with exporting(pod) as target, prometheus(tmp_path, target) as url:
        # Until the exporters of the data services were scraped, their state is unknown, and nothing counts.
        until(url, "pg_up", 1)
        until(url, f"count_over_time(triggers:data:away[{MONITORING.notice_seconds + 2}s])", 0)
        for number in range(ERRORS):
            # Each error in a counter of its own, which appears with it.
            pod.answer(f"/{number}", 500)
            for _ in range(ANSWERS // ERRORS - 1):
                pod.answer("/shop", 200)
            if number == ERRORS // 2:
                # Wait for a scrape: what a process counted after its last one is lost with it.
                until(url, f'sum({COUNT}{{status="500"}})', number + 1)
                pod.start_again()
            time.sleep(0.1)
        until(url, counted["errors"], ERRORS)
        until(url, counted["requests"], ANSWERS)
        seen = time.time()
        until(url, f"timestamp(vector(1)) > bool {seen + 5}", 1)
        assert ask(url, counted["errors"]) == ERRORS, "none is counted twice"
        assert ask(url, counted["requests"]) == ANSWERS
        assert ask(url, 'count(ALERTS{alertname="RollbackErrorRate",alertstate="firing"})') == 1
