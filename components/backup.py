"""Backups (runbook-de-production §2): scheduled backups, retention, and the template for restores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    EnvVarArgsDict,
    PersistentVolumeClaim,
    Secret,
    ServiceAccount,
)
from pulumi_random import RandomPassword

from components import backup_tasks as tasks
from components.base.claims import claim_spec
from components.base.jobs import NEVER, register_cron_job
from components.base.names import (
    BACKUP,
    BACKUP_EXPORTER,
    POSTGRES,
    RESTORE_TEST,
    SKIP_AWAIT,
    content_hash,
    labels,
    metadata,
)
from components.base.network_policies import register_data_policies, register_egress_policy, select_parts
from components.secret_slots import register_external_secret
from settings import Backup as BackupSettings
from settings import (
    BundledPostgres,
    External,
    ExternalPostgres,
    PodShape,
    Release,
    S3Destination,
    SecretRotation,
    VolumeDestination,
)
from settings.backup import BACKUP_DATABASE_URL, IDENTITIES, STORE_PORT
from settings.rotation import DATABASE_ADMIN_URL
from settings.secret import Secret as SecretValue


@dataclass(frozen=True, kw_only=True)
class BackupArgs:
    """What is backed up, where to, and what it is part of."""

    namespace: Input[str]
    """Where the pods run."""
    image: Input[str]
    """The project's own image, which the tasks run in."""
    backup: BackupSettings
    """Schedules, store, retention."""
    database: BundledPostgres | External | None
    """The database, for the network policies; None where it is a file."""
    file: PodShape | None = None
    """Pods that open a database that is a file."""
    database_secret_name: Input[str]
    """Secret with `DATABASE_URL`."""
    keys: SecretRotation | None
    """The store's key pair, for a store that is opened by one."""
    secrets: Mapping[str, SecretValue]
    """The `secrets:*` of the stack."""
    release: Release | None
    """The release that a manifest names."""
    protect: bool
    """Refuse to delete the volume of a volume destination."""
    paused: bool = False
    """Start nothing by schedule, whatever the settings of backups say."""


