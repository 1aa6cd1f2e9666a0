"""What `runbook check` measures: certificates of real TLS servers, names, and lists and the clock of an API server."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from ops.adapters.environment import read_certificate_end, read_clock, read_objects, resolve_host
from ops.errors import NotMeasured
from tests.support import http_servers
from tests.support.go_live_world import issue_certificate
from tests.support.servers import free_ports


@contextmanager
def https_server(certificate: Path) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with http_servers.closing_server(server) as port:
        yield port


def test_when_a_certificate_ends(tmp_path: Path) -> None:
    certificate = issue_certificate(tmp_path)
    with https_server(certificate) as port:
        ends = read_certificate_end(f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=str(certificate)))
    assert abs(ends - datetime.now(UTC) - timedelta(days=1)) < timedelta(minutes=1)


def test_a_certificate_of_another_host_by_an_unknown_authority_or_of_the_past_fails(tmp_path: Path) -> None:
    certificate = issue_certificate(tmp_path, "127.0.0.9")
    trusting = ssl.create_default_context(cafile=str(certificate))
    old = issue_certificate(tmp_path, ends=timedelta(hours=-1))
    with https_server(certificate) as port:
        for context, words in ((trusting, "IP address mismatch"), (ssl.create_default_context(), "self-signed")):
            with pytest.raises(NotMeasured, match=words) as failed:
                read_certificate_end(f"https://127.0.0.1:{port}", context)
            assert failed.value.fails
    with https_server(old) as port, pytest.raises(NotMeasured, match="expired") as failed:
        read_certificate_end(f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=str(old)))
    assert failed.value.fails


def test_no_answer_is_no_failure_of_the_certificate() -> None:
    (port,) = free_ports(1)
    for url in (f"https://127.0.0.1:{port}", "http://shop.example.com"):
        with pytest.raises(NotMeasured) as failed:
            read_certificate_end(url, ssl.create_default_context())
        assert not failed.value.fails


def test_names() -> None:
    assert resolve_host("https://shop.localhost:8443") == ["127.0.0.1"]
    assert resolve_host("https://127.0.0.1") == ["127.0.0.1"]
    with pytest.raises(NotMeasured, match=r"nowhere\.invalid has no address") as failed:
        resolve_host("https://nowhere.invalid")
    assert failed.value.fails


class ApiServer:
    """Lists of two pages, one that is refused, and a clock."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self.url = ""

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url) as client:
            yield client

    @contextmanager
    def serving(self) -> Iterator[ApiServer]:
        api = self

        class Handler(http_servers.Handler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                more = parse_qs(parts.query).get("continue")
                status = {"/api/v1/nodes": 403, "/api/v1/broken": 500}.get(parts.path, 200)
                page: dict[str, Any] = {"items": [{"page": 2 if more else 1}], "metadata": {}}
                page["metadata"] = {} if more else {"continue": "next"}
                self.answer_json(status, page)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return format_datetime(datetime.now(UTC) + api.ahead, usegmt=True)

        with http_servers.serve(Handler) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield self


@pytest.fixture
def api() -> Iterator[Any]:
    with ApiServer().serving() as api:
        yield api


def test_every_page_of_a_list_is_read(api: Any) -> None:
    assert read_objects(api, "/api/v1/pods") == [{"page": 1}, {"page": 2}]


def test_a_list_that_this_identity_may_not_read_fails_nothing(api: Any) -> None:
    with pytest.raises(NotMeasured, match="may not list nodes") as refused:
        read_objects(api, "/api/v1/nodes")
    assert not refused.value.fails
    with pytest.raises(NotMeasured, match="500") as broken:
        read_objects(api, "/api/v1/broken")
    assert broken.value.fails


@pytest.mark.parametrize("seconds", [0, 90, -90])
def test_the_difference_of_two_clocks(api: Any, seconds: int) -> None:
    api.ahead = timedelta(seconds=-seconds)
    assert read_clock(api) == pytest.approx(seconds, abs=3)
