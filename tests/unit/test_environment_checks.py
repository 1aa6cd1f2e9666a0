"""The environment before a release: each line passes and fails at its limit, alone, and stops a deploy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops.commands import check as checking
from ops.decisions.capacity import find_short_quotas, find_unplaceable, pods_of_rollout, requests_of
from ops.decisions.environment import Measured, Pulls, judge_environment
from ops.decisions.report import Line
from ops.decisions.schema_gate import Database, exact_database
from ops.errors import NotMeasured, Refused
from settings import StackFile, parse
from settings.base import quantity as parse_quantity
from settings.checks import LINES, Checks
from tests.support.program import RELEASE, secrets_for, stack_config

NOW = datetime(2026, 8, 16, 12, tzinfo=UTC)


def settings(file: str = "Pulumi.sandbox.yaml", **changes: Any) -> Any:
    config = stack_config(file, release=RELEASE, **changes)
    return parse(StackFile(file, config, frozenset(f"secrets:{name}" for name in secrets_for(config))))


def node(name: str = "n1", *, ready: str = "True", cpu: str = "2", memory: str = "4Gi", pods: str = "110", **more: Any):
    conditions = [{"type": "Ready", "status": ready}, *more.pop("conditions", ())]
    allocatable = {"cpu": cpu, "memory": memory, "ephemeral-storage": "20Gi", "pods": pods}
    return {
        "metadata": {"name": name},
        "spec": more,
        "status": {"conditions": conditions, "allocatable": allocatable},
    }


def pod(cpu: str = "0", memory: str = "0", node: str = "n1", phase: str = "Running") -> dict[str, Any]:
    container = {"name": "x", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return {"spec": {"nodeName": node, "containers": [container]}, "status": {"phase": phase}}


def quota(used: dict[str, str], hard: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


@pytest.fixture(scope="module")
def ready() -> Measured:
    return Measured(
        now=NOW,
        application=settings().application,
        running={"backend": 2},
        nodes=[node()],
        pods=[],
        quotas=[],
        claims=[{"metadata": {"name": "data"}, "status": {"phase": "Bound"}}],
        image="registry.example.com/shop@sha256:1 is there",
        pulls=Pulls(["n1"]),
        addresses=["192.0.2.1"],
        certificate_ends=NOW + timedelta(days=60),
        secrets=3,
        secrets_missing=[],
        database=exact_database(1),
        clock_ahead=0.4,
    )


def failing(found: Measured, checks: Checks | None = None) -> dict[str, Line]:
    lines = judge_environment(checks or Checks(), found)
    return {line.name: line for line in lines if line.result == "fail"}


def test_a_good_environment_passes_every_line(ready: Measured) -> None:
    lines = judge_environment(Checks(), ready)
    assert [line.name for line in lines] == list(LINES)
    assert {line.result for line in lines} == {"pass"}


PRESSED = node(conditions=[{"type": "DiskPressure", "status": "True"}])
TAINTED = node(taints=[{"key": "gpu", "effect": "NoSchedule"}])


@pytest.mark.parametrize(
    ("line", "changes", "words"),
    [
        ("nodes", {"nodes": [node("a"), node("b"), node("c", ready="Unknown")]}, "2 of 3 ready, not c"),
        ("pressure", {"nodes": [PRESSED]}, "n1 (DiskPressure)"),
        ("room", {"nodes": [node(cpu="99m")]}, "1 of 2 more pods fit on none of 1 nodes"),
        ("room", {"nodes": [node(memory="255Mi")]}, "1 of 2"),
        ("room", {"nodes": [node(pods="1")]}, "1 of 2"),
        ("room", {"pods": [pod(cpu="1901m")]}, "1 of 2"),
        ("room", {"nodes": [TAINTED]}, "on none of 0 nodes"),
        ("room", {"nodes": [node(unschedulable=True)]}, "on none of 0 nodes"),
        ("quota", {"quotas": [quota({"pods": "9"}, {"pods": "10"})]}, "pods: 2 needed, 1 free"),
        (
            "quota",
            {"quotas": [quota({"requests.memory": "1Gi"}, {"requests.memory": "1279Mi"})]},
            "requests.memory: 256Mi needed, 255Mi free",
        ),
        ("quota", {"quotas": [quota({}, {"limits.cpu": "1999m"})]}, "limits.cpu: 2 needed, 1.999 free"),
        ("claims", {"claims": [{"metadata": {"name": "data"}, "status": {"phase": "Lost"}}]}, "lost data"),
        ("image", {"image": NotMeasured("the registry has no such image", fails=True)}, "no such image"),
        ("pull", {"pulls": Pulls(["n1"], failed={"n2": "ErrImagePull: no login"})}, "n2: ErrImagePull: no login"),
        ("pull", {"pulls": Pulls([])}, "0 nodes have it"),
        ("dns", {"addresses": NotMeasured("shop.example.com has no address", fails=True)}, "no address"),
        ("certificate", {"certificate_ends": NOW + timedelta(days=13.9)}, "valid for 13.9 days"),
        ("certificate", {"certificate_ends": NotMeasured("certificate has expired", fails=True)}, "expired"),
        ("secrets", {"secrets_missing": ["SMTP_URL"]}, "2 of 3 set, not SMTP_URL"),
        ("clock", {"clock_ahead": 31.0}, "31 s ahead of the API server's"),
        ("clock", {"clock_ahead": -31.0}, "31 s behind the API server's"),
    ],
)
def test_red_in_one_line(ready: Measured, line: str, changes: dict[str, Any], words: str) -> None:
    found = failing(replace(ready, **changes))
    assert set(found) == {line}
    assert words in found[line].evidence
    assert found[line].remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": [node("a"), node("b"), node("c"), node("d", ready="False")]},
        {"nodes": [node("a"), {**PRESSED, "metadata": {"name": "b"}}]},
        {"nodes": [node(cpu="100m", memory="256Mi", pods="2")]},
        {"pods": [pod(cpu="1900m"), pod(cpu="2", phase="Succeeded"), pod(cpu="2", node="elsewhere")]},
        {"quotas": [quota({"pods": "8"}, {"pods": "10"})]},
        {"quotas": [quota({"pods": "10"}, {"pods": "10"}, scopes=["BestEffort"])]},
        {"quotas": [quota({}, {"services": "0"})]},
        {"claims": [{"metadata": {"name": "scratch"}, "status": {"phase": "Pending"}}]},
        {"certificate_ends": NOW + timedelta(days=14)},
        {"clock_ahead": -30.0},
    ],
)
def test_just_within_the_limit(ready: Measured, changes: dict[str, Any]) -> None:
    assert failing(replace(ready, **changes)) == {}


def test_what_cannot_be_measured_is_shown_and_fails_nothing(ready: Measured) -> None:
    hidden = NotMeasured("this identity may not list nodes")
    found = replace(ready, nodes=hidden, pods=hidden, database=Database(1, 1, "recorded"))
    lines = {line.name: line for line in judge_environment(Checks(), found)}
    assert {name for name, line in lines.items() if line.result == "left out"} == {
        "nodes",
        "pressure",
        "room",
        "database",
    }
    assert lines["nodes"].evidence == "this identity may not list nodes"
    assert failing(found) == {}


def test_limits_and_lines_are_settings(ready: Measured) -> None:
    far = replace(ready, certificate_ends=NOW + timedelta(days=29), nodes=[], clock_ahead=100.0)
    checks = Checks(certificate_days=30, clock_seconds=120, without={"room": "nodes are added"})
    assert set(failing(far, checks)) == {"certificate", "nodes"}


# -- capacity --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("2", "2"), ("250m", "0.25"), ("8131688Ki", str(8131688 * 1024)), ("1e3", "1000"), ("1E", "1e18")),
        *(("1500000000n", "1.5"), ("2Pi", str(2 * 2**50)), ("0.5", "0.5"), ("12E2", "1200"), ("4G", "4e9")),
    ],
)
def test_quantities_as_the_api_server_writes_them(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


def test_a_new_service_needs_all_its_pods_and_a_rollout_its_surge() -> None:
    application = settings().application
    assert len(pods_of_rollout(application, {})) == 2
    assert len(pods_of_rollout(application, {"backend": 2})) == 2
    assert [pod.of for pod in pods_of_rollout(application, {"backend": 0})] == ["rehearsal"]


def test_the_scheduler_counts_sidecars_and_the_largest_step() -> None:
    def container(memory: str, **more: Any) -> dict[str, Any]:
        return {"resources": {"requests": {"memory": memory}}, **more}

    made = {
        "spec": {
            "initContainers": [container("100Mi", restartPolicy="Always"), container("500Mi")],
            "containers": [container("200Mi"), {"name": "without"}],
            "overhead": {"memory": "10Mi"},
        }
    }
    assert requests_of(made)["memory"] == 610 * 2**20
    made["spec"]["initContainers"][1] = container("50Mi")
    assert requests_of(made)["memory"] == 310 * 2**20


def test_pods_are_placed_on_several_nodes() -> None:
    application = settings().application
    new = pods_of_rollout(application, {"backend": 2})
    small = [node("a", cpu="50m"), node("b", cpu="50m")]
    assert find_unplaceable(new, small, []) == []
    assert len(find_unplaceable(new, small, [pod(cpu="1m", node="b")])) == 1
    assert list(find_short_quotas(new, [quota({}, {"cpu": "99m"})])) == [("cpu", Decimal("0.1"), Decimal("0.099"))]


# -- the gate of a deploy --------------------------------------------------------------------------


def gate(monkeypatch: pytest.MonkeyPatch, found: Measured, reason: str | None, checks: Checks | None) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(checking, "check_environment", lambda *_, **__: judge_environment(checks or Checks(), found))
    session = cast(Any, SimpleNamespace(say=lambda text, *_: said.append(text)))
    facts = cast(Any, SimpleNamespace(settings=SimpleNamespace(checks=checks)))
    checking.require_environment(session, facts, "shop", reason)
    return said


def test_a_deploy_is_refused_with_the_line_and_its_remedy(monkeypatch: pytest.MonkeyPatch, ready: Measured) -> None:
    bad = replace(ready, clock_ahead=31.0)
    assert gate(monkeypatch, ready, None, Checks()) == []
    with pytest.raises(Refused) as refused:
        gate(monkeypatch, bad, None, Checks())
    assert "Clock: 31 s ahead of the API server's (limit 30 s). Remedy: set this machine's clock" in str(refused.value)
    assert "Nothing was changed" in str(refused.value)
    (said,) = gate(monkeypatch, bad, "the fix cannot wait", Checks())
    assert "the fix cannot wait" in said


def test_without_the_key_a_deploy_does_not_check(monkeypatch: pytest.MonkeyPatch, ready: Measured) -> None:
    assert gate(monkeypatch, replace(ready, clock_ahead=31.0), None, None) == []
