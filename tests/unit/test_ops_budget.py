"""`runbook status --budget`: the parts add up, and a measured start-up time replaces the assumed one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from lightkube.resources.core_v1 import Pod

from ops.adapters.cluster import _startup_seconds
from ops.commands.budget import list_parts, print_budget
from settings import StackFile, StackSettings, parse
from tests.support.program import secrets_for, stack_config

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings() -> StackSettings:
    config = stack_config("Pulumi.sandbox.yaml")
    return parse(StackFile("Pulumi.sandbox.yaml", config, frozenset(f"secrets:{name}" for name in secrets_for(config))))


def test_the_parts_add_up(settings: StackSettings) -> None:
    found = list_parts(settings, None)
    assert found["rollbackSeconds"] == pytest.approx(sum(part["seconds"] for part in found["parts"]))
    assert found["kept"] == (found["rollbackSeconds"] <= found["limitSeconds"])
    assert not found["startupMeasured"]


def test_a_measured_start_up_time_replaces_the_assumed_one(
    settings: StackSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assumed, measured = list_parts(settings, None), list_parts(settings, 100.0)
    assert measured["rollbackSeconds"] > assumed["rollbackSeconds"]
    assert (measured["startupSeconds"], measured["startupMeasured"], measured["kept"]) == (100, True, False)
    print_budget(measured)
    shown = capsys.readouterr().out
    assert "limit 90 s; start-up time measured on the pods that run" in shown
    assert "RollbackErrorRate" in shown


def test_the_start_of_a_pod_is_from_its_process_to_its_traffic() -> None:
    def pod(ready: str, running: bool) -> Pod:
        state = {"running": {"startedAt": AT.isoformat()}} if running else {"waiting": {"reason": "Pulling"}}
        return Pod.from_dict(
            {
                "status": {
                    "conditions": [
                        {
                            "type": "Ready",
                            "status": ready,
                            "lastTransitionTime": (AT + timedelta(seconds=7)).isoformat(),
                        }
                    ],
                    "containerStatuses": [
                        {
                            "name": "backend",
                            "ready": True,
                            "restartCount": 0,
                            "image": "",
                            "imageID": "",
                            "state": state,
                        }
                    ],
                }
            }
        )

    assert list(_startup_seconds(pod("True", running=True))) == [7]
    assert list(_startup_seconds(pod("False", running=True))) == []
    assert list(_startup_seconds(pod("True", running=False))) == []
