"""From `replicas: 0` to an autoscaler. The number of pods of a service with an autoscaler is left alone, and an
autoscaler starts none where there are none: the service would stay without pods."""

from __future__ import annotations

import asyncio
from typing import Any

import pulumi
from pulumi import ResourceHook, ResourceHookArgs, ResourceHookBinding, ResourceHookOptions
from pulumi.runtime import is_dry_run

from program.api_server import ApiServer
from settings import Service


def start_first_pods(namespace: str, service: Service, api: ApiServer) -> ResourceHookBinding:
    """Hooks that the engine calls when it is about to update the Deployment of a service with an autoscaler."""

    async def judge(args: ResourceHookArgs) -> None:
        if was_stopped(args.old_inputs):
            await asyncio.to_thread(scale_from_zero, namespace, service, api, preview=is_dry_run())

    name = f"first-pods-{service.name}"
    return ResourceHookBinding(before_update=[ResourceHook(name, judge, ResourceHookOptions(on_dry_run=True))])


def was_stopped(old_inputs: Any) -> bool:
    """Whether the program itself had written that no pod runs. The number that an operator set is left alone."""
    return ((old_inputs or {}).get("spec") or {}).get("replicas") == 0


def scale_from_zero(namespace: str, service: Service, api: ApiServer, *, preview: bool) -> None:
    """The provider keeps the number that it finds: so the least number is in the cluster before it looks."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{service.name}"
    found = api.get(path)
    if found is None or found["spec"].get("replicas") != 0:
        return
    least = service.least_replicas
    pulumi.log.info(f"{service.name} has no pods, and an autoscaler starts none: the update starts {least}")
    if not preview:
        api.merge(path, {"spec": {"replicas": least}})
