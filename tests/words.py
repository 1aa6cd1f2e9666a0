"""`python -m tests.words [FILES]`: words that do not belong in code, messages and docs, and what to write instead.

Checks the files that Git tracks; exits 1 after printing each place.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch

from sandbox.paths import ROOT

INSTEAD = {
    "told|tells?|telling": "say, report, notify, receive, be passed; distinguish",
    "nobody": "no client, no pod, no one else: name what is meant",
    "(some|any)body": "an operator, a client, another process: name it",
    "whoever": "clients that, pods that",
    "whom": "the account, client or role",
    "hears?|heard": "receive, notice",
    "speaks?": "use the protocol, print, mean",
    "at work": "running",
    "in vain": "failed, found none",
    "ways? (in|out)": "ingress, egress, route",
    "looks? after|looked after": "manage, watch",
    "the house": "the layout, the components",
    "as room": "a module's own name",
    "turns? around": "hairpin NAT, come back",
    "shuts? out": "block, refuse",
}
"""Pattern → what to write. A space matches an underscore too, so that names count."""

CHECKED = ("*.py", "*.md", "*.yaml", "*.toml", "Makefile")
EXCEPT = ("sandbox/shop/*", "tests/words.py", "tests/unit/test_words.py")

_PATTERNS = {
    re.compile(rf"(?<![a-z])({words.replace(' ', '[ _]')})(?![a-z])", re.IGNORECASE): remedy
    for words, remedy in INSTEAD.items()
}


def find_words(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, word, remedy."""
    for number, line in enumerate(text.split("\n"), start=1):
        for pattern, remedy in _PATTERNS.items():
            yield from ((number, found[0], remedy) for found in pattern.finditer(line))


def select_files(names: Iterable[str]) -> list[str]:
    def matches(name: str, patterns: Iterable[str]) -> bool:
        return any(fnmatch(name, pattern) for pattern in patterns)

    return [name for name in names if matches(name, CHECKED) and not matches(name, EXCEPT)]


def main(names: list[str]) -> int:
    if not names:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.split("\0") if (ROOT / name).is_file()]
    found = [
        f"{name}:{number}: “{word}”: write {remedy}"
        for name in select_files(names)
        for number, word, remedy in find_words((ROOT / name).read_text())
    ]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
