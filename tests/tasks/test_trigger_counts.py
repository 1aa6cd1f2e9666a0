"""A real Prometheus counts what a pod answered: each first error once, whenever it scrapes and evaluates the rules."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.alerts.release import triggers
from monitoring.alerts.render import rule_files
from monitoring.alerts.requests import COUNT
from monitoring.alerts.rule import within
from settings import Monitoring
from settings.monitoring import Triggers
from tests.support import http_servers
from tests.support.prometheus import await_answer, query_number, serve_prometheus

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
    class Handler(http_servers.Handler):
        def do_GET(self) -> None:
            self.answer_metrics(pod.text())

    with http_servers.serve(Handler) as port:
        yield port


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    domain = within(triggers(MONITORING, ["backend"]), "shop")
    for name, rules in rule_files([domain], "shop").items():
        (folder / name).write_text(json.dumps(rules))
    job = {
        "job_name": "backend",
        "static_configs": [{"targets": [f"127.0.0.1:{target}"], "labels": {"namespace": "shop"}}],
    }
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = {"global": every, "rule_files": ["*.rules.yaml"], "scrape_configs": [job]}
    with serve_prometheus(folder, config) as url:
        yield url


def test_each_request_is_counted_once(tmp_path: Path) -> None:
    pod = Pod()
    counted = {what: f"sum(sum_over_time(triggers:{what}:step[5m]))" for what in ("errors", "requests")}
    with exporting(pod) as target, prometheus(tmp_path, target) as url:

        def ask(expr: str) -> float:
            return query_number(url, expr) or 0

        # Until the exporters of the data services were scraped, their state is unknown, and nothing counts.
        await_answer(ask, "pg_up", 1, seconds=60)
        await_answer(ask, f"count_over_time(triggers:data:away[{MONITORING.notice_seconds + 2}s])", 0, seconds=60)
        for number in range(ERRORS):
            # Each error in a counter of its own, which appears with it.
            pod.answer(f"/{number}", 500)
            for _ in range(ANSWERS // ERRORS - 1):
                pod.answer("/shop", 200)
            if number == ERRORS // 2:
                # Wait for a scrape: what a process counted after its last one is lost with it.
                await_answer(ask, f'sum({COUNT}{{status="500"}})', number + 1, seconds=60)
                pod.start_again()
            time.sleep(0.1)
        await_answer(ask, counted["errors"], ERRORS, seconds=60)
        await_answer(ask, counted["requests"], ANSWERS, seconds=60)
        seen = time.time()
        await_answer(ask, f"timestamp(vector(1)) > bool {seen + 5}", 1, seconds=60)
        assert ask(counted["errors"]) == ERRORS, "none is counted twice"
        assert ask(counted["requests"]) == ANSWERS
        assert ask('count(ALERTS{alertname="RollbackErrorRate",alertstate="firing"})') == 1
