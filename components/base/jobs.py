"""Jobs that belong to a release: named by content, so that the same work is done once and other work is another Job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.batch.v1 import CronJob, CronJobSpecArgsDict, Job, JobSpecArgsDict
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvFromSourceArgsDict, EnvVarArgsDict, VolumeArgsDict

from components.base.names import JOB, content_hash, labels, metadata
from components.base.pods import APPLICATION_UID, SECRETS_IN_ENVIRONMENT, container, register_service_account, template
from components.base.shapes import mounts, waivers
from settings import Command, PodShape, Resources
from settings.rotation import TASK_RESOURCES

OUTPUT = "runbook/output"
"""Annotation of pods: `secret` where `runbook` must not show their log."""
DISRUPTED = {"action": "Ignore", "on_pod_conditions": [{"type": "DisruptionTarget", "status": "True"}]}
"""A pod evicted by a node drain does not count as failed."""
KEEP_IN_PLACE = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
"""On pods that run to their end: those that consolidate nodes leave them alone meanwhile."""
NEVER = "0 0 1 1 *"
"""Schedule of a CronJob that is suspended for good: `runbook` makes Jobs from its template."""
_START_WITHIN = 600
"""Seconds after its time that a run still starts, if the cluster could not start it then."""
_SLACK = 120
"""Seconds beyond the Job's own deadline for images to be pulled and pods to be placed."""


@dataclass(frozen=True, kw_only=True)
class JobArgs:
    """A command of the release, to be run to its end."""

    name: str
    """What it does (`migrate`)."""
    identity: str
    """Hash of everything that makes it worth running again."""
    namespace: Input[str]
    """Where it runs."""
    image: Input[str]
    """The release's image."""
    command: Command
    """Command lines, deadline and attempts."""
    amounts: Resources
    """CPU, memory and scratch disk."""
    env_from: Sequence[EnvFromSourceArgsDict]
    """ConfigMaps and Secrets with its variables."""
    placement_seconds: int
    """Seconds until its pod has a node and the image there; its deadlines begin after them."""
    shape: PodShape
    """The pods of the service whose image the command runs in."""
    env: Sequence[EnvVarArgsDict] = ()
    """More variables."""
    beside: Sequence[ContainerArgsDict] = ()
    """Native sidecars: started before the command, ended with it."""
    volumes: Sequence[VolumeArgsDict] = ()
    """What they mount besides the volumes of `shape`."""
    before: Sequence[ContainerArgsDict] = ()
    """Run to their end before the command."""
    companions: Sequence[ContainerArgsDict] = ()
    """Sidecars and init containers of the settings, which a command needs (a proxy to the database). Whether the Job
    failed, the command says: one that crashes is started again."""
    guard: ContainerArgsDict | None = None
    """A native sidecar that never fails the Job."""
    start_seconds: int = 0
    """Seconds the sidecars may take to start, beyond the command's own deadline."""
    shows_secrets: bool = False
    """Its output may contain a secret: only the pod's own log has it."""


@dataclass(frozen=True, kw_only=True)
class RolloutJobArgs:
    """A command to be run after every rollout, against the services in place."""

    namespace: Input[str]
    """Where it runs."""
    image: Input[str]
    """The release's image."""
    tasks_image: Input[str]
    """The project's own image, which waits for the network."""
    command: Command
    """Command lines, deadline and attempts."""
    amounts: Resources
    """CPU, memory and scratch disk."""
    placement_seconds: int
    """Seconds until its pod has a node and the image there; its deadlines begin after them."""
    env_from: Sequence[EnvFromSourceArgsDict]
    """Variables of the main service."""
    target_url: str
    """URL of the main service inside the namespace."""
    rollout_identity: str
    """Hash of everything that makes pods be replaced."""
    shape: PodShape
    """The pods of the main service."""
    companions: Sequence[ContainerArgsDict] = ()
    """Its sidecars and init containers that commands need."""
    start_seconds: int = 0
    """Seconds that these may take to start."""


def run_after_rollout(
    parent: pulumi.ComponentResource,
    name: str,
    args: RolloutJobArgs,
    opts: ResourceOptions | None,
    *,
    env: Sequence[EnvVarArgsDict] = (),
    shows_secrets: bool = False,
) -> Job:
    """A Job of its own for every rollout and every command."""
    return run_to_end(
        parent,
        JobArgs(
            name=name,
            identity=content_hash(args.rollout_identity, args.command.to_config()),
            namespace=args.namespace,
            image=args.image,
            command=args.command,
            amounts=args.amounts,
            placement_seconds=args.placement_seconds,
            env_from=args.env_from,
            env=[{"name": "TARGET_URL", "value": args.target_url}, *env],
            companions=args.companions,
            start_seconds=args.start_seconds,
            before=[_reach(args)],
            shape=args.shape,
            shows_secrets=shows_secrets,
        ),
        opts or ResourceOptions(),
    )


