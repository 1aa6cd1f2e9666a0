"""The life of a stack made of Pulumi.prod.yaml: what the sandbox's own values hide (issue 14).

Each test begins where the one before it ended.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from sandbox.cluster import layout
from sandbox.traffic import Traffic
from settings.rotation import BACKUP_S3, DATABASE_URL, REDIS_URL
from tests.cluster.test_lockdown import SCHEDULED, asked, locked, suspended
from tests.cluster.test_release import serving
from tests.cluster.test_rotation import secret, state, store_accepts, store_keys
from tests.cluster.test_sandbox import eventually
from tests.support.cluster_stack import Stack
from tests.support.customers import Customers, webhook
from tests.support.external_servers import OWNER
from tests.support.production_stack import GIVEN, Production, production_stack
from tests.support.secret_search import assert_secrets_stay_secret

LEAST = 3
"""`autoscaler.minReplicas` of Pulumi.prod.yaml."""
IN_PODS = ("JWT_SECRET", "SESSION_SECRET", DATABASE_URL, REDIS_URL, "SMTP_URL", *GIVEN)
WEBHOOK = "STRIPE_WEBHOOK_SECRET"
EVERYWHERE = {DATABASE_URL, REDIS_URL, WEBHOOK, BACKUP_S3}
LATER = "INSERT INTO products (slug, name, description, price_cents, stock) VALUES ('later', 'later', '', 100, 1)"
PLAIN = ("--yes", "--non-interactive", "--skip-preview")


@pytest.fixture(scope="module")
def production(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with production_stack(images, tmp_path_factory.mktemp("production")) as made:
        yield made


@pytest.fixture(scope="module")
def stack(production: Production) -> Stack:
    return production.stack


def protected(stack: Stack) -> set[str]:
    """Types of the resources that the engine refuses to delete."""
    exported = stack.run("pulumi", "stack", "export", "--stack", stack.name, config_file=False).check().json()
    return {resource["type"] for resource in exported["deployment"]["resources"] if resource.get("protect")}


def ready_pods(stack: Stack) -> int:
    return json.loads(stack.kubectl("get", "deployment", "backend", "--output=json"))["status"].get("readyReplicas", 0)


def in_use(stack: Stack) -> dict[str, str]:
    """The values that pods of the application and of backups get."""
    return {**{name: secret(stack, name) for name in IN_PODS}, **store_keys(stack)}


def accepted(production: Production, values: dict[str, str]) -> set[str]:
    """Which of these values are good, by the servers and the shop that are asked with them."""
    pair = {key: values[key] for key in store_keys(production.stack)}
    answers = {
        DATABASE_URL: production.servers.accepts(values[DATABASE_URL]),
        REDIS_URL: production.servers.redis_accepts(values[REDIS_URL]),
        WEBHOOK: webhook(production.stack.url, values[WEBHOOK]) == 200,
        BACKUP_S3: store_accepts(pair),
    }
    return {name for name, good in answers.items() if good}


def presented_certificate(url: str) -> bytes:
    """The certificate that customers get, verified for the name in their URL."""
    parts = urlsplit(url)
    trust = ssl.create_default_context(cafile=str(layout.CA))
    with (
        socket.create_connection(("127.0.0.1", parts.port or 443), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=parts.hostname) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True) or b""


def test_the_first_release_serves_over_tls_with_the_least_number_of_pods(
    production: Production, stack: Stack, images: dict[str, str]
) -> None:
    stack.runbook("deploy", images["shop:v1"], "--yes").check()
    certificate = production.issue_certificate()
    assert serving(stack) == stack.release["git"]
    assert stack.url.startswith("https://")
    eventually(lambda: presented_certificate(stack.url) == certificate)
    assert protected(stack) == {"kubernetes:core/v1:Namespace"}
    # This cluster has no source of metrics: the autoscaler knows no load, and keeps its minimum.
    eventually(lambda: ready_pods(stack) == LEAST, 60)


def test_a_release_with_a_migration_loses_no_request(stack: Stack, images: dict[str, str]) -> None:
    before = stack.release["git"]
    stack.runbook("backup", "verify").check()
    with Traffic(stack.url) as traffic, Customers(stack.url) as customers:
        stack.runbook("deploy", images["shop:v2"], "--yes").check()
    assert traffic.failures == []
    assert customers.failures == []
    assert traffic.versions() == [before, stack.release["git"]]
    assert ready_pods(stack) >= LEAST


def test_every_secret_is_rotated_twice(production: Production, stack: Stack) -> None:
    """All together. The second time, each slot that a protected stack once kept has to be replaced (K1)."""
    rows = stack.runbook("rotate", "status", "--json").check().json()
    assert {row["secret"] for row in rows} == set(production.secrets)
    first = in_use(stack)
    with Customers(stack.url) as customers:
        production.rotate_everything()
        second = in_use(stack)
        assert accepted(production, first) == accepted(production, second) == EVERYWHERE
    assert customers.failures == []
    assert customers.asked > 200
    with Traffic(stack.url) as traffic:
        stack.runbook("rotate", "start", *production.secrets, "--no-overlap", "--yes").check()
    assert traffic.failures == []
    assert accepted(production, first) == {REDIS_URL, BACKUP_S3}, "who issued them has to revoke them"
    assert accepted(production, second) == EVERYWHERE
    with Customers(stack.url) as customers:
        production.rotate_everything()
    assert customers.failures == []
    third = in_use(stack)
    for name in IN_PODS:
        assert len({first[name], second[name], third[name]}) == 3, name
    for name in production.secrets:
        assert (state(stack, name)["period"], state(stack, name)["phase"]) == (2, "verified"), name


def test_a_rollback_within_the_overlap_keeps_what_was_rotated(
    production: Production, stack: Stack, images: dict[str, str]
) -> None:
    used, before = in_use(stack), stack.release["git"]
    with Traffic(stack.url) as traffic, Customers(stack.url) as customers:
        stack.runbook("rollback", "--yes").check()
    assert traffic.failures == []
    assert customers.failures == []
    assert traffic.versions() == [before, stack.release["git"]]
    assert stack.release["image"] == images["shop:v1"]
    assert in_use(stack) == used
    assert accepted(production, used) == EVERYWHERE


def test_a_lockdown_and_its_end(stack: Stack) -> None:
    locked(stack, "--for", "10m")
    assert asked(stack, "GET", "/shop").status_code == 503
    assert suspended(stack) >= SCHEDULED
    assert ready_pods(stack) >= LEAST
    stack.runbook("security", "unlock", "--yes").check()
    with Traffic(stack.url, limit_seconds=2) as traffic:
        assert asked(stack, "GET", "/admin").status_code == 303
        assert stack.changes() == {}
    assert traffic.failures == []
    assert not suspended(stack) & SCHEDULED


def test_an_encrypted_backup_is_restored_in_place(production: Production, stack: Stack) -> None:
    backup = stack.runbook("backup", "now", "--json").check().json()["id"]
    kept = production.servers.sql("SELECT count(*) FROM products")
    production.servers.sql(f"SET ROLE {OWNER}; {LATER}")
    with Traffic(stack.url) as traffic:
        stack.runbook("restore", "start", backup, "--in-place", "--yes").check()
    assert {answer.status for answer in traffic.failures} == {503}, "the maintenance page and nothing else"
    assert production.servers.sql("SELECT count(*) FROM products") == kept
    assert serving(stack) == stack.release["git"]


def test_it_is_destroyed_only_after_its_protection_was_taken_off(production: Production, stack: Stack) -> None:
    assert_secrets_stay_secret(stack)
    destroy = ("pulumi", "destroy", "--stack", stack.name, *PLAIN)
    # With its preview: without one, the engine deletes all that the namespace does not depend on before it is refused.
    refused = stack.run(*(word for word in destroy if word != "--skip-preview"))
    assert refused.code != 0
    assert "protect" in refused.text
    assert serving(stack) == stack.release["git"], "nothing was deleted"

    stack.edit(lambda config: config["runbook:guards"].update(protectData=False))
    stack.run("pulumi", "up", "--stack", stack.name, *PLAIN).check()
    stack.run(*destroy).check()
    stack.run("kubectl", "wait", "--for=delete", f"namespace/{stack.namespace}", "--timeout=60s").check()
    assert int(production.servers.sql("SELECT count(*) FROM products")) > 0, (
        "the external database is not the stack's to delete"
    )
