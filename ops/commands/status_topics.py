"""`runbook status health|performance|security` (HerbisVeritas "Status Commands")."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ops.adapters.cluster import Cluster
from ops.causes.pods import is_ready, problems
from ops.commands import measures
from ops.commands.health import read_health
from ops.commands.measures import measure
from ops.commands.status import list_servers
from ops.decisions.release_state import describe_lockdown
from ops.errors import Refused
from ops.stack import incidents, stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings, outputs, require_application
from settings import StackSettings

Topic = Literal["health", "performance", "security"]
TOPICS: tuple[Topic, ...] = ("health", "performance", "security")
_DAY = 86_400
_SHOWN = ("name", "ready", "wanted", "settled")
_SERVICES = "app.kubernetes.io/part-of=runbook"


def read_topic(session: Session, topic: Topic, span: int) -> dict[str, Any]:
    """What is known of a topic; `span` is the seconds that rates are over. `healthy` decides the exit code."""
    settings = load_settings(session.file)
    cluster = session.cluster(settings, stack_file.read(session.file).config)
    read = {"health": _health, "performance": _performance, "security": _security}[topic]
    return {"stack": session.stack, "topic": topic, **read(session, settings, cluster, span)}


def _health(session: Session, settings: StackSettings, cluster: Cluster, _span: int) -> dict[str, Any]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        state_ = pool.submit(session.reader.read_state)
        services_ = pool.submit(_read_services, settings, cluster)
        pods_ = pool.submit(read_unwell_pods, cluster)
        measured_ = pool.submit(measure, settings, cluster, measures.ALERTS)
        url = outputs(state_.result()).get("url")
        report = read_health(url, settings.health_path) if isinstance(url, str) else None
        services = services_.result()
        unwell, measured = pods_.result(), measured_.result()
    alerts = measured.alerts()
    critical = [one for one in alerts or () if one["severity"] == "critical"]
    if settings.application.services:
        serves = report is not None and not report.bad and report.status is not None and bool(services)
    else:
        serves = True
    return {
        "url": url if isinstance(url, str) else None,
        "status": report.status if report else None,
        "detail": report.detail if report else None,
        "checks": [dict(one) for one in report.checks] if report else [],
        "services": services,
        "pods": unwell,
        "alerts": alerts,
        "notes": measured.notes,
        "healthy": serves and all(one["settled"] for one in services) and not critical,
    }


def _read_services(settings: StackSettings, cluster: Cluster) -> list[dict[str, Any]]:
    """Without an application, the stack's own servers."""
    if not settings.application.services:
        return [{key: one[key] for key in _SHOWN} for one in list_servers(cluster.read_workloads())]
    return [
        {"name": one.service, "ready": one.ready, "wanted": one.wanted, "settled": one.settled}
        for one in cluster.rollouts(settings.application.services)
    ]


def read_unwell_pods(cluster: Cluster) -> list[dict[str, str]]:
    """Pods of the stack that are not as they should be, and why; a Job's pod that has ended is none."""
    with cluster.http() as http:
        answer = http.get(f"/api/v1/namespaces/{cluster.namespace}/pods", params={"labelSelector": _SERVICES})
        if answer.is_error:
            raise Refused(f"The API server refused the list of pods ({answer.status_code}): {answer.text[:200]}")
        items = answer.json()["items"]
    found = []
    for pod in items:
        phase = (pod.get("status") or {}).get("phase")
        if phase == "Succeeded" or is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
            continue
        why = next((one.text for one in problems(pod)), f"not ready (phase {phase})")
        found.append({"name": pod["metadata"]["name"], "problem": why})
    return found


def _performance(session: Session, settings: StackSettings, cluster: Cluster, span: int) -> dict[str, Any]:
    require_application(session, "measure")
    monitoring = settings.monitoring
    queries: Mapping[str, str] = {}
    if monitoring:
        queries = {
            **measures.requests(monitoring, span),
            **measures.routes(monitoring, span),
            **measures.CONTAINERS,
            "alerts": 'ALERTS{alertstate="firing",channel="performance"}',
        }
    measured = measure(settings, cluster, queries)
    limit = monitoring.triggers.response_milliseconds / 1000 if monitoring else None
    errors, slow = measured.number("errorPercent"), measured.number("p95")
    cpu, memory = measured.by("cpu", "pod"), measured.by("memory", "pod", 0)
    most = monitoring.critical.error_rate_percent if monitoring else None
    bad = bool(most is not None and errors is not None and errors > most) or bool(limit and slow and slow > limit)
    if measured.samples("perSecond") is not None and not measured.number("perSecond"):
        measured.notes.append(f"no customer's request within {span} s, so there are no times")
    return {
        "spanSeconds": span,
        "requestsPerSecond": measured.number("perSecond"),
        "errorPercent": errors,
        "errorLimitPercent": most,
        "seconds": {name: measured.number(name) for name in ("p50", "p95", "p99")},
        "limitSeconds": limit,
        "slowRoutes": measured.by("slowRoutes", "route"),
        "failingRoutes": measured.by("failingRoutes", "route"),
        "cpuCores": cpu,
        # Prometheus remembers the memory of pods that are gone for some minutes; a rate ends with the pod.
        "memoryBytes": memory and {pod: used for pod, used in memory.items() if cpu is None or pod in cpu},
        "alerts": measured.alerts(),
        "notes": measured.notes,
        "healthy": bool(measured.samples("perSecond") is not None) and not bad,
    }


def _security(_session: Session, settings: StackSettings, cluster: Cluster, _span: int) -> dict[str, Any]:
    refused = measures.count_requests('{status=~"401|403|429"}', _DAY)
    queries = {
        "alerts": 'ALERTS{alertstate="firing",channel="security"}',
        "events": "sum by (event) (increase(runbook_log_events_total{}[1d]))",
        "refused": f"sum by (status) {refused}",
        **measures.SECRETS,
    }
    with ThreadPoolExecutor(max_workers=3) as pool:
        measured_ = pool.submit(measure, settings, cluster, queries)
        clock_ = pool.submit(cluster.read_clock)
        records_ = pool.submit(incidents.list_incidents, cluster)
        measured, now = measured_.result(), clock_.result().now()
        records = [one for one in records_.result() if "closedAt" not in one]
    overdue = measured.samples("overdue")
    alerts = measured.alerts()
    locked = describe_lockdown(settings.lockdown, now)
    return {
        "lockdown": locked,
        "incidents": [{key: one.get(key) for key in ("name", "kind", "openedAt", "reason")} for one in records],
        "quarantine": [item.to_config() for item in settings.quarantine],
        "alerts": alerts,
        "eventsOfADay": measured.by("events", "event", 0),
        "refusedOfADay": measured.by("refused", "status", 0),
        "overdueSecrets": None if overdue is None else sorted(one.labels.get("secret", "?") for one in overdue),
        "rotating": None
        if measured.samples("rotating") is None
        else {
            one.labels.get("secret", "?"): one.labels.get("phase", "?") for one in measured.samples("rotating") or ()
        },
        "notes": measured.notes,
        "healthy": locked["state"] == "off" and not alerts and not overdue,
    }
