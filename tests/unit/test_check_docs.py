"""`runbook check-docs`: links that lead nowhere, and documents that are old."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli.main import app
from ops.commands.documents import check_documents
from ops.decisions import documents
from ops.decisions.documents import find_anchors, find_links
from ops.errors import Refused
from sandbox.paths import ROOT
from tests.support import http_servers

OLD = "2020-01-02T03:04:05+00:00"


def git(folder: Path, *words: str, at: str | None = None) -> str:
    dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at} if at else {}
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **dates}, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "docs").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


def commit(folder: Path, files: dict[str, str], at: str | None = None) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "x", at=at)


def found(folder: Path, *, older_than: int | None = None, external: bool = False) -> list[str]:
    done = check_documents(folder, older_than, external=external)
    assert len(done["lines"]) == len(done["findings"]) + len(done["unknown"])
    return done["lines"]


TEXT = """# Shop & more `code`
[a](docs/b.md) [b](docs/b.md#a-heading "title") ![p](<a b.png>) [root](/docs/b.md) [self](#shop--more-code)
[query](docs/b.md?plain=1#a-heading-1) [mail](mailto:a@example.com) [tel](tel:1) [r]

[r]: docs/b.md#own
`[code](nowhere.md)` and ``[more](`nowhere.md)``

```md
[fenced](nowhere.md)
```
"""
OTHER = '# A heading\n\n~~~\n```\n# not one\n~~~\n\n## A *heading*\n<a id="own"></a>\n'


def test_links_that_lead_somewhere_are_no_problem(checkout: Path) -> None:
    commit(checkout, {"README.md": TEXT, "docs/b.md": OTHER, "a b.png": ""})
    done = check_documents(checkout, None, external=False)
    assert done["findings"] == []
    assert (done["documents"], done["links"]) == (2, 7)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("[a](c.md)", "README.md:3: leads to c.md: there is no such file"),
        ("[a](/c.md)", "README.md:3: leads to /c.md: there is no such file"),
        ("[a](docs/b.md#not-one)", "README.md:3: leads to docs/b.md#not-one: b.md has no such heading"),
        ("[a](#nothing)", "README.md:3: leads to #nothing: README.md has no such heading"),
        ("![a](a.png 'x')", "README.md:3: leads to a.png: there is no such file"),
        ("[a]: c.md", "README.md:3: leads to c.md: there is no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_named_with_its_line(checkout: Path, written: str, says: str) -> None:
    commit(checkout, {"README.md": f"# Shop\n\n{written}\n", "docs/b.md": OTHER})
    assert found(checkout) == [says]


def test_only_documents_of_git_are_read(checkout: Path) -> None:
    commit(checkout, {"README.md": "# Shop\n", ".gitignore": "node_modules\n"})
    (checkout / "node_modules").mkdir()
    (checkout / "node_modules" / "a.md").write_text("[a](nowhere.md)\n")
    assert found(checkout) == []


def test_documents_that_no_commit_changed_for_long_are_named(checkout: Path) -> None:
    commit(checkout, {"README.md": "# Shop\n", "docs/old page.md": "# Old\n", "docs/moved.md": "# M\n"}, at=OLD)
    commit(checkout, {"README.md": "# New\n", "program.py": ""})
    year = 365 * 86_400
    both = found(checkout, older_than=year)
    assert [line.partition(": ")[0] for line in both] == ["docs/moved.md", "docs/old page.md"]
    assert "on 2020-01-02: review it" in both[0]
    assert found(checkout, older_than=100 * year) == []
    assert found(checkout / "docs", older_than=year) == both


def test_a_shallow_clone_has_no_ages(checkout: Path, tmp_path: Path) -> None:
    commit(checkout, {"README.md": "# Shop\n"}, at=OLD)
    commit(checkout, {"b.py": ""})
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{checkout}", "shallow")
    assert found(tmp_path / "shallow") == []
    with pytest.raises(Refused, match="fetch-depth: 0"):
        found(tmp_path / "shallow", older_than=86_400)


def test_what_cannot_be_checked_is_refused(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is no git checkout"):
        found(tmp_path)
    with pytest.raises(Refused, match="has no Markdown file"):
        found(checkout)


class Pages(http_servers.Handler):
    def do_GET(self) -> None:
        status = int(self.path.rpartition("/")[2].partition("?")[0])
        self.answer(status, headers={"Location": "/200"} if status == 302 else {})


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(documents, "EXAMPLES", ("example.com",))
    with http_servers.serve(Pages) as port:
        yield f"http://127.0.0.1:{port}"


def test_pages_of_others_are_asked_only_on_request_and_only_gone_ones_count(checkout: Path, pages: str) -> None:
    codes = (200, 302, 404, 410, 403, 503)
    lines = [*(f"[a]({pages}/{code}#x)" for code in codes), "[e](https://shop.example.com/404)"]
    commit(checkout, {"README.md": "\n".join([*lines, "[g](http://127.0.0.1:9/404)"])})
    assert found(checkout) == []
    done = check_documents(checkout, None, external=True)
    assert [one["line"] for one in done["findings"]] == [3, 4, 8]
    assert [one["line"] for one in done["unknown"]] == [5, 6]
    assert "answers 404" in done["lines"][0]
    assert "cannot be reached (ConnectError)" in done["lines"][2]
    assert done["lines"][3].endswith("answers 403 (not counted)")


def test_the_command_ends_with_1_when_something_is_wrong(checkout: Path) -> None:
    commit(checkout, {"README.md": "[a](c.md)\n"})
    done = CliRunner().invoke(app, ["check-docs", str(checkout), "--json"])
    assert done.exit_code == 1
    assert json.loads(done.output)["findings"] == [
        {"file": "README.md", "line": 1, "why": "leads to c.md: there is no such file"}
    ]
    commit(checkout, {"c.md": "# C\n"})
    done = CliRunner().invoke(app, ["check-docs", str(checkout), "--older-than", "1d"])
    assert (done.exit_code, done.output.strip()) == (0, "2 documents, 1 links: 0 problems")


def test_the_documents_of_this_project_have_no_problem() -> None:
    assert found(ROOT) == []


def test_links_and_anchors() -> None:
    assert [link.target for link in find_links("[a](b_(c).md) [d](<e f.md>) ftp [x](ftp://a/b)")] == [
        "b_(c).md",
        "e f.md",
    ]
    assert find_anchors("# A\n## A\n### `runbook` & Co. #\n") == {"a", "a-1", "runbook--co"}
