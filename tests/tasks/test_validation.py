"""`python -m tasks validate` against a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from settings.http_check import HttpCheck
from tests.support import http_servers
from tests.support.servers import free_ports
from tests.support.task_processes import Outcome, task

TOKEN = "token-9f31ab77"


class Shop(http_servers.Handler):
    failures = 0
    """How many requests are answered with 500 first."""
    slow = threading.Event()

    def do_GET(self) -> None:
        if type(self).failures > 0:
            type(self).failures -= 1
            return self._answer(500, "")
        if self.path == "/slow":
            type(self).slow.wait(0.2)
        if self.path == "/secure" and self.headers["X-Forwarded-Proto"] != "https":
            return self._answer(301, "")
        if self.path == "/private" and self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._answer(401, f"not {self.headers['Authorization']}")
        return self._answer(302 if self.path == "/moved" else 200, json.dumps({"authenticated": False, "host": "h"}))

    def do_POST(self) -> None:
        self._answer(201, self.read_body().decode())

    def _answer(self, status: int, body: str) -> None:
        self.answer(status, body, {"Location": "/login"})


@pytest.fixture
def url() -> Iterator[str]:
    Shop.failures = 0
    with http_servers.serve(Shop) as port:
        yield f"http://127.0.0.1:{port}"


def validate(url: str, *checks: dict[str, Any], **more: str) -> Outcome:
    given = json.dumps([{**HttpCheck.model_validate(check).to_config(), "target": url} for check in checks])
    return task({"CHECKS": given, **more}, "validate")


def test_good_answers(url: str) -> None:
    done = validate(
        url,
        {"path": "/shop"},
        {"path": "/auth", "fields": {"authenticated": False}},
        {"path": "/moved", "status": [301, 302]},
        {"path": "/order", "method": "POST", "body": '{"token": "${API_TOKEN}"}', "status": 201, "contains": TOKEN},
        {"path": "/private", "headers": {"Authorization": "Bearer ${API_TOKEN}"}},
        API_TOKEN=TOKEN,
    )
    assert done.exit_code == 0, done
    assert done.result == {"passed": 5}
    assert TOKEN not in done.progress


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"path": "/shop", "status": 204}, "GET /shop: 200 in"),
        ({"path": "/moved"}, "to /login, not 200"),
        ({"path": "/slow", "withinMilliseconds": 100}, "and 100 ms are allowed"),
        ({"path": "/auth", "fields": {"authenticated": 0}}, "with authenticated false, not 0"),
        ({"path": "/private", "name": "the account", "headers": {"Authorization": "Bearer ${NONE}"}}, "the account"),
    ],
)
def test_one_bad_answer_fails_all(url: str, check: dict[str, Any], words: str) -> None:
    done = validate(url, {"path": "/shop"}, check)
    assert (done.exit_code, done.error) == (1, "not_valid")
    assert "1 of 2 checks failed" in done.message
    assert words in done.message


def test_an_application_that_wants_https_is_asked_as_the_ingress_asks(url: str) -> None:
    assert validate(url, {"path": "/secure"}, PUBLIC_URL="https://shop.example.com").exit_code == 0
    assert validate(url, {"path": "/secure"}, PUBLIC_URL="http://shop.example.com").error == "not_valid"
    own = {"path": "/secure", "headers": {"x-forwarded-proto": "http"}}
    assert validate(url, own, PUBLIC_URL="https://shop.example.com").error == "not_valid"


def test_it_is_tried_again(url: str) -> None:
    Shop.failures = 2
    assert validate(url, {"path": "/shop"}, ATTEMPTS="2").error == "not_valid"
    Shop.failures = 2
    assert validate(url, {"path": "/shop"}, ATTEMPTS="3").exit_code == 0


def test_nothing_that_answers(url: str) -> None:
    assert "checks failed" in validate("http://127.0.0.1:9", {"path": "/shop"}).message


def test_a_network_that_refuses_at_first_is_waited_for() -> None:
    """As that of a new pod does, until its policies are in place."""
    with http_servers.serve(Shop, after=3) as port:
        done = validate(f"http://127.0.0.1:{port}", {"path": "/shop"}, ATTEMPTS="2")
    assert done.exit_code == 0, done
    assert "FAIL" not in done.progress


def test_a_service_that_is_not_there_fails_with_the_reason() -> None:
    done = validate(f"http://127.0.0.1:{free_ports(1)[0]}", {"path": "/shop"})
    assert done.exit_code != 0
    assert "Connection refused" in done.progress
