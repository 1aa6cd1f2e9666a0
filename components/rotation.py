"""Rotation (HerbisVeritas "Rotation Clés Sécurité", Runbook de Production §4): what tasks do at the data services.

Which value a pod gets is decided where its Secret is made. Here: the next login is made and tried before anything
uses it, the one before it is ended when nothing does, and what an operator asks is answered in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.batch.v1 import CronJob, Job, JobSpecArgsDict
from pulumi_kubernetes.core.v1 import ConfigMap, ContainerArgsDict, PodTemplateSpecArgsDict, Secret, ServiceAccount

from components.backup_tasks import KEYS_IN_ENVIRONMENT
from components.base.jobs import NEVER, register_cron_job, retry_awaited
from components.base.names import POSTGRES, REDIS, ROTATION, content_hash, labels, metadata
from components.base.network_policies import register_data_policies, register_egress_policy, select_parts
from components.base.pods import APPLICATION_UID, container, register_service_account, template
from components.logins import MonitorLogin
from settings import BundledPostgres, BundledRedis, External, SecretRotation
from settings.rotation import TASK_RESOURCES

STATUS_FILE = "status.json"
TOOLBOX = "credentials"
_SECRET, _STATUS = "rotation", "rotation-status"
_SERVERS = ("database", "redis")
_SECONDS = 180
"""Deadline of a task, which normally takes seconds."""
_SLACK = 120
"""Seconds beyond the Job's own deadline for images to be pulled and pods to be placed."""


@dataclass(frozen=True, kw_only=True)
class RotationArgs:
    """What rotates, and where."""

    namespace: Input[str]
    """Where the tasks run."""
    image: Input[str]
    """The project's own image, which they run in."""
    rotations: Mapping[str, SecretRotation]
    """Every secret, and the state of its rotation."""
    environment: Mapping[str, Input[str]]
    """Logins of the data services, as environment of the tasks."""
    session_keys: Sequence[str]
    """Patterns of the sessions' keys in Redis."""
    postgres: BundledPostgres | External | None
    """The database, for the network policies."""
    redis: BundledRedis | External | None
    """The cache, for the network policies."""
    monitors: Mapping[str, MonitorLogin]
    """Logins of the exporters, which a task makes."""


