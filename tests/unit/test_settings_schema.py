"""The JSON Schema for editors is the one the models make, and it knows every key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic.alias_generators import to_camel

from settings.__main__ import PAGE, SCHEMA_FILE, schema_text
from settings.reference import render_reference
from settings.stack import StackSettings, editor_schema
from tests.support.program import stack_config


def test_the_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "run `python -m settings schema` and commit the result"
    assert PAGE.read_text() == render_reference(), "run `python -m settings schema` and commit the result"


def test_every_key_of_the_schema_is_on_the_page() -> None:
    schema = editor_schema()
    page = PAGE.read_text()
    keys = {key for node in schema["$defs"].values() for key in node.get("properties", {})}
    assert {key for key in keys if not re.search(rf"^\| `([\w.]+\.)?{key}` \|", page, re.MULTILINE)} == set()
    assert {key for key in schema["properties"]["config"]["properties"] if f"\n## {key}\n" not in page} == set()


def test_every_key_has_a_description_and_no_title_that_repeats_its_name() -> None:
    def undescribed(node: Any, at: str) -> Iterator[str]:
        if isinstance(node, dict):
            for key, field in node.get("properties", {}).items():
                if ("description" not in field and "const" not in field) or "title" in field:
                    yield f"{at}.{key}"
            for key, inner in node.items():
                yield from undescribed(inner, f"{at}.{key}")

    assert list(undescribed(editor_schema()["$defs"], "")) == []


def test_a_key_that_may_be_left_out_is_of_one_kind() -> None:
    """Editors complete `anyOf` with null badly. It stands only where null is not the default."""

    def nullable(node: Any) -> Iterator[Any]:
        if isinstance(node, dict):
            if {"type": "null"} in node.get("anyOf", ()):
                yield node.get("default")
            for inner in node.values():
                yield from nullable(inner)

    found = list(nullable(editor_schema()))
    assert found
    assert None not in found


def test_the_schema_knows_the_keys_of_the_stacks() -> None:
    known = set(editor_schema()["properties"]["config"]["properties"])
    assert known == {"kubernetes:context", *(f"runbook:{to_camel(key)}" for key in StackSettings.model_fields)}
    assert set(stack_config("Pulumi.prod.yaml")) <= known
