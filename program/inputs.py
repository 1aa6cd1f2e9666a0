"""What the stack file and its secrets say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from program.api_server import ApiServer
from settings import config
from settings.availability import list_outages
from settings.rotation import SecretRotation
from settings.rotation_rules import list_warnings
from settings.secret import Secret
from settings.stack import StackSettings


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that the program reads."""

    settings: StackSettings
    secrets: Mapping[str, Secret]
    rotations: Mapping[str, SecretRotation]
    """Every secret that rotates, by name."""
    api: ApiServer
    """For hooks."""


def read_inputs() -> Inputs:
    """The stack's configuration. A bad stack file is refused here, before any resource is registered."""
    settings, secrets = config.read()
    rotations = settings.rotations()
    for warning in (*list_warnings(rotations), *list_outages(settings.environment, settings.data)):
        pulumi.log.warn(warning)
    api = ApiServer(pulumi.Config("kubernetes").get("context"))
    return Inputs(settings=settings, secrets=secrets, rotations=rotations, api=api)
