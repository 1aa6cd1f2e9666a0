"""The program, the same for every stack: read the settings, build the rooms in order, export."""

import pulumi

import components as room
from settings import config

settings, secrets = config.read()

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
        dsns={name: secrets[name] for name in ("DATABASE_URL", "REDIS_URL") if name in secrets},
        protect=settings.guards.protect_data,
    ),
    pulumi.ResourceOptions(depends_on=[foundation]),
)
credentials = room.Credentials(
    "credentials",
    room.CredentialsArgs(
        namespace=foundation.namespace,
        generated=settings.credentials.generated,
        given={**secrets, **data.dsns},
    ),
    pulumi.ResourceOptions(depends_on=[foundation]),
)
pulumi.export("namespace", foundation.namespace)

if release := settings.release:
    ready: list[pulumi.Resource] = [data, credentials]
    if release.migrate:
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
        ),
        pulumi.ResourceOptions(depends_on=ready),
    )
    after: pulumi.Resource = application
    for kind, name, command in (
        (room.Cache, "cache", settings.commands.cache),
        (room.Smoke, "smoke", settings.commands.smoke),
    ):
        after = kind(
            name,
            room.RolloutJobArgs(
                namespace=foundation.namespace,
                image=release.image,
                command=command,
                amounts=settings.application.job_resources,
                env_from=application.env_from,
                target_url=application.internal_url,
                rollout_identity=application.rollout_identity,
            ),
            pulumi.ResourceOptions(depends_on=[after]),
        )
    pulumi.export("url", application.url)
    pulumi.export("services", application.services)
    pulumi.export("image", release.image)
    pulumi.export("revision", release.revision)
