"""The lists of packages are complete: in a Debian that has only what the README requires, the install steps of both
commands run, and every program that tests start is there afterwards. What was installed can be removed again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import packages
from sandbox.images import build_base, oci
from sandbox.paths import CACHE, ROOT
from tests import programs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter another root folder")

_LIST = "dpkg-query --show --showformat='${db:Status-Status} ${Package}\\n' | grep ^installed"

STEPS = f"""
apt-get -qq update
apt-get -qq --yes --no-install-recommends install git make python3 >/dev/null 2>&1
rm -rf /var/lib/apt/lists/* # as stale as package lists can be
cd /work
python() {{ .venv/bin/python -c "from sandbox import cluster, packages; $1"; }}

make --silent .venv
python 'packages.ensure(*cluster.check())'
{_LIST} >/cluster
python 'packages.ensure(packages.IMAGES)' & # two at once, as two checkouts would
.venv/bin/python -m tests --install
wait $!
{_LIST} >/all
"""
"""What README and both commands require; the cluster's packages come first, as in the commands."""

REMOVAL = f"""
cd /work
CI=true .venv/bin/python -c "from tests import install; install.bare(yes=False)"
{_LIST} >/bare
"""

_PLACES = "/usr/lib/cni:/usr/lib/postgresql/15/bin"

NAMED = programs.SYSTEM.union(*(group.values() for group in (packages.CLUSTER, *packages.FOR_TESTS)))
"""Every program that the sandbox looks for, or a test starts."""


class Machine:
    """A root folder, and how to run programs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        npm = Path(shutil.which("npm") or "").resolve().parents[1]
        self._mounts = {
            Path("/dev"): "dev",
            Path("/proc"): "proc",
            Path("/sys"): "sys",
            Path(_output("go", "env", "GOROOT")): "usr/local/go",
            npm: "usr/local/lib/node_modules/npm",
            CACHE: "root/.cache/runbook-sandbox",
            Path(_output("uv", "cache", "dir")): "root/.cache/uv",
        }
        (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(shutil.which("node") or "").resolve(), root / "usr/local/bin/node")
        for name in ("npm", "npx"):
            (root / "usr/local/bin" / name).symlink_to(f"../lib/node_modules/npm/bin/{name}-cli.js")
        # How this machine reaches the registries.
        for file in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):
            if Path("/", file).exists():
                shutil.copy(Path("/", file), root / file)
        names = _output("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
        for name in names:
            if (ROOT / name).is_file():
                (root / "work" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / "work" / name)

    def run(self, script: str) -> str:
        """What a shell script prints; the mounts are its own and end with it."""
        lines = ["set -eu", f'mount --bind "{self.root}" "{self.root}"']
        for here, there in self._mounts.items():
            (self.root / there).mkdir(parents=True, exist_ok=True)
            lines.append(f'mount --rbind "{here}" "{self.root / there}"')
        lines.append(f'exec chroot "{self.root}" sh -eu /steps')
        (self.root / "steps").write_text(script)
        ours = ("RUNBOOK", "PULUMI", "KUBE", "PYTEST", "PYTHON", "VIRTUAL", "PIP_FIND", "XDG", "TMP")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {"HOME": "/root", "PATH": "/usr/local/go/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(
            ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "sh", "-c",
             "\n".join(lines)],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def lacks(self, names: set[str]) -> set[str]:
        """Which of these programs are not there."""
        look = (
            f"PATH=$PATH:{_PLACES}\nfor name in {' '.join(names)}; do command -v $name >/dev/null || echo $name; done"
        )
        return set(self.run(look).split())

    def read(self, file: str) -> set[str]:
        """The packages in a list that a script made."""
        return {line.split()[1] for line in (self.root / file).read_text().splitlines()}


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _layers(layout: Path) -> list[Path]:
    blobs = layout / "blobs" / "sha256"
    (digest,) = oci.digests(layout).values()
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_text())
    return [blobs / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    # Not under pytest's folder, which keeps the last three.
    with tempfile.TemporaryDirectory(prefix="runbook-machine-") as name:
        root = Path(name)
        for layer in _layers(build_base()):
            subprocess.run(["tar", "--extract", "--file", layer, "--directory", root], check=True)
        yield Machine(root)


@pytest.fixture(scope="module")
def printed(machine: Machine) -> str:
    """What the install steps print."""
    assert machine.lacks(NAMED) > {"buildah", "containerd", "git", "promtool", "psql"}, (
        "it is not as bare as it should be"
    )
    return machine.run(STEPS)


def test_the_install_steps_of_both_commands_bring_every_program(machine: Machine, printed: str) -> None:
    assert machine.lacks(NAMED) == set(), printed
    # One line for each list: nothing is installed one by one.
    assert printed.count("▸ install ") in (2, 3), printed


def test_what_only_tests_and_images_need_goes_again(machine: Machine, printed: str) -> None:
    before, between = machine.read("cluster"), machine.read("all")
    assert between > before, printed
    asked = {package for group in packages.FOR_TESTS for package in group} - before
    assert between > asked
    removing = machine.run(REMOVAL)
    after = machine.read("bare")
    assert before <= after < between, removing
    assert after.isdisjoint(asked), removing
    assert {"buildah", "promtool", "redis-server"} <= machine.lacks(NAMED)