def _reach(args: RolloutJobArgs) -> ContainerArgsDict:
    """The network of a new pod refuses connections until its policies are in place: the release is not to blame."""
    return container(
        "reach",
        image=args.tasks_image,
        amounts=TASK_RESOURCES,
        command=["python3", "-m", "tasks", "reach", args.target_url],
    )


def run_to_end(parent: pulumi.ComponentResource, args: JobArgs, opts: ResourceOptions) -> Job:
    """A Job that the update waits for and fails with. No TTL: it is in the state, and its logs are read afterwards."""
    inside = ResourceOptions(parent=parent, depends_on=opts.depends_on)
    known_by = args.shape.service_account_annotations
    account = register_service_account(args.name, JOB, args.namespace, inside, known_by)
    full_name = f"{args.name}-{args.identity}"
    # All command lines but the last are init containers: they run in order, and the first failure ends the Job.
    steps = [
        container(
            args.name if last else f"{args.name}-{index}",
            image=args.image,
            amounts=args.amounts,
            command=argv,
            env_from=list(args.env_from),
            env=list(args.env),
            mounts=mounts(args.shape),
            # Else the end of the log becomes a part of the pod's status.
            termination_message_policy="File" if args.shows_secrets else "FallbackToLogsOnError",
        )
        for index, argv in enumerate(args.command.argvs, start=1)
        for last in [index == len(args.command.argvs)]
    ]
    timeout = args.placement_seconds + args.start_seconds + args.command.timeout_seconds
    pod = template(
        args.name,
        JOB,
        service_account=account.metadata.apply(lambda meta: meta.name or ""),
        uid=APPLICATION_UID,
        shape=args.shape,
        containers=steps[-1:],
        volumes=args.volumes,
        init_containers=[
            *args.beside,
            *args.companions,
            *([args.guard] if args.guard else []),
            *args.before,
            *steps[:-1],
        ],
        annotations={**KEEP_IN_PLACE, **({OUTPUT: "secret"} if args.shows_secrets else {})},
        restart_policy="OnFailure" if args.beside else "Never",
        # A sidecar serves no requests, so it has nothing to drain.
        termination_grace_period_seconds=1 if args.beside else 30,
    )
    return Job(
        full_name,
        # A Job that failed is run again by the next update instead of being waited for.
        metadata=metadata(
            full_name,
            args.namespace,
            labels(args.name, JOB),
            {"pulumi.com/replaceUnready": "true", **SECRETS_IN_ENVIRONMENT, **waivers(args.shape)},
        ),
        spec={
            **cast(JobSpecArgsDict, _retry(args)),
            "active_deadline_seconds": timeout,
            "template": pod,
        },
        opts=ResourceOptions.merge(
            inside, ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=f"{timeout + _SLACK}s"))
        ),
    )


def retry_awaited(retries: int) -> dict[str, Any]:
    """Tries again after a failure of any kind, and as often as its pod is evicted; for a Job that the engine waits for.

    No rule fails it: the official provider ends its wait only when the Job has failed by its backoff limit or deadline,
    and waits for its time-out when a pod failure policy has failed it.
    """
    return {"backoff_limit": retries, "pod_failure_policy": {"rules": [DISRUPTED]}}


def _retry(args: JobArgs) -> dict[str, Any]:
    """How many failures the Job bears.

    A sidecar that crashes is started again for ever, and only `OnFailure` makes its restarts count: then the Job fails
    with the restart of this number instead of at its deadline. A pod failure policy does not go with it, so that a pod
    that is evicted counts as a failure there; the first one is borne, because no restart came with it.
    """
    attempts = args.command.attempts
    return {"backoff_limit": attempts} if args.beside else retry_awaited(attempts - 1)


def register_cron_job(
    name: str,
    component: str,
    *,
    namespace: Input[str],
    schedule: str,
    suspend: bool,
    job: Mapping[str, Any],
    annotations: Mapping[str, str],
    opts: ResourceOptions,
    time_zone: str | None = None,
) -> CronJob:
    """A CronJob without concurrent runs, which keeps the Jobs of its last runs."""
    spec: CronJobSpecArgsDict = {
        "schedule": schedule,
        "suspend": suspend,
        "concurrency_policy": "Forbid",
        "starting_deadline_seconds": _START_WITHIN,
        # A finished pod keeps its throw-away volume; the outcome is in the store and in its metrics.
        "successful_jobs_history_limit": 1,
        "failed_jobs_history_limit": 1,
        "job_template": {"metadata": {"labels": labels(name, component)}, "spec": cast(JobSpecArgsDict, job)},
    }
    if time_zone:
        spec["time_zone"] = time_zone
    return CronJob(name, metadata=metadata(name, namespace, labels(name, component), annotations), spec=spec, opts=opts)
