"""What `runbook doctor` looks at: an API server and a registry that answer over HTTP as real ones do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.support import http_servers

DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}
LABELS = {
    "org.opencontainers.image.revision": "1a2b3c4",
    "runbook.schema.min": "1",
    "runbook.schema.max": "2",
    "runbook.schema.level": "1",
}


def _named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more}}


@dataclass
class Api:
    """A cluster in which a first release can work; tests take something away."""

    version: str = "v1.34.2"
    denied: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource) that this identity may not."""
    refuses_namespace: str | None = None
    ahead: timedelta = timedelta()
    lists: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {
            "/api/v1/nodes": [
                {**_named("n1"), "status": {"conditions": [{"type": "Ready", "status": "True"}]}, "spec": {}}
            ],
            "/apis/storage.k8s.io/v1/storageclasses": [_named("local", annotations=DEFAULT)],
            "/apis/networking.k8s.io/v1/ingressclasses": [_named("traefik")],
            "/api/v1/namespaces/kube-system/pods": [_named("calico-node-x7k2p")],
        }
    )
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    """Requests that would change something."""

    @contextmanager
    def serving(self, kubeconfig: Path) -> Iterator[None]:
        api = self

        class Handler(http_servers.Handler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path == "/version":
                    self.answer_json(200, {"gitVersion": api.version})
                elif path in api.lists:
                    self.answer_json(200, {"items": api.lists[path], "metadata": {}})
                else:
                    found = api.objects.get(path)
                    self.answer_json(200 if found else 404, found or {"message": "not found"})

            def do_POST(self) -> None:
                body = json.loads(self.read_body())
                where = urlsplit(self.path)
                if where.path.endswith("/selfsubjectaccessreviews"):
                    asked = body["spec"]["resourceAttributes"]
                    one = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
                    self.answer_json(201, {"status": {"allowed": (asked["verb"], one) not in api.denied}})
                    return
                if "dryRun=All" not in where.query:
                    api.changed.append(self.path)
                if where.path == "/api/v1/namespaces" and api.refuses_namespace:
                    self.answer_json(403, {"message": api.refuses_namespace})
                elif where.path.endswith("/pods"):
                    self.answer_json(
                        403, {"message": 'pods "doctor" is forbidden: violates PodSecurity "restricted:v1.34"'}
                    )
                else:
                    self.answer_json(201, body)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return format_datetime(datetime.now(UTC) + api.ahead, usegmt=True)

        with http_servers.serve(Handler) as port:
            write_kubeconfig(kubeconfig, port)
            yield


def write_kubeconfig(file: Path, port: int) -> None:
    content = {
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    }
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **content}))


@contextmanager
def registry(images: dict[str, dict[str, Any]]) -> Iterator[dict[str, str]]:
    """A registry with these images (name → configuration); each one by digest."""
    content: dict[str, bytes] = {}
    digests: dict[str, str] = {}
    for name, config in images.items():
        blob = json.dumps({"config": config, "of": name}).encode()
        content[digest := f"sha256:{hashlib.sha256(blob).hexdigest()}"] = blob
        manifest = json.dumps({"schemaVersion": 2, "config": {"digest": digest}}).encode()
        digests[name] = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        content[digests[name]] = manifest

    class Handler(http_servers.Handler):
        def do_GET(self) -> None:
            body = content.get(self.path.rsplit("/", 1)[1])
            self.answer(200 if body else 404, body or b"")

    with http_servers.serve(Handler) as port:
        yield {name: f"127.0.0.1:{port}/{name}@{digest}" for name, digest in digests.items()}