class Backup(pulumi.ComponentResource):
    """The store, the scheduled backup, and a suspended CronJob that is the template for restore Jobs."""

    account: ServiceAccount
    """ServiceAccount bound to the cloud role that may use the bucket."""
    identity: str
    """Hash of the tasks' environment: restarts a pod that reads it only at its start."""

    def __init__(self, name: str, args: BackupArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:backup:Backup", name, None, opts)
        self._args = args
        self._inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self._keys = register_external_secret(self, args.keys, args.secrets)[args.keys.in_use] if args.keys else ()
        self._openings()
        self.account = tasks.register_account("backup", BACKUP, args.backup, args.namespace, self._inside)
        ground = [self.account, *self._store()]
        self._then = ResourceOptions.merge(self._inside, ResourceOptions(depends_on=ground))
        self.identity = content_hash(args.backup.to_config(), [key.identity for key in self._keys])
        self._recurring()
        self._toolbox()
        self.register_outputs({})

    def _recurring(self) -> None:
        """`create`, then `cleanup`, which runs only after a successful backup."""
        backup = self._args.backup
        # SQLite copies the file, and what is counted and stored is the copy.
        on_disk = backup.format == "directory" or self._args.file is not None
        register_cron_job(
            "backup",
            BACKUP,
            namespace=self._args.namespace,
            time_zone=backup.time_zone,
            schedule=backup.schedule,
            suspend=backup.suspend or self._args.paused,
            annotations=tasks.KEYS_IN_ENVIRONMENT,
            job={
                **tasks.retry_faults(final=["cleanup"]),
                "active_deadline_seconds": backup.wait_seconds + backup.timeout_seconds,
                "template": tasks.task_pod(
                    "backup",
                    BACKUP,
                    backup=backup,
                    account=self.account,
                    scratch=on_disk,
                    file=self._args.file,
                    restart_policy="Never",
                    init_containers=[
                        tasks.task_container(
                            "create",
                            ["backup", "create", "--kind", "scheduled"],
                            image=self._args.image,
                            backup=backup,
                            scratch=on_disk,
                            file=self._args.file,
                            env=release_env(self._args.release),
                            env_from=tasks.database(self._args.database_secret_name, backup),
                        )
                    ],
                    containers=[
                        tasks.task_container("cleanup", ["backup", "cleanup"], image=self._args.image, backup=backup)
                    ],
                ),
            },
            opts=self._then,
        )

    def _toolbox(self) -> None:
        """Suspended: `runbook` creates Jobs from it, with other arguments."""
        backup = self._args.backup
        register_cron_job(
            "restore",
            BACKUP,
            namespace=self._args.namespace,
            time_zone=backup.time_zone,
            schedule=NEVER,
            suspend=True,
            annotations=tasks.KEYS_IN_ENVIRONMENT,
            job={
                "backoff_limit": 0,
                "active_deadline_seconds": max(backup.timeout_seconds, backup.restore_test.timeout_seconds),
                "template": tasks.task_pod(
                    "restore",
                    BACKUP,
                    backup=backup,
                    account=self.account,
                    decrypts=True,
                    scratch=True,
                    file=self._args.file,
                    restart_policy="Never",
                    containers=[
                        tasks.task_container(
                            "restore",
                            ["backup", "list"],
                            image=self._args.image,
                            backup=backup,
                            decrypts=True,
                            scratch=True,
                            file=self._args.file,
                            env=release_env(self._args.release),
                            env_from=[
                                *tasks.database(self._args.database_secret_name, backup),
                                *([{"secret_ref": {"name": tasks.ADMINISTRATOR}}] if self._has_administrator else []),
                            ],
                        )
                    ],
                ),
            },
            opts=self._then,
        )

    @property
    def _has_administrator(self) -> bool:
        return isinstance(self._args.database, ExternalPostgres) and self._args.database.admin

    def _store(self) -> list[pulumi.Resource]:
        """The ConfigMap that describes the store to tasks, and the Secret with its keys."""
        args, inside = self._args, self._inside

        def secret(name: str, data: Mapping[str, Input[str]]) -> Secret:
            return Secret(
                f"{name}-secret",
                metadata=metadata(name, args.namespace, labels(name, BACKUP)),
                string_data=data,
                opts=inside,
            )

        made: list[pulumi.Resource] = [
            # Not named by its content: a Job that ran once must not run again because a retention was changed.
            ConfigMap(
                tasks.SETTINGS,
                metadata=metadata(tasks.SETTINGS, args.namespace, labels(tasks.SETTINGS, BACKUP)),
                data=tasks.settings_data(args.backup, args.namespace),
                opts=inside,
            )
        ]
        key = RandomPassword("backup-evidence-key", length=40, special=False, opts=ResourceOptions(parent=self))
        # In the stack and in pods of tasks alone: a client that has only the store cannot write a record.
        made.append(secret(tasks.EVIDENCE, {"EVIDENCE_KEY": pulumi.Output.secret(key.result)}))
        if self._keys:
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            pair = {name: key.value for name, key in zip(names, self._keys, strict=True)}
            made.append(secret(tasks.CREDENTIALS, pair))
        if args.backup.encryption:
            made.append(secret(tasks.IDENTITIES, {"identities": args.secrets[IDENTITIES].value}))
        if args.backup.own_login:
            made.append(secret(tasks.LOGIN, {BACKUP_DATABASE_URL: args.secrets[BACKUP_DATABASE_URL].value}))
        if self._has_administrator:
            made.append(secret(tasks.ADMINISTRATOR, {DATABASE_ADMIN_URL: args.secrets[DATABASE_ADMIN_URL].value}))
        if isinstance(args.backup.destination, VolumeDestination):
            made.append(self._volume(args.backup.destination))
        return made

    def _volume(self, wanted: VolumeDestination) -> PersistentVolumeClaim:
        kind = labels(tasks.VOLUME, BACKUP)
        return PersistentVolumeClaim(
            tasks.VOLUME,
            # The storage class may bind it only when a pod mounts it.
            metadata=metadata(tasks.VOLUME, self._args.namespace, kind, SKIP_AWAIT),
            spec=claim_spec(wanted.size, wanted.storage_class, wanted.access_mode),
            opts=ResourceOptions.merge(self._inside, ResourceOptions(protect=self._args.protect)),
        )

    def _openings(self) -> None:
        """Pods that back up and restore, and the exporter, may connect to the store; a restore test to the exporter.

        A network policy cannot distinguish containers: the release that a restore test runs would reach what the
        test's tasks reach. So the store is read in another pod.
        """
        args, database = self._args, self._args.database
        if isinstance(args.backup.destination, S3Destination):
            everyone = select_parts(BACKUP, BACKUP_EXPORTER)
            register_egress_policy(self, "allow-backup-store", args.namespace, args.backup.destination.egress, everyone)
            register_data_policies(self, RESTORE_TEST, BACKUP_EXPORTER, STORE_PORT, args.namespace, self._inside)
        if isinstance(database, External):
            register_egress_policy(self, "allow-backup-postgres", args.namespace, database.egress, select_parts(BACKUP))
            return
        if database is not None:
            register_data_policies(self, BACKUP, POSTGRES, 5432, args.namespace, self._inside)


def release_env(release: Release | None) -> list[EnvVarArgsDict]:
    """What a backup's manifest says about the release it was made under."""
    if release is None:
        return []
    return [
        {"name": "RELEASE_REVISION", "value": str(release.revision)},
        {"name": "RELEASE_GIT", "value": release.git},
        {"name": "RELEASE_IMAGE", "value": release.image},
    ]
