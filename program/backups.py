"""Scheduled backups, the exporter of their age, and the scheduled test that restores them."""

from __future__ import annotations

from pulumi import ResourceOptions

from components.backup import Backup, BackupArgs
from components.backup_exporter import BackupExporter, BackupExporterArgs
from components.foundation import Foundation
from components.restore_test import RestoreTest, RestoreTestArgs
from program.data import Data
from program.inputs import Inputs
from program.release import Release
from settings import PodShape
from settings.backup import test_servers
from settings.connections import direct_url
from settings.rotation import BACKUP_S3
from settings.sqlite import shape_of_tasks


def register_backups(inputs: Inputs, foundation: Foundation, data: Data | None) -> Backup | None:
    """None where the stack file has no `runbook:backup`."""
    settings = inputs.settings
    if not (settings.backup and data):
        return None
    performance = settings.performance
    backup = Backup(
        "backup",
        BackupArgs(
            namespace=foundation.namespace,
            image=settings.image,
            backup=settings.backup,
            database=settings.data.postgres,
            file=shape_of_tasks(settings.application, settings.data, opens=True),
            database_secret_name=data.credentials.database_secret_name,
            keys=inputs.rotations.get(BACKUP_S3),
            secrets=inputs.secrets,
            release=settings.release,
            protect=settings.guards.protect_data,
            paused=settings.lockdown is not None and settings.lockdown.suspends,
        ),
        ResourceOptions(depends_on=[data.rotation]),
    )
    BackupExporter(
        "backup-exporter",
        BackupExporterArgs(
            namespace=foundation.namespace,
            image=settings.image,
            backup=settings.backup,
            identity=backup.identity,
            owner=shape_of_tasks(settings.application, settings.data, opens=False),
            rotation_status=data.rotation.status,
            maintenance=settings.maintenance_tasks.expected if settings.maintenance_tasks else (),
            pages=[route.path for route in performance.routes] if performance and performance.continuous else (),
        ),
        ResourceOptions(depends_on=[backup]),
    )
    return backup


def register_restore_test(
    inputs: Inputs, foundation: Foundation, data: Data | None, backup: Backup | None, release: Release | None
) -> None:
    """The restored copy is served by the release that runs now, so the test follows the application; without one, it
    ends with the comparison of every table."""
    settings = inputs.settings
    if not (settings.backup and backup and data and data.credentials.database):
        return
    main = settings.application.main_service if release else None
    postgres, redis = test_servers(settings.data, settings.backup.restore_test)
    RestoreTest(
        "restore-test",
        RestoreTestArgs(
            namespace=foundation.namespace,
            image=settings.image,
            backup=settings.backup,
            postgres=postgres,
            redis=redis,
            secrets=data.credentials.values,
            secret_name=data.credentials.secret_name,
            database=data.credentials.database,
            direct=direct_url(settings.data, settings.application),
            release=settings.release,
            service=release.application.container if release else None,
            port=main.port if main else None,
            shape=main.shape if main else PodShape(),
            file=shape_of_tasks(settings.application, settings.data, opens=True),
            migrate=settings.commands.migrate,
            smoke=settings.commands.rehearsal,
            amounts=settings.application.job_resources,
            paused=settings.lockdown is not None and settings.lockdown.suspends,
        ),
        ResourceOptions(depends_on=[release.application, backup] if release else [backup]),
    )
