"""Preventive maintenance (HerbisVeritas "Maintenance Préventive"): a CronJob for each schedule.

A run is one pod: the runner, in the project's own image, goes through the tasks; beside it, where there are commands, a
container of the application waits for it. Only the runner has the token of the API server, the database's DSN past a
pooler, and the key of the reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    EnvFromSourceArgsDict,
    EnvVarArgsDict,
    ServiceAccount,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict
from pulumi_kubernetes.networking.v1 import NetworkPolicy
from pulumi_kubernetes.rbac.v1 import ClusterRoleBinding, PolicyRuleArgsDict

from components import backup_tasks as tasks
from components.base.jobs import DISRUPTED, register_cron_job
from components.base.names import BACKUP_EXPORTER, JOB, labels, metadata, selector
from components.base.network_policies import register_egress_policy
from components.base.pods import APPLICATION_UID, container, register_service_account, template
from components.base.rbac import grant_cluster_role, grant_role
from components.base.shapes import mounts, shared_mounts, waivers
from components.maintenance_agent import AGENT
from settings import Backup, PodShape, Resources, VolumeDestination
from settings import MaintenanceTasks as MaintenanceTasksSettings
from settings.backup import STORE_PORT
from settings.maintenance_tasks import APPLICATION, RUNNER, SCHEDULES, cron_job
from settings.names import COMMAND_LOCK, keep_literal

NAME = "maintenance-tasks"
_BOX, _IDENTITY = "/box", "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SECONDS = 3600
_WAIVED = {
    "checkov.io/skip1": "CKV_K8S_35=Tasks and what they run take their keys from the environment",
    "checkov.io/skip3": "CKV_K8S_38=The runner asks the API server whether a release is under way, and has this token",
}


@dataclass(frozen=True, kw_only=True)
class MaintenanceTasksArgs:
    """Which tasks, and what they work on."""

    namespace: Input[str]
    """Where the runs are."""
    image: Input[str]
    """The project's own image, which the runner is of."""
    release_image: Input[str]
    """The release's image, which commands run in."""
    settings: MaintenanceTasksSettings
    """Schedules, tasks and limits."""
    backup: Backup
    """The store that keeps the reports."""
    amounts: Resources
    """CPU, memory and scratch disk of the commands."""
    env_from: Sequence[EnvFromSourceArgsDict]
    """Variables of the main service, for the commands."""
    target_url: str
    """URL of the main service inside the namespace."""
    public_url: str
    """URL of the application for clients, whose scheme a benchmark names."""
    host_header: str | None
    """Host header of a benchmark's requests."""
    shape: PodShape
    """The pods of the main service."""
    file_folder: str | None = None
    """Where they mount the volume of a database that is a file."""
    companions: Sequence[ContainerArgsDict] = ()
    """Its sidecars and init containers that commands need."""
    database_secret_name: Input[str]
    """Secret with `DATABASE_URL` past a pooler."""
    images: Sequence[Input[str]]
    """Every image that the stack uses."""
    paused: bool
    """Start nothing by schedule."""


