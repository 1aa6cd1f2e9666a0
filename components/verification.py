"""The check of a rotated secret (Runbook de Production §4, `ops:webhooks:verify`), once the new pods use it."""

from __future__ import annotations

import pulumi
from pulumi import ResourceOptions

from components.base.jobs import RolloutJobArgs, run_after_rollout
from components.base.names import logical


class Verification(pulumi.ComponentResource):
    """Runs the secret's own check after every rollout, for as long as a no can still take the old value back."""

    def __init__(self, name: str, args: RolloutJobArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:rotation:Verification", name, None, opts)
        run_after_rollout(self, f"verify-{logical(name)}", args, opts, shows_secrets=True)
        self.register_outputs({})
