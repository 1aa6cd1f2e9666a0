"""`python -m monitoring` writes docs/alerts.md, with production's thresholds."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from monitoring.alerts.logs import logs
from monitoring.alerts.markdown import page
from monitoring.alerts.rule import within
from monitoring.alerts.stack import domains
from settings import (
    Application,
    Backup,
    Credentials,
    Data,
    Maintenance,
    MaintenanceTasks,
    Monitoring,
    Precautions,
    RotationSettings,
)
from settings.base import EXAMPLE_DIGEST
from settings.budget import rollback_budget
from settings.logs import Logs
from settings.peers import Peer
from settings.performance import Performance
from settings.platform import Egress
from settings.rotation import find_rotations
from settings.servers import Gateway

_ROOT = Path(__file__).parents[1]
ALERTS_FILE = _ROOT / "docs" / "alerts.md"


def alerts_text() -> str:
    """docs/alerts.md, with production's thresholds. Only some keys of its stack file are read: it has no secrets."""
    config = yaml.safe_load((_ROOT / "Pulumi.prod.yaml").read_text())["config"]

    def read(key: str) -> dict[str, Any]:
        return config.get(f"runbook:{key}") or {}

    application, backup = Application.model_validate(read("application")), Backup.model_validate(read("backup"))
    rotating = find_rotations(
        application,
        Data.model_validate(read("data")),
        Credentials.model_validate(read("credentials")),
        backup,
        RotationSettings.model_validate(read("rotation")),
        {},
    )
    monitoring = Monitoring.model_validate(read("monitoring"))
    namespace = config["runbook:namespace"]
    if not monitoring.gateway:
        pods = Peer(namespace="traefik", pod_labels={"app.kubernetes.io/name": "traefik"})
        ingress = Gateway(host="traefik.traefik.svc", port=9100, pods=pods)
        servers = monitoring.prometheus.model_copy(update={"ingress": ingress})
        monitoring = monitoring.model_copy(update={"prometheus": servers})
    # Alerts that exist only with an ingress controller's metrics, in maintenance mode, in a lockdown or with logs link
    # to this page, too.
    lockdown = Precautions().lockdown("reason", datetime(2026, 1, 1, tzinfo=UTC))
    services = [service.name for service in application.services]
    example = (Egress(cidr="10.0.0.1/32", ports=(6443,)),)
    tasks = MaintenanceTasks.model_validate(read("maintenanceTasks") or {"apiServer": example})
    measuring = read("performance") or {"image": f"lighthouse@{EXAMPLE_DIGEST}"}
    performance = Performance.model_validate({"continuous": {}, **measuring})
    reason = Maintenance(reason="reason")
    alerts = domains(namespace, monitoring, services, backup, rotating, reason, lockdown, tasks, performance)
    if not monitoring.logs:
        alerts = (*alerts, within(logs(monitoring, Logs(api_server=example)), namespace))
    return page(alerts, monitoring, rollback_budget(monitoring, application))


def main(arguments: list[str]) -> int:
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    ALERTS_FILE.write_text(alerts_text())
    print(ALERTS_FILE.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
