"""The smoke check (runbook-de-production §2, §7): asks the new pods what customers would ask; a no fails the update."""

from __future__ import annotations

import pulumi
from pulumi import ResourceOptions

from components.base.jobs import RolloutJobArgs, run_after_rollout


class Smoke(pulumi.ComponentResource):
    """Runs the smoke command after every rollout."""

    def __init__(self, name: str, args: RolloutJobArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:Smoke", name, None, opts)
        run_after_rollout(self, "smoke", args, opts)
        self.register_outputs({})
