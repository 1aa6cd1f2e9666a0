"""The Debian (or Ubuntu) layer that every image stands on, from this machine's own apt sources."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sandbox import ui
from sandbox.images.oci import EPOCH, Layout

PACKAGES = ["ca-certificates", "libstdc++6"]
_LEFT_OUT = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*"]
_KEPT = ["/usr/share/doc/*/copyright"]


def codename() -> str:
    """This machine's release, e.g. `bookworm`: the images follow it."""
    release = Path("/etc/os-release").read_text()
    match = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', release, re.MULTILINE)
    if not match:
        raise ui.SandboxError(
            "/etc/os-release names no VERSION_CODENAME; images are built from the machine's own packages, "
            "which needs a released Debian or Ubuntu"
        )
    return match[1]


def sources(suite: str, etc_apt: Path = Path("/etc/apt")) -> str:
    """The distribution's own entries in this machine's apt sources; other vendors' are left out."""
    files = [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]
    found: list[str] = []
    for file in files:
        if file.suffix == ".list" and file.is_file():
            found += [line for line in file.read_text().splitlines() if _is_ours_line(line, suite)]
        elif file.suffix == ".sources" and file.is_file():
            stanzas = re.split(r"\n\s*\n", file.read_text())
            found += [f"\n{stanza.strip()}\n" for stanza in stanzas if _is_ours_stanza(stanza, suite)]
    if not found:
        raise ui.SandboxError(f"{etc_apt}/sources.list and sources.list.d have no source for {suite}")
    return "\n".join(found) + "\n"


def build(target: Path, log: Path) -> None:
    """Make `target/layout`, with the one image `base`."""
    suite = codename()
    root, options = target / "base.tar", target / "apt.conf"
    # How this machine reaches its packages (a proxy, a frozen mirror's dates …) holds for the images too.
    dump = ui.run(["apt-config", "dump", "--no-empty", "Acquire"])
    options.write_text("\n".join(line for line in dump.splitlines() if "cdrom" not in line) + "\n")
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", "--skip=output/dev", f"--aptopt={options}"]
    command += [f"--include={','.join(PACKAGES)}"]
    # A build that a power cut spoils is started again: no need to wait for the disk after every file.
    command += ["--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    command += [f"--dpkgopt=path-include={pattern}" for pattern in _KEPT]
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    ui.run([*command, suite, root, "-"], stdin=sources(suite), env=env, log=log)
    options.unlink()
    layout = Layout(target / "layout")
    layout.image("base", [layout.layer(root)], {"Cmd": ["/bin/sh"]})


def _is_ours(suites: list[str], components: list[str], suite: str) -> bool:
    ours = {suite, f"{suite}-updates", f"{suite}-security"}
    return "main" in components and not ours.isdisjoint(suites)


def _is_ours_line(line: str, suite: str) -> bool:
    words = re.sub(r"\[[^]]*\]", "", line).split()
    return len(words) > 3 and words[0] == "deb" and _is_ours(words[2:3], words[3:], suite)


def _is_ours_stanza(stanza: str, suite: str) -> bool:
    fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.*)$", stanza, re.MULTILINE))
    enabled = fields.get("Enabled", "yes") != "no" and "deb" in fields.get("Types", "").split()
    return enabled and _is_ours(fields.get("Suites", "").split(), fields.get("Components", "").split(), suite)
