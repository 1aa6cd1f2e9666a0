"""K6: a namespace that exists before the stack is adopted on request, and refused otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from program.api_server import Unknown
from program.existing_namespace import NamespaceTaken, require_free
from tests.support.program import RELEASE, Program, run_program, stack_config
from tests.unit.test_settings import edited

FOREIGN = {"metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}}}
OURS = {"metadata": {"name": "shop", "labels": {"app.kubernetes.io/part-of": "runbook"}}}
LEAVING = {"metadata": {"name": "shop", "deletionTimestamp": "2026-11-29T09:00:00Z"}}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for level in ("info", "warn"):
        monkeypatch.setattr(pulumi.log, level, lambda text, level=level: lines.append(f"{level}: {text}"))
    return lines


def judge(found: Any, *, adopt: bool) -> None:
    asyncio.run(require_free("shop", adopt=adopt, api=answering(lambda _: found)))


def answering(get: Callable[[str], Any]) -> Any:
    """In place of the API server."""
    return SimpleNamespace(get=get)


@pytest.mark.parametrize(
    ("found", "remedy"), [(FOREIGN, "Choose another runbook:namespace"), (OURS, "another stack"), (LEAVING, "deleted")]
)
def test_it_is_refused_with_the_remedy(found: Any, remedy: str) -> None:
    with pytest.raises(NamespaceTaken) as refused:
        judge(found, adopt=False)
    assert remedy in str(refused.value)


def test_one_that_is_being_deleted_is_not_adopted() -> None:
    with pytest.raises(NamespaceTaken):
        judge(LEAVING, adopt=True)


def test_adopting_says_so(said: list[str]) -> None:
    judge(FOREIGN, adopt=True)
    assert [line for line in said if line.startswith("info: namespace shop exists and is adopted")]


def test_a_new_one_needs_no_word(said: list[str]) -> None:
    for adopt in (True, False):
        judge(None, adopt=adopt)
    assert said == []


def test_a_cluster_that_does_not_say_is_a_warning(said: list[str]) -> None:
    def unknown(path: str) -> None:
        raise Unknown(f"the API server refuses GET {path} (403)")

    asyncio.run(require_free("shop", adopt=False, api=answering(unknown)))
    assert said == [
        "warn: whether namespace shop exists already is not known: the API server refuses GET "
        "/api/v1/namespaces/shop (403)"
    ]


def namespace(program: Program) -> Any:
    [found] = program.all("Namespace")
    return found


def test_only_an_adopted_one_is_left_when_the_stack_is_destroyed() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    own, adopted = run_program(config), run_program(edited(config, "guards.adoptNamespace", True))
    assert (namespace(own).retained, namespace(adopted).retained) == (False, True)
    for program in (own, adopted):
        hook = program.hooks["existing-namespace"]
        assert hook.opts
        assert hook.opts.on_dry_run, "a preview says it"
