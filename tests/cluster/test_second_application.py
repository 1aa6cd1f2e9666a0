"""The guestbook, an application of another kind, from its first release to a rotation: by its stack file alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.env import BACKEND
from sandbox.traffic import client_for
from tests.support.cluster_stack import Stack
from tests.support.guestbook import FILE, Guests, guestbook_document
from tests.support.secret_search import assert_secrets_stay_secret

FAILED_AND_ROLLED_BACK = 1


@pytest.fixture(scope="module")
def book(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The guestbook's own stack, with release 1; only what this machine decides is written into its file."""
    document, _ = guestbook_document(images)
    made = Stack.begin("guestbook", tmp_path_factory.mktemp("guestbook"), document, backend=f"file://{BACKEND}")
    try:
        made.runbook("deploy", images["guestbook:v1"], "--yes").check()
        yield made
        assert_secrets_stay_secret(made)
    finally:
        made.forget()


def read(book: Stack) -> tuple[dict[str, Any], str]:
    """The book, and something that its key signed."""
    with client_for(book.url) as client:
        answer = client.get("/").raise_for_status()
        return answer.json(), answer.headers["X-Signed"]


def accepts(book: Stack, signed: str) -> bool:
    with client_for(book.url) as client:
        return client.get("/token", params={"signed": signed}).status_code == 200


def level(book: Stack) -> int:
    return book.runbook("status", "--json").check().json()["schema"]["database"]


def sql(book: Stack, statement: str) -> str:
    psql = ["psql", "--username=guestbook", "--dbname=guestbook", "--tuples-only", "--no-align"]
    return book.kubectl("exec", "postgres-0", "--", *psql, "--command", statement).strip()


def test_its_stack_file_is_short() -> None:
    assert len(FILE.read_text().splitlines()) <= 60


def test_a_first_release_serves_works_and_keeps_what_guests_send(book: Stack) -> None:
    with client_for(book.url) as client:
        client.post("/", content=json.dumps({"name": "Ada", "words": "a fine book"})).raise_for_status()
        assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 404, "the ingress knows one host"
    book.kubectl("wait", "--for=condition=Available", "deployment/greeter", "--timeout=60s")
    pods = book.kubectl("get", "pods", "-l", "app.kubernetes.io/name=pages", "-o", "name").split()
    assert len(pods) == 2
    for pod in pods:
        assert "1000\n" in book.kubectl("exec", pod, "--", "id", "-u")
        assert "a fine book" in book.kubectl("exec", pod, "--", "sh", "-c", "cat /srv/guestbook/uploads/*.txt")
    assert sql(book, "SELECT schemaname FROM pg_tables WHERE tablename = 'guestbook_entry'") == "guestbook"
    assert "redis" not in book.kubectl("get", "statefulsets,services,networkpolicies", "-o", "name")
    assert level(book) == 1
    assert book.changes() == {}


def test_a_proven_backup_lets_a_migration_pass_without_a_lost_request(book: Stack, images: dict[str, str]) -> None:
    made = book.runbook("backup", "now", "--json").check().json()
    assert made["tables"]["guestbook.guestbook_entry"] == 1
    assert made["schemaLevel"] == 1
    proof = book.runbook("backup", "verify", "--json").check().json()
    assert proof["backup"] == made["id"]
    with Guests(book.url) as guests:
        book.runbook("deploy", images["guestbook:v2"], "--yes").check()
    assert guests.bad == []
    assert list(dict.fromkeys(guests.releases)) in (["1", "2"], ["1"])
    assert level(book) == 2
    assert read(book)[0] == {"version": "2", "entries": [{"id": 1, "name": "Ada", "greeted": True}]}


def test_a_broken_release_is_rolled_back_before_a_guest_sees_it(book: Stack, images: dict[str, str]) -> None:
    with Guests(book.url) as guests:
        failed = book.runbook("deploy", images["guestbook:v3-broken"], "--yes")
    assert failed.code == FAILED_AND_ROLLED_BACK, failed.text
    assert "Job rehearsal-" in failed.text
    assert guests.bad == []
    assert set(guests.releases) == {"2"}
    assert book.release["image"] == images["guestbook:v2"]


def test_its_key_and_its_password_are_rotated_under_traffic(book: Stack) -> None:
    _, before = read(book)
    user = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = '' AND datname = 'guestbook'"
    assert accepts(book, before)
    with Guests(book.url) as guests:
        book.runbook("rotate", "start", "django-secret-key", "database-url", "--yes").check()
    assert guests.bad == []
    assert accepts(book, before), "what the previous key signed, during the overlap"
    assert read(book)[1].rpartition(":")[2] != before.rpartition(":")[2]
    assert "guestbook" not in sql(book, user).split(), "the first login is still used"
    assert level(book) == 2
