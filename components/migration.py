"""Schema migrations (runbook-de-production §3.1): once per release, before any of its pods starts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_command.local import Command as LocalCommand

from components.base.jobs import JobArgs, run_to_end
from components.base.names import content_hash
from settings import MigrateCommand, PodShape, Release, Resources
from settings.secret import Secret


@dataclass(frozen=True, kw_only=True)
class MigrationArgs:
    """Which release's migrations, and how they are run."""

    namespace: Input[str]
    """Where the Job runs."""
    release: Release
    """The release that brings the migrations."""
    command: MigrateCommand
    """Command lines, runner and deadline."""
    amounts: Resources
    """CPU, memory and scratch disk of the Job."""
    database_secret_name: Input[str]
    """Secret with `DATABASE_URL`, for the Job."""
    database_url: Secret
    """The same, for `runner: command`."""
    shape: PodShape
    """The pods of the main service."""
    direct: str | None = None
    """Variable with the same URL, where it is the one past a pooler (Prisma's `DIRECT_URL`)."""


class Migration(pulumi.ComponentResource):
    """Runs the migrations as a Job, or by a command where `pulumi up` runs.

    Either is named by the release: a second update finds it done, the next release makes another, a failed
    one is tried again by the next update. While it fails no pod is touched.
    """

    def __init__(self, name: str, args: MigrationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:Migration", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        identity = content_hash(args.release.image, args.release.schema_.to_config(), args.command.to_config())
        if args.command.runner == "job":
            run_to_end(
                self,
                JobArgs(
                    name="migrate",
                    identity=identity,
                    namespace=args.namespace,
                    image=args.release.image,
                    command=args.command,
                    amounts=args.amounts,
                    shape=args.shape,
                    env_from=[{"secret_ref": {"name": args.database_secret_name}}],
                ),
                inside,
            )
        else:
            LocalCommand(
                f"migrate-{identity}",
                create=" && ".join(shlex.join(argv) for argv in args.command.argvs),
                # A rotated password changes the environment; that is no reason to migrate again.
                update="true",
                dir=args.command.directory,
                environment=dict.fromkeys(filter(None, ("DATABASE_URL", args.direct)), args.database_url.value),
                triggers=[identity],
                opts=ResourceOptions.merge(
                    inside,
                    ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=f"{args.command.timeout_seconds}s")),
                ),
            )
        self.register_outputs({})
