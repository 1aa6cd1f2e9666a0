"""An application without metrics, the guestbook, whose requests the ingress controller counts: a release that turns bad
is rolled back by these numbers alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from settings.monitoring import STATE_SECRETS
from tests.support.cluster_stack import Stack
from tests.support.controlled_stack import ControlledStack
from tests.support.guestbook import Guests, guestbook_document
from tests.support.monitored_stack import Observed, enable_monitoring, eventually
from tests.support.secret_search import assert_secrets_stay_secret
from tests.support.webhook_receiver import run_receiver

pytestmark = pytest.mark.drill
"""Not in every run, as the second application's other tests."""


@pytest.fixture(scope="module")
def watched(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlledStack]:
    """The guestbook's first release, with the sandbox's monitoring and the preset `traefik`."""
    if "RUNBOOK_S3" not in os.environ:
        pytest.skip("this sandbox has no S3 server: the cluster is not its own")
    document, sandbox = guestbook_document(images, "unmeasured")
    config, kept = document["config"], sandbox["config"]
    config["runbook:namespace"] = "guestbook-unmeasured"
    del config["runbook:backup"]
    config["runbook:guards"] = kept["runbook:guards"]
    config["runbook:monitoring"] = {**kept["runbook:monitoring"], "requests": {"preset": "traefik"}}
    config.update({f"secrets:{name}": kept[f"secrets:{name}"] for name in STATE_SECRETS})
    made = Stack.begin("unmeasured", tmp_path_factory.mktemp("unmeasured"), document, backend=None)
    with run_receiver("unmeasured", images["tasks"]) as receiver:
        try:
            enable_monitoring(made, receiver)
            made.runbook("deploy", images["guestbook:v1"], "--yes").check()
            yield ControlledStack(made, receiver)
            assert_secrets_stay_secret(made)
        finally:
            made.remove()


def test_only_the_ingress_controllers_metrics_count_requests(watched: ControlledStack) -> None:
    observed = Observed(watched.stack)
    with Guests(watched.stack.url):
        eventually(lambda: observed.query(_COUNTED), 90, observed.targets)
    jobs = {target["labels"]["job"] for target in observed.targets() if target["health"] == "up"}
    assert {"requests", "ingress"} <= jobs
    assert not {"pages", "greeter"} & jobs
    assert {one["metric"]["job"] for one in observed.query(_COUNTED)} == {"requests"}


def test_a_release_that_turns_bad_is_rolled_back(watched: ControlledStack, images: dict[str, str]) -> None:
    stack = watched.stack
    stack.runbook("deploy", images["guestbook:v4-late-errors"], "--yes").check()
    bad = stack.history()[0]
    began = time.time()
    with Guests(stack.url) as guests:
        watched.receiver.wait("/critical", ":rewind:", "RollbackErrorRate", since=began, seconds=180)
        assert any(answer.startswith("500") for answer in guests.bad)
        seen = len(guests.releases)
        eventually(lambda: set(guests.releases[seen:][-50:]) == {"1"} and len(guests.releases) > seen + 50, 60)
    newest: dict[str, Any] = stack.history()[0]
    assert (newest["action"], newest["result"], newest["rollbackOf"]) == ("rollback", "succeeded", bad["revision"])
    assert newest["image"] == images["guestbook:v1"]
    assert newest["who"].startswith("rollback-controller@")
    (record,) = [one for one in watched.incidents() if one.get("leaving") == bad["revision"]]
    print(f"from the alert to the record: {record['alert']['startsAt']}, {record['openedAt']}")


_COUNTED = "http_request_duration_seconds_count"
