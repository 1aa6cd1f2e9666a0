"""The status page on the sandbox: it shows an incident while the shop and its database are down, in a bucket too.
Enhanced mode observes that incident meanwhile.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from sandbox.cluster.s3keys import REGION
from sandbox.traffic import client_for
from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import eventually

BACKUPS = False
HOST = "status.localhost"
_SECONDS = 180
"""The kubelet renews files of a ConfigMap about once a minute."""


@dataclass(frozen=True)
class Copy:
    """A bucket on the sandbox's S3 server; its client has the keys of the operator who runs `runbook`."""

    client: Any
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/page?endpoint={os.environ['RUNBOOK_S3']}&region={REGION}&s3ForcePathStyle=true"

    def read(self) -> dict[str, Any]:
        return json.loads(self.client.get_object(Bucket=self.bucket, Key="page/status.json")["Body"].read())


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    if "RUNBOOK_S3" not in os.environ:
        pytest.skip("this sandbox has no S3 server: the cluster is not its own")
    made = Copy(
        boto3.client("s3", endpoint_url=os.environ["RUNBOOK_S3"], region_name=REGION),
        f"status-{secrets.token_hex(4)}",
    )
    made.client.create_bucket(Bucket=made.bucket)
    yield made
    for found in made.client.list_objects_v2(Bucket=made.bucket).get("Contents", ()):
        made.client.delete_object(Bucket=made.bucket, Key=found["Key"])
    made.client.delete_bucket(Bucket=made.bucket)


@pytest.fixture(scope="module")
def page(stack: Stack, copy: Copy) -> str:
    """A stack with a status page; its URL."""
    own = f"{stack.namespace}.{HOST}"

    def add(config: dict[str, Any]) -> None:
        config["runbook:statusPage"] = {
            "ingress": {"host": own, "className": "traefik"},
            "title": "Sandbox",
            "components": [{"name": "Shop", "dependsOn": ["backend", "postgres"]}, {"name": "Blog"}],
            "bucket": {"url": copy.url},
        }
        config["runbook:incidents"] = {"level1": {"watchSeconds": 5}}

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


def observations(stack: Stack) -> str:
    """Texts that enhanced mode wrote into the incident's log."""
    shown = stack.runbook("incident", "show", "--json").check().json()
    return "\n".join(entry["text"] for entry in shown["entries"] if entry["kind"] == "observed")


def test_it_shows_an_incident_while_the_shop_and_its_database_are_down(stack: Stack, page: str, copy: Copy) -> None:
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
        watch = stack.start("runbook", "incident", "watch", "--json")
        stack.runbook("incident:status-page-update", "Investigating critical issue").check()
        found = await_page(page, Shop="outage", Blog="operational")
        (shown,) = found["incidents"]
        assert "postgres-0" not in json.dumps(found)
        assert "Investigating critical issue" in [one["text"] for one in shown["updates"]]
        with client_for(page) as client:
            assert client.get("/").status_code == 200
        assert copy.read()["incidents"] == found["incidents"]
        eventually(lambda: "backend has 0 of" in observations(stack), 60, lambda: observations(stack))
        with client_for(stack.url) as client:
            assert client.get("/shop").is_error, "a Service without pods: 404 by Traefik, 503 by others"
    finally:
        stack.kubectl("scale", "statefulset/postgres", "--replicas=1")
        stack.kubectl("scale", "deployment/backend", "--replicas=2")
    eventually(lambda: "over: " in observations(stack), 120, lambda: observations(stack))
    stack.runbook("incident", "resolve", "scaled up again", "--cause", "a drill").check()
    out, err = watch.communicate(timeout=60)
    assert watch.returncode == 0, out + err
    assert "is resolved" in json.loads(out)["ended"]
    found = await_page(page, Shop="operational")
    assert found["incidents"][0]["endedAt"]
    assert copy.read()["incidents"][0]["endedAt"]
    # Pages are of the last full minute: in the first one, nothing can be said about the time before.
    uptime = eventually(lambda: read(page)["components"][0]["uptime"], 120)
    assert uptime < 1
    pods = json.loads(stack.kubectl("get", "pods", "--selector=app.kubernetes.io/name=status-page", "--output=json"))
    assert {one["metadata"]["uid"] for one in pods["items"]} == started, "no pod was replaced: there was no release"
