"""`python -m tests --changed [BASE]`: the tests that a change can break, and why each was chosen.

A test depends on the modules that it imports, on what those import, and so on. What it starts without importing it
(the program, the command, the sandbox) is listed here. Of the command `runbook`, it depends on the subcommands that
it, or a test helper that it imports, names.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import PurePosixPath

from sandbox.paths import ROOT

FOLDERS = ("unit", "tasks", "cluster")
_COMMAND_GROUPS = {
    *(
        "backup",
        "debug",
        "incident",
        "logs",
        "maintenance",
        "metrics",
        "performance",
        "quarantine",
        "restore",
        "rotate",
    ),
    *("secrets", "security", "state", "system"),
}

STARTED = {
    "tests/cluster/*": ["__main__.py", "ops/cli/main.py", "sandbox/__main__.py", "tasks/__main__.py"],
    "tests/cluster/test_controller.py": ["ops/controller/__main__.py"],
    "tests/cluster/test_operator.py": ["ops/controller/__main__.py"],
    "tests/cluster/test_triggers.py": ["ops/controller/__main__.py"],
    "tests/cluster/test_unmeasured_application.py": ["ops/controller/__main__.py"],
    "tests/tasks/*": ["tasks/__main__.py"],
    "tests/tasks/test_pipelines.py": ["ci/drift.py", "ci/preview.py"],
    "tests/tasks/test_fresh_machine.py": ["tests/__main__.py"],
}
"""Tests → what they start as processes or in pods."""

BESIDE = {
    "sandbox/shop/*": ["sandbox/images/shop.py"],
    "sandbox/guestbook/*": ["sandbox/images/guestbook.py"],
    "tests/cluster/guestbook.yaml": ["tests/support/guestbook.py"],
    "docs/releases.md": ["tests/tasks/test_schema_level_queries.py"],
    "sandbox/toolchain/language-python/*": ["sandbox/toolchain/parts.py"],
    "images/*": ["sandbox/images/__init__.py"],
    "policy/*": ["tests/support/policy_pack.py"],
    "Pulumi*.yaml": ["__main__.py", "settings/__init__.py", "sandbox/stack.py"],
    "requirements.lock": ["*"],
    "pyproject.toml": ["*"],
    "sandbox/bootstrap": ["*"],
    "docs/alerts.md": ["monitoring/alerts/markdown.py"],
    ".github/*": ["ci/__init__.py", "settings/__init__.py"],
    ".gitlab-ci.yml": ["ci/__init__.py"],
}
"""Files that are not Python → the modules that read them; any other belongs to the modules of its folder, or of the
nearest one above that has some. `*`: everything."""


def select_paths(base: str | None) -> dict[str, list[str]]:
    """Folder of tests → its files to run, after printing which, and why."""
    changed = changed_files(base)
    found = choose(changed)
    print(f"{len(changed)} files changed; {len(found)} of {len(_tests())} test files depend on them:", file=sys.stderr)
    for why in found.values():
        print(f"    {why}", file=sys.stderr)
    return {folder: [test for test in found if fnmatch(test, f"tests/{folder}/*")] for folder in FOLDERS}


def changed_files(base: str | None) -> list[str]:
    """What differs from `base`; without one, from where this branch left main. What is not committed counts too."""
    base = base or _git("merge-base", "HEAD", "main").strip()
    listed = _git("diff", "--name-only", base) + _git("ls-files", "--others", "--exclude-standard")
    return sorted(set(listed.split("\n")) - {""})


def choose(changed: list[str]) -> dict[str, str]:
    """Test file → why: the modules from the test to the file that changed."""
    touched = {module for file in changed for module in _modules_of(file)}
    found: dict[str, str] = {}
    for test in _tests():
        if path := _find_path(test, touched):
            found[test] = " → ".join(path)
    return found


def _modules_of(file: str) -> list[str]:
    for pattern, modules in BESIDE.items():
        if fnmatch(file, pattern):
            return sorted(_files()) if modules == ["*"] else modules
    if file.endswith(".py"):
        return [file]
    if file.endswith((".md", "LICENSE", ".gitignore")):
        return []
    for folder in PurePosixPath(file).parents:
        if beside := [each for each in _files() if PurePosixPath(each).parent == folder and each.endswith(".py")]:
            return beside
    return []


def _tests() -> list[str]:
    return sorted(file for file in _files() if fnmatch(file, "tests/*/test_*.py"))


def _find_path(test: str, touched: set[str]) -> list[str] | None:
    """The shortest path from a test, over imports, to a module that changed."""
    before = _reached(test)
    here = next((module for module in before if module in touched), None)
    if here is None:
        return None
    path = [here]
    while (step := before[path[-1]]) is not None:
        path.append(step)
    return path[::-1]


@cache
def _reached(test: str) -> dict[str, str | None]:
    """Every module that a test depends on, the nearest first, and the module that leads to it."""
    before: dict[str, str | None] = {test: None}
    queue, words = deque([test]), _words(test)
    while queue:
        here = queue.popleft()
        for there in sorted(_needed(here, words if fnmatch(here, "ops/cli/*.py") else None)):
            if there not in before:
                before[there] = here
                queue.append(there)
    return before


@cache
def _needed(file: str, words: frozenset[str] | None = None) -> frozenset[str]:
    """The project's own modules that a module imports, and what a test starts. With `words`: of the module's public
    functions, which load what they need when they run, only those with such a name."""
    if words is not None and PurePosixPath(file).stem in _COMMAND_GROUPS - words:
        words = frozenset()  # the test does not name the group
    needed = {
        module
        for function, modules in _imports(file)
        if words is None or function is None or not words.isdisjoint(function.split("_"))
        for module in modules
    }
    if PurePosixPath(file).name.startswith("test_"):
        conftests = {f"{folder}/conftest.py" for folder in PurePosixPath(file).parents}
        needed |= {each for each in conftests & _files() if _uses_fixture(file, each)}
        needed |= {each for pattern, started in STARTED.items() if fnmatch(file, pattern) for each in started}
    return frozenset(needed & _files() - {file})


def _uses_fixture(test: str, conftest: str) -> bool:
    """Whether a test uses a fixture of this file; a file without fixtures counts for all tests."""
    fixtures = {node.name for node in _tree(conftest).body if isinstance(node, ast.FunctionDef)}
    wanted = {node.arg for node in ast.walk(_tree(test)) if isinstance(node, ast.arg)}
    return not fixtures or not wanted.isdisjoint(fixtures)


@cache
def _words(test: str) -> frozenset[str]:
    """Every word in the texts of a test and of the helpers that it imports."""
    files, queue = {test}, deque([test])
    while queue:
        more = {each for each in _needed(queue.popleft()) if each.startswith("tests/")} - files
        files |= more
        queue.extend(more)
    return frozenset().union(*(_words_of(file) for file in files))


@cache
def _words_of(file: str) -> frozenset[str]:
    texts = [node.value for node in ast.walk(_tree(file)) if isinstance(node, ast.Constant)]
    return frozenset(word for text in texts if isinstance(text, str) for word in re.findall(r"\w+", text))


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


@cache
def _imports(file: str) -> list[tuple[str | None, frozenset[str]]]:
    """Files that each statement of a module may import, and the public function that it defines, if it does."""
    return [
        (
            node.name if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") else None,
            frozenset(module for name in _names(node) for module in _find_candidates(name)),
        )
        for node in _tree(file).body
    ]


def _names(tree: ast.AST) -> Iterator[str]:
    """Names of modules, and of what is imported out of them; a text that reads like a module's name counts as one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"\w+(\.\w+)+", node.value):
            yield node.value
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _find_candidates(name: str) -> Iterator[str]:
    """Files that an import of `a.b.c` runs: the packages above, and b.py or c.py, whichever there is."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = "/".join(parts[:length])
        yield from (f"{path}/__init__.py", f"{path}.py")


@cache
def _files() -> frozenset[str]:
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "*.py").split()
    return frozenset(file for file in listed if (ROOT / file).exists())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
