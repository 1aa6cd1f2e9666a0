"""The Pulumi engine and its plugins: the machine's own if they are recent enough, else built here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox import ui
from sandbox.paths import CACHE
from sandbox.toolchain.gobuild import Part, build, fetch, is_built, module_version
from sandbox.toolchain.languages import Version, version_of
from sandbox.toolchain.parts import (
    ENGINE,
    PLUGINS,
    cluster_part,
    engine_part,
    language_part,
    link_programs,
    plugin_part,
    plugin_version,
)

MINIMUM: Version = (3, 200, 0)
"""The oldest engine that is used as found."""

_OFFICIAL = CACHE / "official-plugins"
"""A PULUMI_HOME for plugins the found engine downloads; outside `.sandbox`, which `down` removes."""

_DOWNLOADED = CACHE / "official-engine"
"""The engine that Automation API installs, by version."""

_DOWNLOADS = "get.pulumi.com"
"""Where Automation API's installer finds it."""

_LANGUAGE_HOST = "pulumi-language-python"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    bin: Path
    """Folder for PATH: pulumi, its Python language host, kubectl."""
    plugins: dict[str, Path]
    """Provider → the folder with its plugin's files."""
    chosen: str
    """One line for people: which engine and plugins, and why."""


def ensure(*, kubectl: bool = True) -> Toolchain:
    """An engine, its plugins and (unless the caller has one) kubectl, ready to use."""
    programs: dict[str, Path] = {}
    plugins: dict[str, Path] = {}
    found, why = choose_engine()
    if found:
        programs = {program.name: program for program in found}
        plugins = official_plugins(found[0])
    else:
        for part in (engine_part(), language_part()):
            folder = build(part)
            programs |= {file.name: file for file in folder.iterdir()}
    missing = [name for name in PLUGINS if name not in plugins]
    for name in missing:
        plugins[name] = build(plugin_part(name))
    if kubectl:
        programs["kubectl"] = build(cluster_part()) / "kubernetes"
    if found and missing:
        why += f"; the official {', '.join(missing)} cannot be downloaded, so they are built here"
    ui.note(f"engine: {why}")
    return Toolchain(bin=link_programs("bin", programs), plugins=plugins, chosen=why)


def download_ahead() -> None:
    """Begin to download what `ensure` will compile, while the processors are busy with the cluster."""
    if not choose_engine()[0]:
        fetch(*compiled_parts())


def list_unbuilt() -> list[str]:
    """What `ensure` will compile, as far as that is known before plugins are downloaded."""
    return [] if choose_engine()[0] else [part.name for part in compiled_parts() if not is_built(part)]


def compiled_parts() -> list[Part]:
    """What is compiled where there is no official engine."""
    return [engine_part(), language_part(), *map(plugin_part, PLUGINS)]


def install_plugins(pulumi_home: Path, toolchain: Toolchain) -> None:
    """Put every plugin where an engine with this PULUMI_HOME looks for it, at its SDK's version."""
    for name, source in toolchain.plugins.items():
        folder = pulumi_home / "plugins" / f"resource-{name}-v{plugin_version(name)}"
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            link = folder / file.name
            if link.is_symlink() and link.readlink() == file:
                continue
            fresh = folder / f".{file.name}.{os.getpid()}"
            fresh.symlink_to(file)
            fresh.replace(link)


def choose_engine() -> tuple[list[Path] | None, str]:
    """An official engine's programs, or None where it is compiled; and why."""
    found, why = find_engine()
    if found:
        return found, why
    if os.environ.get("SANDBOX") == "build":
        return None, f"{why}; SANDBOX=build has it compiled"
    if downloaded := download_engine():
        return downloaded, f"{why}; using the official one, downloaded into {_DOWNLOADED}"
    return None, f"{why}; the official one cannot be downloaded, so it is built here"


def find_engine() -> tuple[list[Path] | None, str]:
    """The engine on PATH with its Python language host, if it is recent enough; and why, or why not."""
    program = shutil.which("pulumi")
    if not program:
        return None, "no pulumi on PATH"
    pulumi = Path(program).resolve()
    if pulumi.is_relative_to(CACHE):
        return None, "the pulumi on PATH is the one built here"
    version = version_of(pulumi, r"v(\d+\.\d+\.\d+\S*)", "version")
    if version is None:
        return None, f"{program} does not print its version"
    if version < MINIMUM:
        return None, f"{program} is older than {_dotted(MINIMUM)}"
    # The language host and its helper script come in the engine's own archive, beside it.
    places = os.pathsep.join([str(pulumi.parent), os.environ.get("PATH", "")])
    host = shutil.which(_LANGUAGE_HOST, path=places)
    if not host:
        return None, f"{program} comes without {_LANGUAGE_HOST}"
    helper = shutil.which(f"{_LANGUAGE_HOST}-exec", path=places)
    return [pulumi, *(Path(file) for file in (host, helper) if file)], f"using {program} {_dotted(version)}"


def download_engine() -> list[Path] | None:
    """The official engine in the version that is built here otherwise, if it can be downloaded."""
    part = engine_part()
    version = module_version(part.folder, ENGINE).removeprefix("v")
    root = _DOWNLOADED / version
    if not (root / "bin" / "pulumi").exists():
        if is_built(part) or not _reachable(_DOWNLOADS):
            return None
        _install_engine(root, version)
    programs = [root / "bin" / name for name in ("pulumi", _LANGUAGE_HOST, f"{_LANGUAGE_HOST}-exec")]
    return programs if all(program.exists() for program in programs) else None


def _reachable(host: str) -> bool:
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return False
    return True


def _install_engine(root: Path, version: str) -> None:
    """Have Automation API install the engine; in a process of its own, which can be given up on."""
    scratch = root.with_name(f".{version}.{os.getpid()}")
    command = [sys.executable, "-c", _INSTALL, str(scratch), version]
    with ui.step("download the official engine"):
        try:
            subprocess.run(command, capture_output=True, timeout=600, check=True)
            scratch.rename(root)
        except (OSError, subprocess.TimeoutExpired, subprocess.CalledProcessError):
            shutil.rmtree(scratch, ignore_errors=True)


_INSTALL = """
import sys
from pulumi.automation import PulumiCommand
from semver import VersionInfo
PulumiCommand.install(root=sys.argv[1], version=VersionInfo.parse(sys.argv[2]))
"""


def official_plugins(pulumi: Path) -> dict[str, Path]:
    """The official plugins already installed, and those the engine can download."""
    user_home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    have: dict[str, Path] = {}
    reachable = True
    for name in PLUGINS:
        version = plugin_version(name)
        places = [home / "plugins" / f"resource-{name}-v{version}" for home in (user_home, _OFFICIAL)]
        if not any(_official(place, name) for place in places) and reachable:
            reachable = _download(pulumi, name, version)
        if folder := next((place for place in places if _official(place, name)), None):
            have[name] = folder
    return have


def _official(folder: Path, name: str) -> bool:
    program = folder / f"pulumi-resource-{name}"
    is_ours = program.resolve().is_relative_to(CACHE) and not folder.is_relative_to(_OFFICIAL)
    return program.exists() and not is_ours


def _download(pulumi: Path, name: str, version: str) -> bool:
    command = [pulumi, "plugin", "install", "resource", name, version]
    environment = {**os.environ, "PULUMI_HOME": str(_OFFICIAL), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    with ui.step(f"download the official {name} plugin"):
        try:
            subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return False
    return True


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
