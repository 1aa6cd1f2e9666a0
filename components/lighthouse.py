"""The performance check before a rollout (HerbisVeritas "Checklist Pré-Déploiement", Phase 3): Lighthouse on the new
release, in a pod without traffic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ResourceOptions

from components.base.jobs import JobArgs, run_to_end
from components.base.names import content_hash
from components.rehearsal import RehearsalArgs, to_sidecars
from settings import Command
from settings.performance import LIGHTHOUSE, Performance

_COMMAND = "python3 -m tasks lighthouse"


@dataclass(frozen=True, kw_only=True)
class LighthouseArgs:
    """The release to start without traffic, and what its pages have to keep."""

    rehearsal: RehearsalArgs
    """How the release is started."""
    performance: Performance
    """Pages, limits, image."""
    public_url: str
    """URL customers use: pages are asked as if they came over it."""
    host_header: str | None
    """Host header of requests."""


class Lighthouse(pulumi.ComponentResource):
    """The measuring container gets none of the application's variables or secrets.

    Of a type of its own, outside `runbook:release`: a release that is too slow on this machine is taken back, but not
    quarantined.
    """

    def __init__(self, name: str, args: LighthouseArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:performance:Lighthouse", name, None, opts)
        performance, start = args.performance, args.rehearsal
        variables = {
            "LIGHTHOUSE": json.dumps(performance.to_task(), sort_keys=True),
            "TARGET_URL": f"http://127.0.0.1:{start.port}",
            "PUBLIC_URL": args.public_url,
            "HOST_HEADER": args.host_header or "",
        }
        env: Sequence[dict[str, str]] = [{"name": key, "value": value} for key, value in variables.items()]
        run_to_end(
            self,
            JobArgs(
                name=LIGHTHOUSE,
                identity=content_hash(start.identity, performance.image, variables),
                namespace=start.namespace,
                image=performance.image,
                command=Command(run=(_COMMAND,), timeout_seconds=performance.timeout_seconds),
                amounts=performance.resources,
                env_from=(),
                env=env,  # pyright: ignore[reportArgumentType] # plain variables
                beside=to_sidecars(start.services),
                volumes=start.volumes,
                shape=start.shape,
                start_seconds=start.start_seconds,
                placement_seconds=start.placement_seconds,
            ),
            opts or ResourceOptions(),
        )
        self.register_outputs({})
