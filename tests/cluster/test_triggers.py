"""The runbook's four triggers, each provoked by real requests; everything after that is automatic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.traffic import Traffic, ask, client_for
from tests.support.cluster_stack import Stack
from tests.support.controlled_stack import ControlledStack, over, refresh, watched_stack
from tests.support.monitored_stack import eventually
from tests.support.webhook_receiver import run_receiver

pytestmark = pytest.mark.drill
_CALM_SECONDS = 2
_PROMISE_SECONDS = 90
"""HerbisVeritas "Rollback Automatique (90 secondes)"."""
_WINDOW_SECONDS = 240
_LOCKDOWN_SECONDS = 60


@pytest.fixture(scope="module")
def watched(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlledStack]:
    folder = tmp_path_factory.mktemp("triggers")
    with watched_stack("triggers", images, folder, window=_WINDOW_SECONDS) as made:
        # The next update, of whatever kind, brings it along.
        made.stack.edit(lambda config: config.update({"runbook:security": {"lockdownSeconds": _LOCKDOWN_SECONDS}}))
        yield made


@pytest.mark.parametrize(
    ("release", "alert", "clients"),
    [
        ("v8-late-errors", "RollbackErrorRate", 4),
        ("v9-late-slow", "RollbackResponseTime", 24),
        ("v10-late-unhealthy", "RollbackHealth", 4),
    ],
)
def test_a_release_that_turns_bad_is_rolled_back(
    watched: ControlledStack, images: dict[str, str], release: str, alert: str, clients: int
) -> None:
    stack = watched.stack
    good = stack.history()[0]
    stack.runbook("deploy", images[f"shop:{release}"], "--yes").check()
    bad = stack.history()[0]
    eventually(lambda: over(stack), 90)
    began = time.time()
    with Traffic(stack.url, clients=clients) as traffic:
        watched.receiver.wait("/critical", ":rewind:", alert, since=began, seconds=180)
        eventually(lambda: _calm(traffic, good["git"]), 60, lambda: traffic.answers[-5:])
    newest = stack.history()[0]
    assert (newest["action"], newest["result"], newest["rollbackOf"]) == ("rollback", "succeeded", bad["revision"])
    assert newest["image"] == good["image"]
    (record,) = [one for one in watched.incidents() if one.get("leaving") == bad["revision"]]
    fired, called = (datetime.fromisoformat(when) for when in (record["alert"]["startsAt"], record["openedAt"]))
    healthy = _healthy(traffic, bad["git"]) - fired.timestamp()
    print(f"{alert}: {(called - fired).total_seconds():.1f} s to the decision, {healthy:.1f} s to healthy")
    assert healthy <= _PROMISE_SECONDS


def test_a_payments_provider_that_stops_after_a_release_is_no_reason_to_take_it_back(
    watched: ControlledStack, images: dict[str, str]
) -> None:
    """M2: the health check fails, and people are notified, but the release before would miss the provider as well."""
    stack = watched.stack
    with run_receiver("payments", images["tasks"]) as provider:

        def pay_there(config: dict[str, Any]) -> None:
            config["runbook:network"]["egress"] = provider.egress
            config["runbook:application"]["services"][0]["env"]["PAYMENTS_API_URL"] = provider.url

        stack.edit(pay_there)
        stack.runbook("deploy", images["shop:v2"], "--yes").check()
        released = stack.history()[0]
        eventually(lambda: over(stack), 90)
        began = time.time()
        gone = ("delete", "pod", "receiver", "--grace-period=0", "--force")
        stack.run("kubectl", "--namespace", provider.namespace, *gone).check()
        message = watched.receiver.wait("/critical", ":eyes:", "RollbackHealth", since=began, seconds=120)
        assert "only payments fails" in message.text
        assert stack.history()[0] == released, "the innocent release stays"

        def pay_nowhere(config: dict[str, Any]) -> None:
            del config["runbook:network"]["egress"]
            del config["runbook:application"]["services"][0]["env"]["PAYMENTS_API_URL"]

        stack.edit(pay_nowhere)


def test_a_release_that_has_served_for_long_is_not_blamed(watched: ControlledStack, images: dict[str, str]) -> None:
    stack, bad = watched.stack, images["shop:v8-late-errors"]
    stack.runbook("deploy", bad, "--yes", "--allow-quarantined", "for the drill").check()
    eventually(lambda: _seconds_since_release(stack) > _WINDOW_SECONDS, _WINDOW_SECONDS + 30)
    began = time.time()
    with Traffic(stack.url):
        message = watched.receiver.wait("/critical", ":eyes:", "RollbackErrorRate", since=began, seconds=180)
    assert "failures are blamed on a release for 4 min" in message.text
    assert stack.history()[0]["image"] == bad


def test_an_attack_locks_the_shop_down_without_a_rollback(watched: ControlledStack) -> None:
    stack, revision = watched.stack, watched.stack.history()[0]["revision"]
    url, began = stack.url, time.time()
    with client_for(url) as stranger:
        for _ in range(12):
            ask(stranger, "/shop?origin=x'%20OR%201=1--")
        watched.receiver.wait("/critical", ":lock:", "SqlInjection", since=began, seconds=120)
        eventually(lambda: ask(stranger, "/shop").status == 503, 30)
        assert stack.history()[0]["revision"] == revision
        # The gate opens by its own clock; the controller then forgets the lockdown.
        eventually(lambda: ask(stranger, "/shop").status != 503, _LOCKDOWN_SECONDS + 10)
        eventually(lambda: watched.done("unlock") == 1, 120)
    (record,) = [one for one in watched.incidents() if one["kind"] == "lockdown"]
    assert record["endedBy"] == "the clock"
    refresh(stack)
    assert "runbook:lockdown" not in stack.config
    assert stack.history()[0]["revision"] == revision


def _seconds_since_release(stack: Stack) -> float:
    newest = stack.history()[0]
    since = datetime.now(UTC) - datetime.fromisoformat(newest["when"])
    return since.total_seconds() - (newest["seconds"] or 0)


def _calm(traffic: Traffic, version: str) -> bool:
    """Whether all requests have been served by this version for a while."""
    since = time.monotonic() - _CALM_SECONDS
    recent = [answer for answer in list(traffic.answers) if answer.at > since]
    versions = {answer.version for answer in recent if answer.version}
    return versions == {version} and not any(answer.failed for answer in recent)


def _healthy(traffic: Traffic, bad: str) -> float:
    """When the last request was sent that failed or met the bad release, in seconds since 1970."""
    last = max(answer.at for answer in traffic.answers if answer.failed or answer.version == bad)
    return last + time.time() - time.monotonic()
