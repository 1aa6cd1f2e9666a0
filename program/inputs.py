"""What the stack file and its secrets say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from settings import config
from settings.rotation import SecretRotation
from settings.secret import Secret
from settings.stack import StackSettings


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that the program reads."""

    settings: StackSettings
    secrets: Mapping[str, Secret]
    rotations: Mapping[str, SecretRotation]
    """Every secret that rotates, by name."""


def read_inputs() -> Inputs:
    """The stack's configuration. A bad stack file is refused here, before any resource is registered."""
    settings, secrets = config.read()
    return Inputs(settings=settings, secrets=secrets, rotations=settings.rotations())
