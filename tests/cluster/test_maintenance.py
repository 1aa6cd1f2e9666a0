"""Preventive maintenance in a cluster, on a database with data and traffic (HerbisVeritas "Maintenance Préventive")."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sandbox.traffic import Traffic
from tests.support.cluster_stack import Checked, Stack
from tests.support.monitored_stack import Observed, enable_monitoring, eventually
from tests.support.secret_search import assert_secrets_stay_secret
from tests.support.webhook_receiver import Receiver, run_receiver

pytestmark = pytest.mark.drill
FAILED, PUT_OFF = 1, 2
SCHEDULES = ("daily", "weekly", "monthly")
BLOATED = """
INSERT INTO users (email, password_hash) SELECT 'visitor-' || n || '@example.com', 'x' FROM generate_series(1, 60000) n;
DELETE FROM users WHERE email LIKE 'visitor-%' AND id % 10 <> 0
"""
"""Leaves the indexes of a table nine tenths empty."""
BUSY = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"


@pytest.fixture(scope="module")
def receiver(images: dict[str, str]) -> Iterator[Receiver]:
    with run_receiver("maintenance", images["tasks"]) as made:
        yield made


@pytest.fixture(scope="module")
def shop(images: dict[str, str], receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack.create("maintenance", tmp_path_factory.mktemp("maintenance"), backups=True, monitoring=True)
    try:
        enable_monitoring(made, receiver, enabled=False)
        made.edit(lambda config: config["runbook:maintenanceTasks"].update(bloat={"ratio": 0.4, "bytes": 100_000}))
        made.runbook("deploy", images["shop:v1"], "--yes").check()
        made.runbook("backup", "now").check()
        made.runbook("backup", "verify").check()
        yield made
        assert_secrets_stay_secret(made)
    finally:
        made.remove()


def maintain(stack: Stack, schedule: str) -> tuple[Checked, dict[str, Any]]:
    done = stack.runbook("maintenance", "run", schedule, "--json")
    return done, done.json()


def change(stack: Stack, **maintenance: Any) -> None:
    stack.edit(lambda config: config["runbook:maintenanceTasks"].update(maintenance))
    stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview").check()


def test_every_task_runs_while_customers_are_served(shop: Stack) -> None:
    for statement in BLOATED.split(";"):
        shop.sql(statement)
    with Traffic(shop.url) as traffic:
        reports = {schedule: maintain(shop, schedule)[1] for schedule in SCHEDULES}
    assert traffic.failures == []
    assert len(traffic.answers) > 100
    for schedule, report in reports.items():
        wanted = [
            task.get("name") or task["task"] for task in shop.config["runbook:maintenanceTasks"][schedule]["tasks"]
        ]
        assert [step["name"] for step in report["tasks"]] == wanted
        assert [step["result"] for step in report["tasks"]] == ["done"] * len(wanted), report
        kept = shop.runbook("maintenance", "report", schedule, "--json").check().json()
        assert kept["run"] == report["run"]
        assert kept["next"] is not None
    (reindex,) = [step for step in reports["weekly"]["tasks"] if step["name"] == "reindex"]
    assert "users" in json.dumps(reindex), reindex
    assert shop.changes() == {}


def test_a_task_that_fails_keeps_no_other_from_running_and_is_reported(shop: Stack, receiver: Receiver) -> None:
    tasks = shop.config["runbook:maintenanceTasks"]["daily"]["tasks"]
    broken = {"name": "broken", "run": "false", "retries": 0, "timeoutSeconds": 60}
    change(shop, daily={"tasks": [broken, *tasks]})
    began = time.time()
    done, report = maintain(shop, "daily")
    assert done.code == FAILED, done.text
    results = {step["name"]: step["result"] for step in report["tasks"]}
    assert results.pop("broken") == "failed"
    assert set(results.values()) == {"done"}
    assert "failed: broken" in report["summary"]
    receiver.wait(
        "/alerts", "MaintenanceFailed", "broken failed in the last daily maintenance", since=began, seconds=240
    )
    change(shop, daily={"tasks": tasks})
    assert maintain(shop, "daily")[0].code == 0
    observed = Observed(shop)
    eventually(lambda: "MaintenanceFailed" not in observed.firing(), 240, observed.firing)


def test_under_load_it_is_put_off_and_says_so(shop: Stack) -> None:
    change(shop, waitSeconds=5, load={"activeSessions": 1})
    with ThreadPoolExecutor() as pool:
        load = pool.submit(shop.sql, "SELECT pg_sleep(45)")
        eventually(lambda: shop.sql(BUSY) != "0", 30)
        done, report = maintain(shop, "daily")
        load.result()
    results = {step["name"]: (step["result"], step["why"]) for step in report["tasks"]}
    assert results["statistics"][0] == "done", "it costs the database nothing"
    for name in ("analyze", "vacuum-analyze"):
        result, why = results[name]
        assert result == "put off", results
        assert "session" in why, why
    assert "put off: analyze, vacuum-analyze" in done.text
    change(shop, load={})


def test_during_a_release_it_is_put_off_and_the_release_passes(shop: Stack, images: dict[str, str]) -> None:
    deploy = shop.start("runbook", "deploy", images["shop:v2"], "--yes")
    lease = ("kubectl", "--namespace", shop.namespace, "get", "lease", "runbook-command", "-o", "jsonpath={.spec}")
    eventually(lambda: "holderIdentity" in (found := shop.run(*lease).out) and '"holderIdentity":""' not in found, 60)
    done, report = maintain(shop, "weekly")
    out, err = deploy.communicate(timeout=600)
    assert deploy.returncode == 0, out + err
    assert done.code == PUT_OFF, done.text
    assert {step["result"] for step in report["tasks"]} == {"put off"}
    assert "changes the stack" in report["tasks"][0]["why"]
    assert shop.release["image"] == images["shop:v2"]
