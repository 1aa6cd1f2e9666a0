"""Documents: every link leads somewhere, every command and alert that they name exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sandbox.paths import ROOT
from tests.support.command_line import unknown_words

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"`runbook ([^`]+)`")
_NOT_WORDS = re.compile(r"[…\[\]|'<>]|^[A-Z]")


def documents() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines()]


def anchors(page: Path) -> set[str]:
    """Anchors of its headings, as GitHub and GitLab make them."""
    found: set[str] = set()
    for line in _without_code(page.read_text()).splitlines():
        if heading := re.match(r"#+ (.*)", line):
            text = re.sub(r"[^\w\- ]", "", heading[1].strip().lower()).replace(" ", "-")
            found.add(text)
    return found


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in _LINK.findall(_without_code(page.read_text())):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} leads to {link}: there is no such file"
        if anchor:
            assert anchor in anchors(target), f"{page.name} leads to {link}: {target.name} has no such heading"


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_named_exists(page: Path) -> None:
    for line in _COMMAND.findall(page.read_text()):
        for command in _spelled_out(line):
            assert unknown_words(command) == [], f"{page.name} names `runbook {command}`, which does not exist"


def _spelled_out(line: str) -> list[str]:
    """The commands of a line such as `security lockdown|unlock`, without their arguments."""
    heads = [""]
    for word in line.replace("\\|", "|").split():
        if _NOT_WORDS.search(word.replace("|", "")):
            break
        heads = [f"{head} {one}".strip() for head in heads for one in word.split("|")]
    return heads
