"""From `replicas: 0` to an autoscaler, which starts no pod where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from program.api_server import ApiServer, Unknown
from program.first_pods import scale_from_zero, was_stopped
from settings import Service, StackFile, parse
from tests.support import http_servers
from tests.support.program import RELEASE, run_program, secrets_for, stack_config

PATH = "/apis/apps/v1/namespaces/shop/deployments/backend"
Objects = dict[str, Any]


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """What the API server of the context `here` has, by path; a number is the status of its refusal."""
    found: Objects = {}

    class Handler(http_servers.Handler):
        def do_GET(self) -> None:
            item = found.get(self.path, 404)
            self.answer_json(item, {}) if isinstance(item, int) else self.answer_json(200, item)

        def do_PATCH(self) -> None:
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            patch = json.loads(self.read_body())
            if (item := found.get(self.path)) is None:
                self.answer_json(404, {})
                return
            item["spec"] |= patch["spec"]
            self.answer_json(200, item)

    with http_servers.serve(Handler) as port:
        servers = {"here": f"http://127.0.0.1:{port}", "elsewhere": "http://127.0.0.1:9"}
        kubeconfig = {
            "current-context": "elsewhere",
            "clusters": [{"name": name, "cluster": {"server": url}} for name, url in servers.items()],
            "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in servers],
            "users": [{"name": "me", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield found


def scaled() -> Service:
    config = stack_config("Pulumi.prod.yaml", release=RELEASE)
    settings = parse(StackFile("prod", config, frozenset(f"secrets:{name}" for name in secrets_for(config))))
    return settings.application.main_service


def test_the_cluster_of_the_context_is_asked(objects: Objects) -> None:
    objects |= {"/there": {"kind": "Thing"}, "/hidden": 403}
    here = ApiServer("here")
    assert here.get("/there") == {"kind": "Thing"}
    assert here.get("/free") is None
    with pytest.raises(Unknown, match="403"):
        here.get("/hidden")
    with pytest.raises(Unknown, match="/free does not exist"):
        here.merge("/free", {"spec": {}})
    for context in (None, "no-such-context"):
        with pytest.raises(Unknown):
            ApiServer(context).get("/there")


@pytest.mark.parametrize("preview", [True, False])
def test_the_least_number_is_started(objects: Objects, monkeypatch: pytest.MonkeyPatch, preview: bool) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", said.append)
    objects[PATH] = {"spec": {"replicas": 0, "paused": False}}
    scale_from_zero("shop", scaled(), ApiServer("here"), preview=preview)
    assert said == ["backend has no pods, and an autoscaler starts none: the update starts 3"]
    assert objects[PATH]["spec"] == {"replicas": 0 if preview else 3, "paused": False}


@pytest.mark.parametrize("running", [1, 7])
def test_what_the_autoscaler_set_is_left_alone(objects: Objects, running: int) -> None:
    objects[PATH] = {"spec": {"replicas": running}}
    scale_from_zero("shop", scaled(), ApiServer("here"), preview=False)
    assert objects[PATH]["spec"]["replicas"] == running


@pytest.mark.parametrize(
    ("old", "stopped"),
    [({"spec": {"replicas": 0.0}}, True), ({"spec": {"replicas": 3.0}}, False), ({"spec": {}}, False), (None, False)],
)
def test_only_what_the_program_stopped_is_started(old: Any, stopped: bool) -> None:
    """`kubectl scale --replicas=0` of a service with an autoscaler is an operator's decision."""
    assert was_stopped(old) == stopped


def test_services_with_an_autoscaler_are_watched() -> None:
    hooks = run_program(stack_config("Pulumi.prod.yaml", release=RELEASE)).hooks
    assert "first-pods-backend" in hooks
    assert not any(
        name.startswith("first-pods")
        for name in run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE)).hooks
    )
