"""The program, the same for every stack: read the settings, build the rooms in order, export."""

import gc
from dataclasses import replace

# A program that ends in seconds need not tidy up: a third less time to load what it uses.
gc.disable()

import pulumi  # noqa: E402

import components as room  # noqa: E402
from settings import config  # noqa: E402
from settings.backup import throw_away  # noqa: E402
from settings.rotation import BACKUP_S3  # noqa: E402

gc.freeze()  # nor look through all of it when it ends

settings, secrets = config.read()
rotations = settings.rotations()

foundation = room.Foundation(
    "foundation",
    room.FoundationArgs(
        namespace=settings.namespace,
        guards=settings.guards,
        dns=settings.network.dns,
        egress=settings.network.egress,
    ),
)
data = room.DataServices(
    "data",
    room.DataServicesArgs(
        namespace=foundation.namespace,
        postgres=settings.data.postgres,
        redis=settings.data.redis,
        rotations=rotations,
        secrets=secrets,
        protect=settings.guards.protect_data,
    ),
    pulumi.ResourceOptions(depends_on=[foundation]),
)
credentials = room.Credentials(
    "credentials",
    room.CredentialsArgs(
        namespace=foundation.namespace,
        rotations=rotations,
        generated=settings.credentials.generated,
        secrets=secrets,
        dsns=data.dsns,
    ),
    pulumi.ResourceOptions(depends_on=[foundation]),
)
rotation = room.Rotation(
    "rotation",
    room.RotationArgs(
        namespace=foundation.namespace,
        image=settings.image,
        rotations=rotations,
        environment=data.rotation_environment,
        session_keys=settings.rotation.session_keys,
        postgres=settings.data.postgres,
        redis=settings.data.redis,
    ),
    pulumi.ResourceOptions(depends_on=[data, credentials]),
)
pulumi.export("namespace", foundation.namespace)

ready: list[pulumi.Resource] = [rotation]
backup: room.Backup | None = None
if plan := settings.backup:
    backup = room.Backup(
        "backup",
        room.BackupArgs(
            namespace=foundation.namespace,
            image=settings.image,
            backup=plan,
            database=settings.data.postgres,
            database_secret_name=credentials.database_secret_name,
            keys=rotations.get(BACKUP_S3),
            secrets=secrets,
            release=settings.release,
            protect=settings.guards.protect_data,
            paused=settings.lockdown is not None,
        ),
        pulumi.ResourceOptions(depends_on=ready),
    )
    room.BackupExporter(
        "backup-exporter",
        room.BackupExporterArgs(
            namespace=foundation.namespace,
            image=settings.image,
            backup=plan,
            identity=backup.identity,
            rotation_status=rotation.status,
        ),
        pulumi.ResourceOptions(depends_on=[backup]),
    )
    ready = [*ready, backup]