class MaintenanceTasks(pulumi.ComponentResource):
    """To the network policies its pods are Jobs: they reach what services and Jobs of the application reach. They also
    reach the API server and the store's window."""

    def __init__(self, name: str, args: MaintenanceTasksArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:maintenance:MaintenanceTasks", name, None, opts)
        self._args = args
        self._inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self._account = register_service_account(
            NAME, JOB, args.namespace, self._inside, args.shape.service_account_annotations
        )
        ready = [*self._rights(), *self._openings()]
        then = ResourceOptions.merge(self._inside, ResourceOptions(depends_on=ready))
        for schedule in SCHEDULES:
            if args.settings.of(schedule).enabled:
                self._recurring(schedule, then)
        self.register_outputs({})

    def _recurring(self, schedule: str, opts: ResourceOptions) -> None:
        args, of = self._args, self._args.settings.of(schedule)
        name = cron_job(schedule)
        commands = any(task.run for task in of.enabled)
        register_cron_job(
            name,
            JOB,
            namespace=args.namespace,
            time_zone=args.settings.zone(args.backup),
            schedule=of.schedule,
            suspend=of.suspend or args.paused,
            annotations={**_WAIVED, **waivers(args.shape)},
            job={
                # A task has its own retries. A pod that was evicted is started again.
                "backoff_limit": 0,
                "pod_failure_policy": {"rules": [DISRUPTED]},
                "active_deadline_seconds": args.settings.longest_seconds(schedule),
                "template": template(
                    name,
                    JOB,
                    service_account=self._account.metadata.apply(lambda meta: meta.name or ""),
                    uid=APPLICATION_UID,
                    shape=args.shape,
                    init_containers=[*args.companions, self._application()] if commands else [],
                    containers=[self._runner(schedule)],
                    volumes=self._volumes(),
                    restart_policy="Never",
                ),
            },
            opts=opts,
        )

    def _runner(self, schedule: str) -> ContainerArgsDict:
        args = self._args
        plan = json.dumps(args.settings.to_plan(schedule), sort_keys=True)
        return tasks.task_container(
            RUNNER,
            ["maintenance", "run", schedule],
            image=args.image,
            backup=args.backup.model_copy(update={"resources": args.settings.resources}),
            through_window=True,
            env=[
                {"name": "MAINTENANCE_PLAN", "value": keep_literal(plan)},
                {"name": "MAINTENANCE_BOX", "value": _BOX},
                {"name": "MAINTENANCE_IMAGES", "value": pulumi.Output.all(*args.images).apply(" ".join)},
                {"name": "API_NAMESPACE", "value": args.namespace},
                *(self._measured() if args.settings.measures(schedule) else []),
            ],
            env_from=[{"secret_ref": {"name": args.database_secret_name}}],
            mounts=[
                {"name": "box", "mount_path": _BOX},
                {"name": "token", "mount_path": _IDENTITY, "read_only": True},
                *(shared_mounts(args.shape, [args.file_folder]) if args.file_folder else []),
            ],
        )

    def _measured(self) -> list[EnvVarArgsDict]:
        args = self._args
        return [
            {"name": "TARGET_URL", "value": args.target_url},
            {"name": "PUBLIC_URL", "value": args.public_url},
            {"name": "HOST_HEADER", "value": args.host_header or ""},
        ]

    def _application(self) -> ContainerArgsDict:
        """A native sidecar: it ends with the runner, and is started again if a command needs too much memory."""
        args = self._args
        made = container(
            APPLICATION,
            image=args.release_image,
            amounts=args.amounts,
            command=["/bin/sh", "-c", AGENT, "agent", _BOX],
            env_from=list(args.env_from),
            env=[{"name": "TARGET_URL", "value": args.target_url}],
            restart_policy="Always",
            startup_probe={
                "exec_": {"command": ["/bin/sh", "-c", f"test -p {_BOX}/todo"]},
                "period_seconds": 1,
                "failure_threshold": 30,
            },
        )
        # Not the runner's /tmp, from where Python would load what the application left there.
        own: list[VolumeMountArgsDict] = [
            {"name": "application-tmp", "mount_path": "/tmp"},  # noqa: S108 (a mount point in the pod)
            {"name": "box", "mount_path": _BOX},
        ]
        made["volume_mounts"] = [*own, *mounts(args.shape)]
        return made

    def _volumes(self) -> list[VolumeArgsDict]:
        made: list[VolumeArgsDict] = [
            {"name": "box", "empty_dir": {}},
            {"name": "application-tmp", "empty_dir": {}},
            {
                "name": "token",
                "projected": {
                    "sources": [
                        {"service_account_token": {"path": "token", "expiration_seconds": _TOKEN_SECONDS}},
                        {
                            "config_map": {
                                "name": "kube-root-ca.crt",
                                "items": [{"key": "ca.crt", "path": "ca.crt"}],
                            }
                        },
                    ],
                    "default_mode": 0o440,
                },
            },
        ]
        if isinstance(self._args.backup.destination, VolumeDestination):
            made.append({"name": tasks.VOLUME, "persistent_volume_claim": {"claim_name": tasks.VOLUME}})
        return made

    def _rights(self) -> list[pulumi.Resource]:
        """One Lease of the namespace and, for `unused-images`, the list of nodes."""
        args, settings = self._args, self._args.settings
        may_read: PolicyRuleArgsDict = {
            "api_groups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resource_names": [COMMAND_LOCK],
            "verbs": ["get"],
        }
        made: list[pulumi.Resource] = []
        made.append(grant_role(NAME, JOB, self._account, args.namespace, [may_read], self._inside))
        if any(task.task == "unused-images" for name in SCHEDULES for task in settings.of(name).enabled):
            made.append(_grant_nodes(self._account, args.namespace, self._inside))
        return made

    def _openings(self) -> list[pulumi.Resource]:
        args = self._args
        names = [cron_job(schedule) for schedule in SCHEDULES]
        pods: LabelSelectorArgsDict = {
            "match_expressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": names}]
        }
        made: list[Any] = [
            register_egress_policy(self, f"allow-{NAME}", args.namespace, args.settings.api_server, pods),
        ]
        if tasks.has_window(args.backup):
            exporter: LabelSelectorArgsDict = {"match_labels": selector(BACKUP_EXPORTER, BACKUP_EXPORTER)}
            ports = [{"port": STORE_PORT, "protocol": "TCP"}]
            made += [
                self._policy(
                    f"allow-{NAME}-to-{BACKUP_EXPORTER}",
                    {
                        "pod_selector": pods,
                        "policy_types": ["Egress"],
                        "egress": [{"to": [{"pod_selector": exporter}], "ports": ports}],
                    },
                ),
                self._policy(
                    f"allow-{NAME}-into-{BACKUP_EXPORTER}",
                    {
                        "pod_selector": exporter,
                        "policy_types": ["Ingress"],
                        "ingress": [{"from_": [{"pod_selector": pods}], "ports": ports}],
                    },
                ),
            ]
        return [policy for policy in made if policy is not None]

    def _policy(self, name: str, spec: Mapping[str, Any]) -> NetworkPolicy:
        return NetworkPolicy(
            name,
            metadata=metadata(name, self._args.namespace, labels(name, JOB)),
            spec=dict(spec),  # type: ignore[arg-type]
            opts=self._inside,
        )


def _grant_nodes(account: ServiceAccount, namespace: Input[str], opts: ResourceOptions) -> ClusterRoleBinding:
    """Which images each node has."""
    made = metadata(pulumi.Output.concat("runbook-", namespace, "-", NAME), None, labels(NAME, JOB))
    rules: list[PolicyRuleArgsDict] = [{"api_groups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    return grant_cluster_role(f"{NAME}-nodes", made, account, namespace, rules, opts)
