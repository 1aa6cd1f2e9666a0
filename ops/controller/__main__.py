"""`python -m ops.controller`: from the first readiness check to SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import httpx
from lightkube import Client

from ops.adapters.cluster import Cluster
from ops.controller.alerts import Alertmanager
from ops.controller.journal import Journal
from ops.controller.lease import LeaderLease
from ops.controller.metrics import Metrics
from ops.controller.notify import Slack, log
from ops.controller.reporter import Reporter
from ops.controller.web import Webhook, server
from ops.controller.worker import Worker
from ops.controller.workspace import PodEnvironment, Workspace

_PROJECT = Path(__file__).resolve().parents[2]


def main() -> int:
    place, counts, ready = PodEnvironment.of_the_pod(), Metrics(), threading.Event()
    client = Client(namespace=place.namespace, timeout=httpx.Timeout(5.0))
    stack, lease, journal = Workspace(place, _PROJECT), LeaderLease(client, place.pod), Journal(client)
    cluster, alertmanager = Cluster(place.namespace, {}), Alertmanager(place.alertmanager)
    reporter = Reporter(place.namespace, cluster, journal, Slack(place.slack, counts), counts)
    worker = Worker(stack, cluster, journal, reporter, counts, alertmanager)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    webhook = Webhook(place.token, alertmanager, worker, counts)
    # Healthy also while it waits for the lease that another controller holds.
    serving = server(place.port, webhook, counts, lambda: not ready.is_set() or lease.alive, ready.is_set)
    threading.Thread(target=serving.serve_forever, name="web", daemon=True).start()
    if lease.acquire(worker.stopping):
        try:
            counts.gauge("leader", 1)
            journal.load()
            _ = stack.session.engine  # loaded before the first alert
            ready.set()
            log("ready", pod=place.pod)
            worker.resume()
            worker.run()
        finally:
            ready.clear()
            lease.release()
    log("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
