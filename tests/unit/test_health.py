"""How a release is asked whether it is healthy: a real server answers as applications and ingresses do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ops.commands.health import read_health
from ops.commands.status import is_healthy
from settings import StackFile, parse
from settings.monitoring import HEALTH_PATH
from tests.support import http_servers
from tests.support.program import RELEASE, committed, secrets_for

Answer = tuple[int, dict[str, str], bytes]
NOT_FOUND: Answer = (404, {}, b"")


@contextmanager
def serve(answers: dict[str, Answer]) -> Iterator[str]:
    """A server on loopback that answers these paths; its URL has a name below `.localhost`, as the sandbox's have."""

    class Handler(http_servers.Handler):
        def do_GET(self) -> None:
            status, headers, body = answers.get(self.path, NOT_FOUND)
            self.answer(status if self.headers["Host"].startswith("shop.localhost") else 421, body, headers)

    with http_servers.serve(Handler) as port:
        yield f"http://shop.localhost:{port}"


def test_the_path_of_the_settings_is_asked() -> None:
    with serve({"/healthz": (200, {}, b"ok")}) as url:
        assert not read_health(url, "/healthz").bad
        assert read_health(url, HEALTH_PATH).status == 404
        assert read_health(url, HEALTH_PATH).bad


@pytest.mark.parametrize("status", [200, 204])
def test_any_success_is_healthy(status: int) -> None:
    with serve({"/healthz": (status, {}, b"")}) as url:
        assert not read_health(url, "/healthz").bad


def test_redirects_are_followed_to_the_answer() -> None:
    answers: dict[str, Answer] = {"/healthz": (308, {"Location": "/en/healthz"}, b"")}
    with serve(answers) as url:
        assert read_health(url, "/healthz").bad
        answers["/en/healthz"] = (302, {"Location": f"{url}/en/ready"}, b"")
        answers["/en/ready"] = (200, {}, b'{"status": "healthy"}')
        found = read_health(url, "/healthz")
        assert (found.status, found.detail) == (200, "healthy")


def test_a_circle_of_redirects_is_not_healthy() -> None:
    with serve({"/healthz": (302, {"Location": "/healthz"}, b"")}) as url:
        assert read_health(url, "/healthz").bad


def test_the_answer_of_a_lockdown_is_not_the_applications() -> None:
    answers: dict[str, Answer] = {"/healthz": (503, {}, b'{"status": "lockdown"}')}
    with serve(answers) as url:
        assert not read_health(url, "/healthz").bad
        answers["/healthz"] = (503, {}, b'{"status": "unhealthy"}')
        assert read_health(url, "/healthz").bad


def test_no_answer_proves_nothing() -> None:
    with serve({}) as url:
        pass
    assert read_health(url, "/healthz").status is None


def test_settings_say_which_path_it_is() -> None:
    def path(monitoring: dict[str, object] | None) -> str:
        config = committed("Pulumi.sandbox.yaml", release=RELEASE)
        config.pop("runbook:monitoring")
        if monitoring is not None:
            config["runbook:monitoring"] = {**committed("Pulumi.sandbox.yaml")["runbook:monitoring"], **monitoring}
        sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
        return parse(StackFile("Pulumi.test.yaml", config, sealed)).health_path

    assert path(None) == path({}) == HEALTH_PATH
    assert path({"healthPath": "/healthz"}) == "/healthz"


@pytest.mark.parametrize(("status", "well"), [(204, True), (200, True), (None, True), (302, False), (503, False)])
def test_status_calls_any_success_healthy_and_no_answer_unknown(status: int | None, well: bool) -> None:
    """R4: `runbook status` ended with 1 for an application that answers 204."""
    found = {
        "application": True,
        "revision": 1,
        "finished": True,
        "services": [{"settled": True}],
        "health": {"status": status, "detail": ""},
        "lastUpdate": {"result": "succeeded"},
    }
    assert is_healthy(found) is well
