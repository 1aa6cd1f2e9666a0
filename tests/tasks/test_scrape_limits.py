"""An application that exports more series than it may, scraped by a real Prometheus with the program's options."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from monitoring.alerts.rule import within
from monitoring.alerts.self_monitoring import watching
from monitoring.prometheus import scrape_limits
from settings import Monitoring
from settings.servers import Prometheus
from tests.support import http_servers
from tests.support.prometheus import await_answer, query_number, serve_prometheus

LIMIT = 100


class Application(http_servers.Handler):
    """A series for each raw path."""

    paths = 0

    def do_GET(self) -> None:
        lines = "".join(f'http_requests_total{{path="/product/{n}"}} 1\n' for n in range(Application.paths))
        self.answer_metrics(lines)


def test_a_target_beyond_its_limit_is_refused_and_reported(tmp_path: Path) -> None:
    monitoring = Monitoring(prometheus=Prometheus(sample_limit=LIMIT))
    rules = within(watching(monitoring, None, backups=False, application=True), "shop").alerts
    (near,) = [alert for alert in rules if alert.name == "SamplesNearLimit"]
    target: dict[str, Any] = {
        "job_name": "backend",
        **scrape_limits(monitoring),
        "relabel_configs": [{"target_label": "namespace", "replacement": "shop"}],
    }
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
        "scrape_configs": [target],
    }
    with http_servers.serve(Application) as port:
        target["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
        with serve_prometheus(tmp_path, config) as url:
            ask = partial(query_number, url)
            Application.paths = 80
            await_answer(ask, near.measure, 80)
            await_answer(ask, 'up{job="backend"}', 1)
            assert ask(near.expr) is None
            Application.paths = 101
            await_answer(ask, near.expr, 101)
            await_answer(ask, 'up{job="backend"}', 0)
