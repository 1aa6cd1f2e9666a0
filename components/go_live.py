"""The go-live checklist (runbook-de-production §5): a suspended CronJob, the template of what `runbook go-live` runs in
the application's network, with the application's environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvFromSourceArgsDict

from components.base.pods import container
from components.base.shapes import mounts
from components.base.toolbox import register_toolbox
from settings import PodShape, Resources
from settings.go_live import CHECKS, COMMAND, TOOLBOX
from settings.names import keep_literal
from settings.rotation import TASK_RESOURCES


@dataclass(frozen=True, kw_only=True)
class GoLiveArgs:
    """The release that goes live, and what is tried."""

    namespace: Input[str]
    """Where it runs."""
    image: Input[str]
    """The project's own image, which the checks run in."""
    release_image: Input[str]
    """The release's image, which its commands run in."""
    checks: Mapping[str, Any]
    """What the checks try: no value of it is secret."""
    amounts: Resources
    """CPU, memory and scratch disk of the commands."""
    env_from: Sequence[EnvFromSourceArgsDict]
    """Variables of the main service."""
    database_secret_name: str
    """Secret with `DATABASE_URL` past a pooler."""
    target_url: str
    """URL that the commands call."""
    host_header: str | None
    """Host header of requests to the services."""
    shape: PodShape
    """The pods of the main service."""
    companions: Sequence[ContainerArgsDict] = ()
    """Its sidecars and init containers that commands need."""


class GoLive(pulumi.ComponentResource):
    """The pods are Jobs to the network policies: they reach what services and Jobs of the application reach."""

    def __init__(self, name: str, args: GoLiveArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:GoLive", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        checks = container(
            CHECKS,
            image=args.image,
            amounts=TASK_RESOURCES,
            command=["python3", "-m", "tasks", TOOLBOX, "check"],
            env_from=[*args.env_from, {"secret_ref": {"name": args.database_secret_name}}],
            env=[
                {"name": "GO_LIVE", "value": keep_literal(json.dumps(args.checks, sort_keys=True))},
                {"name": "HOST_HEADER", "value": args.host_header or ""},
            ],
        )
        command = container(
            COMMAND,
            image=args.release_image,
            amounts=args.amounts,
            command=["true"],
            env_from=list(args.env_from),
            env=[{"name": "TARGET_URL", "value": args.target_url}],
            mounts=mounts(args.shape),
        )
        register_toolbox(TOOLBOX, [checks, command], args.namespace, inside, args.shape, args.companions)
        self.register_outputs({})
