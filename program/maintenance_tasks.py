"""Preventive maintenance, where the stack file has it."""

from __future__ import annotations

from pulumi import ResourceOptions

from components.backup import Backup
from components.foundation import Foundation
from program.data import Data
from program.inputs import Inputs
from program.release import Release
from settings import BundledPostgres, BundledRedis


def register_maintenance_tasks(
    inputs: Inputs, foundation: Foundation, data: Data, backup: Backup | None, release: Release
) -> None:
    """Commands run in the image of the release that serves, so the CronJobs follow the application."""
    settings = inputs.settings
    if not (settings.maintenance_tasks and settings.backup and backup and settings.release):
        return
    from components.maintenance_tasks import MaintenanceTasks, MaintenanceTasksArgs

    application, stores = settings.application, (settings.data.postgres, settings.data.redis)
    sqlite = settings.data.sqlite
    mount = sqlite.find_mount(application.main_service) if sqlite else None
    images = [
        settings.image,
        settings.release.image,
        *(image for service in application.services for image in service.images.values()),
        *(store.image for store in stores if isinstance(store, BundledPostgres | BundledRedis)),
    ]
    MaintenanceTasks(
        "maintenance-tasks",
        MaintenanceTasksArgs(
            namespace=foundation.namespace,
            image=settings.image,
            release_image=application.main_service.image or settings.release.image,
            settings=settings.maintenance_tasks.measuring(settings.health_path),
            backup=settings.backup,
            amounts=application.job_resources,
            env_from=release.application.env_from,
            target_url=release.application.internal_url,
            public_url=release.application.url,
            host_header=application.host_header,
            shape=application.main_service.shape,
            file_folder=mount.path if mount else None,
            companions=release.application.companions,
            database_secret_name=data.credentials.database_secret_name,
            images=list(dict.fromkeys(images)),
            # Never during a lockdown, nor while customers are kept away for a restore.
            paused=settings.lockdown is not None or settings.maintenance is not None,
        ),
        ResourceOptions(depends_on=[release.application, backup]),
    )
