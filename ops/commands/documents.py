"""`runbook check-docs`: links that lead nowhere, and documents that no one has changed for long. Reads a checkout."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from ops.decisions.documents import Finding, Link, find_anchors, find_links, find_outdated
from ops.errors import Refused

_SECONDS, _AT_ONCE, _ATTEMPTS = 20, 8, 2
_GONE = (404, 410)
"""Answers of a page that is not there. Others (403, 429, 5xx) say nothing about the link."""
_MARK = "@"


def check_documents(directory: Path, older_than: int | None, *, external: bool) -> dict[str, Any]:
    """Every problem of the Markdown files that git tracks; `older_than` in seconds."""
    root = Path(_git(directory, "rev-parse", "--show-toplevel").strip())
    files = [directory / name for name in _git(directory, "ls-files", "-z", "--", "*.md").split("\0") if name]
    texts = {file.resolve(): file.read_text(errors="replace") for file in files if file.is_file()}
    if not texts:
        raise Refused(f"{directory} has no Markdown file that git tracks: there is nothing to check.")
    links = {file: [*find_links(text)] for file, text in texts.items()}
    findings = [one for file in texts for one in _find_broken(root, file, links[file], texts)]
    unknown: list[Finding] = []
    if external:
        broken, unknown = _ask(root, links)
        findings += broken
    if older_than is not None:
        days = timedelta(seconds=older_than).days
        findings += find_outdated(_read_changes(directory, root, texts), datetime.now(UTC), days)
    return {
        "documents": len(texts),
        "links": sum(map(len, links.values())),
        "findings": [one.to_json() for one in findings],
        "unknown": [one.to_json() for one in unknown],
        "lines": [*map(str, findings), *(f"{one} (not counted)" for one in unknown)],
    }


def _name(root: Path, file: Path) -> str:
    return str(file.relative_to(root.resolve())) if file.is_relative_to(root.resolve()) else str(file)


def _find_broken(root: Path, file: Path, links: Sequence[Link], texts: Mapping[Path, str]) -> Iterator[Finding]:
    """Links to files and headings of the checkout."""
    for link in links:
        if link.is_external or link.target.startswith("//"):
            continue
        # As GitHub and GitLab read it: a path from the root of the repository, or from the document.
        base = root.resolve() if link.path.startswith("/") else file.parent
        target = (base / link.path.lstrip("/")).resolve() if link.path else file
        if not target.exists():
            yield Finding(_name(root, file), link.line, f"leads to {link.target}: there is no such file")
        elif link.anchor and target.suffix == ".md":
            text = texts.get(target)
            if link.anchor not in find_anchors(target.read_text(errors="replace") if text is None else text):
                yield Finding(
                    _name(root, file), link.line, f"leads to {link.target}: {target.name} has no such heading"
                )


def _ask(root: Path, links: Mapping[Path, Sequence[Link]]) -> tuple[list[Finding], list[Finding]]:
    """What other servers say: broken links, and links of which nothing is known. Each address is asked for once."""
    found = [(file, one) for file, own in links.items() for one in own if one.is_external and not one.is_example]
    addresses = sorted({one.target.partition("#")[0] for _, one in found})
    with (
        httpx.Client(timeout=_SECONDS, follow_redirects=True, headers={"User-Agent": "runbook check-docs"}) as client,
        ThreadPoolExecutor(max_workers=_AT_ONCE) as pool,
    ):
        answers = dict(zip(addresses, pool.map(lambda address: _get(client, address), addresses), strict=True))
    broken: list[Finding] = []
    unknown: list[Finding] = []
    for file, one in found:
        answer = answers[one.target.partition("#")[0]]
        if isinstance(answer, int) and answer < 400:
            continue
        said = f"answers {answer}" if isinstance(answer, int) else f"cannot be reached ({answer})"
        gone = not isinstance(answer, int) or answer in _GONE
        (broken if gone else unknown).append(
            Finding(_name(root, file), one.line, f"leads to {one.target}, which {said}")
        )
    return broken, unknown


def _get(client: httpx.Client, address: str) -> int | str:
    """The status, or why there is none. Not HEAD: some servers refuse it."""
    why = ""
    for _ in range(_ATTEMPTS):
        try:
            with client.stream("GET", address) as answer:
                return answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = type(error).__name__
    return why


def _read_changes(directory: Path, root: Path, texts: Mapping[Path, str]) -> dict[str, datetime]:
    """When a commit last changed each document. A new one that is not committed is not old."""
    if _git(directory, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise Refused(
            "This clone is shallow, so that no document has an age: fetch the whole history (`git fetch --unshallow`; "
            "actions/checkout: fetch-depth: 0; GitLab: GIT_DEPTH: 0)."
        )
    names = {_name(root, file) for file in texts}
    found: dict[str, datetime] = {}
    at = datetime.now(UTC)
    printed = _git(root, "log", f"--format={_MARK}%ct", "--name-only", "-z", "--", "*.md")
    for part in printed.replace("\n", "\0").split("\0"):
        if part.startswith(_MARK) and part[1:].isdigit():
            at = datetime.fromtimestamp(int(part[1:]), UTC)
        elif part in names:
            found.setdefault(part, at)
    return found


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="surrogateescape")
    except FileNotFoundError:
        raise Refused("git is not installed: it says which documents there are. Nothing was checked.") from None
    if done.returncode:
        raise Refused(f"{folder} is no git checkout: {done.stderr.strip()}")
    return done.stdout
