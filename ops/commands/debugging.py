"""`runbook debug …` (HerbisVeritas "Debugging Commands"): reads, from outside and in the application's network."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ops.adapters.cluster import Cluster
from ops.adapters.pod_logs import PodLogs
from ops.adapters.prometheus import prometheus_of
from ops.adapters.task_jobs import TaskFailed, Tasks
from ops.commands.measures import count_requests
from ops.decisions.log_lines import RefusedRequests
from ops.decisions.slow_phase import judge_phases
from ops.errors import OpsError, Refused
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings import Command, StackSettings
from settings.operations import OPERATIONS

_PHASE_SECONDS = 15.0
REFUSED = (401, 403, 429)
_SOURCES = 20


def _connect(session: Session) -> tuple[StackSettings, Cluster, Tasks]:
    settings = load_settings(session.file)
    cluster = session.cluster(settings, stack_file.read(session.file).config)
    return settings, cluster, Tasks(cluster, session.say)


def debug_performance(session: Session, url: str, times: int) -> dict[str, Any]:
    """The phases of requests to a path, or a URL of the shop: as customers send them, and from a pod to the service."""
    from tasks.operations.request_phases import measure

    settings, _, tasks = _connect(session)
    public, inside = find_urls(settings, url)
    words = ["request", "--url", inside, "--times", str(times), "--seconds", f"{_PHASE_SECONDS:g}"]
    if host := settings.application.host_header:
        words += ["--host", host]
    with ThreadPoolExecutor(max_workers=1) as pool:
        inside_ = pool.submit(_or_error, lambda: tasks.debug(*words), inside)
        outside = measure(public, {}, times, _PHASE_SECONDS)
        found = {"outside": outside, "inside": inside_.result()}
    return {**found, "conclusion": judge_phases(found["outside"], found["inside"])}


def find_urls(settings: StackSettings, url: str) -> tuple[str, str]:
    """The customers' URL and that inside the namespace, of a path or of a URL of the shop."""
    if settings.ingress is None:
        raise Refused("This stack has no ingress (runbook:ingress): customers have no URL that could be measured.")
    parts, shop = urlsplit(url), urlsplit(settings.ingress.url)
    if parts.scheme and (parts.scheme, parts.netloc) != (shop.scheme, shop.netloc):
        raise Refused(f"{url} is not below {settings.ingress.url}: write a path, such as /shop.")
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    if not path.startswith("/"):
        path = f"/{path}"
    return f"{settings.ingress.url}{path}", f"{settings.application.internal_url(path)}{path}"


def _or_error(work: Any, url: str) -> dict[str, Any]:
    """The measurement, or why there is none: the other one is worth showing by itself."""
    try:
        return work()
    except TaskFailed as failed:
        return {"url": url, "answered": 0, "phase": "job", "error": str(failed)}


def debug_database(session: Session, least_ms: int | None) -> dict[str, Any]:
    """Slow queries, locks and bloat of the application's database."""
    settings, _, tasks = _connect(session)
    wanted = settings.operations
    least = least_ms or wanted.slow_query_ms
    return tasks.debug("database", "--least-ms", str(least), "--seconds", str(wanted.query_seconds))


def debug_security(session: Session, since_seconds: int) -> dict[str, Any]:
    """Refused requests by client, from the logs; security events and refusals, from the metrics."""
    settings, cluster, _ = _connect(session)
    names = settings.operations.request_log.to_config()
    refused = RefusedRequests(REFUSED, names)
    for line in PodLogs(cluster).read(since_seconds):
        refused.count(line)
    notes: list[str] = []
    if not refused.requests:
        notes.append(
            f"No log line of this time has the field {names['status']}, so requests cannot be counted from logs: name "
            f"the application's fields in {OPERATIONS}.requestLog."
        )
    elif refused.sources.keys() == {None}:
        notes.append(
            f"No line about a refused request has the field {names['source']}, so all clients count together: let the "
            f"application log the client's address, and name the field in {OPERATIONS}.requestLog.source."
        )
    return {
        "sinceSeconds": since_seconds,
        "requestsInLogs": refused.requests,
        "sources": [one.to_json() for one in refused.worst(_SOURCES)],
        **_security_metrics(settings, cluster, since_seconds, notes),
        "notes": notes,
    }


def _security_metrics(
    settings: StackSettings, cluster: Cluster, since_seconds: int, notes: list[str]
) -> dict[str, Any]:
    """What Prometheus knows; None for what it does not."""
    span = f"[{since_seconds}s]"
    matchers = f'{{status=~"{"|".join(map(str, REFUSED))}"}}'
    queries = {
        "alerts": 'ALERTS{alertstate="firing",channel="security"}',
        "events": f"sum by (event) (increase(runbook_log_events_total{{}}{span}))",
        "refused": f"sum by (status) {count_requests(matchers, since_seconds)}",
    }
    try:
        found = prometheus_of(settings, cluster).query_all(queries)
    except OpsError as error:
        notes.append(f"Nothing from metrics: {error.brief}.")
        return dict.fromkeys(queries)
    made: dict[str, Any] = {}
    for name, label in (("alerts", "alertname"), ("events", "event"), ("refused", "status")):
        samples = found[name]
        if isinstance(samples, str):
            notes.append(f"No {name} from metrics: {samples}")
            made[name] = None
        else:
            made[name] = {one.labels.get(label, "?"): round(one.value) for one in samples}
    return made


def debug_rate_limits(session: Session, user: str) -> dict[str, Any]:
    """What a user has used of the application's limits."""
    settings, _, tasks = _connect(session)
    limits = settings.operations.rate_limits
    if limits is None:
        raise Refused(
            f"{session.file.name} does not say where the application keeps its rate limits. Write\n"
            f"  {OPERATIONS}:\n    rateLimits:\n      keys: ['ratelimit:*:{{user}}']\n"
            "for keys in Redis, or `command: {run: npm run ratelimit:show -- {user}}` for a command of the release. No "
            "deploy is needed."
        )
    if limits.command:
        # Each line is split into words before the user is put in: a name with spaces stays one word.
        lines = tuple(shlex.join(word.replace("{user}", user) for word in argv) for argv in limits.command.argvs)
        command = Command(run=lines, timeout_seconds=limits.command.timeout_seconds)
        printed = tasks.run_release_command("rate-limits", command)
        return {"user": user, "keys": None, "printed": _parse(printed)}
    words = ["rate-limits", "--user", user, "--variable", limits.url]
    found: Mapping[str, Any] = tasks.debug(*words, *(word for key in limits.keys for word in ("--key", key)))
    return {**found, "printed": None}


def _parse(printed: str) -> Any:
    try:
        return json.loads(printed)
    except ValueError:
        return printed
