"""Before a migration (runbook-de-production §2, §6): a proof that backups can be restored, and a fresh backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.batch.v1 import Job, JobSpecArgsDict
from pulumi_kubernetes.core.v1 import ServiceAccount

from components import backup_tasks as tasks
from components.backup import release_env
from components.base.jobs import retry_awaited
from components.base.names import BACKUP, content_hash, labels, metadata
from settings import Backup as BackupSettings
from settings import MigrateCommand, PodShape, Release

_GATE_SECONDS = 120
"""For asking the store and the database, before the backup itself."""
_SLACK = 120
"""Seconds beyond the Job's own deadline for images to be pulled and pods to be placed."""


@dataclass(frozen=True, kw_only=True)
class PreReleaseArgs:
    """Which migration is about to run, on which database."""

    namespace: Input[str]
    """Where the Job runs."""
    image: Input[str]
    """The project's own image, which the tasks run in."""
    backup: BackupSettings
    """The store, and how old a proof may be."""
    account: ServiceAccount
    """ServiceAccount bound to the cloud role that may use the bucket."""
    release: Release
    """The release that brings the migrations."""
    command: MigrateCommand
    """How it migrates: another command is another migration."""
    database_secret_name: Input[str]
    """Secret with `DATABASE_URL`."""
    file: PodShape | None = None
    """Pods that open a database that is a file."""


class PreRelease(pulumi.ComponentResource):
    """A Job named by the release, like its migration Job. It exits at once if no migration is due."""

    def __init__(self, name: str, args: PreReleaseArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:backup:PreRelease", name, None, opts)
        release, backup = args.release, args.backup
        identity = content_hash(release.image, release.schema_.to_config(), args.command.to_config())
        full_name = f"pre-release-{identity}"
        level = ["--if-behind", str(release.schema_.level)]
        words = ["backup", "pre-release", "--within-hours", str(backup.restore_test.max_age_hours), *level]
        words += ["--without-proof", release.without_proof] if release.without_proof else []
        database = tasks.database(args.database_secret_name, backup)
        on_disk = backup.format == "directory" or args.file is not None
        timeout = _GATE_SECONDS + backup.wait_seconds + backup.timeout_seconds
        template = tasks.task_pod(
            "pre-release",
            BACKUP,
            backup=backup,
            account=args.account,
            scratch=on_disk,
            file=args.file,
            restart_policy="Never",
            # One container for both: of an init container that fails, the provider shows no message.
            containers=[
                tasks.task_container(
                    "pre-release",
                    words,
                    image=args.image,
                    backup=backup,
                    scratch=on_disk,
                    file=args.file,
                    env=release_env(release),
                    env_from=database,
                )
            ],
        )
        Job(
            full_name,
            metadata=metadata(
                full_name,
                args.namespace,
                labels("pre-release", BACKUP),
                {"pulumi.com/replaceUnready": "true", **tasks.KEYS_IN_ENVIRONMENT},
            ),
            spec={
                # A gate that refused is not retried. A failed backup is: nothing has changed yet.
                **cast(JobSpecArgsDict, retry_awaited(retries=0)),
                "active_deadline_seconds": timeout,
                "template": template,
            },
            opts=ResourceOptions(
                parent=self,
                depends_on=opts.depends_on if opts else None,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{timeout + _SLACK}s"),
            ),
        )
        self.register_outputs({})
