"""Continuous performance (HerbisVeritas "Performance Budgets"): a CronJob that measures the release that serves.

A check is one pod. Its first container runs the pages with Chromium: it has no secret and no token. The second one, in
the project's own image, takes what the first wrote into the store of backups, from where the exporter reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvVarArgsDict, VolumeArgsDict

from components import backup_tasks as tasks
from components.backup import release_env
from components.base.jobs import DISRUPTED, register_cron_job
from components.base.names import BACKUP_EXPORTER
from components.base.network_policies import (
    register_data_policies,
    register_egress_policy,
    register_service_policies,
    select_parts,
)
from components.base.pods import APPLICATION_UID, container, register_service_account, template
from settings import Backup, Egress, Release, VolumeDestination
from settings.backup import STORE_PORT
from settings.performance import LIGHTHOUSE, PAGE_CHECK, PageCheck, Performance
from settings.rotation import TASK_RESOURCES

_BOX = "/box"
_RESULTS = f"{_BOX}/pages.json"


@dataclass(frozen=True, kw_only=True)
class PageCheckArgs:
    """What is measured, and where the results go."""

    namespace: Input[str]
    """Where the checks run."""
    image: Input[str]
    """The project's own image, in which results are kept."""
    performance: Performance
    """Image with the browser, runs, limits."""
    check: PageCheck
    """Schedule and deadline."""
    asked: Mapping[str, Any]
    """What the task measures."""
    backup: Backup
    """The store that keeps the results."""
    release: Release
    """The release that serves, named in each result."""
    ports: Sequence[int | None]
    """HTTP ports of the services."""
    egress: Sequence[Egress]
    """What pages may load from outside the cluster."""
    public_url: str
    """URL customers use: services are asked as if requests came over it. Empty where that URL itself is measured."""
    host_header: str | None
    """Host header of requests to services."""
    paused: bool
    """Start nothing by schedule."""


class ContinuousPageCheck(pulumi.ComponentResource):
    """Its pods are a part of their own to the network policies: they reach services and the store's window, and not
    the data services."""

    def __init__(self, name: str, args: PageCheckArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:performance:PageCheck", name, None, opts)
        self._args = args
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        account = register_service_account(PAGE_CHECK, PAGE_CHECK, args.namespace, inside)
        pods = select_parts(PAGE_CHECK)
        policies: list[pulumi.Resource | None] = [
            *register_service_policies(PAGE_CHECK, pods, args.ports, args.namespace, inside, of=PAGE_CHECK),
            register_egress_policy(self, f"allow-{PAGE_CHECK}", args.namespace, args.egress, pods),
        ]
        if tasks.has_window(args.backup):
            policies += register_data_policies(self, PAGE_CHECK, BACKUP_EXPORTER, STORE_PORT, args.namespace, inside)
        register_cron_job(
            PAGE_CHECK,
            PAGE_CHECK,
            namespace=args.namespace,
            time_zone=args.check.time_zone,
            schedule=args.check.schedule,
            suspend=args.paused,
            annotations=tasks.KEYS_IN_ENVIRONMENT,
            job={
                # The next check comes soon. A pod that was evicted is started again.
                "backoff_limit": 0,
                "pod_failure_policy": {"rules": [DISRUPTED]},
                "active_deadline_seconds": args.check.timeout_seconds,
                "template": template(
                    PAGE_CHECK,
                    PAGE_CHECK,
                    service_account=account.metadata.apply(lambda meta: meta.name or ""),
                    uid=APPLICATION_UID,
                    init_containers=[self._measure()],
                    containers=[self._keep()],
                    volumes=self._volumes(),
                    restart_policy="Never",
                ),
            },
            opts=ResourceOptions.merge(inside, ResourceOptions(depends_on=[one for one in policies if one])),
        )
        self.register_outputs({})

    def _measure(self) -> ContainerArgsDict:
        args = self._args
        variables = {
            "LIGHTHOUSE": json.dumps(args.asked, sort_keys=True),
            "PAGES_FILE": _RESULTS,
            "PUBLIC_URL": args.public_url,
            "HOST_HEADER": args.host_header or "",
        }
        env: list[EnvVarArgsDict] = [{"name": name, "value": value} for name, value in variables.items()]
        made = container(
            LIGHTHOUSE,
            image=args.performance.image,
            amounts=args.performance.resources,
            command=["python3", "-m", "tasks", "pages", "measure"],
            env=env,
        )
        # Not the other container's /tmp, from where Python would load what a page left there.
        made["volume_mounts"] = [
            {"name": "browser", "mount_path": "/tmp"},  # noqa: S108 (a mount point in the pod)
            {"name": "box", "mount_path": _BOX},
        ]
        return made

    def _keep(self) -> ContainerArgsDict:
        args = self._args
        return tasks.task_container(
            "keep",
            ["pages", "keep"],
            image=args.image,
            backup=args.backup.model_copy(update={"resources": TASK_RESOURCES}),
            through_window=True,
            signs=False,
            env=[
                *release_env(args.release),
                {"name": "PAGES_FILE", "value": _RESULTS},
                {"name": "PAGES_DAYS", "value": str(args.check.days)},
            ],
            mounts=[{"name": "box", "mount_path": _BOX, "read_only": True}],
        )

    def _volumes(self) -> list[VolumeArgsDict]:
        made: list[VolumeArgsDict] = [
            {"name": "browser", "empty_dir": {}},
            {"name": "box", "empty_dir": {"size_limit": "1Mi"}},
        ]
        if isinstance(self._args.backup.destination, VolumeDestination):
            made.append({"name": tasks.VOLUME, "persistent_volume_claim": {"claim_name": tasks.VOLUME}})
        return made
