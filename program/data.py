"""PostgreSQL and Redis, the application's secrets, and the rotation that makes new ones valid before they are used."""

from __future__ import annotations

from dataclasses import dataclass

from pulumi import ResourceOptions

from components.credentials import Credentials, CredentialsArgs
from components.data import DataServices, DataServicesArgs
from components.foundation import Foundation
from components.rotation import Rotation, RotationArgs
from program.inputs import Inputs
from settings import ExternalPostgres
from settings.connections import direct_url
from settings.sqlite import database_url


@dataclass(frozen=True, kw_only=True)
class Data:
    services: DataServices
    credentials: Credentials
    rotation: Rotation
    """Ready when the servers accept every secret that the application is about to use."""


def register_data(inputs: Inputs, foundation: Foundation) -> Data | None:
    """None in a stack that only monitors what belongs to others, and has no data service and no secret of one."""
    settings = inputs.settings
    if settings.data.is_empty:
        return None
    direct = direct_url(settings.data, settings.application)
    services = DataServices(
        "data",
        DataServicesArgs(
            namespace=foundation.namespace,
            postgres=settings.data.postgres,
            redis=settings.data.redis,
            rotations=inputs.rotations,
            secrets=inputs.secrets,
            protect=settings.guards.protect_data,
            volumes=settings.data.volumes,
            file_url=database_url(settings.application, settings.data),
            direct=direct,
            monitored=bool(settings.monitoring and settings.monitoring.image),
        ),
        ResourceOptions(depends_on=[foundation]),
    )
    credentials = Credentials(
        "credentials",
        CredentialsArgs(
            namespace=foundation.namespace,
            rotations=inputs.rotations,
            generated=settings.credentials.generated,
            secrets=inputs.secrets,
            dsns=services.dsns,
            direct=direct,
            role=services.role,
            ca=settings.data.postgres.ca if isinstance(settings.data.postgres, ExternalPostgres) else None,
        ),
        ResourceOptions(depends_on=[foundation]),
    )
    rotation = Rotation(
        "rotation",
        RotationArgs(
            namespace=foundation.namespace,
            image=settings.image,
            rotations=inputs.rotations,
            environment=services.rotation_environment,
            session_keys=settings.rotation.session_keys,
            postgres=settings.data.postgres,
            redis=settings.data.redis,
            monitors=services.monitors,
        ),
        ResourceOptions(depends_on=[services, credentials]),
    )
    return Data(services=services, credentials=credentials, rotation=rotation)
