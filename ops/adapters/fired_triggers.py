"""Which triggers of a rollback or a lockdown fired in a time: by the controller's records and by Prometheus."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ops.adapters.cluster import Cluster
from ops.adapters.environment import read_objects
from ops.errors import NotMeasured
from ops.stack.incidents import LABEL

_KINDS = ("alert", "rollback", "lockdown")
"""Kinds of records that a trigger opens; an operator's own are others."""
_QUERY = 'max by (alertname) (max_over_time(ALERTS{{alertstate="firing",action=~"rollback|lockdown"}}[{seconds}s]))'


@dataclass(frozen=True)
class Fired:
    """One trigger that fired."""

    name: str
    """Of the alert; of a record without one, its kind."""
    shown_by: str
    """The record, or `Prometheus`."""
    at: datetime | None = None
    """None where only Prometheus knows that it did."""

    def __str__(self) -> str:
        when = f" at {self.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if self.at else ""
        return f"{self.name}{when} ({self.shown_by})"


def read_records(cluster: Cluster, since: datetime) -> list[Fired]:
    """What the rollback controller recorded since then. Raises NotMeasured where this identity may not read it."""
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps"
    found = (_read_record(item) for item in read_objects(cluster, path, labelSelector=LABEL))
    return [fired for fired in found if fired and fired.at and fired.at >= since]


def read_alerts(cluster: Cluster, since: datetime, now: datetime) -> list[Fired]:
    """What Prometheus of the stack saw firing since then. Raises NotMeasured where it cannot be asked."""
    query = _QUERY.format(seconds=max(math.ceil((now - since).total_seconds()), 1))
    path = f"/api/v1/namespaces/{cluster.namespace}/services/prometheus:9090/proxy/api/v1/query"
    with cluster.http() as http:
        answer = http.get(path, params={"query": query})
    if answer.is_error:
        raise NotMeasured(f"Prometheus cannot be asked through the API server ({answer.status_code})")
    try:
        series = answer.json()["data"]["result"]
        return [Fired(item["metric"]["alertname"], "Prometheus") for item in series]
    except (ValueError, KeyError, TypeError):
        raise NotMeasured("Prometheus gave no answer that can be read") from None


def _read_record(item: Mapping[str, Any]) -> Fired | None:
    try:
        record = json.loads(item["data"]["record.json"])
        if record["kind"] not in _KINDS:
            return None
        alert = record.get("alert")
        name = alert["labels"].get("alertname") if isinstance(alert, Mapping) else alert
        return Fired(
            str(name or record["kind"]),
            f"record {item['metadata']['name']}",
            datetime.fromisoformat(record["openedAt"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
