"""Reports kept with the release: ConfigMaps in the stack's namespace, and files where the operator asks for them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

from ops.adapters.cluster import Cluster
from ops.decisions.report import Line, Report
from ops.stack.locks import whoami
from ops.stack.session import Session

LABEL = "runbook/report"
_KEPT = 20
"""Reports of each kind that are kept; older ones are deleted."""


def make_report(session: Session, kind: str, subject: Mapping[str, Any], lines: Sequence[Line]) -> Report:
    """The report of a command that ends now."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(kind, subject, whoami(), at, round(session.seconds, 1), lines)


def keep_report(cluster: Cluster, report: Report, revision: int) -> str:
    """Keep the report in the cluster; the name of its ConfigMap."""
    at = datetime.fromisoformat(report.at)
    name = f"{report.kind}-r{revision}-{at:%Y%m%dt%H%M%Sz}-{secrets.token_hex(2)}"
    labels = {LABEL: report.kind, "runbook/revision": str(revision)}
    data = {"report.json": json.dumps(report.to_json(), indent=2), "report.html": report.to_html()}
    with cluster.patient() as client:
        metadata = ObjectMeta(name=name, namespace=cluster.namespace, labels=labels)
        client.create(ConfigMap(metadata=metadata, data=data, immutable=True))
        found = [item.metadata for item in client.list(ConfigMap, labels={LABEL: report.kind}) if item.metadata]
        old = sorted(found, key=lambda meta: (meta.creationTimestamp or at, meta.name or ""))[:-_KEPT]
        for meta in old:
            client.delete(ConfigMap, meta.name or "")
    return name


def write_report(report: Report, folder: Path, name: str | None = None) -> Path:
    """Write the report as JSON and HTML, named by its kind or as given; the path of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name or report.kind}.json"
    file.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    file.with_suffix(".html").write_text(report.to_html())
    return file
