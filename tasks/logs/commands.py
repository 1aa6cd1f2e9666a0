"""`python -m tasks logs`: security events in the log lines of an application's pods, for Prometheus.

It follows the log of every pod with a label and counts; no text of a line is stored, printed or exported. Lines are
JSON objects, as winston writes them; others are counted as `not_json`. Lines written before it began are not counted:
after a restart nothing counts twice, and the alert `MetricsMissing` reports that it was down.

Environment: LOGS_NAMESPACE, LOGS_SELECTOR (which pods, as in `kubectl --selector`), LOGS_EVENTS (the events to count,
as JSON: `{"sql_injection": {"field": "event", "pattern": "^sql_injection$"}}`, and `"source"`, the field with the
client's address, where events count for each source); each optional: LOGS_PORT (9189),
LOGS_HOST (all addresses), LOGS_API_URL and LOGS_IDENTITY (the API server, and the folder with `token` and `ca.crt`; a
pod has both). From a shell, with `kubectl proxy` running: LOGS_API_URL=http://127.0.0.1:8001.
Paths: /metrics, /healthz, /readyz (ready after the first list of pods, even if it failed).

    runbook_log_events_total{event,pod}         lines that report an event; 0 as soon as the pod exists; with `source`
                                                also the label source, one of 32 groups of clients
    runbook_log_lines_total{pod,level}          lines by level; level is also other, not_json, too_long
    runbook_log_read_timestamp_seconds{pod}     of a pod that serves: when a line was read, or since when it serves
    runbook_log_watch_up                        1 while the watch on the pods works
"""

from __future__ import annotations

import argparse
import asyncio
import signal

from tasks.environment import Environment
from tasks.logs.api import Api
from tasks.logs.counts import Counts, events_of
from tasks.logs.pods import count_pods
from tasks.progress import say
from tasks.result import Result
from tasks.serving import serve

_PORT = 9189


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)


def _run(_arguments: argparse.Namespace, environment: Environment) -> Result:
    namespace = environment.required("LOGS_NAMESPACE", "shop")
    selector = environment.required("LOGS_SELECTOR", "app.kubernetes.io/component=service")
    port = environment.integer("LOGS_PORT", least=1) or _PORT
    counts = Counts(events_of(environment))

    async def count() -> None:
        counting = asyncio.create_task(count_pods(Api(environment), namespace, selector, counts))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, counting.cancel)
        await asyncio.wait([counting])
        if not counting.cancelled():
            counting.result()

    server = serve(environment.text("LOGS_HOST") or "", port, counts)
    say(f"logs: listening on port {server.server_port}")
    try:
        asyncio.run(count())
    finally:
        server.shutdown()
    return Result({}, "ended")
