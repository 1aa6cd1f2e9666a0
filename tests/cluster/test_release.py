"""A release under traffic, failed releases, and rollbacks (runbook-de-production §3, §6; HerbisVeritas
"Déploiement Production", "Rollback d'Urgence")."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.traffic import Traffic, ask, client_for
from tests.support.cluster_stack import Done, Stack

REFUSED = 2
FAILED_AND_ROLLED_BACK = 1


def serving(stack: Stack) -> str:
    answer = ask(client_for(stack.url), "/api/health")
    assert answer.status == 200, answer
    assert answer.version is not None
    return answer.version


def revisions_with(stack: Stack, image: str) -> list[int]:
    return [entry["revision"] for entry in stack.history() if entry["image"] == image]


def test_a_first_release_serves_and_leaves_nothing_to_change(stack: Stack, images: dict[str, str]) -> None:
    assert serving(stack) == stack.release["git"]
    assert stack.release["image"] == images["shop:v1"]
    assert stack.changes() == {}


def test_an_upgrade_with_an_additive_migration_loses_no_request(stack: Stack, images: dict[str, str]) -> None:
    before = stack.release["git"]
    with Traffic(stack.url) as traffic:
        stack.runbook("deploy", images["shop:v2"], "--yes").check()
    assert traffic.failures == []
    assert len(traffic.answers) > 100
    assert traffic.versions() == [before, stack.release["git"]]
    assert stack.changes() == {}


@pytest.mark.parametrize(
    ("bad", "failing"),
    [("shop:v6-bad-migration", "migrate"), ("shop:v5-crash", "rehearsal"), ("shop:v7-bad-smoke", "rehearsal")],
)
def test_a_failing_release_never_serves_and_is_rolled_back(
    stack: Stack, images: dict[str, str], bad: str, failing: str
) -> None:
    before = stack.release
    with Traffic(stack.url) as traffic:
        # The failing migration belongs to a contract release: without the flag the gate would not let it near.
        deploy = stack.runbook("deploy", images[bad], "--yes", "--allow-downtime")
    assert deploy.code == FAILED_AND_ROLLED_BACK, deploy.text
    assert f"Job {failing}-" in deploy.text
    assert "exited with code" in deploy.text, "the cause is named"
    assert "DeadlineExceeded" not in deploy.text, "it fails when it has failed, not when its time is up"
    assert traffic.failures == []
    assert traffic.versions() == [before["git"]], "another version than the old one was serving"
    assert stack.release["image"] == before["image"]
    assert stack.release["action"] == "rollback"
    assert stack.changes() == {}
    assert [entry["result"] for entry in stack.history()[:2]] == ["succeeded", "failed"]

    again = stack.runbook("deploy", images[bad], "--yes")
    assert again.code == REFUSED, again.text
    assert "quarantine" in again.text


def test_a_rollback_under_traffic_is_healthy_on_n_minus_1(stack: Stack, images: dict[str, str]) -> None:
    before = stack.release["git"]
    with Traffic(stack.url) as traffic:
        rollback = stack.runbook("rollback", "--yes", "--json").check()
    assert traffic.failures == []
    assert traffic.versions() == [before, stack.release["git"]]
    assert stack.release["image"] == images["shop:v1"]
    assert stack.release["migrate"] is False
    assert rollback.json()["seconds"] < 90
    assert stack.changes() == {}


def test_what_kubectl_changed_is_shown_and_stops_no_command(stack: Stack, images: dict[str, str]) -> None:
    """R3 and R13: fields that another manager owns, and an image that was changed outside the stack."""

    def drift() -> dict[str, Any]:
        return {item["field"]: item["cluster"] for item in stack.runbook("status", "--json").json()["drift"]}

    stack.kubectl("scale", "deployment/backend", "--replicas=3")
    patch = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 47}}}}
    stack.kubectl("patch", "deployment/backend", "--field-manager=k9s", "--patch", json.dumps(patch))
    changed = drift()
    assert changed["spec.replicas"] == 3
    assert changed["spec.template.spec.terminationGracePeriodSeconds"] == 47
    stack.runbook("deploy", images["shop:v2"], "--yes", "--allow-quarantined", "the cause was elsewhere").check()
    assert drift() == {}
    stack.kubectl("scale", "deployment/backend", "--replicas=3")
    stack.runbook("rollback", "--yes").check()
    assert serving(stack) == stack.release["git"]
    assert stack.release["image"] == images["shop:v1"]

    undo = stack.run("kubectl", "--namespace", stack.namespace, "rollout", "undo", "deployment/backend")
    assert undo.code != 0, "an old ReplicaSet would refer to a ConfigMap that is gone"
    stack.kubectl("set", "image", "deployment/backend", f"backend={images['shop:v2']}")
    assert drift()["spec.template.spec.containers[backend].image"] == images["shop:v2"]
    assert "pulumi up --refresh" in stack.runbook("status").text
    stack.run(
        "pulumi", "up", "--refresh", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview"
    ).check()
    assert drift() == {}


def test_the_digest_left_behind_cannot_come_back_by_accident(stack: Stack, images: dict[str, str]) -> None:
    before = stack.file.read_bytes()
    refused = stack.runbook("deploy", images["shop:v2"], "--yes")
    assert refused.code == REFUSED
    assert stack.file.read_bytes() == before

    # Plain `pulumi up` with the bad release put back by hand is refused by the program itself.
    stack.file.write_text(before.decode().replace(images["shop:v1"], images["shop:v2"]))
    by_hand = stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview")
    stack.file.write_bytes(before)
    assert by_hand.code != 0
    assert "quarantine" in by_hand.text

    stack.runbook("deploy", images["shop:v2"], "--yes", "--allow-quarantined", "the cause was elsewhere").check()
    assert stack.release["image"] == images["shop:v2"]
    assert serving(stack) == stack.release["git"]


def test_no_rollback_after_a_contract_migration(stack: Stack, images: dict[str, str]) -> None:
    refused = stack.runbook("deploy", images["shop:v3"], "--yes")
    assert refused.code == REFUSED, "v2 cannot serve on the schema v3 leads to: that is downtime, and must be asked for"
    assert "--allow-downtime" in refused.text

    stack.runbook("deploy", images["shop:v3"], "--yes", "--allow-downtime").check()
    assert serving(stack) == stack.release["git"]
    before = stack.file.read_bytes()
    rollback = stack.runbook("rollback", "--yes")
    assert rollback.code == REFUSED, rollback.text
    assert "schema" in rollback.text
    assert "3" in rollback.text
    assert stack.file.read_bytes() == before
    assert stack.release["image"] == images["shop:v3"]
    assert serving(stack) == stack.release["git"]


def test_history_lists_every_revision(stack: Stack, images: dict[str, str]) -> None:
    history = stack.history()
    numbers = [entry["revision"] for entry in history]
    assert numbers == sorted(numbers, reverse=True)
    # A plain `pulumi up` repeats the number of the release that it leaves in place.
    releases = [entry for entry in history if entry["action"] != "update"]
    good = [entry["revision"] for entry in releases if entry["result"] == "succeeded"]
    assert len(set(good)) == len(good), "a revision number belongs to one release"
    assert {entry["result"] for entry in history} == {"succeeded", "failed"}
    assert revisions_with(stack, images["shop:v1"])[-1] == 1


def completed_jobs(stack: Stack) -> set[str]:
    """Names, without their hashes, of the Jobs that succeeded."""
    jobs = json.loads(stack.kubectl("get", "jobs", "-o", "json"))["items"]
    return {job["metadata"]["name"].rpartition("-")[0] for job in jobs if job["status"].get("succeeded")}


def test_a_go_live_is_signed_off_only_when_every_line_passes(stack: Stack) -> None:
    checklist: dict[str, Any] = {
        "without": {"smtp": "the sandbox sends no mail", "clamav": "nothing is uploaded", "backup": "has none"},
        "administrators": {"query": "SELECT 1, true"},
    }
    step = {"name": "prod", "run": "npm run smoke:all --workspace backend"}

    def add(config: dict[str, Any]) -> None:
        config["runbook:checklist"] = checklist
        config["runbook:commands"].update({"validation": {}, "pipeline": [step]})

    stack.edit(add)
    stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview").check()
    assert {"validate", "pipeline-prod"} <= completed_jobs(stack)
    done = stack.runbook("go-live", "--json")
    assert done.code == 0, done.text
    report = done.json()
    results = {line["name"]: line["result"] for line in report["lines"]}
    assert {name for name, result in results.items() if result == "left out"} == {"smtp", "clamav", "backup"}
    assert set(results.values()) == {"pass", "left out"}
    assert report["signedOff"]
    kept = json.loads(stack.kubectl("get", "configmap", report["keptAs"], "-o", "json"))
    assert json.loads(kept["data"]["report.json"])["digest"] == report["digest"]

    del checklist["without"]["backup"]
    stack.edit(lambda config: config.update({"runbook:checklist": checklist}))
    red = stack.runbook("go-live", "--json")
    assert red.code == 1, red.text
    assert [line["name"] for line in red.json()["lines"] if line["result"] == "fail"] == ["backup"]
    assert red.json()["signedOff"] is None


def test_a_deploy_is_refused_where_the_quota_has_no_room_for_its_surge(stack: Stack) -> None:
    stack.edit(lambda config: config.update({"runbook:checks": {}}))
    before = stack.release
    stack.runbook("check", before["image"], "--json").check()
    stack.kubectl("create", "quota", "tight", "--hard=pods=1")
    try:
        refused = stack.runbook("deploy", before["image"], "--yes")
    finally:
        stack.kubectl("delete", "quota", "tight")
    assert refused.code == REFUSED, refused.text
    assert "Room for the surge in the quota: pods:" in refused.text
    assert stack.release == before


@contextmanager
def enforcing_again(stack: Stack) -> Iterator[None]:
    """Makes the enforcer of network policies write all its rules again, several times a second: a label changes."""
    ended, rounds = threading.Event(), list[Done]()
    label = ("kubectl", "label", "namespace", stack.namespace, "--overwrite")

    def change() -> None:
        while not ended.wait(0.2):
            rounds.append(stack.run(*label, f"tests/round={len(rounds)}"))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert len(rounds) > 50
    assert [done.text for done in rounds if done.code] == []


def test_a_path_that_moves_and_a_port_that_changes_lose_no_request(stack: Stack) -> None:
    """K3: `/` moves to a service that is new, `backend` listens on another port; then both are taken back.

    Meanwhile the network policies are enforced anew all the time, as in a cluster in which other pods come and go.
    """

    def move(config: dict[str, Any]) -> None:
        [backend] = config["runbook:application"]["services"]
        pages = {**backend, "name": "pages", "paths": ["/"]}
        backend |= {"paths": ["/api"], "port": 8080}
        config["runbook:application"]["services"].append(pages)
        config["runbook:application"]["main"] = "backend"
        config["runbook:guards"]["quota"] |= {"cpu": "4", "memory": "8Gi", "limitsCpu": "40", "limitsMemory": "20Gi"}

    before = stack.file.read_bytes()
    update = ("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview")
    with Traffic(stack.url) as traffic, enforcing_again(stack):
        stack.edit(move)
        stack.run(*update).check()
        moved = len(traffic.answers)
        assert "pages" in stack.kubectl("get", "ingress", "ingress", "-o", "jsonpath={.spec.rules[*].http.paths[*]}")
        stack.file.write_bytes(before)
        stack.run(*update).check()
    assert traffic.failures == []
    assert min(moved, len(traffic.answers) - moved) > 100
    assert "pages" not in stack.kubectl("get", "services,deployments", "-o", "name")
