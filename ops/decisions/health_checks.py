"""Which checks of an application's health answer fail, in the shapes that health libraries write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_GOOD = frozenset(
    {"ok", "okay", "up", "pass", "passed", "passing", "healthy", "success", "alive", "ready", "available"}
)
_TOLERATED = frozenset({"warn", "warning", "degraded", "skipped", "disabled", "unknown", "none", ""})
"""No check that says this made the answer a failure by itself."""
_BAD = frozenset(
    {"error", "err", "down", "fail", "failed", "failing", "failure", "unhealthy", "critical", "fatal", "ko", "offline"}
    | {"unavailable", "unreachable", "timeout", "out_of_service", "outofservice", "disconnected", "dead", "not ok"}
)
_LISTS = ("checks", "components", "details", "entries", "results", "services", "dependencies", "error")
"""Keys under which the checks are: the runbook's, MicroProfile's and health+json's `checks`, Spring's `components` and
`details`, Terminus's `details` and `error`, ASP.NET's `entries` and `results`."""
_OF_OBJECTS = ("error", "details")
"""Under these, a plain text is no check but a message."""
_NAMES = ("name", "id", "key", "component", "componentId")
_STATES = ("status", "state", "healthy", "ok", "result")
_LONGEST_NAME = 60


def answers_well(status: int | None) -> bool:
    """Whether an HTTP status of the health path is one of an application that is well; None is no answer."""
    return status is not None and 200 <= status < 300


def failing_checks(answer: Any) -> frozenset[str] | None:
    """The names of the checks that fail. None when the answer names no checks at all."""
    if not isinstance(answer, Mapping):
        return None
    found = dict(_list_checks(answer))
    if not found:
        return None
    return frozenset(name for name, well in found.items() if not well)


def blameless(answers: Iterable[Any], dependencies: Sequence[str]) -> tuple[str, ...]:
    """The dependencies that fail, when nothing else does: then the release before would fail as well.

    Empty when a check of the release fails, when none fails, or when no answer names its checks.
    """
    found = [failing for answer in answers if (failing := failing_checks(answer)) is not None]
    failing = frozenset(name for each in found for name in each)
    known = {name.casefold() for name in dependencies}
    return tuple(sorted(failing)) if all(_is_one_of(name, known) for name in failing) else ()


def _is_one_of(name: str, known: Iterable[str]) -> bool:
    """By its whole name, or by a part of it: `external.mail`, `payments:responseTime`, `external/supabase`."""
    parts = name.casefold().replace(":", ".").replace("/", ".").split(".")
    return any(name.casefold() == one or one in parts for one in known)


def _list_checks(answer: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each check's name, and whether it is well; a check that is listed twice is well if each of them is."""
    checks: dict[str, bool] = {}
    for key in _LISTS:
        for name, check in _pairs(answer.get(key)):
            if key in _OF_OBJECTS and not isinstance(check, Mapping):
                continue
            if (well := _is_well(check)) is not None:
                short = _printable(name)
                checks[short] = checks.get(short, True) and well
    return iter(checks.items())


def _pairs(group: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(group, Mapping):
        for name, check in group.items():
            # health+json has a list of measurements under each name.
            for one in check if isinstance(check, list) else (check,):
                yield str(name), one
    elif isinstance(group, list):
        for check in group:
            if isinstance(check, Mapping):
                name = next((check[key] for key in _NAMES if isinstance(check.get(key), str)), None)
                if name:
                    yield name, check


def _is_well(check: Any) -> bool | None:
    """None when it does not say."""
    if isinstance(check, Mapping):
        state = next((check[key] for key in _STATES if key in check), None)
        if not isinstance(state, str):
            return _is_well(state)
        return state.strip().casefold() in _GOOD | _TOLERATED
    if isinstance(check, bool):
        return check
    if isinstance(check, int):
        return check == 1 or 200 <= check < 400
    if isinstance(check, str):
        word = check.strip().casefold()
        return False if word in _BAD else True if word in _GOOD | _TOLERATED else None
    return None


def _printable(name: str) -> str:
    """As it may stand in a message: it comes from the application."""
    return "".join(char if char.isalnum() or char in "-_.:/ " else "?" for char in name)[:_LONGEST_NAME]
