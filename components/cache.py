"""Caches (runbook-de-production §3.2): purged and warmed once the new pods serve, before they are checked."""

from __future__ import annotations

import pulumi
from pulumi import ResourceOptions

from components.base.jobs import RolloutJobArgs, run_after_rollout


class Cache(pulumi.ComponentResource):
    """Runs the cache command after every rollout."""

    def __init__(self, name: str, args: RolloutJobArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:Cache", name, None, opts)
        run_after_rollout(self, "cache", args, opts)
        self.register_outputs({})
