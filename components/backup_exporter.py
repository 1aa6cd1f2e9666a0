"""Metrics of the store itself: how old the newest backup and the newest proof are, not whether a Job ended well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import EnvFromSourceArgsDict, EnvVarArgsDict, ProbeArgsDict, Secret, Service
from pulumi_random import RandomPassword

from components import backup_tasks as tasks
from components.base.names import BACKUP_EXPORTER, SKIP_AWAIT, labels, metadata, selector
from components.base.pods import OLD_REVISIONS
from components.rotation import STATUS_FILE
from settings import Backup as BackupSettings
from settings import PodShape
from settings.backup import EXPORTER_PORT, STORE_PORT

_ROTATION = "/etc/runbook/rotation"
_ALONE = {
    **tasks.KEYS_IN_ENVIRONMENT,
    # Single replica: an outage loses no data, and an alert reports it.
    "kube-score/ignore": "deployment-replicas",
}


@dataclass(frozen=True, kw_only=True)
class BackupExporterArgs:
    """Which store is watched."""

    namespace: Input[str]
    """Where it runs."""
    image: Input[str]
    """The project's own image, which it runs in."""
    backup: BackupSettings
    """The store, and what is expected of it."""
    identity: str
    """Hash of the tasks' environment."""
    rotation_status: Input[str]
    """ConfigMap with the rotation state of each secret."""
    owner: PodShape | None = None
    """Owner of a database that is a file, the user as which the other tasks write to the store."""
    maintenance: Sequence[str] = ()
    """Schedules of maintenance whose reports are expected in the store."""
    pages: Sequence[str] = ()
    """Paths of the pages that are measured again and again; the results are in the store."""


class BackupExporter(pulumi.ComponentResource):
    """One pod that reads the store and serves metrics. Monitoring registers the policy that lets Prometheus in."""

    def __init__(self, name: str, args: BackupExporterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:backup:BackupExporter", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self._namespace = args.namespace
        here = selector(BACKUP_EXPORTER, BACKUP_EXPORTER)
        account = tasks.register_account(BACKUP_EXPORTER, BACKUP_EXPORTER, args.backup, args.namespace, inside)
        ready: list[pulumi.Resource] = []
        ports = [("metrics", EXPORTER_PORT)]
        env: list[EnvVarArgsDict] = []
        env_from: list[EnvFromSourceArgsDict] = []
        if args.pages:
            env.append({"name": "PAGE_CHECK", "value": json.dumps(args.pages)})
        if tasks.has_window(args.backup):
            # For restore tests, which have no way to the store of their own.
            ready.append(self._token(inside))
            ports.append(("store", STORE_PORT))
            env.append({"name": "STORE_PORT", "value": str(STORE_PORT)})
            env_from.append({"secret_ref": {"name": tasks.WINDOW}})
        server = tasks.task_container(
            "exporter",
            ["exporter"],
            image=args.image,
            backup=args.backup,
            env=[
                {"name": "EXPORTER_PORT", "value": str(EXPORTER_PORT)},
                {"name": "BACKUP_SIZE_RATIO", "value": f"{args.backup.alerts.size_ratio:g}"},
                {"name": "BACKUP_SIZE_ACCEPTED", "value": args.backup.alerts.accepted_backup or ""},
                {"name": "MAINTENANCE_SCHEDULES", "value": " ".join(args.maintenance)},
                {"name": "ROTATION_STATUS", "value": f"{_ROTATION}/{STATUS_FILE}"},
                *env,
            ],
            env_from=env_from,
            mounts=[{"name": "rotation", "mount_path": _ROTATION, "read_only": True}],
            ports=[{"name": name, "container_port": port, "protocol": "TCP"} for name, port in ports],
            startup_probe={**_asked("/healthz"), "period_seconds": 2, "failure_threshold": 30},
            readiness_probe={**_asked("/readyz"), "period_seconds": 10},
            liveness_probe={**_asked("/healthz"), "period_seconds": 20},
        )
        template = tasks.task_pod(
            BACKUP_EXPORTER,
            BACKUP_EXPORTER,
            backup=args.backup,
            account=account,
            containers=[server],
            file=args.owner,
            volumes=[{"name": "rotation", "config_map": {"name": args.rotation_status}}],
            # The exporter reads its environment only at start, and the file of rotation states before each answer.
            annotations={"runbook/inputs": args.identity},
        )
        deployment = Deployment(
            BACKUP_EXPORTER,
            metadata=metadata(BACKUP_EXPORTER, args.namespace, labels(BACKUP_EXPORTER, BACKUP_EXPORTER), _ALONE),
            spec={
                "replicas": 1,
                "revision_history_limit": OLD_REVISIONS,
                # A second pod would need more quota and serve the same metrics.
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_surge": 0, "max_unavailable": 1}},
                "selector": {"match_labels": here},
                "template": template,
            },
            opts=ResourceOptions.merge(inside, ResourceOptions(depends_on=ready)),
        )
        Service(
            f"{BACKUP_EXPORTER}-service",
            metadata=metadata(BACKUP_EXPORTER, args.namespace, labels(BACKUP_EXPORTER, BACKUP_EXPORTER), SKIP_AWAIT),
            spec={
                "type": "ClusterIP",
                "selector": here,
                "ports": [{"name": name, "port": port, "target_port": name, "protocol": "TCP"} for name, port in ports],
            },
            opts=ResourceOptions.merge(inside, ResourceOptions(depends_on=[deployment])),
        )
        self.register_outputs({})

    def _token(self, opts: ResourceOptions) -> Secret:
        made = RandomPassword(tasks.WINDOW, length=40, special=False, opts=ResourceOptions(parent=self))
        return Secret(
            f"{tasks.WINDOW}-secret",
            metadata=metadata(tasks.WINDOW, self._namespace, labels(tasks.WINDOW, BACKUP_EXPORTER)),
            string_data={"STORE_TOKEN": pulumi.Output.secret(made.result)},
            opts=opts,
        )


def _asked(path: str) -> ProbeArgsDict:
    return {"http_get": {"path": path, "port": EXPORTER_PORT}, "timeout_seconds": 5}
