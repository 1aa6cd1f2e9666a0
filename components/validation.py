"""Proof after a rollout (runbook-de-production §7; HerbisVeritas "Validation Post-Déploiement"): requests, then the
steps of the pipeline, each as a Job; the first that fails, fails the update."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi
from pulumi import ResourceOptions

from components.base.jobs import RolloutJobArgs, run_after_rollout
from components.base.names import content_hash
from settings import Command
from settings.commands import Step

TASK = "python3 -m tasks validate"


@dataclass(frozen=True, kw_only=True)
class ValidationArgs:
    """Requests to the services in place."""

    job: RolloutJobArgs
    """The Job that sends them: in the project's own image."""
    checks: Sequence[Mapping[str, Any]]
    """The requests, where each is sent, and what the answers have to be."""
    attempts: int
    """How often each is sent until it counts as failed."""
    host_header: str | None
    """Host header of the requests."""


class Validation(pulumi.ComponentResource):
    """Sends the requests after every rollout."""

    def __init__(self, name: str, args: ValidationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:Validation", name, None, opts)
        variables = {
            "CHECKS": json.dumps(list(args.checks)),
            "ATTEMPTS": str(args.attempts),
            "HOST_HEADER": args.host_header or "",
        }
        run_after_rollout(
            self,
            "validate",
            replace(args.job, rollout_identity=content_hash(args.job.rollout_identity, args.job.image, variables)),
            opts,
            env=[{"name": key, "value": value} for key, value in variables.items()],
        )
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class PipelineArgs:
    """The steps after a release."""

    job: RolloutJobArgs
    """The Job of a step: in the release's image. Its command is the step's."""
    steps: Sequence[Step]
    """The steps, in order."""


class Pipeline(pulumi.ComponentResource):
    """Runs the steps after every rollout, one after another."""

    def __init__(self, name: str, args: PipelineArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:Pipeline", name, None, opts)
        before = opts
        for step in args.steps:
            command = Command(run=step.run, timeout_seconds=step.timeout_seconds, attempts=step.attempts)
            job = run_after_rollout(
                self,
                f"pipeline-{step.name}",
                replace(args.job, command=command),
                before,
                shows_secrets=step.secret_output,
            )
            before = ResourceOptions(depends_on=[job])
        self.register_outputs({})
