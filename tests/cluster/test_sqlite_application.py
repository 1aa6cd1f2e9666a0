"""The guestbook on a SQLite file, with an init container and a native sidecar, from its first release to a restore in
place: by its stack file alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.env import BACKEND
from sandbox.traffic import client_for
from settings.monitoring import Monitoring
from tests.support.cluster_stack import Stack
from tests.support.guestbook import guestbook_document
from tests.support.monitored_stack import Observed, eventually
from tests.support.secret_search import assert_secrets_stay_secret

pytestmark = pytest.mark.drill
FILE = Path(__file__).with_name("guestbook_sqlite.yaml")


@pytest.fixture(scope="module")
def book(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Release 1. Only what this machine decides is written into the file: addresses, and who gets messages."""
    document, sandbox = guestbook_document(images, "sqlite", FILE)
    config, kept = document["config"], sandbox["config"]
    config["runbook:maintenanceTasks"]["apiServer"] = kept["runbook:maintenanceTasks"]["apiServer"]
    config["runbook:monitoring"] = {
        **kept["runbook:monitoring"],
        "requests": {"preset": "traefik"},
        "rollback": {"enabled": False},
    }
    config.update({f"secrets:{name}": kept[f"secrets:{name}"] for name in Monitoring().secret_names})
    made = Stack.begin("sqlite", tmp_path_factory.mktemp("sqlite"), document, backend=f"file://{BACKEND}")
    try:
        made.runbook("deploy", images["guestbook:v1"], "--yes").check()
        yield made
        assert_secrets_stay_secret(made)
    finally:
        made.forget()


def write(book: Stack, name: str) -> None:
    with client_for(book.url) as client:
        client.post("/", content=json.dumps({"name": name, "words": "a fine book"})).raise_for_status()


def names(book: Stack) -> list[str]:
    with client_for(book.url) as client:
        return [entry["name"] for entry in client.get("/").raise_for_status().json()["entries"]]


def pods(book: Stack) -> list[str]:
    found: dict[str, Any] = json.loads(book.kubectl("get", "pods", "-l", "app.kubernetes.io/name=pages", "-o", "json"))
    return [one["metadata"]["name"] for one in found["items"] if "deletionTimestamp" not in one["metadata"]]


def test_a_first_release_serves_from_the_file_beside_its_sidecar(book: Stack) -> None:
    write(book, "Ada")
    assert names(book) == ["Ada"]
    assert not json.loads(book.kubectl("get", "statefulsets", "-l", "app.kubernetes.io/name=postgres", "-o", "json"))[
        "items"
    ]
    assert book.runbook("status", "--json").check().json()["schema"]["database"] == 1
    for pod in pods(book):
        assert book.kubectl("exec", pod, "-c", "pages", "--", "cat", "/srv/guestbook/uploads/release.json")
        asked = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9000/release.json').status)"
        assert book.kubectl("exec", pod, "-c", "pages", "--", "python3", "-c", asked).strip() == "200"
    assert book.changes() == {}


def test_a_backup_is_proven_and_restored_in_place(book: Stack) -> None:
    made = book.runbook("backup", "now", "--json").check().json()
    assert made["tables"]["main.guestbook_entry"] == 1
    assert made["schemaLevel"] == 1
    assert book.runbook("backup", "verify", "--json").check().json()["backup"] == made["id"]
    [listed] = [one for one in book.runbook("backup", "list", "--json").check().json() if one["id"] == made["id"]]
    assert listed["proven_at"], listed
    write(book, "Eve")
    assert names(book) == ["Ada", "Eve"]
    book.runbook("restore", "start", made["id"], "--in-place", "--yes").check()
    assert names(book) == ["Ada"]
    write(book, "Bob")
    assert names(book) == ["Ada", "Bob"]


def test_maintenance_works_on_the_file(book: Stack) -> None:
    report = book.runbook("maintenance", "run", "daily", "--json").check().json()
    found = {task["name"]: task for task in report["tasks"]}
    assert {name: task["result"] for name, task in found.items()} == dict.fromkeys(found, "done"), report
    assert set(found) == {"analyze", "vacuum-analyze", "reindex", "statistics"}
    assert found["reindex"]["notes"] == ["integrity_check: ok"]
    assert found["statistics"]["measures"]["database bytes"] > 0


def test_its_rules_are_loaded_and_none_asks_for_a_server(book: Stack) -> None:
    observed = Observed(book)
    rules = eventually(observed.rules, 60)
    loaded = {rule["name"]: rule for rule in rules}
    assert {"BackupMissed", "BackupNeverRan", "RestoreNotProven", "MaintenanceNeverRan", "RollbackHealth"} <= set(
        loaded
    )
    assert [name for name, rule in loaded.items() if "pg_" in rule["query"]] == []
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    eventually(lambda: observed.number("runbook_backup_last_proven_timestamp_seconds"), 60, observed.targets)
    assert not {"MetricsMissing", "TargetAway"} & observed.firing()
