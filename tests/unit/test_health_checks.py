"""Which failing checks of a health answer are a reason to take a release back."""

from __future__ import annotations

from typing import Any

import pytest

from ops.decisions.health_checks import blameless, failing_checks
from settings.monitoring import Rollback

DEPENDENCIES = Rollback().dependencies


def checks(**states: str) -> dict[str, Any]:
    """As the runbook's `/api/health` writes them."""
    listed = [{"name": name, "status": state, "detail": "x", "durationMs": 1} for name, state in states.items()]
    return {"status": "unhealthy", "checks": listed}


FINE = checks(database="ok", auth="ok", payments="ok", cache="ok", external="ok", itself="ok")
NO_PAYMENTS = checks(database="ok", auth="ok", payments="error", cache="ok", external="ok", itself="ok")
BROKEN = checks(database="ok", payments="ok", itself="error")


@pytest.mark.parametrize(
    ("answers", "blamed_on"),
    [
        ([NO_PAYMENTS], ("payments",)),
        ([NO_PAYMENTS, FINE], ("payments",)),
        ([checks(payments="error", external="error", itself="ok")], ("external", "payments")),
        # The release's own check fails as well, on this pod or on another one.
        ([checks(payments="error", itself="error")], ()),
        ([NO_PAYMENTS, BROKEN], ()),
        ([BROKEN], ()),
        ([checks(payments="ok", database="error")], ()),
        ([FINE], ()),
        # No answer, or none that names a check: the release is blamed, as ever.
        ([], ()),
        ([None, "down", {"status": "unhealthy"}], ()),
        ([None, NO_PAYMENTS], ("payments",)),
    ],
)
def test_only_what_the_release_before_would_miss_as_well_is_no_reason(
    answers: list[Any], blamed_on: tuple[str, ...]
) -> None:
    assert blameless(answers, DEPENDENCIES) == blamed_on


def test_which_checks_count_is_a_setting() -> None:
    answer = checks(supabase="error", payments="ok")
    assert blameless([answer], DEPENDENCIES) == ()
    assert blameless([answer], (*DEPENDENCIES, "Supabase")) == ("supabase",)
    assert blameless([NO_PAYMENTS], ()) == ()


@pytest.mark.parametrize(
    ("answer", "failing"),
    [
        # Spring Boot's actuator
        ({"status": "DOWN", "components": {"db": {"status": "UP"}, "stripe": {"status": "DOWN"}}}, {"stripe"}),
        # NestJS's terminus
        (
            {
                "status": "error",
                "info": {"database": {"status": "up"}},
                "error": {"stripe": {"status": "down", "message": "x"}},
                "details": {"database": {"status": "up"}, "stripe": {"status": "down", "message": "x"}},
            },
            {"stripe"},
        ),
        # application/health+json
        (
            {"status": "fail", "checks": {"stripe:responseTime": [{"status": "fail"}], "disk": [{"status": "warn"}]}},
            {"stripe:responseTime"},
        ),
        # MicroProfile
        (
            {"status": "DOWN", "checks": [{"name": "db", "status": "UP"}, {"name": "stripe", "status": "DOWN"}]},
            {"stripe"},
        ),
        # ASP.NET
        ({"status": "Unhealthy", "entries": {"db": {"status": "Healthy"}, "mail": {"status": "Unhealthy"}}}, {"mail"}),
        ({"checks": {"database": True, "stripe": False}}, {"stripe"}),
        ({"checks": {"database": "ok", "stripe": "error", "version": "1.2.3"}}, {"stripe"}),
        ({"checks": {"database": "ok"}, "error": {"message": "error", "code": "E1"}}, set()),
        ({"status": "ok"}, None),
        ({"checks": []}, None),
        (["stripe"], None),
        ("unhealthy", None),
    ],
)
def test_the_answers_of_other_libraries(answer: Any, failing: set[str] | None) -> None:
    assert failing_checks(answer) == (None if failing is None else frozenset(failing))


def test_a_part_of_a_name_is_enough_and_a_name_cannot_forge_a_message() -> None:
    assert blameless([{"checks": {"payments:responseTime": [{"status": "fail"}]}}], DEPENDENCIES)
    assert blameless([{"checks": {"external.mail": "error"}}], DEPENDENCIES) == ("external.mail",)
    assert blameless([{"checks": {"internal": "error"}}], DEPENDENCIES) == ()
    assert failing_checks({"checks": {"a<!channel>\n" + "x" * 100: "error"}}) == {"a??channel??" + "x" * 48}
