"""What Grafana accepts as a dashboard, by the types of its SDK, which are made from its schema."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models


def problems(value: Any, hint: Any, at: str) -> Iterator[str]:
    """Where a value is not what the SDK's types, made from Grafana's schema, say."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object):
        hint = type(value)
    if origin in (typing.Union, UnionType):
        found = [list(problems(value, each, at)) for each in inner]
        if all(found):
            yield min(found, key=len)[0]
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{at}: {value!r} is none of {inner}"
    elif origin in (list, dict):
        if not isinstance(value, origin):
            yield f"{at}: {value!r} is no {origin.__name__}"
        else:
            for key, item in enumerate(value) if isinstance(value, list) else value.items():
                yield from problems(item, inner[-1], f"{at}.{key}")
    elif issubclass(hint, Enum):
        if value not in [each.value for each in hint]:
            yield f"{at}: {value!r} is no {hint.__name__}"
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{at}: {value!r} is no number"
    elif not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        yield f"{at}: {value!r} is no {hint.__name__}"
    elif hasattr(value, "to_json"):
        for name, each in typing.get_type_hints(type(value)).items():
            yield from problems(getattr(value, name), each, f"{at}.{name}")


PROMETHEUS_ANNOTATION = {"titleFormat", "step"}
"""Fields that the schema leaves to the data source."""


def lost(given: Any, kept: Any, at: str) -> Iterator[str]:
    """What the types do not know is not there any more when they have read it."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(value, kept.get(key, "nothing"), f"{at}.{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for place, (mine, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(mine, other, f"{at}.{place}")
    elif given != kept:
        yield f"{at}: {given!r} became {kept!r}"


def judged(dashboard: dict[str, Any]) -> list[str]:
    """What is wrong with it."""
    register_default_plugins()
    dashboard = json.loads(json.dumps(dashboard))
    read = models.Dashboard.from_json(dashboard)
    for mark in dashboard["annotations"]["list"]:
        assert mark.keys() >= PROMETHEUS_ANNOTATION
        for key in PROMETHEUS_ANNOTATION:
            del mark[key]
    kept = json.loads(json.dumps(read, cls=JSONEncoder))
    return [*problems(read, models.Dashboard, ""), *lost(dashboard, kept, "")]
