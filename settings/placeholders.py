"""What a stack file that was made from an example still lacks: real digests, and the cluster that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from settings.base import Path
from settings.problems import Problem

if TYPE_CHECKING:
    from settings.consistency import StackFile

_NO_DIGEST = "@sha256:" + "0" * 64
_CONTEXT = "kubernetes:context"
_CLUSTER = (_CONTEXT, "kubernetes:kubeconfig")


def find_placeholders(environment: str, file: StackFile) -> Iterator[Problem]:
    """Outside the sandbox no image is a placeholder, and the cluster is named.

    Without a name, an update goes to the current context of the machine that runs it.
    """
    if environment == "sandbox":
        return
    for key, value in file.values.items():
        for path, image in _strings(value):
            if image.endswith(_NO_DIGEST):
                name = image.removesuffix(_NO_DIGEST)
                why = f"is a placeholder: write the digest that your registry has for {name}"
                yield Problem((key, *path), why, image)
    if not {*file.values, *file.sealed} & {*_CLUSTER}:
        why = (
            "is missing: without it, updates go to the current context of the kubeconfig, whichever it is; it is one of"
        )
        yield Problem((_CONTEXT,), f"{why} `kubectl config get-contexts -o name`", write="NAME-OF-THE-CONTEXT")


def _strings(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, (*path, index))
