"""The health answers that the controller reads, from real servers, one for each pod."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from ops.controller import evidence
from ops.controller.evidence import read_health_answers
from tests.support import http_servers
from tests.unit.test_health_checks import FINE, NO_PAYMENTS

HOSTS = ("127.78.0.1", "127.78.0.2")
PORT = 3900


class Pod:
    """Answers as a test says, and remembers what it was asked."""

    def __init__(self, host: str) -> None:
        self.status, self.body, self.drip = 200, json.dumps(FINE).encode(), 0.0
        self.asked: list[dict[str, str]] = []
        pod = self

        class Handler(http_servers.Handler):
            def do_GET(self) -> None:
                pod.asked.append({"path": self.path, **self.headers})
                self.send_response(pod.status)
                self.end_headers()
                try:
                    for byte in pod.body if pod.drip else ():
                        time.sleep(pod.drip)
                        self.wfile.write(bytes([byte]))
                    self.wfile.write(b"" if pod.drip else pod.body)
                except OSError:
                    pass  # the controller hung up

        self.server = ThreadingHTTPServer((host, PORT), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    made = [Pod(host) for host in HOSTS]
    yield made
    for pod in made:
        pod.server.shutdown()
        pod.server.server_close()


def read(*hosts: str, host_header: str | None = None) -> list[Any]:
    settings: Any = SimpleNamespace(
        application=SimpleNamespace(main_service=SimpleNamespace(name="backend", port=PORT), host_header=host_header),
        ingress=SimpleNamespace(host="shop.example.com"),
        health_path="/healthz",
    )
    cluster: Any = SimpleNamespace(pod_addresses=lambda _: list(hosts))
    return read_health_answers(cluster, settings)


def test_every_pod_is_asked_as_customers_ask_and_a_failure_is_an_answer(pods: list[Pod]) -> None:
    pods[1].status, pods[1].body = 503, json.dumps(NO_PAYMENTS).encode()
    assert read(*HOSTS) == [FINE, NO_PAYMENTS]
    (asked,) = pods[0].asked
    assert (asked["path"], asked["Host"], asked["X-Forwarded-Proto"]) == ("/healthz", "shop.example.com", "https")
    read(HOSTS[0], host_header="backend.internal")
    assert pods[0].asked[1]["Host"] == "backend.internal"


@pytest.mark.parametrize("body", [b"", b"unhealthy", b"\xff", b"[" * 100_000, b'"' + b"x" * 2_000_000 + b'"'])
def test_what_is_no_health_answer_is_left_out(pods: list[Pod], body: bytes) -> None:
    pods[0].body = body
    assert read(*HOSTS, "127.78.0.3") == [FINE], "nor is a pod that does not listen"
    assert read() == []


def test_a_pod_that_never_ends_its_answer_does_not_keep_the_controller(
    pods: list[Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_SECONDS", 0.5)
    pods[0].drip = 0.1
    began = time.monotonic()
    assert read(*HOSTS) == [FINE]
    assert time.monotonic() - began < 3