class Rotation(pulumi.ComponentResource):
    """Prepares the next logins; and a suspended CronJob, the template for operators' queries."""

    status: pulumi.Output[str]
    """ConfigMap with the state of each rotation, for the metrics."""
    account: ServiceAccount
    """ServiceAccount of the task pods; no RBAC."""

    def __init__(self, name: str, args: RotationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:rotation:Rotation", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self.account = register_service_account(TOOLBOX, ROTATION, args.namespace, inside)
        secret = Secret(
            f"{_SECRET}-secret",
            # Not hashed: a Job that ran once must not run again because another login was rotated.
            metadata=metadata(_SECRET, args.namespace, labels(_SECRET, ROTATION)),
            string_data={**args.environment, "SESSION_KEYS": " ".join(args.session_keys)},
            opts=inside,
        )
        status = ConfigMap(
            _STATUS,
            metadata=metadata(_STATUS, args.namespace, labels(_STATUS, ROTATION)),
            data={STATUS_FILE: json.dumps([_describe(each) for _, each in sorted(args.rotations.items())], indent=1)},
            opts=inside,
        )
        self.status = status.metadata.apply(lambda meta: meta.name or "")
        ground = [self.account, secret, *_openings(self, args, inside)]
        then = ResourceOptions.merge(inside, ResourceOptions(depends_on=ground))
        _toolbox(args, self.account, then)
        for rotating in args.rotations.values():
            # Not where it failed: its failure would prevent the return to the previous value.
            if rotating.kind in _SERVERS and rotating.state.previous is not None and not rotating.state.unused:
                _run("prepare", rotating, (), args.namespace, args.image, self.account, then)
        if args.monitors:
            _make_monitor_logins(args, self.account, then)
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class RetirementArgs:
    """Rotations whose overlap is over."""

    namespace: Input[str]
    """Where the tasks run."""
    image: Input[str]
    """The project's own image, which they run in."""
    rotations: Mapping[str, SecretRotation]
    """Every secret, and the state of its rotation."""
    account: ServiceAccount
    """ServiceAccount of the task pods."""


class Retirement(pulumi.ComponentResource):
    """Disables logins after their overlap; fails the update if one is still in use or still accepted."""

    def __init__(self, name: str, args: RetirementArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:rotation:Retirement", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        for rotating in args.rotations.values():
            state = rotating.state
            if rotating.kind in _SERVERS and state.previous is not None and state.phase == "retired":
                force = ("--force",) if state.emergency else ()
                _run("retire", rotating, force, args.namespace, args.image, args.account, inside)
        self.register_outputs({})


def _describe(rotating: SecretRotation) -> Mapping[str, Any]:
    """A secret as the exporter reads it for its metrics."""
    state = rotating.state

    def moment(at: Any) -> str | None:
        return at.isoformat() if at else None

    return {
        "secret": rotating.name,
        "kind": rotating.kind,
        "phase": state.phase,
        "period": state.period,
        "generation": state.generation,
        "rotated_at": moment(rotating.rotated_at),
        "max_age_seconds": int(rotating.max_age.total_seconds()) if rotating.max_age else None,
        "overlap_until": moment(rotating.overlap_until),
        "failure": state.failure,
        "emergency_at": state.started_at if state.emergency else None,
    }


def _run(
    verb: str,
    rotating: SecretRotation,
    words: Sequence[str],
    namespace: Input[str],
    image: Input[str],
    account: ServiceAccount,
    opts: ResourceOptions,
) -> Job:
    """A Job for each period: a completed one does not run again, a failed one does."""
    kind, state = rotating.kind, rotating.state
    name = f"rotate-{kind}-{verb}"
    full_name = f"{name}-{content_hash(kind, state.period, state.generation, image, words)}"
    return _job(name, full_name, ["credentials", verb, kind, *words], namespace, image, account, opts)


def _make_monitor_logins(args: RotationArgs, account: ServiceAccount, opts: ResourceOptions) -> Job:
    """Once for each password; not again for another image, so that a rollback does not need the servers."""
    name = "monitor-logins"
    full_name = f"{name}-{content_hash({server: login.identity for server, login in args.monitors.items()})}"
    once = ResourceOptions.merge(opts, ResourceOptions(ignore_changes=["spec"]))
    return _job(name, full_name, ["credentials", "monitor"], args.namespace, args.image, account, once)


def _job(
    name: str,
    full_name: str,
    words: Sequence[str],
    namespace: Input[str],
    image: Input[str],
    account: ServiceAccount,
    opts: ResourceOptions,
) -> Job:
    return Job(
        full_name,
        metadata=metadata(
            full_name,
            namespace,
            labels(name, ROTATION),
            {"pulumi.com/replaceUnready": "true", **KEYS_IN_ENVIRONMENT},
        ),
        spec={
            **cast(JobSpecArgsDict, retry_awaited(retries=2)),
            "active_deadline_seconds": _SECONDS,
            "template": _pod(name, account, _task(words[1], words, image)),
        },
        opts=ResourceOptions.merge(
            opts, ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=f"{_SECONDS + _SLACK}s"))
        ),
    )


def _toolbox(args: RotationArgs, account: ServiceAccount, opts: ResourceOptions) -> CronJob:
    """Suspended: `runbook` creates Jobs from it, with other arguments."""
    task = _task(TOOLBOX, ["credentials", "sessions"], args.image)
    return register_cron_job(
        TOOLBOX,
        ROTATION,
        namespace=args.namespace,
        schedule=NEVER,
        suspend=True,
        annotations=KEYS_IN_ENVIRONMENT,
        job={"backoff_limit": 0, "active_deadline_seconds": _SECONDS, "template": _pod(TOOLBOX, account, task)},
        opts=opts,
    )


def _task(name: str, words: Sequence[str], image: Input[str]) -> ContainerArgsDict:
    return container(
        name,
        image=image,
        amounts=TASK_RESOURCES,
        command=["python3", "-m", "tasks", *words],
        env_from=[{"secret_ref": {"name": _SECRET}}],
    )


def _pod(name: str, account: ServiceAccount, task: ContainerArgsDict) -> PodTemplateSpecArgsDict:
    return template(
        name,
        ROTATION,
        service_account=account.metadata.apply(lambda meta: meta.name or ""),
        uid=APPLICATION_UID,
        containers=[task],
        restart_policy="Never",
    )


def _openings(parent: Rotation, args: RotationArgs, opts: ResourceOptions) -> list[pulumi.Resource]:
    """Egress to the data services only."""
    made: list[pulumi.Resource] = []
    for server, port, store in ((POSTGRES, 5432, args.postgres), (REDIS, 6379, args.redis)):
        if store is None:
            continue
        if not isinstance(store, External):
            made += register_data_policies(parent, ROTATION, server, port, args.namespace, opts)
        elif way := register_egress_policy(
            parent, f"allow-{ROTATION}-{server}", args.namespace, store.egress, select_parts(ROTATION)
        ):
            made.append(way)
    return made
