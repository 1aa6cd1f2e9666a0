"""An image registry of the tests: manifests and labels over HTTP, no layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support import http_servers


@contextmanager
def serve_images() -> Iterator[str]:
    """A registry with images of a shop; the address of its repository.

    `v1` to `v3` bring a schema level each; the git labels of the others say what they do to the tests' program.
    """
    blobs: dict[str, bytes] = {}
    tags: dict[str, bytes] = {}

    def image(tag: str, labels: Mapping[str, str]) -> None:
        config = json.dumps({"config": {"Labels": {**labels, "tag": tag}}}).encode()
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        blobs[digest] = config
        tags[tag] = json.dumps({"schemaVersion": 2, "config": {"digest": digest}}).encode()

    def labels(git: str, low: int, high: int, level: int) -> dict[str, str]:
        return {
            "org.opencontainers.image.revision": git,
            "runbook.schema.min": str(low),
            "runbook.schema.max": str(high),
            "runbook.schema.level": str(level),
        }

    image("v1", labels("aaaa1111", 1, 2, 1))
    image("v2", labels("12e4567", 2, 2, 2))
    image("v3", labels("cccc3333", 3, 3, 3))
    image("bad", labels("bad", 2, 2, 2))
    image("slow", labels("slow", 2, 2, 2))
    image("unready", labels("unready", 2, 2, 2))
    image("leaky", labels("leaky", 1, 2, 2))
    image("fine", labels("fine", 1, 2, 2))
    image("bare", {})

    class Handler(http_servers.Handler):
        def do_GET(self) -> None:
            kind, name = self.path.split("/")[-2:]
            known = {f"sha256:{hashlib.sha256(body).hexdigest()}": body for body in tags.values()}
            body = blobs.get(name) if kind == "blobs" else tags.get(name) or known.get(name)
            self.answer(200 if body else 404, body or b"")

    with http_servers.serve(Handler) as port:
        yield f"127.0.0.1:{port}/shop"
