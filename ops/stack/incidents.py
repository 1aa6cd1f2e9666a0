"""Incident records: ConfigMaps in the stack's namespace."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from lightkube import ApiError, Client
from lightkube.models.core_v1 import ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.operators import exists
from lightkube.resources.core_v1 import ConfigMap, Event
from lightkube.types import PatchType

from ops.adapters.cluster import Cluster
from ops.stack.locks import whoami

LABEL = "runbook/incident"
_ENTRY, _ATTEMPTS = "entry-", 10
KEPT_DAYS, _MOST = 365, 200
"""Records older than this are deleted when another one is opened; of more than so many, the oldest reports of the
controller, too. Their Events are deleted by the API server, after an hour by default."""
_REPORTS = ("alert", "update")
"""Kinds that are written often. The others are what the status page computes its uptime from."""


def open_incident(cluster: Cluster, kind: str, facts: Mapping[str, Any], name: str | None = None) -> str:
    """Open a record and return its name. An Event shows it to tools that watch the namespace.

    Refused when `name` is taken, by another command that opened it at the same time.
    """
    now = datetime.now(UTC)
    # Two of a kind may be opened within a second.
    name = name or f"incident-{kind}-{now:%Y%m%dt%H%M%Sz}-{secrets.token_hex(2)}"
    record = {"kind": kind, "by": whoami(), "openedAt": now.isoformat(timespec="seconds"), **facts}
    metadata = ObjectMeta(name=name, namespace=cluster.namespace, labels={LABEL: kind})
    with cluster.patient() as client:
        made = client.create(ConfigMap(metadata=metadata, data={"record.json": json.dumps(record, indent=2)}))
        client.create(
            Event(
                metadata=ObjectMeta(generateName=f"{name}-", namespace=cluster.namespace),
                involvedObject=ObjectReference(
                    apiVersion="v1", kind="ConfigMap", name=name, namespace=cluster.namespace
                ),
                reason="IncidentOpened",
                message=f"{kind} by {whoami()}: {facts.get('reason') or 'no reason given'}",
                type="Warning",
                firstTimestamp=now,
                lastTimestamp=now,
                count=1,
            )
        )
        _delete_old(client, made)
    return name


def _delete_old(client: Client, newest: ConfigMap) -> None:
    """Delete the records that are too old, or too many, by the API server's own times."""
    now = newest.metadata and newest.metadata.creationTimestamp
    if now is None:
        return
    found = [
        (meta.creationTimestamp, meta.name, _is_closed_report(each))
        for each in client.list(ConfigMap, labels={LABEL: exists()})
        if (meta := each.metadata) and meta.creationTimestamp and meta.name
    ]
    for place, (made, name, report) in enumerate(sorted(found, reverse=True)):
        if now - made > timedelta(days=KEPT_DAYS) or (report and place >= _MOST):
            # Another command may have deleted it, or may not delete: the next record's turn. This one must be opened.
            with suppress(ApiError):
                client.delete(ConfigMap, name)


def _is_closed_report(record: ConfigMap) -> bool:
    kind = ((record.metadata and record.metadata.labels) or {}).get(LABEL)
    return kind in _REPORTS and "closedAt" in (record.data or {}).get("record.json", "")


def list_incidents(cluster: Cluster) -> list[dict[str, Any]]:
    """Every record with its name, the newest first."""
    with cluster.patient() as client:
        found = [
            {
                "name": meta.name,
                **json.loads((each.data or {})["record.json"]),
                "entries": [json.loads(text) for key, text in (each.data or {}).items() if key.startswith(_ENTRY)],
            }
            for each in client.list(ConfigMap, labels={LABEL: exists()})
            if (meta := each.metadata)
        ]
    return sorted(found, key=lambda one: one["openedAt"], reverse=True)


def close_incident(cluster: Cluster, name: str, facts: Mapping[str, Any], at: datetime | None = None) -> None:
    """Add the result, unless the record is closed already or was deleted."""
    found = cluster.find(ConfigMap, name)
    if found and "closedAt" not in json.loads(found.data["record.json"]):
        add_to_incident(cluster, name, {**facts, "closedAt": (at or datetime.now(UTC)).isoformat(timespec="seconds")})


def add_to_incident(cluster: Cluster, name: str, facts: Mapping[str, Any]) -> None:
    """Add to a record that stays open. What another command adds at the same time stays, too."""
    with cluster.patient() as client:
        for attempt in range(1, _ATTEMPTS + 1):
            found = client.get(ConfigMap, name)
            record = {**json.loads((found.data or {})["record.json"]), **facts}
            version = found.metadata.resourceVersion if found.metadata else None
            change = {"metadata": {"resourceVersion": version}, "data": {"record.json": json.dumps(record, indent=2)}}
            try:
                client.patch(ConfigMap, name, change, patch_type=PatchType.MERGE)
            except ApiError as error:
                if error.status.code != 409 or attempt == _ATTEMPTS:
                    raise
            else:
                return


def append_entry(cluster: Cluster, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Append to the log of a record; returns the entry with its time and author.

    Each entry is a key of its own, which no one writes again: two writers at once lose nothing.
    """
    now = datetime.now(UTC)
    made = {"at": now.isoformat(timespec="milliseconds"), "by": whoami(), **entry}
    key = f"{_ENTRY}{now:%Y%m%dt%H%M%S%f}z-{secrets.token_hex(2)}.json"
    with cluster.patient() as client:
        client.patch(ConfigMap, name, {"data": {key: json.dumps(made)}}, patch_type=PatchType.MERGE)
    return made


def keep_document(cluster: Cluster, name: str, key: str, text: str) -> None:
    """Keep a document in the record, in place of an earlier one."""
    with cluster.patient() as client:
        client.patch(ConfigMap, name, {"data": {key: text}}, patch_type=PatchType.MERGE)
