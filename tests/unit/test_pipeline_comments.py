"""The comments and issues of the pipelines: their text, and what is sent to GitHub and GitLab (over real HTTP)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ci.comment import marker, render_drift, render_preview
from ci.engine_run import Change, EngineRun
from ci.forge import Forge, ForgeError, find_forge
from tests.support import http_servers

DEPLOYMENT = "kubernetes:apps/v1:Deployment"
NOTHING = EngineRun((), 76, "Resources:\n    76 unchanged", "")


def changes(*verbs: str) -> EngineRun:
    made = tuple(Change(verb, DEPLOYMENT, f"backend-{verb}", ("spec.replicas",)) for verb in verbs)
    return EngineRun(made, 70, "the whole diff", "")


def render(run: EngineRun, limit: int = 60_000) -> str:
    return render_preview("prod", run, limit=limit, details="https://forge.example.com/run/1")


def test_the_comment_counts_what_changes_and_lists_what_destroys_first() -> None:
    text = render(changes("delete", "replace", "update", "create"))
    assert text.startswith("<!-- runbook: preview of prod -->\n")
    assert "`prod`: 1 to delete, 1 to replace, 1 to update, 1 to create (70 unchanged)" in text
    assert f"| **replace** | `backend-replace` | `{DEPLOYMENT}` | `spec.replicas` |" in text
    assert "<details>" in text
    assert "the whole diff" in text


def test_no_change_is_one_line() -> None:
    assert "`prod`: no changes (76 resources)" in render(NOTHING)
    assert "|" not in render(NOTHING).split("<details>")[0]


def test_a_failure_shows_its_error_first() -> None:
    text = render(EngineRun((), 3, "Previewing update", "the image is not by digest"))
    assert text.index("**failed**") < text.index("the image is not by digest") < text.index("<details>")


@pytest.mark.parametrize("printed", ["é" * 70_000, "~~~~~~\n" * 10_000, "x\n" * 300_000])
def test_a_long_output_is_cut_and_linked(printed: str) -> None:
    text = render(EngineRun(changes("update").changes, 1, printed, ""))
    assert len(text) <= 60_000
    assert "cut here: the whole output is in the run, https://forge.example.com/run/1" in text
    assert text.endswith("</details>")


def test_thousands_of_changes_and_a_long_error_fit_too() -> None:
    many = tuple(Change("create", DEPLOYMENT, f"service-{index}" * 20, ("x" * 300,)) for index in range(5_000))
    text = render(EngineRun(many, 0, "y" * 90_000, "z" * 90_000))
    assert len(text) <= 60_000
    assert "and 4950 more" in text


def test_output_cannot_end_its_own_block() -> None:
    text = render(EngineRun((), 1, "~~~~\n<img src=x>\n~~~~", ""))
    assert "\n~~~~~\n~~~~\n<img src=x>\n~~~~\n~~~~~\n" in text


def test_the_drift_issue_has_both_comparisons() -> None:
    text = render_drift("prod", changes("update"), NOTHING, limit=60_000, details="run")
    assert text.startswith(marker("drift of prod"))
    assert "The cluster against the stack's state: 1 to update" in text
    assert "The stack against the program: no changes" in text


class Server(ThreadingHTTPServer):
    """Keeps comments and issues as a forge does, one item a page. `refuse`: answers 403."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.items: dict[str, list[dict[str, Any]]] = {}
        self.refuse = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http_servers.Handler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do(self) -> None:
        sent = json.loads(self.read_body() or "{}")
        path, _, query = self.path.partition("?")
        if self.server.refuse:
            return self.answer_json(403, {"message": "Resource not accessible by integration"})
        if self.command == "GET":
            page = int(dict(part.split("=") for part in query.split("&")).get("page", 1))
            found = [one for one in self.server.items.get(path, []) if one.get("state", "open") == "open"]
            more = {"Link": f'<{self.server.url}{path}?page={page + 1}>; rel="next"'} if page < len(found) else {}
            return self.answer_json(200, found[page - 1 : page], more)
        if self.command == "POST":
            items = self.server.items.setdefault(path, [])
            number = 1 + sum(map(len, self.server.items.values()))
            items.append({**sent, "id": number, "number": number, "iid": number})
            return self.answer_json(201, items[-1])
        number = int(path.rsplit("/", 1)[1])
        item = next(one for items in self.server.items.values() for one in items if one["id"] == number)
        state = {"state": "closed"} if sent.pop("state_event", None) == "close" else {}
        item.update({**sent, **state})
        return self.answer_json(200, item)

    do_GET = do_POST = do_PATCH = do_PUT = do


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    with http_servers.closing_server(made):
        yield made


@pytest.fixture(params=["GitHub", "GitLab"])
def forge_of(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Any:
    """Pull request number → the forge as its pipeline sees it."""

    def make(number: int) -> Forge:
        event = tmp_path / f"event-{number}.json"
        event.write_text(json.dumps({"number": number}))
        github = {
            "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "acme/shop", "GITHUB_API_URL": server.url,
            "GITHUB_EVENT_PATH": str(event), "GH_TOKEN": "t", "GITHUB_SERVER_URL": "https://x", "GITHUB_RUN_ID": "1",
        }  # fmt: skip
        gitlab = {
            "GITLAB_CI": "true", "CI_PROJECT_ID": "7", "CI_API_V4_URL": server.url, "GITLAB_TOKEN": "t",
            "CI_MERGE_REQUEST_IID": str(number), "CI_JOB_URL": "https://x/1",
        }  # fmt: skip
        forge = find_forge(github if request.param == "GitHub" else gitlab)
        assert forge is not None
        return forge

    return make


def bodies(server: Server) -> list[str]:
    return [str(one.get("body") or one.get("description")) for items in server.items.values() for one in items]


def test_each_stack_and_pull_request_has_one_comment(forge_of: Any, server: Server) -> None:
    for text in ("first", "second"):
        for number in (1, 2):
            for stack in ("staging", "prod"):
                first_line = marker(f"preview of {stack}")
                forge_of(number).put_comment(first_line, f"{first_line}\n{text} {number}")
    assert sorted(bodies(server)) == sorted(
        f"{marker(f'preview of {stack}')}\nsecond {number}" for stack in ("staging", "prod") for number in (1, 2)
    )


def test_drift_opens_one_issue_and_closes_it(forge_of: Any, server: Server) -> None:
    forge: Forge = forge_of(1)
    first_line = marker("drift of prod")
    forge.close_issue(first_line, "agrees")
    assert bodies(server) == []
    for text in ("one field", "two fields"):
        forge.put_issue(first_line, "Drift of prod", f"{first_line}\n{text}")
    assert bodies(server) == [f"{first_line}\ntwo fields"]
    forge.close_issue(first_line, "agrees")
    assert sorted(bodies(server)) == sorted([f"{first_line}\ntwo fields", "agrees"])
    forge.put_issue(first_line, "Drift of prod", f"{first_line}\nagain")
    assert f"{first_line}\nagain" in bodies(server)
    assert f"{first_line}\ntwo fields" in bodies(server)


def test_a_refusal_names_the_permission(forge_of: Any, server: Server) -> None:
    server.refuse = True
    with pytest.raises(ForgeError, match=r"refused .*403.*(pull-requests: write|scope `api`)"):
        forge_of(1).put_comment("x", "x")


def test_a_persons_machine_is_no_forge() -> None:
    assert find_forge({}) is None
