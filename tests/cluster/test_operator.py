"""Monitoring and the rollback controller on a cluster with the real Prometheus Operator and the servers it starts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sandbox.traffic import Traffic
from tests.support.controlled_stack import ControlledStack, watched_stack
from tests.support.monitored_stack import eventually
from tests.support.operator_servers import CHOSEN, SETTINGS, Servers, run_operator

MONITORS = {
    *("podMonitor/shop-operator/backend", "serviceMonitor/shop-operator/blackbox"),
    *("serviceMonitor/shop-operator/postgres-exporter", "serviceMonitor/shop-operator/redis-exporter"),
    "serviceMonitor/shop-operator/log-counter",
    *(
        "serviceMonitor/shop-operator/rollback-controller",
        "probe/shop-operator/health",
        "probe/shop-operator/front-door",
    ),
}


@dataclass(frozen=True)
class Operated(ControlledStack):
    """A stack that the operator's servers monitor."""

    servers: Servers


@pytest.fixture(scope="module")
def operated(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    folder = tmp_path_factory.mktemp("operator")
    with (
        run_operator(images["tasks"].partition("/")[0]) as servers,
        watched_stack("operator", images, folder, monitoring=SETTINGS) as made,
    ):
        yield Operated(made.stack, made.receiver, servers)


def test_every_monitor_is_found_and_every_target_read(operated: Operated) -> None:
    def all_up() -> bool:
        targets = operated.servers.targets()
        # Of a monitor with several endpoints, each has a number.
        pools = {re.sub(r"/\d+$", "", target["scrapePool"]) for target in targets}
        return pools == MONITORS and {target["health"] for target in targets} == {"up"}

    def seen() -> list[tuple[str, str, str]]:
        return [(one["scrapePool"], one["health"], one["lastError"]) for one in operated.servers.targets()]

    # The operator's config reloader looks by itself every three minutes, when it missed a change.
    eventually(all_up, 240, seen)
    for series in ("up", "pg_up", "redis_up", "probe_success", "http_request_duration_seconds_count"):
        spaces = {one["metric"].get("namespace") for one in operated.servers.query(f"count by (namespace) ({series})")}
        assert spaces == {operated.stack.namespace}, series


def test_rules_are_admitted_and_evaluated(operated: Operated) -> None:
    rule = json.loads(operated.stack.kubectl("get", "prometheusrule", "runbook", "--output", "json"))
    wanted = {group["name"]: len(group["rules"]) for group in rule["spec"]["groups"]}

    def loaded() -> dict[str, int]:
        return {group["name"]: len(group["rules"]) for group in operated.servers.rules()}

    eventually(lambda: loaded() == wanted, 60, loaded)
    eventually(lambda: {one["health"] for group in operated.servers.rules() for one in group["rules"]} == {"ok"}, 60)
    # The webhook that let them in refuses others.
    broken = {**rule, "metadata": {"name": "broken", "namespace": operated.stack.namespace, "labels": CHOSEN}}
    broken["spec"] = {"groups": [{"name": "broken", "rules": [{"alert": "Broken", "expr": "up =="}]}]}
    refused = operated.stack.run("kubectl", "create", "--filename=-", stdin=json.dumps(broken))
    assert refused.code != 0
    assert "could not parse expression" in refused.text, refused.text  # no schema knows PromQL


def test_alertmanager_has_the_routes_and_delivers(operated: Operated) -> None:
    """The dead man's switch passes every part: rule, Prometheus, Alertmanager, the Secret with the URL."""
    operated.receiver.wait("/switch", "Watchdog", operated.stack.namespace, seconds=90)


def test_a_release_that_turns_bad_is_rolled_back(operated: Operated, images: dict[str, str]) -> None:
    """Requests, the operator's Prometheus and Alertmanager, the controller: no alert is made by hand."""
    operated.stack.runbook("deploy", images["shop:v8-late-errors"], "--yes").check()
    bad, began = operated.stack.history()[0], time.time()
    with Traffic(operated.stack.url, clients=4):
        operated.receiver.wait("/critical", ":rewind:", "RollbackErrorRate", since=began, seconds=300)
    assert operated.done("rollback") == 1
    newest = operated.stack.history()[0]
    assert (newest["action"], newest["rollbackOf"], newest["result"]) == ("rollback", bad["revision"], "succeeded")
    assert newest["image"] == images["shop:v2"]
    assert newest["who"].startswith("rollback-controller@")
    up = f'up{{namespace="{operated.stack.namespace}",job="rollback-controller"}}'
    (series,) = operated.servers.query(up)
    assert series["value"][1] == "1"
