"""A stack made of Pulumi.prod.yaml: what the sandbox's own values hide (issue 14)."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from sandbox.cluster import layout
from tests.cluster.test_release import serving
from tests.cluster.test_sandbox import eventually
from tests.support.cluster_stack import Stack
from tests.support.production_stack import Production, production_stack

LEAST = 3
"""`autoscaler.minReplicas` of Pulumi.prod.yaml."""


@pytest.fixture(scope="module")
def production(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with production_stack(images, tmp_path_factory.mktemp("production")) as made:
        yield made


@pytest.fixture(scope="module")
def stack(production: Production) -> Stack:
    return production.stack


def protected(stack: Stack) -> set[str]:
    """Types of the resources that the engine refuses to delete."""
    exported = stack.run("pulumi", "stack", "export", "--stack", stack.name, config_file=False).check().json()
    return {resource["type"] for resource in exported["deployment"]["resources"] if resource.get("protect")}


def ready_pods(stack: Stack) -> int:
    return json.loads(stack.kubectl("get", "deployment", "backend", "--output=json"))["status"].get("readyReplicas", 0)


def presented_certificate(url: str) -> bytes:
    """The certificate that customers get, verified for the name in their URL."""
    parts = urlsplit(url)
    trust = ssl.create_default_context(cafile=str(layout.CA))
    with (
        socket.create_connection(("127.0.0.1", parts.port or 443), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=parts.hostname) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""


def test_the_first_release_serves_over_tls_with_the_least_number_of_pods(
    production: Production, stack: Stack, images: dict[str, str]
) -> None:
    stack.runbook("deploy", images["shop:v1"], "--yes").check()
    certificate = production.issue_certificate()
    assert serving(stack) == stack.release["git"]
    assert stack.url.startswith("https://")
    eventually(lambda: presented_certificate(stack.url) == certificate)
    assert protected(stack) == {"kubernetes:core/v1:Namespace"}
    # This cluster has no source of metrics: the autoscaler knows no load, and keeps its minimum.
    eventually(lambda: ready_pods(stack) == LEAST, 60)
