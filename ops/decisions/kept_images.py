"""Whether the nodes have the image that a rollback starts: a digest that is there is not pulled, so that a rollback
needs no registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ops.decisions.capacity import accepts_pods

_MOST_LISTED = 50
"""A kubelet reports as many images of its node (`nodeStatusMaxImages`), the largest first."""


@dataclass(frozen=True)
class KeptImage:
    """On which nodes a release's image is."""

    revision: int
    image: str
    nodes: int
    """Nodes that accept pods."""
    on: int
    """Those that have it."""
    unknown: int
    """Those that may have it: they report only a part of what they have."""

    def __str__(self) -> str:
        found = f"the image of revision {self.revision} is on {self.on} of {self.nodes} nodes"
        missing = self.nodes - self.on - self.unknown
        unsure = f", {self.unknown} report only their largest images" if self.unknown else ""
        return f"{found}{unsure}{': the others pull it, from a registry that has to answer' if missing else ''}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def count_nodes(nodes: Sequence[Mapping[str, Any]], revision: int, image: str) -> KeptImage:
    """By the status of the nodes that accept pods."""
    usable = [node for node in nodes if accepts_pods(node)]
    listed = [node["status"].get("images") or [] for node in usable]
    having = [any(_names(each, image) for each in images) for images in listed]
    unknown = sum(not has and len(images) >= _MOST_LISTED for has, images in zip(having, listed, strict=True))
    return KeptImage(revision, image, len(usable), sum(having), unknown)


def _names(listed: Mapping[str, Any], image: str) -> bool:
    """A node writes the registry that an image's name leaves out (`docker.io/library/…`)."""
    return any(name == image or name.endswith(f"/{image}") for name in listed.get("names") or ())
