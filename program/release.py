"""A release: backup, migration, application, cache, smoke test, in this order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pulumi
from pulumi import ResourceOptions

from components.application import Application, ApplicationArgs
from components.backup import Backup
from components.base.init_containers import make_beside_jobs
from components.base.jobs import RolloutJobArgs
from components.cache import Cache
from components.foundation import Foundation
from components.lockdown import Lockdown, LockdownArgs
from components.lockdown_gateway import ANSWER_SECONDS
from components.maintenance import Maintenance, MaintenanceArgs
from components.migration import Migration, MigrationArgs
from components.pre_release import PreRelease, PreReleaseArgs
from components.smoke import Smoke
from components.verification import PreviousVerification, Verification
from program.data import Data
from program.first_pods import start_first_pods
from program.inputs import Inputs
from settings import Application as ApplicationSettings
from settings import Command
from settings.connections import direct_url
from settings.sqlite import shape_of_tasks


@dataclass(frozen=True, kw_only=True)
class Release:
    application: Application
    checks: list[pulumi.Resource]
    """The checks that must pass before the release counts as done."""


def register_release(
    inputs: Inputs, foundation: Foundation, data: Data | None, backup: Backup | None
) -> Release | None:
    """None before the first deploy."""
    settings = inputs.settings
    release = settings.release
    if not (release and data):
        return None
    application = Application(
        "application",
        ApplicationArgs(
            namespace=foundation.namespace,
            release=release,
            application=settings.application,
            ingress=settings.ingress,
            ingress_controller=settings.network.ingress_controller,
            secret_name=data.credentials.secret_name,
            rehearsal=settings.commands.rehearsal,
            performance=settings.performance,
            divert_to=_register_maintenance(inputs, foundation),
            stops_writers=bool(settings.maintenance and settings.maintenance.stops_writers),
            lockdown=_register_lockdown(inputs, foundation),
            hooks={
                service.name: start_first_pods(settings.namespace, service, inputs.api)
                for service in settings.application.services
                if service.autoscaler
            },
        ),
        ResourceOptions(depends_on=_register_migration(inputs, foundation, data, backup)),
    )
    warm = RolloutJobArgs(
        namespace=foundation.namespace,
        image=release.image,
        tasks_image=settings.image,
        command=settings.commands.smoke,
        amounts=settings.application.job_resources,
        placement_seconds=settings.application.placement_seconds,
        env_from=application.env_from,
        target_url=application.internal_url,
        rollout_identity=application.rollout_identity,
        shape=settings.application.main_service.shape,
        companions=application.companions,
        start_seconds=_companions_seconds(settings.application),
    )
    rolled_out: pulumi.Resource = application
    if command := settings.commands.cache:
        rolled_out = Cache("cache", replace(warm, command=command), ResourceOptions(depends_on=[application]))
    smoke = Smoke("smoke", warm, ResourceOptions(depends_on=[rolled_out]))
    checks: list[pulumi.Resource] = [smoke, *_register_validation(inputs, warm, smoke)]
    # Beside the smoke test: neither needs the other, and a rollback waits for both.
    for rotation in inputs.rotations.values():
        if command := rotation.to_verify:
            check, opts = replace(warm, command=command), ResourceOptions(depends_on=[rolled_out])
            checks.append(Verification(rotation.name, check, opts))
        if command := rotation.to_verify_previous:
            check, opts = replace(warm, command=command), ResourceOptions(depends_on=[rolled_out])
            secret = data.credentials.secret_name
            checks.append(PreviousVerification(rotation.name, check, rotation, secret, opts))
    _register_go_live(inputs, foundation, data, application)
    _register_operations(inputs, foundation, data, application)
    pulumi.export("url", application.url)
    pulumi.export("services", application.services)
    pulumi.export("image", release.image)
    pulumi.export("revision", release.revision)
    return Release(application=application, checks=checks)


def _register_migration(
    inputs: Inputs, foundation: Foundation, data: Data, backup: Backup | None
) -> list[pulumi.Resource]:
    """What the application waits for: the migration, after a backup of what it changes."""
    settings = inputs.settings
    release = settings.release
    ready: list[pulumi.Resource] = [data.rotation, backup] if backup else [data.rotation]
    database = data.credentials.database
    if not (release and release.migrate and database):
        return ready
    if settings.backup and backup:
        pre_release = PreRelease(
            "pre-release",
            PreReleaseArgs(
                namespace=foundation.namespace,
                image=settings.image,
                backup=settings.backup,
                account=backup.account,
                release=release,
                command=settings.commands.migrate,
                database_secret_name=data.credentials.database_secret_name,
                file=shape_of_tasks(settings.application, settings.data, opens=True),
            ),
            ResourceOptions(depends_on=ready),
        )
        ready = [pre_release]
    migration = Migration(
        "migration",
        MigrationArgs(
            namespace=foundation.namespace,
            release=release,
            command=settings.commands.migrate,
            amounts=settings.application.job_resources,
            database_secret_name=data.credentials.database_secret_name,
            database_url=database,
            image=settings.image,
            placement_seconds=settings.application.placement_seconds,
            backup=settings.backup,
            guarded=settings.data.sqlite is None,
            shape=settings.application.main_service.shape,
            companions=make_beside_jobs(settings.application.main_service, release.image, data.credentials.secret_name),
            companions_seconds=_companions_seconds(settings.application),
            direct=direct_url(settings.data, settings.application),
        ),
        ResourceOptions(depends_on=ready),
    )
    return [migration]


def _register_validation(inputs: Inputs, warm: RolloutJobArgs, smoke: Smoke) -> list[pulumi.Resource]:
    """Requests and the pipeline after a release. A rollback skips them: every second counts, and its release has passed
    them before."""
    settings = inputs.settings
    commands = settings.commands
    if not (settings.release and settings.release.action == "deploy" and (commands.validation or commands.pipeline)):
        return []
    from components.validation import TASK, Pipeline, PipelineArgs, Validation, ValidationArgs

    made: list[pulumi.Resource] = [smoke]
    if asked := commands.validation:
        command = Command(run=(TASK,), timeout_seconds=asked.timeout_seconds)
        args = ValidationArgs(
            job=replace(warm, image=settings.image, command=command, companions=(), start_seconds=0),
            checks=asked.to_task(settings.health_path, settings.application.internal_url),
            attempts=asked.attempts,
            host_header=settings.application.host_header,
        )
        made.append(Validation("validation", args, ResourceOptions(depends_on=[made[-1]])))
    if commands.pipeline:
        steps = PipelineArgs(job=warm, steps=commands.pipeline)
        made.append(Pipeline("pipeline", steps, ResourceOptions(depends_on=[made[-1]])))
    return made[1:]


def _register_go_live(inputs: Inputs, foundation: Foundation, data: Data, application: Application) -> None:
    settings = inputs.settings
    if not (settings.checklist and settings.release):
        return
    from components.go_live import GoLive, GoLiveArgs

    secrets = settings.application.secrets
    production = settings.environment == "production"
    GoLive(
        "go-live",
        GoLiveArgs(
            namespace=foundation.namespace,
            image=settings.image,
            release_image=settings.application.main_service.image or settings.release.image,
            checks=settings.checklist.to_task(
                settings.health_path, secrets, production=production, url_of=settings.application.internal_url
            ),
            amounts=settings.application.job_resources,
            env_from=application.env_from,
            database_secret_name=data.credentials.database_secret_name,
            target_url=settings.checklist.target or application.internal_url,
            host_header=settings.application.host_header,
            shape=settings.application.main_service.shape,
            companions=application.companions,
        ),
        ResourceOptions(depends_on=[foundation, data.credentials]),
    )


def _register_operations(inputs: Inputs, foundation: Foundation, data: Data, application: Application) -> None:
    settings = inputs.settings
    if not settings.release:
        return
    from components.operations import Operations, OperationsArgs

    main = settings.application.main_service
    Operations(
        "operations",
        OperationsArgs(
            namespace=foundation.namespace,
            image=settings.image,
            release_image=main.image or settings.release.image,
            amounts=settings.application.job_resources,
            env_from=application.env_from,
            database_secret_name=data.credentials.database_secret_name,
            target_url=application.internal_url,
            shape=main.shape,
            companions=application.companions,
        ),
        ResourceOptions(depends_on=[foundation, data.credentials]),
    )


def _companions_seconds(application: ApplicationSettings) -> int:
    """Seconds that what runs beside commands may take to start."""
    return sum(one.longest_start for one in application.main_service.before if one.in_jobs)


def _register_maintenance(inputs: Inputs, foundation: Foundation) -> pulumi.Output[str] | None:
    """Name of the Service that answers instead of the application. None outside maintenance, and without an ingress
    that could lead to it."""
    settings = inputs.settings
    controller = settings.network.ingress_controller
    if not (settings.maintenance and settings.ingress and controller):
        return None
    return Maintenance(
        "maintenance",
        MaintenanceArgs(
            namespace=foundation.namespace,
            image=settings.image,
            maintenance=settings.maintenance,
            ingress_controller=controller,
        ),
        ResourceOptions(depends_on=[foundation]),
    ).service_name


def _register_lockdown(inputs: Inputs, foundation: Foundation) -> Lockdown | None:
    """None outside a lockdown, and without an ingress: no client outside the cluster calls the services then."""
    settings = inputs.settings
    controller = settings.network.ingress_controller
    if not (settings.lockdown and settings.ingress and controller):
        return None
    return Lockdown(
        "lockdown",
        LockdownArgs(
            namespace=foundation.namespace,
            image=settings.image,
            lockdown=settings.lockdown,
            services=settings.application.services,
            ingress_controller=controller,
            answer_seconds=max(settings.ingress.timeout_seconds or 0, ANSWER_SECONDS),
        ),
        ResourceOptions(depends_on=[foundation]),
    )