if release := settings.release:
    if release.migrate:
        if plan and backup:
            before = room.PreRelease(
                "pre-release",
                room.PreReleaseArgs(
                    namespace=foundation.namespace,
                    image=settings.image,
                    backup=plan,
                    account=backup.account,
                    release=release,
                    command=settings.commands.migrate,
                    database_secret_name=credentials.database_secret_name,
                ),
                pulumi.ResourceOptions(depends_on=ready),
            )
            ready = [before]
        migration = room.Migration(
            "migration",
            room.MigrationArgs(
                namespace=foundation.namespace,
                release=release,
                command=settings.commands.migrate,
                amounts=settings.application.job_resources,
                database_secret_name=credentials.database_secret_name,
                database_url=data.dsns["DATABASE_URL"],
            ),
            pulumi.ResourceOptions(depends_on=ready),
        )
        ready = [migration]
    divert_to: pulumi.Input[str] | None = None
    if settings.maintenance:
        divert_to = room.Maintenance(
            "maintenance",
            room.MaintenanceArgs(
                namespace=foundation.namespace,
                image=settings.image,
                maintenance=settings.maintenance,
                ingress_controller=settings.network.ingress_controller,
            ),
            pulumi.ResourceOptions(depends_on=[foundation]),
        ).service_name
    lockdown: room.Lockdown | None = None
    if settings.lockdown:
        lockdown = room.Lockdown(
            "lockdown",
            room.LockdownArgs(
                namespace=foundation.namespace,
                image=settings.image,
                lockdown=settings.lockdown,
                services=settings.application.services,
                ingress_controller=settings.network.ingress_controller,
            ),
            pulumi.ResourceOptions(depends_on=[foundation]),
        )
    application = room.Application(
        "application",
        room.ApplicationArgs(
            namespace=foundation.namespace,
            release=release,
            application=settings.application,
            ingress=settings.ingress,
            ingress_controller=settings.network.ingress_controller,
            secret_name=credentials.secret_name,
            rehearsal=settings.commands.rehearsal,
            divert_to=divert_to,
            lockdown=lockdown,
        ),
        pulumi.ResourceOptions(depends_on=ready),
    )
    warm = room.RolloutJobArgs(
        namespace=foundation.namespace,
        image=release.image,
        command=settings.commands.cache,
        amounts=settings.application.job_resources,
        env_from=application.env_from,
        target_url=application.internal_url,
        rollout_identity=application.rollout_identity,
    )
    cache = room.Cache("cache", warm, pulumi.ResourceOptions(depends_on=[application]))
    check = replace(warm, command=settings.commands.smoke)
    smoke = room.Smoke("smoke", check, pulumi.ResourceOptions(depends_on=[cache]))
    ready = [smoke]
    for each in rotations.values():
        if command := each.to_verify:
            check = replace(warm, command=command)
            ready.append(room.Verification(each.name, check, pulumi.ResourceOptions(depends_on=[smoke])))
    if plan and backup:
        postgres, redis = throw_away(settings.data, plan.restore_test)
        room.RestoreTest(
            "restore-test",
            room.RestoreTestArgs(
                namespace=foundation.namespace,
                image=settings.image,
                backup=plan,
                postgres=postgres,
                redis=redis,
                release=release,
                service=application.container,
                port=settings.application.services[0].port,
                migrate=settings.commands.migrate,
                smoke=settings.commands.rehearsal,
                amounts=settings.application.job_resources,
                paused=settings.lockdown is not None,
            ),
            pulumi.ResourceOptions(depends_on=[application, backup]),
        )
    if (watching := settings.monitoring) and watching.image:
        # What it is made of takes time to load, and not every stack has it.
        from components.monitoring import Monitoring, MonitoringArgs
        from components.watchers import ControllerPlace
        from settings.scraping import Watched

        told: ControllerPlace | None = None
        if watching.rollback.controlled:
            from components.controller import RollbackController, RollbackControllerArgs

            controller = RollbackController(
                "rollback-controller",
                RollbackControllerArgs(
                    namespace=foundation.namespace,
                    stack=pulumi.get_stack(),
                    monitoring=watching,
                    egress=settings.network.egress,
                    secrets=secrets,
                ),
                pulumi.ResourceOptions(depends_on=[foundation]),
            )
            told = ControllerPlace(url=controller.url, token_secret_name=controller.token_secret_name)
        if watching.logs:
            from components.log_counter import LogCounter, LogCounterArgs

            LogCounter(
                "log-counter",
                LogCounterArgs(namespace=foundation.namespace, image=settings.image, logs=watching.logs),
                pulumi.ResourceOptions(depends_on=[foundation]),
            )
        # Nothing waits for it: a rollback takes as long with it as without.
        Monitoring(
            "monitoring",
            MonitoringArgs(
                namespace=foundation.namespace,
                image=watching.image,
                watched=Watched(
                    namespace=settings.namespace,
                    monitoring=watching,
                    application=settings.application,
                    ingress=settings.ingress,
                    backup=plan,
                    rotations=rotations,
                    maintenance=settings.maintenance,
                    lockdown=settings.lockdown,
                ),
                network=settings.network,
                postgres=settings.data.postgres,
                redis=settings.data.redis,
                dsns=data.dsns,
                secrets=secrets,
                begins_after=[application],
                controller=told,
            ),
            pulumi.ResourceOptions(depends_on=[data, rotation]),
        )
    pulumi.export("url", application.url)
    pulumi.export("services", application.services)
    pulumi.export("image", release.image)
    pulumi.export("revision", release.revision)

room.Retirement(
    "retirement",
    room.RetirementArgs(
        namespace=foundation.namespace, image=settings.image, rotations=rotations, account=rotation.account
    ),
    pulumi.ResourceOptions(depends_on=ready),
)
