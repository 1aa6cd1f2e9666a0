"""The quick reference (HerbisVeritas "Quick Reference Commands"): a suspended CronJob, the template of the Jobs that
`runbook debug`, `runbook metrics` and `runbook performance` run in the application's network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvFromSourceArgsDict

from components.base.pods import container
from components.base.shapes import mounts
from components.base.toolbox import register_toolbox
from settings import PodShape, Resources
from settings.operations import COMMAND, TASK, TOOLBOX
from settings.rotation import TASK_RESOURCES


@dataclass(frozen=True, kw_only=True)
class OperationsArgs:
    """The release that serves, and where its variables are."""

    namespace: Input[str]
    """Where it runs."""
    image: Input[str]
    """The project's own image, which tasks run in."""
    release_image: Input[str]
    """The release's image, which its commands run in."""
    amounts: Resources
    """CPU, memory and scratch disk of the commands."""
    env_from: Sequence[EnvFromSourceArgsDict]
    """Variables of the main service."""
    database_secret_name: str
    """Secret with `DATABASE_URL` past a pooler."""
    target_url: str
    """URL of the main service inside the namespace."""
    shape: PodShape
    """The pods of the main service."""
    companions: Sequence[ContainerArgsDict] = ()
    """Its sidecars and init containers that commands need."""


class Operations(pulumi.ComponentResource):
    """The pods are Jobs to the network policies: they reach what services and Jobs of the application reach."""

    def __init__(self, name: str, args: OperationsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:operations:Operations", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        task = container(
            TASK,
            image=args.image,
            amounts=TASK_RESOURCES,
            command=["python3", "-m", "tasks", "--help"],
            env_from=[*args.env_from, {"secret_ref": {"name": args.database_secret_name}}],
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
        register_toolbox(TOOLBOX, [task, command], args.namespace, inside, args.shape, args.companions)
        self.register_outputs({})
