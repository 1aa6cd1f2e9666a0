"""Schema migrations (runbook-de-production §3.1): once per release, before any of its pods starts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_command.local import Command as LocalCommand
from pulumi_command.local import Logging
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvFromSourceArgsDict

from components.backup_tasks import SETTINGS
from components.base.jobs import JobArgs, run_to_end
from components.base.names import content_hash
from components.base.pods import container
from settings import Backup, MigrateCommand, PodShape, Release, Resources
from settings.commands import MIGRATION_GUARD
from settings.secret import Secret

# The provider puts the output of a failed command into its error message, and that of another one into the state.
_MIGRATE = """(eval "$RUNBOOK_MIGRATE") >/dev/null 2>&1
why="exit code $?"
[ "$why" = "exit code 0" ] && exit
echo "the migrate command failed: $why. $RUNBOOK_ADVICE" >&2
exit 1"""
_ADVICE = (
    "What it prints may contain secrets and is not kept. To see it, run the command in a terminal with the same "
    "DATABASE_URL: it is in the stack file, under runbook:commands.migrate"
)
_READY = "/tmp/migration-may-begin"  # noqa: S108 (a volume of the pod)
_START_SECONDS = 120
"""For the guard to start, on a busy node."""

_GUARD = """import pathlib, runpy, signal, sys
try:
    runpy.run_module("tasks", run_name="__main__", alter_sys=True)
except SystemExit as end:
    if end.code != 2:
        raise
print("error: the migration is not guarded: this image (runbook:image) refuses to, see above. It is older than the "
      "program, or not configured: build images/tasks anew", file=sys.stderr, flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
pathlib.Path(sys.argv[sys.argv.index("--ready") + 1]).touch()
signal.sigwait({signal.SIGTERM})
"""
"""`python -m tasks` of the words that follow. A sidecar that ended would be started again until the Job's deadline, and
the migration would wait for it: where the image refuses the command (exit code 2), the migration begins without guard.
"""


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
    image: Input[str]
    """The project's own image, which guards the migration."""
    placement_seconds: int
    """Seconds until its pod has a node and the images."""
    backup: Backup | None = None
    """How long a backup that runs is waited for."""
    shape: PodShape
    """The pods of the main service."""
    guarded: bool = True
    """Whether the database has locks that a migration can wait for, and its backups must be kept away."""
    companions: Sequence[ContainerArgsDict] = ()
    """Its sidecars and init containers that commands need."""
    companions_seconds: int = 0
    """Seconds that these may take to start."""
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
        seconds = args.command.lock_timeout_seconds
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
                    companions=args.companions,
                    guard=_guard(args) if args.guarded else None,
                    start_seconds=args.companions_seconds + (args.backup.wait_seconds if args.backup else 0),
                    placement_seconds=args.placement_seconds,
                ),
                inside,
            )
        else:
            LocalCommand(
                f"migrate-{identity}",
                create=_MIGRATE,
                # A rotated password changes the environment; that is no reason to migrate again.
                update="true",
                dir=args.command.directory,
                environment={
                    **dict.fromkeys(filter(None, ("DATABASE_URL", args.direct)), args.database_url.value),
                    **({"PGOPTIONS": f"-c lock_timeout={seconds}s"} if seconds else {}),
                    "RUNBOOK_MIGRATE": " && ".join(shlex.join(argv) for argv in args.command.argvs),
                    "RUNBOOK_ADVICE": _ADVICE,
                },
                logging=Logging.NONE,
                triggers=[identity],
                opts=ResourceOptions.merge(
                    inside,
                    ResourceOptions(
                        custom_timeouts=pulumi.CustomTimeouts(create=f"{args.command.timeout_seconds}s"),
                        additional_secret_outputs=["stdout", "stderr"],
                    ),
                ),
            )
        self.register_outputs({})


def _guard(args: MigrationArgs) -> ContainerArgsDict:
    """A native sidecar that keeps backups away, and cancels the migration when it waits for a lock for too long."""
    level, seconds = str(args.release.schema_.level), str(args.command.lock_timeout_seconds)
    words = ["--level", level, "--lock-seconds", seconds, "--ready", _READY]
    sources: list[EnvFromSourceArgsDict] = [{"secret_ref": {"name": args.database_secret_name}}]
    if args.backup:
        sources.append({"config_map_ref": {"name": SETTINGS}})
    return container(
        MIGRATION_GUARD,
        image=args.image,
        amounts=args.amounts,
        command=["python3", "-c", _GUARD, "backup", "guard-migration", *words],
        env_from=sources,
        restart_policy="Always",
        startup_probe={
            "exec_": {"command": ["test", "-e", _READY]},
            "period_seconds": 1,
            "failure_threshold": _START_SECONDS + (args.backup.wait_seconds if args.backup else 0),
        },
    )
