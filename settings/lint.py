"""Plaintext secrets in stack files, wherever they hide: values, comments, lists, names of things."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SHAPES = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an age identity": r"AGE-SECRET-KEY-1[0-9A-Z]{20,}",
    "a Stripe key": r"\b[rs]k_(live|test)_[0-9A-Za-z]{16,}",
    "a webhook secret": r"\bwhsec_[0-9A-Za-z+/=]{16,}",
    "a Slack token": r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}",
    "a Slack webhook": r"https://hooks\.slack\.com/(services|workflows)/\S{20,}",
    "an AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of a code host": r"\b(gh[oprsu]_[0-9A-Za-z]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,})",
    "a signed token (JWT)": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/:@$<{]*:[^\s/@$<{*…]+@",
    "a value for a secret name": (
        r"(?i)^\s*(?:- )?[\w.-]*(?:password|passwd|secret_?key|api_?key|private_?key|auth_?token|access_?token)[\w.-]*"
        r"""\s*:\s*["']?(?!secure\b|["'{\[<$*|>&]|(?:true|false|null|\d+)\s*$)[^\s"'#]{6,}"""
    ),
}
_COMPILED = {what: re.compile(shape) for what, shape in _SHAPES.items()}
# What the engine encrypted looks random, as it should.
_ENCRYPTED = re.compile(r"^\s*(secure|encryptionsalt|encryptedkey)\s*:|\{\s*secure\s*:")


@dataclass(frozen=True)
class Found:
    """A line that shows a secret. What it is, never its value."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: looks like {self.what}, and this file is not encrypted: set it with `pulumi "
            "config set --secret secrets:NAME`, rotate it (every reader of the file has it), and remove it from git's "
            "history"
        )


def find_plain_secrets(path: Path) -> list[Found]:
    """Every line of a stack file that shows a secret."""
    return list(_found(path.name, path.read_text()))


def _found(name: str, text: str) -> Iterator[Found]:
    for number, line in enumerate(text.splitlines(), start=1):
        if _ENCRYPTED.search(line):
            continue
        for what, shape in _COMPILED.items():
            if shape.search(line):
                yield Found(name, number, what)
                break
