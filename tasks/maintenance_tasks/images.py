"""`unused-images`: what the nodes keep of this stack's images besides those in use.

It only reports: the kubelet deletes unused images when a disk fills.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.maintenance_tasks.api import Api
from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say, size

USED = "MAINTENANCE_IMAGES"
"""Variable with the images that the stack uses, by digest."""
_SHOWN = 20


def list_unused(context: Context) -> Outcome:
    """Images of the stack's repositories under other digests, node by node. The kubelet reports 50 images at most."""
    used = context.environment.words(USED)
    repositories = {repository_of(image) for image in used}
    digests = {image.rpartition("@")[2] for image in used}
    notes: list[str] = []
    count, total = 0, 0
    for node in Api(context.environment).list_nodes():
        unused = list(_unused(node, repositories, digests))
        count += len(unused)
        total += sum(bytes_ for _, bytes_ in unused)
        if unused:
            name = node.get("metadata", {}).get("name")
            freed = size(sum(bytes_ for _, bytes_ in unused))
            notes.append(f"{name}: {len(unused)} images, {freed}: {', '.join(image for image, _ in unused[:_SHOWN])}")
    say(f"  {count} unused images on the nodes, {size(total)}")
    return Outcome(notes=notes[:_SHOWN], measures={"unused images": float(count), "unused image bytes": float(total)})


def repository_of(image: str) -> str:
    """Without its tag and its digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _unused(node: Mapping[str, Any], repositories: set[str], digests: set[str]) -> Iterator[tuple[str, int]]:
    for image in node.get("status", {}).get("images") or ():
        names = [name for name in image.get("names") or () if "@" in name]
        ours = [name for name in names if repository_of(name) in repositories]
        if ours and not any(name.rpartition("@")[2] in digests for name in names):
            yield ours[0][:120], int(image.get("sizeBytes") or 0)
