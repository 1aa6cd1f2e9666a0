"""Renames the metrics of requests at each scrape, so that every alert and dashboard asks for one name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from settings.request_metrics import REQUESTS, Requests

_PARTS = f"{REQUESTS}_(count|bucket)"


def relabelings(requests: Requests) -> list[dict[str, Any]]:
    """Prometheus' `metric_relabel_configs` for these names; none where they are what alerts ask for."""
    names, found = requests.names, list[dict[str, Any]]()
    for part, name in (("count", names.count), ("bucket", names.bucket)):
        if name != f"{REQUESTS}_{part}":
            renamed = {"target_label": "__name__", "replacement": f"{REQUESTS}_{part}"}
            found.append({"source_labels": ["__name__"], "regex": name, **renamed})
    for label, theirs in (("route", names.route), ("status", names.status)):
        if theirs and theirs != label:
            copied = {"target_label": label, "replacement": "$2"}
            found.append({"source_labels": ["__name__", theirs], "regex": f"{_PARTS};(.+)", **copied})
    return found


def controller_relabelings(requests: Requests, namespace: str, services: Iterable[str]) -> list[dict[str, Any]]:
    """Of the ingress controller's metrics, only requests to this stack's services, renamed. Another service of the
    namespace, such as the gate of a lockdown, does not count."""
    names, ours = requests.names, "|".join(services)
    label, value = {
        # Traefik: namespace-service-port@kubernetes.
        "traefik": ("service", f"{namespace}-({ours})-[^-]+@kubernetes"),
        "ingress-nginx": ("service", f"({ours})"),
    }[requests.preset]
    wanted = f"({names.count}|{names.bucket});{value}|process_start_time_seconds;.*"
    kept = [{"source_labels": ["__name__", label], "regex": wanted, "action": "keep"}]
    if requests.preset == "ingress-nginx":
        where = f"process_start_time_seconds;.*|.+;{namespace}"
        kept.append({"source_labels": ["__name__", "namespace"], "regex": where, "action": "keep"})
    return [*kept, *relabelings(requests)]
