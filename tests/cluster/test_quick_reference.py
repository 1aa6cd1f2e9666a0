"""The quick reference on the shop that `make up` released: every command as an operator types it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.env import STACK, STACK_FILE
from sandbox.traffic import client_for
from tests.support.cluster_stack import Stack
from tests.support.customers import Customers

pytestmark = pytest.mark.drill
"""Not in every run: other tests use the same shop meanwhile."""


@pytest.fixture(scope="module")
def shop(images: dict[str, str]) -> Stack:
    found = Stack(STACK, STACK_FILE)
    assert "runbook:release" in found.config, "`make up` has released no shop"
    return found


@pytest.fixture(scope="module")
def client(shop: Stack) -> Iterator[httpx.Client]:
    with client_for(shop.url) as made:
        yield made


def read(shop: Stack, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
    done = shop.runbook(*words, "--json")
    assert done.code in codes, done.text
    return done.json()


def test_a_restart_replaces_every_pod_and_loses_no_request(shop: Stack) -> None:
    """The logs of the new pods are followed meanwhile."""
    before = pods(shop)
    # Each new pod logs requests within seconds, the probes' among them.
    tail = shop.start("runbook", "logs", "tail", "--query", "message=request", "--since", "1s", "--json")
    try:
        with Customers(shop.url) as customers:
            done = read(shop, "system:restart", "--yes")
            after = pods(shop)
            seen = lines_until(tail, lambda pod: pod in after)
    finally:
        tail.kill()
        tail.wait()
    assert customers.failures == []
    assert customers.asked > 20
    assert [one["service"] for one in done["services"]] == ["backend"]
    assert not before & after
    assert {one["pod"] for one in seen} & after, "a new pod's lines were followed"
    assert all(one["fields"]["message"] == "request" for one in seen)
    assert shop.changes() == {}, "the stack sees no drift"


def test_logs_are_searched_by_field_in_all_pods_without_secrets(shop: Stack, client: httpx.Client) -> None:
    for _ in range(12):
        assert (
            client.post("/api/auth/login", json={"email": "a@example.com", "password": "not-this-one"}).status_code
            == 401
        )
    done = shop.runbook("logs:search", "--query=status=401", "--query", "route=/api/auth/login", "--json").check()
    found = [json.loads(line) for line in done.out.splitlines()]
    assert len(found) >= 12
    assert {one["fields"]["status"] for one in found} == {401}
    everything = shop.runbook("logs", "search", "--query", "e", "--since", "10m").check().text
    assert not [value for value in shop.secret_values() if value in everything]
    none = shop.runbook("logs", "search", "--query", "no-such-text")
    assert none.code == 1
    assert "No line of the last 1h matches" in none.err


def test_what_is_slow_stuck_or_attacked(shop: Stack, client: httpx.Client) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        phases_ = pool.submit(read, shop, "debug:performance", "--url=/shop")
        database_ = pool.submit(read, shop, "debug", "database")
        phases, database = phases_.result(), database_.result()
    assert phases["outside"]["statuses"] == phases["inside"]["statuses"] == [200]
    assert phases["outside"]["bytes"] == phases["inside"]["bytes"] > 1000
    assert phases["inside"]["url"] == "http://backend:3000/shop"
    assert all(phases[side]["median"]["firstByte"] > 0 for side in ("outside", "inside"))
    assert database["locks"] == []
    assert database["statements"] is not None or "pg_stat_statements" in database["notes"][0]
    security = read(shop, "debug:security", "--suspicious-activity")
    (unknown,) = security["sources"]
    assert unknown["source"] is None
    assert unknown["statuses"]["401"] >= 12
    assert any("requestLog.source" in note for note in security["notes"])
    refused = shop.runbook("debug:rate-limiting", "--user=42")
    assert refused.code == 2
    assert "rateLimits:" in refused.err


def test_revenue_is_plotted_from_the_database(shop: Stack, tmp_path: Path) -> None:
    made = (
        "WITH u AS (INSERT INTO users (email, password_hash) VALUES ('plot@example.com', 'x')"
        " ON CONFLICT (email) DO UPDATE SET role = 'customer' RETURNING id)"
        " INSERT INTO orders (user_id, status, total_cents, created_at)"
        " SELECT id, 'paid', 2500, now() - interval '90 minutes' FROM u"
    )
    before = read(shop, "metrics", "revenue", "--last", "2h")["columns"]["revenue"]["value"]
    shop.sql(made)
    page = tmp_path / "revenue.html"
    found = shop.runbook("metrics:revenue", "--last=2h", "--html", str(page)).check()
    assert f"revenue: {before + 25:,.2f}".replace(",", " ").removesuffix(".00") in found.out
    assert max(map(len, found.out.splitlines())) <= 80
    assert "<svg" in page.read_text()
    missing = shop.runbook("metrics", "returns")
    assert missing.code == 2
    assert "it has business, conversion, revenue" in missing.err


def test_status_of_each_subject_and_the_live_screen(shop: Stack, client: httpx.Client) -> None:
    for _ in range(20):
        client.get("/shop")
    if "runbook:monitoring" not in shop.config:
        pytest.skip("this sandbox has no monitoring: the cluster is not its own")
    # Alerts of other tests' logins may fire: what is shown matters, not the exit code.
    health = read(shop, "status:health", codes=(0, 1))
    assert {one["name"] for one in health["checks"]} >= {"database", "auth", "payments", "cache"}
    assert health["services"][0]["ready"] == 2
    performance = eventually_read(
        lambda: read(shop, "status", "performance", "--last", "2m", codes=(0, 1)),
        lambda found: "/shop" in (found["slowRoutes"] or {}),
    )
    assert performance["seconds"]["p95"] > 0
    assert performance["notes"] == []
    security = read(shop, "status:security", codes=(0, 1))
    assert security["refusedOfADay"]["401"] >= 1
    assert security["lockdown"]["state"] == "off"
    watched = shop.runbook("status", "--watch", "--json", "--times", "2", "--every", "1")
    frames = [json.loads(line) for line in watched.out.splitlines()]
    assert len(frames) == 2, watched.text
    for frame in frames:
        assert frame["status"]["revision"] == shop.release["revision"]
        assert frame["problems"] == []
        assert frame["alerts"] is not None
        assert frame["backups"]["backupAge"] is None or frame["backups"]["backupAge"] > 0
    screen = shop.runbook("status", "--watch", "--times", "1")
    assert max(map(len, screen.out.splitlines())) <= 80, screen.out


def test_emergency_commands_run_in_the_release(shop: Stack) -> None:
    asked = shop.runbook("performance:emergency-optimization")
    assert asked.code == 2
    assert "npm run db:analyze" in asked.err
    done = read(shop, "performance:emergency-optimization", "--yes")
    assert "stale entries removed" in done["lastLine"]
    assert done["undo"] is None
    cleared = read(shop, "performance:emergency-cache-clear", "--yes")
    assert cleared["result"] == "succeeded"


def pods(shop: Stack) -> set[str]:
    """Of the backend, that are not being deleted."""
    listed = json.loads(shop.kubectl("get", "pods", "-l", "app.kubernetes.io/name=backend", "-o", "json"))["items"]
    return {one["metadata"]["name"] for one in listed if not one["metadata"].get("deletionTimestamp")}


def lines_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Lines up to the first one of a wanted pod."""
    assert process.stdout
    found: list[dict[str, Any]] = []
    for line in process.stdout:
        found.append(json.loads(line))
        if wanted(found[-1]["pod"]):
            return found
    raise AssertionError(f"it ended: {process.stderr.read() if process.stderr else ''}")


def eventually_read(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """Prometheus has to scrape first."""
    deadline = time.monotonic() + 30
    while not good(found := ask()):
        assert time.monotonic() < deadline, found
    return found
