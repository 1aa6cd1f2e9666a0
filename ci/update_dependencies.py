"""Update this project's dependencies without breaking changes, and propose that with the report of its checks.

    python -m ci.update_dependencies update DIRECTORY    # lock files, checks; writes a patch and a report
    python -m ci.update_dependencies propose DIRECTORY   # a branch and a pull request from them

Two steps, so that no credential is near the new versions: the first one runs them in the checks, the second one runs
none of them. `propose` ends with 1 when the checks failed; the pull request is open all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ci.forge import ForgeError, find_forge

BRANCH = "runbook/dependencies"
CHECKS = "make check"
_TITLE = "Update dependencies within their major versions"
_WHO = "dependencies"
_LOCK = "requirements.lock"
_PATCH, _REPORT, _LIMITS = "update.patch", "update.json", "limits.txt"
_ROWS, _TAIL = 200, 60
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==((?:\d+!)?)(\d+)(?:\.(\d+))?([^\s;\\]*)")
_NPM = ("npm", "update", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund")


class UpdateError(Exception):
    """A program failed, or a patch changes what it must not."""


def is_lock_file(path: str) -> bool:
    """What an update may change: versions and their hashes, no program and no pipeline."""
    name = path.rpartition("/")[2]
    return name in ("package-lock.json", "requirements.txt") or path == _LOCK


def limit_majors(lock: str) -> str:
    """Constraints that keep each package below its next major version; below 1.0, the minor one breaks."""
    found = filter(None, map(_PINNED.match, lock.splitlines()))
    return "".join(f"{one[1]}<{one[2]}{_next_breaking(one[3], one[4])}\n" for one in found)


def _next_breaking(major: str, minor: str | None) -> str:
    return f"0.{int(minor or 0) + 1}" if major == "0" else str(int(major) + 1)


def read_versions(path: str, text: str) -> dict[str, str]:
    """Package → its version, from a lock file; several versions of one are joined."""
    if path.endswith(".json"):
        packages: dict[str, Any] = json.loads(text).get("packages") or {}
        pairs = [(key.rpartition("node_modules/")[2], one.get("version")) for key, one in packages.items() if key]
    else:
        pairs = [(one[1], f"{one[2]}{one[0].split('==', 1)[1].removeprefix(one[2])}") for one in _find_pinned(text)]
    found: dict[str, set[str]] = {}
    for name, version in pairs:
        if version:
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def _find_pinned(text: str) -> Iterator[re.Match[str]]:
    yield from filter(None, map(_PINNED.match, text.splitlines()))


def update(root: Path, into: Path, checks: Sequence[str]) -> dict[str, Any]:
    """Update the lock files and run the checks; the patch and the report are in `into`."""
    into.mkdir(parents=True, exist_ok=True)
    limits = into.resolve() / _LIMITS
    limits.write_text(limit_majors((root / _LOCK).read_text()))
    _run(["make", "lock"], root, {"UV_CONSTRAINT": str(limits)})
    tracked = [path for path in _git(root, "ls-files").splitlines() if is_lock_file(path)]
    for path in tracked:
        if path.endswith("package-lock.json"):
            _run([*_NPM], (root / path).parent)
    changes = [row for path in tracked for row in _compare(root, path)]
    patch = _git(root, "diff", "--no-color", "--no-ext-diff", "--", *tracked) if tracked else ""
    passed, printed = _check(root, checks) if patch else (True, "")
    report = {"changes": changes, "passed": passed, "checks": shlex.join(checks), "printed": printed}
    (into / _PATCH).write_text(patch)
    (into / _REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report


def _compare(root: Path, path: str) -> Iterator[dict[str, str | None]]:
    before, after = (
        read_versions(path, _git(root, "show", f"HEAD:{path}")),
        read_versions(path, (root / path).read_text()),
    )
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield {"file": path, "package": name, "from": before.get(name), "to": after.get(name)}


def _check(root: Path, checks: Sequence[str]) -> tuple[bool, str]:
    done = subprocess.run(checks, check=False, cwd=root, capture_output=True, text=True)
    print(done.stdout + done.stderr)
    return done.returncode == 0, "\n".join((done.stdout + done.stderr).strip().splitlines()[-_TAIL:])


def propose(root: Path, into: Path, base: str) -> str:
    """Push the patch on a branch of its own and open a pull request, or renew the open one. Returns what to print."""
    patch, report = into.resolve() / _PATCH, json.loads((into / _REPORT).read_text())
    if not patch.read_text():
        return "Every dependency has the newest version of its range: nothing to propose."
    if foreign := [path for path in _list_patched(root, patch) if not is_lock_file(path)]:
        raise UpdateError(f"{_PATCH} changes {', '.join(foreign)}, which is no lock file: nothing was pushed.")
    forge = find_forge()
    _git(root, "apply", "--index", str(patch))
    _git(root, "-c", f"user.name={_WHO}", "-c", f"user.email={_WHO}@users.noreply.invalid", "commit", "-qm", _TITLE)
    _git(root, "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{BRANCH}")
    if forge is None:
        return f"Pushed to {BRANCH}: open a pull request from it."
    title = _TITLE if report["passed"] else f"{_TITLE}: checks fail"
    forge.put_change(BRANCH, base, title, render(report, details=forge.details, limit=forge.limit))
    return f"A pull request from {BRANCH} to {base} is open."


def _list_patched(root: Path, patch: Path) -> list[str]:
    """Every path that it changes, creates, deletes or renames, as git reads it."""
    paths = _git(root, "apply", "--numstat", "-z", str(patch)).split("\0")
    names = [path.split("\t", 2)[-1] for path in paths if path]
    # Modes, links and renames: an update of a lock file has none.
    if other := _git(root, "apply", "--summary", str(patch)).strip():
        names.append(other)
    return names


def render(report: dict[str, Any], *, details: str, limit: int) -> str:
    """The pull request's text: the checks first, then every version."""
    state = "pass" if report["passed"] else "**fail**"
    lines = [
        f"`{report['checks']}` on these versions: {state} ({details}).",
        "",
        "Python packages stay below their next major version (below 1.0: minor), npm packages within the ranges of "
        "`package.json`. What breaks is left to a person.",
        "",
        "| Lock file | Package | From | To |",
        "|---|---|---|---|",
    ]
    none = "-"
    rows = [f"| {' | '.join(f'`{row[key] or none}`' for key in _COLUMNS)} |" for row in report["changes"]]
    lines += rows[:_ROWS]
    if len(rows) > _ROWS:
        lines.append(f"\nand {len(rows) - _ROWS} more.")
    fence = "~" * (3 + max(map(len, re.findall("~+", report["printed"])), default=0))
    room = max(limit - len("\n".join(lines)) - 200, 0)
    lines += ["", "The end of what the checks print:", "", fence, report["printed"][-room:] if room else "", fence]
    return "\n".join(lines)


_COLUMNS = ("file", "package", "from", "to")


def _run(command: Sequence[str], cwd: Path, more: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, cwd=cwd, env={**os.environ, **(more or {})})
    if done.returncode:
        raise UpdateError(f"`{shlex.join(command)}` in {cwd} ended with {done.returncode}.")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], check=False, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise UpdateError(f"`git {words[0]}` failed: {done.stderr.strip()}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.update_dependencies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("step", choices=["update", "propose"])
    parser.add_argument("directory", type=Path, help="where patch and report are written, or read")
    parser.add_argument("--folder", type=Path, default=Path(), help="the project's folder (default: this one)")
    parser.add_argument("--checks", default=CHECKS, help=f"what the new versions have to pass (default: {CHECKS})")
    parser.add_argument("--base", default="main", help="branch of the pull request's target (default: main)")
    given = parser.parse_args(arguments)
    try:
        if given.step == "update":
            report = update(given.folder, given.directory, shlex.split(given.checks))
            print(f"{len(report['changes'])} versions changed; checks {'pass' if report['passed'] else 'fail'}.")
            return 0
        print(propose(given.folder, given.directory, given.base))
        return 0 if json.loads((given.directory / _REPORT).read_text())["passed"] else 1
    except (UpdateError, ForgeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
