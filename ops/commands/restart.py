"""`runbook system restart` (HerbisVeritas "Emergency Commands"): new pods of the same release, without downtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lightkube.resources.apps_v1 import Deployment
from lightkube.types import PatchType

from ops.adapters.cluster import Cluster
from ops.causes.api import Api, TimeIsUp
from ops.causes.cause import Cause
from ops.causes.lookup import Target, explain
from ops.causes.text import Masker
from ops.causes.watch import FailureWatch
from ops.commands.update import LockPolicy, StackLock, require_unlocked
from ops.errors import OpsError, Refused, RolledBack, Stuck
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings, require_application
from settings import Service, StackSettings

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""Annotation of a pod template, as `kubectl rollout restart` sets it: the stack does not set it, so it is no drift."""
_MANAGER = "runbook-restart"
_ROUND_SECONDS = 5
_EXPLAIN_SECONDS = 10


def choose_services(settings: StackSettings, names: Sequence[str]) -> list[Service]:
    """The services with these names; all without any."""
    known = {service.name: service for service in settings.application.services}
    if unknown := [name for name in names if name not in known]:
        raise Refused(f"There is no service {unknown[0]}: write one of {', '.join(known)}. Nothing was changed.")
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def restart(session: Session, policy: LockPolicy, names: Sequence[str]) -> dict[str, Any]:
    """Replace the pods of each service, one service after another. A service whose new pods do not become ready goes
    back to its old ones, which serve meanwhile, and the command ends."""
    require_application(session, "restart")
    settings = load_settings(session.file)
    services = choose_services(settings, names)
    with StackLock(session, "restart", policy):
        require_unlocked(session, policy)
        cluster = session.cluster(settings, stack_file.read(session.file).config)
        missing = [one.name for one in services if cluster.find(Deployment, one.name) is None]
        if missing:
            raise Refused(f"Deployment {missing[0]} does not exist: deploy stack {session.stack}. Nothing was changed.")
        done = []
        for service in services:
            began = time.monotonic()
            _restart_one(session, cluster, settings, service)
            seconds = round(time.monotonic() - began, 1)
            done.append({"service": service.name, "seconds": seconds})
            session.say(f"  {service.name}: new pods serve after {seconds} s")
        return {"result": "succeeded", "services": done, "seconds": round(session.seconds, 1), "url": None}


def _restart_one(session: Session, cluster: Cluster, settings: StackSettings, service: Service) -> None:
    before = _read_annotation(cluster, service.name)
    failed = _roll(session, cluster, settings, service, datetime.now(UTC).isoformat(timespec="seconds"))
    if failed is None:
        return
    causes = _explain(cluster, service.name)
    session.say(f"  {service.name} {failed}: going back to the pods from before")
    if again := _roll(session, cluster, settings, service, before):
        raise Stuck(
            f"{service.name} {failed}, and going back failed too: {again}. "
            f"`kubectl -n {cluster.namespace} describe deployment {service.name}`.",
            causes,
        )
    why = f"\n{causes[0]}" if causes else ""
    raise RolledBack(
        f"{service.name} {failed}. Its pods from before serve; no other service was restarted.{why}", causes
    )


def _roll(
    session: Session, cluster: Cluster, settings: StackSettings, service: Service, value: str | None
) -> str | None:
    """Set the annotation and wait for the rollout; None, or why it failed."""
    application = settings.application
    late = threading.Event()
    rounds = -(-service.most_replicas // application.surge)
    seconds = application.placement_seconds + rounds * application.progress_deadline_seconds
    found = {"apiVersion": "apps/v1", "kind": "Deployment"}
    metadata = {"name": service.name, "namespace": cluster.namespace}
    with FailureWatch(lambda: cluster, session.say, late.set, application.progress_deadline_seconds) as watch:
        watch.begins("kubernetes:apps/v1:Deployment", {**found, "metadata": metadata})
        _annotate(cluster, service.name, value)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if session.command_lock:
                session.command_lock.require_held()
            if all(one.settled for one in cluster.await_settled([service], int(min(left, _ROUND_SECONDS)) + 1)):
                return None
            if late.is_set():
                return f"has a new pod that is not ready within {application.progress_deadline_seconds} s"
    return f"is not rolled out within {seconds} s"


def _annotate(cluster: Cluster, name: str, value: str | None) -> None:
    change = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: value}}}}}
    with cluster.patient() as client:
        client.patch(Deployment, name, change, patch_type=PatchType.MERGE, field_manager=_MANAGER)


def _read_annotation(cluster: Cluster, name: str) -> str | None:
    found = cluster.find(Deployment, name)
    meta = found.spec.template.metadata if found and found.spec else None
    annotations: Mapping[str, str] = (meta and meta.annotations) or {}
    return annotations.get(RESTARTED_AT)


def _explain(cluster: Cluster, name: str) -> list[Cause]:
    try:
        with cluster.http() as http:
            api = Api(http, Masker(), _EXPLAIN_SECONDS)
            api.learn_secrets(cluster.namespace)
            cause = explain(api, Target("apps/v1", "Deployment", cluster.namespace, name))
    except (OpsError, TimeIsUp):
        return []  # the failure itself is reported in any case
    return [cause] if cause else []
