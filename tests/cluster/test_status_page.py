"""The status page on the sandbox: it shows an incident while the shop and its database are down."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from sandbox.traffic import client_for
from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import eventually

BACKUPS = False
HOST = "status.localhost"
_SECONDS = 180
"""The kubelet renews files of a ConfigMap about once a minute."""


@pytest.fixture(scope="module")
def page(stack: Stack) -> str:
    """A stack with a status page; its URL."""
    own = f"{stack.namespace}.{HOST}"

    def add(config: dict[str, Any]) -> None:
        config["runbook:statusPage"] = {
            "ingress": {"host": own, "className": "traefik"},
            "title": "Sandbox",
            "components": [{"name": "Shop", "dependsOn": ["backend", "postgres"]}, {"name": "Blog"}],
        }

    stack.edit(add)
    stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview").check()
    return stack.url.replace(stack.config["runbook:ingress"]["host"], own)


def read(page: str) -> dict[str, Any]:
    with client_for(page) as client:
        return client.get("/status.json").raise_for_status().json()


def await_page(page: str, **wanted: str) -> dict[str, Any]:
    """Ask until each component has its state."""
    deadline = time.monotonic() + _SECONDS
    while True:
        found = read(page)
        states = {one["name"]: one["state"] for one in found["components"]}
        if states.items() >= wanted.items():
            return found
        assert time.monotonic() < deadline, states
        time.sleep(1)


def test_it_shows_an_incident_while_the_shop_and_its_database_are_down(stack: Stack, page: str) -> None:
    assert read(page)["state"] == "unknown"
    stack.runbook("incident", "publish").check()
    await_page(page, Shop="operational", Blog="operational")
    pods = json.loads(stack.kubectl("get", "pods", "--selector=app.kubernetes.io/name=status-page", "--output=json"))
    started = {one["metadata"]["uid"] for one in pods["items"]}
    stack.kubectl("scale", "deployment/backend", "statefulset/postgres", "--replicas=0")
    try:
        words = ("incident", "start", "--level", "1", "pool of postgres-0 exhausted", "--affects", "postgres", "--json")
        done = stack.runbook(*words).check().json()
        assert done["published"]["sent"] is True
        stack.runbook("incident:status-page-update", "Investigating critical issue").check()
        found = await_page(page, Shop="outage", Blog="operational")
        (shown,) = found["incidents"]
        assert "postgres-0" not in json.dumps(found)
        assert "Investigating critical issue" in [one["text"] for one in shown["updates"]]
        with client_for(page) as client:
            assert client.get("/").status_code == 200
        with client_for(stack.url) as client:
            assert client.get("/shop").is_error, "a Service without pods: 404 by Traefik, 503 by others"
    finally:
        stack.kubectl("scale", "statefulset/postgres", "--replicas=1")
        stack.kubectl("scale", "deployment/backend", "--replicas=2")
    stack.runbook("incident", "resolve", "scaled up again", "--cause", "a drill").check()
    found = await_page(page, Shop="operational")
    assert found["incidents"][0]["endedAt"]
    # Pages are of the last full minute: in the first one, nothing can be said about the time before.
    uptime = eventually(lambda: read(page)["components"][0]["uptime"], 120)
    assert uptime < 1
    pods = json.loads(stack.kubectl("get", "pods", "--selector=app.kubernetes.io/name=status-page", "--output=json"))
    assert {one["metadata"]["uid"] for one in pods["items"]} == started, "no pod was replaced: there was no release"
