"""A secret on its way from the encrypted configuration, or from a random provider, to a pod."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True)
class Secret:
    """The value as a secret Output, and an identifier that does not reveal it."""

    value: pulumi.Output[str]
    identity: str
    """Changes when the value changes; names of immutable objects contain it."""
