"""Monitoring, the rollback controller and the log counter. What they are made of takes time to load, so it is loaded
only in stacks that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pulumi
from pulumi import ResourceOptions

from components.foundation import Foundation
from program.data import Data
from program.inputs import Inputs
from program.release import Release
from settings.rotation import DATABASE_URL
from settings.secret import Secret

if TYPE_CHECKING:
    from components.monitoring.workloads import ControllerAddress


def register_monitoring(inputs: Inputs, foundation: Foundation, data: Data | None, release: Release | None) -> None:
    """No other component waits for it: a rollback takes as long with monitoring as without."""
    settings = inputs.settings
    monitoring = settings.monitoring
    if not monitoring:
        return
    from components.monitoring.monitoring import Monitoring, MonitoringArgs
    from monitoring.prometheus import MonitoredStack

    _register_log_counter(inputs, foundation)
    Monitoring(
        "monitoring",
        MonitoringArgs(
            namespace=foundation.namespace,
            image=monitoring.image or "",
            watched=MonitoredStack(
                namespace=settings.namespace,
                monitoring=monitoring,
                application=settings.application,
                ingress=settings.ingress,
                backup=settings.backup,
                rotations=inputs.rotations,
                maintenance=settings.maintenance,
                lockdown=settings.lockdown,
                maintenance_tasks=settings.maintenance_tasks,
                performance=settings.performance if settings.checks_pages else None,
            ),
            network=settings.network,
            postgres=settings.data.postgres,
            redis=settings.data.redis,
            dsns=_list_dsns(data) if data else {},
            secrets=inputs.secrets,
            begins_after=[release.application] if release else [],
            controller=_register_controller(inputs, foundation),
        ),
        ResourceOptions(depends_on=[data.services, data.rotation] if data else [foundation]),
    )


def _list_dsns(data: Data) -> Mapping[str, Secret]:
    """What exporters connect to: with a login of their own, or with the application's where no task can make one."""
    dsns = dict(data.services.dsns)
    if database := data.credentials.database:
        dsns[DATABASE_URL] = database
    return dsns | {name: login.put_into(dsns[name]) for name, login in data.services.monitors.items()}


def _register_controller(inputs: Inputs, foundation: Foundation) -> ControllerAddress | None:
    """The controller's webhook for rollback alerts. None where no trigger is automatic."""
    monitoring = inputs.settings.monitoring
    if not (monitoring and monitoring.rollback.controlled):
        return None
    from components.monitoring.workloads import ControllerAddress
    from components.rollback_controller.controller import RollbackController, RollbackControllerArgs

    page = inputs.settings.status_page
    controller = RollbackController(
        "rollback-controller",
        RollbackControllerArgs(
            namespace=foundation.namespace,
            stack=pulumi.get_stack(),
            monitoring=monitoring,
            health_port=inputs.settings.application.main_service.port,
            secrets=inputs.secrets,
            more_egress=page.bucket.egress if page and page.bucket else (),
        ),
        ResourceOptions(depends_on=[foundation]),
    )
    return ControllerAddress(url=controller.url, token_secret_name=controller.token_secret_name)


def _register_log_counter(inputs: Inputs, foundation: Foundation) -> None:
    settings = inputs.settings
    if not (settings.monitoring and settings.monitoring.logs):
        return
    from components.monitoring.log_counter import LogCounter, LogCounterArgs

    LogCounter(
        "log-counter",
        LogCounterArgs(namespace=foundation.namespace, image=settings.image, logs=settings.monitoring.logs),
        ResourceOptions(depends_on=[foundation]),
    )
