"""Turning what is wrong with a stack file into one message: where, what was found, what to write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from settings.base import Path, Refused
from settings.moved_keys import MOVED, Moved

_NOTHING: Any = object()
_SENSITIVE = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|KEY|DSN|_URL$")


@dataclass(frozen=True)
class Problem:
    """One thing to fix in a stack file."""

    path: Path
    """From the configuration key (`runbook:application`) inwards."""
    why: str
    found: Any = _NOTHING
    write: Any = None
    """The value that belongs at `path`; None where something is to be removed or a command to be run."""
    within: Any = None
    """The configuration key's value as found, to name the neighbours of the line to write."""

    def render(self) -> str:
        lines = [_dotted(self.path), f"  found:  {_shown(self.path, self.found)}", f"  wrong:  {self.why}"]
        if self.write is not None:
            text = yaml.safe_dump(_nested(self.path, self.write, self.within), sort_keys=False, width=100)
            lines += ["  write:", *(f"    {line}" for line in text.splitlines())]
        return "\n".join(lines)


class SettingsError(Exception):
    """A stack file that cannot be used; the message is for the person who edits it."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problems" if len(self.problems) > 1 else "1 problem"
        body = "\n\n".join(f"{n}. {problem.render()}" for n, problem in enumerate(self.problems, start=1))
        super().__init__(f"{file} cannot be used ({count}); nothing was changed.\n\n{body}\n")


def problems_of(error: ValidationError, key: str, raw: Any, schema: Mapping[str, Any]) -> list[Problem]:
    """What pydantic found in the value of `runbook:<key>`, with examples from the JSON Schema of all settings."""
    found: list[Problem] = []
    for item in error.errors(include_url=False):
        path = _without_tags(item["loc"], raw)
        if item["type"] == "too_short" and _value_at(raw, path):
            continue  # an item of it is wrong, which is reported already
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, Refused):
            found += [_problem(key, raw, (*path, *inner.path), inner.why, inner.write) for inner in cause.findings]
            continue
        node = _schema_at(schema, (key, *path), {key: raw})
        if item["type"] == "extra_forbidden":
            found.append(_unknown(key, raw, path, schema))
        elif item["type"] == "missing":
            found.append(_problem(key, raw, path, "is missing", _example(schema, node)))
        else:
            why = item["msg"].replace("Input should", "should").replace("String should", "should")
            found.append(_problem(key, raw, path, why, _example(schema, node)))
    return found


def missing(key: str, schema: Mapping[str, Any]) -> Problem:
    """A configuration key that every stack needs."""
    node = _schema_at(schema, (key,), {})
    return Problem((f"runbook:{key}",), "is missing", write=_example(schema, node))


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def _problem(key: str, raw: Any, path: Path, why: str, write: Any) -> Problem:
    return Problem((f"runbook:{key}", *path), why, found=_value_at(raw, path), write=write, within=raw)


def _unknown(key: str, raw: Any, path: Path, schema: Mapping[str, Any]) -> Problem:
    if moved := MOVED.get((key, *path)):
        return _moved(moved, key, raw, path)
    parent = _schema_at(schema, (key, *path[:-1]), {key: raw})
    known = sorted(parent.get("properties", {}))
    value = _value_at(raw, path)
    meant = closest(str(path[-1]), known)
    if meant is None:
        return _problem(key, raw, path, f"unknown key: remove it; known here: {', '.join(known)}", None)
    there = Problem((f"runbook:{key}", *path[:-1], meant), f"unknown key, did you mean {meant}?", value, value, raw)
    return Problem((f"runbook:{key}", *path), there.why, value, _Renamed(there), raw)


def _moved(moved: Moved, key: str, raw: Any, path: Path) -> Problem:
    value, new = _value_at(raw, path), (f"runbook:{moved.to[0]}", *moved.to[1:])
    if _value_at({key: raw}, moved.to) not in (_NOTHING, None):
        return _problem(key, raw, path, f"this key is now {_dotted(new)}, which is set: remove it here", None)
    there = Problem(new, f"this key is now {_dotted(new)}: move it there", value, moved.convert(raw, value), raw)
    return Problem((f"runbook:{key}", *path), there.why, value, _Renamed(there), raw)


@dataclass(frozen=True)
class _Renamed:
    """What to write stands under another key than what was found."""

    problem: Problem


def _value_at(raw: Any, path: Path) -> Any:
    for step in path:
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return _NOTHING
    return raw


def _without_tags(loc: tuple[int | str, ...], raw: Any) -> Path:
    """pydantic puts the `mode` of a discriminated union into the location; the file has no such level."""
    path: list[int | str] = []
    for step in loc:
        if isinstance(raw, Mapping) and raw.get("mode") == step and step not in raw:
            continue
        path.append(step)
        raw = _value_at(raw, (step,))
    return tuple(path)


# -- the JSON Schema, walked -----------------------------------------------------------------------


def _resolve(schema: Mapping[str, Any], node: Mapping[str, Any], raw: Any = None) -> Mapping[str, Any]:
    """The node itself: references followed, unions narrowed by `mode` or to what is not null."""
    if "$ref" in node:
        return _resolve(schema, schema["$defs"][node["$ref"].rsplit("/", 1)[1]] | {"_outer": node}, raw)
    if "discriminator" in node:
        mapping = node["discriminator"]["mapping"]
        mode = raw.get("mode") if isinstance(raw, Mapping) else None
        return _resolve(schema, {"$ref": mapping.get(mode) or next(iter(mapping.values()))}, raw)
    if "anyOf" in node:
        inner = next(option for option in node["anyOf"] if option.get("type") != "null")
        return {**_resolve(schema, inner, raw), **{k: node[k] for k in ("examples",) if k in node}}
    return node


def _schema_at(schema: Mapping[str, Any], path: Path, raw: Any) -> Mapping[str, Any]:
    node: Mapping[str, Any] = schema
    for step in path:
        node = _resolve(schema, node, raw)
        raw = _value_at(raw, (step,))
        if isinstance(step, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(step) or node.get("additionalProperties") or {}
        if not isinstance(node, Mapping):
            return {}
    return _resolve(schema, node, raw)


def _example(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Any:
    """A value that would be accepted, from the schema's own examples and defaults."""
    node = _resolve(schema, node)
    outer = node.get("_outer", {})
    for source in (outer, node):
        if source.get("examples"):
            return source["examples"][0]
        if "const" in source:
            return source["const"]
        if source.get("default") is not None:
            return source["default"]
    if "enum" in node:
        return node["enum"][0]
    if node.get("type") == "object":
        required = {name: found for name, found in node.get("properties", {}).items() if "default" not in found}
        return {name: _example(schema, found) for name, found in required.items()}
    if node.get("type") == "array":
        return [_example(schema, node["items"])]
    return {"boolean": True, "integer": 1, "number": 1.0}.get(str(node.get("type")), "…")


# -- text ------------------------------------------------------------------------------------------


def _dotted(path: Path) -> str:
    text = str(path[0])
    for step in path[1:]:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text


def _shown(path: Path, value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    if any(isinstance(step, str) and _SENSITIVE.search(step) for step in path):
        return "(not shown: may be a secret)"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).replace("\n...", "").strip()
    return text if len(text) <= 100 else f"{text[:97]}…"


def _nested(path: Path, write: Any, within: Any) -> Any:
    """`write` at the end of `path`, list items identified by their name."""
    if isinstance(write, _Renamed):
        return _nested(write.problem.path, write.problem.write, within)
    neighbours = [within]
    for step in path[1:]:
        neighbours.append(_value_at(neighbours[-1], (step,)))
    value: Any = write
    for depth in range(len(path) - 1, 0, -1):
        step = path[depth]
        if isinstance(step, int):
            item = neighbours[depth]
            named = isinstance(value, dict) and isinstance(item, Mapping) and "name" in item and "name" not in value
            value = [{"name": item["name"]} | value if named else value]
        else:
            value = {step: value}
    return {str(path[0]): value}
