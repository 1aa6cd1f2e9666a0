"""An application that exports more series than it may, scraped by a real Prometheus with the program's options."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from monitoring.alerts.render import as_yaml
from monitoring.alerts.rule import within
from monitoring.alerts.self_monitoring import watching
from monitoring.prometheus import OPTIONS, scrape_limits
from sandbox import packages
from settings import Monitoring
from settings.servers import Prometheus
from tests.support.servers import free_ports, running

LIMIT = 100


class Application(BaseHTTPRequestHandler):
    """A series for each raw path."""

    paths = 0

    def do_GET(self) -> None:
        lines = "".join(f'http_requests_total{{path="/product/{n}"}} 1\n' for n in range(Application.paths))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(lines.encode())

    def log_message(self, format: str, *args: Any) -> None: ...


def test_a_target_beyond_its_limit_is_refused_and_reported(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (port,) = free_ports(1)
    monitoring = Monitoring(prometheus=Prometheus(sample_limit=LIMIT))
    rules = within(watching(monitoring, None, backups=False, application=True), "shop").alerts
    (near,) = [alert for alert in rules if alert.name == "SamplesNearLimit"]
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
        "scrape_configs": [
            {
                "job_name": "backend",
                **scrape_limits(monitoring),
                "static_configs": [{"targets": [f"127.0.0.1:{server.server_port}"]}],
                "relabel_configs": [{"target_label": "namespace", "replacement": "shop"}],
            }
        ],
    }
    (tmp_path / "prometheus.yaml").write_text(as_yaml(config))
    command = [
        packages.require("prometheus"), f"--config.file={tmp_path}/prometheus.yaml",
        f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}", *OPTIONS,
    ]  # fmt: skip

    def ask(query: str) -> float | None:
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query}).json()
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def await_(query: str, wanted: float) -> None:
        deadline = time.monotonic() + 30
        while (found := ask(query)) != wanted:
            assert time.monotonic() < deadline, f"{query}: {found}, {json.dumps(config)}"
            time.sleep(0.05)

    try:
        with running(command, "Server is ready"):
            Application.paths = 80
            await_(near.measure, 80)
            await_('up{job="backend"}', 1)
            assert ask(near.expr) is None
            Application.paths = 101
            await_(near.expr, 101)
            await_('up{job="backend"}', 0)
    finally:
        server.shutdown()
        server.server_close()
