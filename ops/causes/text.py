"""Text that pods and controllers wrote, made safe to show: secrets masked, control sequences removed, bounded.

Secrets are masked before lines are cut, so that no part of one is left.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from settings.connection_url import passwords
from settings.rotation import NAMES_IN_SECRETS

MASK = "[secret]"
LINES = 20
WIDTH = 500
SHORTEST = 6
"""Shorter values are parts of ordinary words."""

# CSI, OSC (ended by BEL or ST) and the other escape sequences of terminals.
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|\x9b[0-?]*[ -/]*[@-~]"
)
# A tab and a line's end stay; bidirectional marks could turn what is shown around.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# What may be long has a beginning that is rare: a line of megabytes takes no longer for it.
_IN_URL = re.compile(r"(://[^\s:/@\"']{0,200}):[^\s/\"']{1,2000}@")
_IN_SETTINGS = re.compile(r"(?:password|passwd|pwd|secret|token|key)\s*=\s*['\"]?([^\s;&,'\"]+)", re.IGNORECASE)
"""In a value such as "host=db password=…" or "AccountName=…;AccountKey=…"."""
_NAMES_IN_HTML = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_IN_HEADER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


class Masker:
    """Knows the values that must not be shown, and makes text without them."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._patterns: dict[str, re.Pattern[str]] = {}
        """Of what has characters that are escaped, in any of many ways."""
        self.blind = False
        """The values could not be read: then what containers wrote is not shown at all."""

    def learn(self, secrets: Iterable[Mapping[str, Any]]) -> None:
        """Values of Kubernetes Secrets, in every form in which they may be printed."""
        for secret in secrets:
            for key, encoded in (secret.get("data") or {}).items():
                if key in NAMES_IN_SECRETS:
                    continue
                try:
                    value = base64.b64decode(encoded)
                except (binascii.Error, ValueError):
                    continue
                # A new set: another thread may be iterating over the old one.
                self._forms = self._forms | {form for form in _forms(value) if len(form) >= SHORTEST}
                new = {text: _any_escapes(text) for text in _texts(value) - self._patterns.keys() if _is_escaped(text)}
                self._patterns = {**self._patterns, **new}

    @property
    def longest(self) -> int:
        return max(map(len, self._forms), default=0)

    def text(self, raw: str | bytes, *, cut_start: bool = False, cut_end: bool = False) -> str:
        """Text that is safe to show. `cut_start`, `cut_end`: it was cut there before, maybe within a secret."""
        text = _plain(raw.decode(errors="replace") if isinstance(raw, bytes) else raw)
        spans = [span for form in self._forms for span in _found(text, form)]
        spans += [found.span() for pattern in self._patterns.values() for found in pattern.finditer(text)]
        if cut_start:
            spans += [(0, self._overlap(text, start=True))]
        if cut_end:
            spans += [(len(text) - self._overlap(text, start=False), len(text))]
        text = _without(text, spans)
        text = _KEY.sub(MASK, text)
        return _IN_HEADER.sub(rf"\1 {MASK}", _IN_URL.sub(rf"\1:{MASK}@", text))

    def line(self, raw: str, *, cut_end: bool = False) -> str:
        """The same on one line, of bounded length."""
        return shortened(" ".join(self.text(raw, cut_end=cut_end).split()))

    def lines(self, raw: str | bytes, *, cut_start: bool = False, cut_end: bool = False) -> list[str]:
        """The last lines, each of bounded length."""
        text = self.text(raw, cut_start=cut_start, cut_end=cut_end)
        return [shortened(line.rstrip()) for line in text.split("\n") if line.strip()][-LINES:]

    def _overlap(self, text: str, *, start: bool) -> int:
        """How many characters at that end of the text may be the rest of a secret."""
        longest = 0
        for form in self._forms:
            for size in range(min(len(form) - 1, len(text)), max(longest, 3), -1):
                if text.startswith(form[-size:]) if start else text.endswith(form[:size]):
                    longest = size
                    break
        return longest


def _plain(text: str) -> str:
    """Without what moves a terminal's cursor: a secret with such characters in between is whole again."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", _ESCAPE.sub("", lines)).replace("\t", "    ")


def shortened(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]} … ({len(line) - WIDTH} characters more)"


def _forms(value: bytes) -> Iterator[str]:
    yield from _encoded(value)
    for each in _texts(value):
        yield from (_plain(each), quote(each, safe=""), json.dumps(each)[1:-1])
        yield from _encoded(each.encode())


def _texts(value: bytes) -> set[str]:
    """What of a value is a secret."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return set()
    texts = {text, text.strip(), *_parts(text)}
    if "\n" in text.strip():
        # A key or certificate is printed line by line.
        texts |= {line.strip() for line in text.splitlines()}
    return texts


def _is_escaped(text: str) -> bool:
    return len(text) >= SHORTEST and not (text.isascii() and text.isalnum())


def _any_escapes(text: str) -> re.Pattern[str]:
    """The text as JSON, URLs, HTML, shells and languages write it: escaped wholly, in part, or more than once."""
    return re.compile("".join(map(_any_escape, text)))


def _any_escape(character: str) -> str:
    if character.isascii() and character.isalnum():
        return character
    escaped = "".join(f"%{byte:02x}" for byte in character.encode(errors="replace"))
    units = character.encode("utf-16-be", errors="replace").hex()
    in_json = "".join(rf"\\{{1,8}}u{units[at : at + 4]}" for at in range(0, len(units), 4))
    forms = [
        rf"\\{{0,8}}{re.escape(character)}",
        f"(?i:{escaped}|{in_json})",
        f"(?i:&#0*{ord(character)};|&#x0*{ord(character):x};)",
    ]
    if name := _NAMES_IN_HTML.get(character):
        forms.append(f"&{name};")
    if character.isspace():
        forms += [r"\s+", r"\+", r"\\{1,8}[nrt]"]
    elif _CONTROL.match(character):
        forms.append("")
    return f"(?:{'|'.join(forms)})"


def _encoded(value: bytes) -> Iterator[str]:
    for encoded in (base64.b64encode(value), base64.urlsafe_b64encode(value)):
        yield encoded.decode().rstrip("=")


def _parts(text: str) -> Iterator[str]:
    """Secrets within a value: the password of a URL, what a JSON document is made of."""
    yield from passwords(text)
    yield from _IN_SETTINGS.findall(text)
    if text.lstrip().startswith(("{", "[")):
        try:
            yield from _leaves(json.loads(text))
        except ValueError:
            return


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _found(text: str, form: str) -> Iterator[tuple[int, int]]:
    at = text.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = text.find(form, at + 1)


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """With one mask in place of each run of overlapping spans."""
    parts: list[str] = []
    end = 0
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if start >= end:
            parts += [text[end:start], MASK]
        end = max(end, stop)
    return "".join([*parts, text[end:]])
