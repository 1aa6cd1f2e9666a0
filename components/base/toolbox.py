"""A suspended CronJob: the template of the Jobs that `runbook` makes in the application's network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ContainerArgsDict

from components.base.jobs import NEVER, register_cron_job
from components.base.names import JOB
from components.base.pods import APPLICATION_UID, SECRETS_IN_ENVIRONMENT, register_service_account, template
from components.base.shapes import waivers
from settings import PodShape

_SECONDS = 900
"""Deadline of a Job that has none of its own."""


def register_toolbox(
    name: str,
    containers: Sequence[ContainerArgsDict],
    namespace: Input[str],
    opts: ResourceOptions,
    shape: PodShape,
    companions: Sequence[ContainerArgsDict] = (),
) -> None:
    """Of the containers `runbook` keeps one. The pods are Jobs to the network policies: they reach what services and
    Jobs of the application reach. `shape`: of pods that run the release. `companions`: what its commands need beside
    them."""
    more: dict[str, Any] = {"init_containers": list(companions)} if companions else {}
    account = register_service_account(name, JOB, namespace, opts)
    register_cron_job(
        name,
        JOB,
        namespace=namespace,
        schedule=NEVER,
        suspend=True,
        annotations={**SECRETS_IN_ENVIRONMENT, **waivers(shape)},
        job={
            "backoff_limit": 0,
            "active_deadline_seconds": _SECONDS,
            "template": template(
                name,
                JOB,
                service_account=account.metadata.apply(lambda meta: meta.name or ""),
                uid=APPLICATION_UID,
                shape=shape,
                containers=containers,
                restart_policy="Never",
                **more,
            ),
        },
        opts=opts,
    )
