"""K6: a namespace that exists before the stack is adopted on request, and refused otherwise."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from program.existing_namespace import NamespaceTaken, Unknown, reader, require_free
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
    asyncio.run(require_free("shop", adopt=adopt, read=lambda: found))


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
    def unknown() -> None:
        raise Unknown("the API server refuses to show it (403)")

    asyncio.run(require_free("shop", adopt=False, read=unknown))
    assert said == ["warn: whether namespace shop exists already is not known: the API server refuses to show it (403)"]


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


@pytest.fixture
def api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Answers for each namespace with the status that the dictionary has for it."""
    statuses: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/api/v1/namespaces/")
            body = json.dumps({"metadata": {"name": name}}).encode()
            self.send_response(statuses[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "current-context": "elsewhere",
                "clusters": [
                    {"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}},
                    {"name": "elsewhere", "cluster": {"server": "http://127.0.0.1:9"}},
                ],
                "contexts": [
                    {"name": name, "context": {"cluster": name, "user": "me"}} for name in ("here", "elsewhere")
                ],
                "users": [{"name": "me", "user": {}}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    yield statuses
    server.shutdown()
    server.server_close()


def test_the_cluster_of_the_context_is_asked(api_server: dict[str, int]) -> None:
    api_server |= {"there": 200, "free": 404, "hidden": 403}
    found = reader("there", "here")()
    assert found
    assert found["metadata"]["name"] == "there"
    assert reader("free", "here")() is None
    with pytest.raises(Unknown, match="403"):
        reader("hidden", "here")()
    for context in (None, "no-such-context"):
        with pytest.raises(Unknown):
            reader("there", context)()
