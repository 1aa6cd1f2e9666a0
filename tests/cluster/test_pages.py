"""Pages of the release that serves, measured in a cluster (HerbisVeritas "Performance Budgets"): one that becomes slow
after its release is reported with the audit and the release, and not by a machine that was too busy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.traffic import Traffic, ask, client_for
from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import Observed, enable_monitoring, eventually
from tests.support.secret_search import assert_secrets_stay_secret
from tests.support.webhook_receiver import Receiver, run_receiver

pytestmark = pytest.mark.drill
OVER = 'runbook_page_budget_percent{path="/shop",metric="lcp"} > 100'
SLOW_SECONDS = 3
"""An answer of the release that became slow takes four."""
BUDGET = {"path": "/shop", "score": 0, "lcpMilliseconds": 3500, "tbtMilliseconds": 60_000, "cls": 10}
"""A fast page keeps it on a machine that is busy, too."""
PERFORMANCE: dict[str, Any] = {
    "routes": [{**BUDGET, "bundleKilobytes": 100_000}],
    "runs": 1,
    # No machine is so fast: every miss is one of a machine that was too busy.
    "leastBenchmark": 100_000,
    # Not by itself: each test starts its own check.
    "continuous": {"schedule": "0 3 1 1 *"},
}


@pytest.fixture(scope="module")
def receiver(images: dict[str, str]) -> Iterator[Receiver]:
    with run_receiver("pages", images["tasks"]) as made:
        yield made


@pytest.fixture(scope="module")
def shop(images: dict[str, str], receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a release that takes four seconds for an answer, after each pod's 300th request."""
    if "lighthouse" not in images:
        pytest.skip(
            "the sandbox built no image of Lighthouse: write runbook:performance as in docs/gates.md, `make up`"
        )
    made = Stack.create("pages", tmp_path_factory.mktemp("pages"), backups=True, monitoring=True)
    try:
        enable_monitoring(made, receiver, enabled=False)
        made.edit(lambda config: config.pop("runbook:performance", None))
        made.runbook("deploy", images["shop:v1"], "--yes").check()
        made.runbook("backup", "now").check()
        made.runbook("backup", "verify").check()

        def measure(config: dict[str, Any]) -> None:
            config["runbook:performance"] = {"image": images["lighthouse"], **PERFORMANCE}
            # Chromium runs beside everything else.
            config["runbook:guards"]["quota"] |= {"limitsCpu": "32", "limitsMemory": "16Gi"}

        made.edit(measure)
        made.runbook("deploy", images["shop:v9-late-slow"], "--yes").check()
        yield made
        assert_secrets_stay_secret(made)
    finally:
        made.remove()


def check_pages(stack: Stack, name: str) -> None:
    """A check now, to its end."""
    stack.kubectl("create", "job", f"page-check-{name}", "--from=cronjob/page-check")
    stack.kubectl("wait", "--for=condition=complete", "--timeout=600s", f"job/page-check-{name}")


def is_slow(url: str) -> bool:
    """Whether every pod is: requests take turns."""
    began = time.monotonic()
    with client_for(url) as client:
        answer = ask(client, "/shop")
    return not answer.failed and time.monotonic() - began > SLOW_SECONDS


def test_a_fast_page_keeps_its_budget(shop: Stack) -> None:
    check_pages(shop, "fast")
    shown = shop.runbook("performance", "pages", "--json").check().json()
    (page,) = shown["pages"]
    assert (page["path"], page["result"]) == ("/shop", "kept")
    assert page["decided"]["release"]["revision"] == str(shop.release["revision"])
    assert page["decided"]["release"]["git"] == shop.release["git"]
    observed = Observed(shop)
    eventually(lambda: observed.number('runbook_page_measured_timestamp_seconds{path="/shop"}'), 120)
    assert observed.query(OVER) == []
    assert shop.changes() == {}


def test_the_browser_has_no_token_and_no_secret(shop: Stack) -> None:
    job = json.loads(shop.kubectl("get", "job", "page-check-fast", "-o", "json"))
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    (browser,) = pod["initContainers"]
    assert "envFrom" not in browser
    assert not [item for item in browser["env"] if "valueFrom" in item]


def test_a_miss_on_a_machine_that_is_too_busy_shows_and_is_no_alert(shop: Stack) -> None:
    with Traffic(shop.url, clients=24):
        eventually(lambda: all(is_slow(shop.url) for _ in range(6)), 300)
    check_pages(shop, "busy")
    observed = Observed(shop)
    eventually(lambda: observed.number('runbook_page_check_pages{result="busy"}') == 1, 120)
    assert observed.query(OVER) == []
    assert "busy" in shop.runbook("performance", "pages").check().out


def test_a_page_that_became_slow_is_reported_with_audit_and_release(
    shop: Stack, receiver: Receiver, tmp_path: Path
) -> None:
    shop.edit(lambda config: config["runbook:performance"].update(leastBenchmark=0))
    shop.run("pulumi", "up", "--stack", shop.name, "--yes", "--non-interactive", "--skip-preview").check()
    assert is_slow(shop.url), "the update must not have replaced the pods"
    began = time.time()
    check_pages(shop, "slow")
    observed = Observed(shop)
    (over,) = eventually(lambda: observed.query(OVER), 120)
    history, reports = tmp_path / "pages.html", tmp_path / "reports"
    shown = shop.runbook("performance", "pages", "--json", "--html", str(history), "--reports", str(reports))
    assert shown.code == 1, shown.text
    (page,) = shown.json()["pages"]
    worst, revision = page["decided"]["worst"], str(shop.release["revision"])
    assert worst
    assert (over["metric"]["worst"], over["metric"]["revision"]) == (worst, revision)
    assert 'class="page"' in history.read_text()
    assert "<!doctype html>" in (reports / "shop.html").read_text()[:200]
    receiver.wait("/performance", "PageOverBudget", worst, f"release {revision}", since=began, seconds=300)


def test_after_a_rollback_the_page_keeps_its_budget_again(shop: Stack) -> None:
    shop.runbook("rollback", "--yes").check()
    check_pages(shop, "again")
    observed = Observed(shop)
    eventually(lambda: "PageOverBudget" not in observed.firing(), 300, observed.firing)
    eventually(lambda: observed.query(OVER) == [], 60)
