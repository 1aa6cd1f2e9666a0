"""Maintenance mode: where the ingress routes, and what the page answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import pytest

from tasks.maintenance import server
from tests.support import http_servers
from tests.support.program import RELEASE, run_program, stack_config


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with http_servers.closing_server(server(0, 503, 90)) as port:
        yield f"http://127.0.0.1:{port}"


def test_under_maintenance_the_ingress_routes_to_the_page_and_the_services_stay() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    before = run_program(config)
    under = run_program({**config, "runbook:maintenance": {"reason": "moving the database", "retryAfterSeconds": 90}})
    (path,) = under.one("Ingress", "ingress").inputs["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == "maintenance"
    page = under.one("Deployment", "maintenance")
    assert {"name": "RETRY_AFTER_SECONDS", "value": "90"} in page.containers[0]["env"]
    assert "moving the database" not in str(page.inputs), "customers do not see the reason"
    assert under.waits_for(under.one("Ingress", "ingress"), page)
    assert under.one("Deployment", "backend").inputs == before.one("Deployment", "backend").inputs
    assert [made.object_name for made in before.all("Deployment")].count("maintenance") == 0


def test_maintenance_needs_no_backups() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, maintenance={"reason": "moving the database"})
    del config["runbook:backup"]
    page = run_program(config).one("Deployment", "maintenance")
    assert page.containers[0]["image"] == config["runbook:image"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
def test_every_response_has_retry_after(page: str, method: str) -> None:
    answer = httpx.request(method, f"{page}/shop", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "90"
    assert answer.headers["Cache-Control"] == "no-store"
    assert ("Back soon" in answer.text) == (method != "HEAD")


def test_customers_who_come_at_once_are_not_dropped() -> None:
    """No connection is accepted yet: the kernel keeps those that wait. It dropped each after the fifth."""
    with closing(server(0, 503, 90).socket) as page, ExitStack() as opened:
        for _ in range(200):
            opened.enter_context(socket.create_connection(("127.0.0.1", page.getsockname()[1]), timeout=0.5))


def test_programs_get_json(page: str) -> None:
    assert httpx.get(f"{page}/api/products").json() == {"status": "maintenance"}
