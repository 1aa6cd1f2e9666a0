"""The check of a rotated secret (Runbook de Production §4, `ops:webhooks:verify`), once the new pods use it."""

from __future__ import annotations

import pulumi
from pulumi import ResourceOptions
from pulumi_kubernetes.core.v1 import EnvVarArgsDict

from components.base.jobs import RolloutJobArgs, run_after_rollout
from components.base.names import logical
from settings import SecretRotation


class Verification(pulumi.ComponentResource):
    """Runs the secret's own check after every rollout, for as long as a no can still take the old value back."""

    def __init__(self, name: str, args: RolloutJobArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:rotation:Verification", name, None, opts)
        run_after_rollout(self, f"verify-{logical(name)}", args, opts, shows_secrets=True)
        self.register_outputs({})


class PreviousVerification(pulumi.ComponentResource):
    """Runs a check with the two values exchanged: what it signs with the one, services that use the other accept."""

    def __init__(
        self,
        name: str,
        args: RolloutJobArgs,
        rotating: SecretRotation,
        secret_name: str,
        opts: ResourceOptions | None = None,
    ) -> None:
        super().__init__("runbook:rotation:PreviousVerification", f"{name}-previous", None, opts)
        exchanged: list[EnvVarArgsDict] = [
            {"name": mine, "value_from": {"secret_key_ref": {"name": secret_name, "key": its}}}
            for mine, its in rotating.exchanged_variables.items()
        ]
        run_after_rollout(self, f"verify-previous-{logical(name)}", args, opts, env=exchanged, shows_secrets=True)
        self.register_outputs({})
