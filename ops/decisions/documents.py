"""Links, headings and age of Markdown documents (HerbisVeritas "Monthly Tasks": `docs:link-check` and the next)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote, urlsplit

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
_INLINE = re.compile(r"\]\(\s*(?:<([^>]+)>|([^\s()]+(?:\([^\s()]*\)[^\s()]*)*))(?:\s+[\"'(][^\n]*?)?\s*\)")
_DEFINED = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)>?")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_OWN_ANCHOR = re.compile(r"""<[a-z]+[^>]*?\b(?:id|name)=["']([^"']+)["']""", re.IGNORECASE)
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*_]{1,3}(?=\S)(.+?)(?<=\S)[*_]{1,3}")
EXAMPLES = ("example.com", "example.org", "example.net", "test", "invalid", "localhost", "127.0.0.1")
"""Hosts of links that are examples (RFC 2606) or of the reader's own machine."""


@dataclass(frozen=True)
class Link:
    """A link, and where it is written."""

    line: int
    target: str

    @property
    def is_external(self) -> bool:
        return urlsplit(self.target).scheme in ("http", "https")

    @property
    def is_example(self) -> bool:
        host = urlsplit(self.target).hostname or ""
        return any(host == name or host.endswith(f".{name}") for name in EXAMPLES)

    @property
    def path(self) -> str:
        """Without its anchor and its query; empty for a link inside the document."""
        return unquote(self.target.partition("#")[0].partition("?")[0])

    @property
    def anchor(self) -> str:
        return unquote(self.target.partition("#")[2])


@dataclass(frozen=True)
class Finding:
    """What is wrong with a document."""

    file: str
    line: int | None
    why: str

    def to_json(self) -> dict[str, object]:
        return dict(vars(self))

    def __str__(self) -> str:
        return f"{self.file}{f':{self.line}' if self.line else ''}: {self.why}"


def find_links(text: str) -> Iterator[Link]:
    """Links and pictures of a document, without those in code."""
    for number, line in _prose(text):
        shown = _CODE.sub("", line)
        targets = [one[1] or one[2] for one in _INLINE.finditer(shown)]
        targets += [one[1] for one in _DEFINED.finditer(shown)]
        for target in targets:
            scheme = urlsplit(target).scheme
            if scheme in ("", "http", "https"):
                yield Link(number, target)


def find_anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub and GitLab make them, and those that are written as HTML."""
    found: set[str] = set()
    counts: dict[str, int] = {}
    for _, line in _prose(text):
        found |= {one[1] for one in _OWN_ANCHOR.finditer(line)}
        if heading := _HEADING.match(line):
            plain = _MARKUP.sub(lambda one: one[1] or one[2] or "", heading[1]).replace("`", "")
            name = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
            again = counts.get(name, 0)
            counts[name] = again + 1
            found.add(f"{name}-{again}" if again else name)
    return found


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines outside fenced code, with their numbers."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            yield number, line


def find_outdated(changed: Mapping[str, datetime], now: datetime, days: int) -> Iterator[Finding]:
    """Documents that no commit has changed for longer; the oldest first."""
    for file, at in sorted(changed.items(), key=lambda one: one[1]):
        if (age := (now - at).days) > days:
            yield Finding(
                file, None, f"was last changed {age} days ago, on {at:%Y-%m-%d}: review it, and commit what is new"
            )
