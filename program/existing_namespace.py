"""A namespace that exists before the stack does. Server-side apply takes over an object of the same name silently, and
`pulumi destroy` would then delete it with all that its owner has in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi import ResourceHook, ResourceHookArgs, ResourceHookBinding, ResourceHookOptions

from program.api_server import ApiServer, Unknown


class NamespaceTaken(Exception):
    """The namespace is not this stack's to create."""


def watch_creation(name: str, *, adopt: bool, api: ApiServer) -> ResourceHookBinding:
    """Hooks that the engine calls when it is about to create the namespace: when the stack's state does not have it."""

    async def judge(_: ResourceHookArgs) -> None:
        await require_free(name, adopt=adopt, api=api)

    # In a preview, too: it would say "create".
    return ResourceHookBinding(
        before_create=[ResourceHook("existing-namespace", judge, ResourceHookOptions(on_dry_run=True))]
    )


async def require_free(name: str, *, adopt: bool, api: ApiServer) -> None:
    """Raises `NamespaceTaken` for one that exists and is not adopted; says what is not known, and what is adopted."""
    try:
        found = await asyncio.to_thread(api.get, f"/api/v1/namespaces/{name}")
    except Unknown as error:
        pulumi.log.warn(f"whether namespace {name} exists already is not known: {error}")
        return
    if found is None:
        return
    if problem := _find_problem(name, found, adopt=adopt):
        raise NamespaceTaken(problem)
    pulumi.log.info(
        f"namespace {name} exists and is adopted (runbook:guards.adoptNamespace): its labels become those of this "
        "program, and `pulumi destroy` leaves it"
    )


def _find_problem(name: str, found: Mapping[str, Any], *, adopt: bool) -> str | None:
    """Why the stack may not have this namespace, and what to do instead."""
    meta = found["metadata"]
    if meta.get("deletionTimestamp"):
        return f"namespace {name} is being deleted: run this again when `kubectl get namespace {name}` finds nothing"
    if adopt:
        return None
    ours = meta.get("labels", {}).get("app.kubernetes.io/part-of") == "runbook"
    whose = (
        "This program made it: for another stack (choose another runbook:namespace), or in a first update of this one "
        "that was killed (`pulumi refresh` asks for its id, which is its name)"
        if ours
        else "Choose another runbook:namespace"
    )
    return (
        f"namespace {name} exists, and this stack's state does not have it: nothing was changed. {whose}. To use it, "
        "write `runbook:guards: {adoptNamespace: true}`: `pulumi destroy` then leaves it. If the stack is to own and "
        "delete it, remove that line after the first update"
    )
