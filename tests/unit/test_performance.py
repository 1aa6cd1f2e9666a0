"""The performance check before a rollout: its Job, what it waits for, what it does not get."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.commands.lighthouse_reports import keep_lighthouse_reports
from ops.decisions.blame import find_excuse
from settings import Release, SettingsError, StackFile, parse
from tests.support.program import RELEASE, Program, run_program, secrets_for, stack_config

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
IMAGE = "registry.example.com/lighthouse@sha256:" + "c" * 64


def program(release: dict[str, Any] | None = None, **performance: Any) -> Program:
    config = stack_config("Pulumi.sandbox.yaml", release=release or RELEASE)
    config["runbook:performance"] = {"image": IMAGE, **performance}
    return run_program(config)


def job(made: Program) -> Any:
    (found,) = [job for job in made.all("Job") if job.object_name.startswith("lighthouse-")]
    return found


def test_the_release_is_measured_between_rehearsal_and_rollout() -> None:
    made = program()
    measuring = job(made)
    (rehearsal,) = [item for item in made.all("Job") if item.object_name.startswith("rehearsal-")]
    assert made.waits_for(measuring, rehearsal)
    assert made.waits_for(made.one("Deployment", "backend"), measuring)
    pod = measuring.inputs["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (service,) = pod["initContainers"]
    assert (service["name"], service["restartPolicy"]) == ("backend", "Always")
    assert container["image"] == IMAGE
    # The browser runs pages: it has none of the application's secrets.
    assert "envFrom" not in container or not container["envFrom"]
    env = {item["name"]: item["value"] for item in container["env"]}
    asked = json.loads(env["LIGHTHOUSE"])
    assert [(route["path"], route["limits"]["score"], route["limits"]["lcp"]) for route in asked["routes"]] == [
        ("/", 90, 1500),
        ("/shop", 90, 2000),
    ]
    assert (asked["formFactor"], asked["runs"]) == ("mobile", 3)
    assert env["TARGET_URL"] == "http://127.0.0.1:3000"


def test_a_rollback_is_not_measured() -> None:
    release = {**RELEASE, "revision": 3, "action": "rollback", "rollbackOf": 2, "migrate": False}
    made = program(release)
    assert not [item for item in made.all("Job") if item.object_name.startswith("lighthouse-")]


def test_other_limits_are_another_job() -> None:
    first = job(program()).object_name
    assert job(program()).object_name == first
    assert job(program(formFactor="desktop")).object_name != first


def test_a_slow_release_is_not_quarantined() -> None:
    failed = job(program())
    assert find_excuse([failed], []) is not None  # pyright: ignore[reportArgumentType] # has what is asked of it


def test_a_path_that_is_there_twice_is_refused() -> None:
    config = stack_config("Pulumi.sandbox.yaml")
    config["runbook:performance"] = {"image": IMAGE, "routes": [{"path": "/"}, {"path": "/"}]}
    with pytest.raises(SettingsError, match="already the path of another route"):
        parse(StackFile("x", config, frozenset(secrets_for(config))))


class Pods:
    """The pods of a namespace and what they printed."""

    def __init__(self, *made: tuple[str, int, list[str]]) -> None:
        """Of each its name, its age in seconds, its log."""
        self._logs = {name: log for name, _, log in made}
        self._made = [
            SimpleNamespace(metadata=SimpleNamespace(name=name, creationTimestamp=NOW - timedelta(seconds=age)))
            for name, age, _ in made
        ]

    def read_clock(self) -> Any:
        return SimpleNamespace(now=lambda: NOW)

    @contextmanager
    def patient(self) -> Iterator[Pods]:
        yield self

    def list(self, _kind: Any, labels: dict[str, str]) -> list[Any]:
        assert labels == {"app.kubernetes.io/name": "lighthouse"}
        return self._made

    def log(self, name: str, container: str, newlines: bool) -> list[str]:
        assert container == "lighthouse"
        return self._logs[name]


def test_reports_are_kept_as_files_of_the_revision(tmp_path: Path) -> None:
    packed = base64.b64encode(gzip.compress(b"<html>")).decode()
    lines = [f"lighthouse-report shop.html {packed[:9]}", f"lighthouse-report shop.html {packed[9:]}", "FAIL  /shop"]

    def keep(*pods: tuple[str, int, list[str]]) -> tuple[list[str], str]:
        said: list[str] = []
        session: Any = SimpleNamespace(
            file=tmp_path / "Pulumi.dev.yaml", seconds=60, say=lambda text, *_: said.append(text)
        )
        facts: Any = SimpleNamespace(settings=SimpleNamespace(performance=True, checks=None), cluster=Pods(*pods))
        release = Release.model_validate({**RELEASE, "revision": 7})
        return keep_lighthouse_reports(session, facts, release), " ".join(said)

    # The pod of the release before is no news: the Job of this one did not start.
    assert keep(("old", 90, lines)) == ([], "")
    assert keep(("old", 90, ["x"]), ("new", 20, lines))[0] == ["lighthouse-r7-shop.html"]
    assert (tmp_path / "reports" / "lighthouse-r7-shop.html").read_text() == "<html>"
    assert "left no report" in keep(("new", 20, ["FAIL"]))[1]
    assert "were not kept" in keep(("new", 20, ["lighthouse-report shop.html AAAA"]))[1]
