"""Harmless values of the same shape as secrets, for the release in a restore test."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

HOST = "placeholder.invalid"
"""A name that no DNS knows (RFC 2606)."""

# What names the kind of a token and not its holder: sk_live_…, whsec_…, xoxb-…, ghp_….
_PREFIX = re.compile(r"^(?:[A-Za-z]{2,10}[_-]){1,3}(?=[A-Za-z0-9+/=_-]{12,}$)")
_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


def placeholder(name: str, value: str) -> str:
    """A value that reads like `value`: not derived from it, and valid nowhere."""
    stream = _characters(name)
    return _shaped(value, stream)


def _shaped(value: str, stream: Iterator[int]) -> str:
    text = value.strip()
    if text.startswith(("{", "[")):
        try:
            return json.dumps(_each(json.loads(text), stream))
        except ValueError:
            pass
    if re.match(r"^[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        return _url(text, stream)
    if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text):
        return f"placeholder@{HOST}"
    if text.startswith("eyJ") and text.count(".") == 2:
        return ".".join([_encoded({"alg": "HS256", "typ": "JWT"}), _encoded({"sub": "placeholder"}), _word(43, stream)])
    if re.fullmatch(r"(?:[0-9a-f]{2})+|(?:[0-9A-F]{2})+", text) and len(text) >= 16:
        digits = string.hexdigits[:16] if text == text.lower() else string.digits + "ABCDEF"
        return "".join(digits[next(stream) % 16] for _ in text)
    if _is_base64(text):
        return base64.b64encode(bytes(next(stream) for _ in base64.b64decode(text))).decode()
    prefix = _PREFIX.match(text)
    kept = prefix[0] if prefix else ""
    return kept + "".join(_like(character, stream) for character in text[len(kept) :])


def _each(value: Any, stream: Iterator[int]) -> Any:
    if isinstance(value, dict):
        return {key: _each(item, stream) for key, item in value.items()}
    if isinstance(value, list):
        return [_each(item, stream) for item in value]
    return _shaped(value, stream) if isinstance(value, str) else value


def _url(text: str, stream: Iterator[int]) -> str:
    """Scheme and port stay; whose it is, and where, does not."""
    parts = urlsplit(text)
    login, _, address = parts.netloc.rpartition("@")
    port = re.search(r":(\d+)$", address)
    user, colon, _ = login.partition(":")
    who = f"{_word(len(user), stream)}{':' + _word(24, stream) if colon else ''}@" if login else ""
    path = "".join(_like(character, stream) for character in parts.path)
    return f"{parts.scheme}://{who}{HOST}{port[0] if port else ''}{path}"


def _like(character: str, stream: Iterator[int]) -> str:
    for letters in _CLASSES:
        if character in letters:
            return letters[next(stream) % len(letters)]
    return character if character in string.punctuation + string.whitespace else "x"


def _word(length: int, stream: Iterator[int]) -> str:
    return "".join(string.ascii_lowercase[next(stream) % 26] for _ in range(length))


def _encoded(claims: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def _is_base64(text: str) -> bool:
    if len(text) < 16 or len(text) % 4 or not re.search(r"[+/=]", text):
        return False
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return True


def _characters(name: str) -> Iterator[int]:
    """Bytes that follow from the secret's name alone, so that the same update makes the same objects."""
    number = 0
    while True:
        yield from hashlib.sha256(f"placeholder {name} {number}".encode()).digest()
        number += 1
