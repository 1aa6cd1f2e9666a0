"""A stack of the benchmark's own program, on a backend of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.timing import run
from sandbox.paths import ROOT, STATE

PROGRAM = ROOT / "benchmarks" / "program"


@dataclass(frozen=True)
class Bench:
    """Runs `pulumi` on the benchmark's stack."""

    name: str
    config_file: Path
    environment: Mapping[str, str]

    def pulumi(self, *arguments: str) -> str:
        return run(["pulumi", "--cwd", str(PROGRAM), "--non-interactive", *arguments], self.environment)

    def set(self, **values: object) -> None:
        """Write the configuration; a file, because the time of `pulumi config set` is not what is measured."""
        lines = [f"  bench:{key}: {json.dumps(str(value))}\n" for key, value in values.items()]
        salt = [line for line in self.config_file.read_text().splitlines(True) if line.startswith("encryptionsalt")]
        self.config_file.write_text("".join([*salt, "config:\n", *lines]))

    def up(self) -> str:
        return self.pulumi("up", "--stack", self.name, "--yes", "--skip-preview")

    def preview(self) -> str:
        return self.pulumi("preview", "--stack", self.name)

    def manifests(self) -> list[dict[str, Any]]:
        """The Kubernetes objects of the stack as its program wrote them, in the order of their creation."""
        exported = json.loads(self.pulumi("stack", "export", "--stack", self.name))
        return [
            resource["inputs"]
            for resource in exported["deployment"]["resources"]
            if resource["type"].startswith("kubernetes:") and not resource["type"].endswith((":Namespace", ":Secret"))
        ]


@contextmanager
def bench(name: str) -> Iterator[Bench]:
    """A fresh stack, destroyed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        file = PROGRAM / f"Pulumi.{name}.yaml"
        backend = Path(folder) / "backend"
        backend.mkdir()
        environment = {
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_OPTION_CONFIG_FILE": str(file),
            "PULUMI_STACK": name,
        }
        stack = Bench(name, file, environment)
        try:
            stack.pulumi("stack", "init", name)
            yield stack
        finally:
            stack.pulumi("destroy", "--stack", name, "--yes", "--skip-preview")
            file.unlink(missing_ok=True)


def image() -> str:
    """An image with Node in it."""
    return json.loads((STATE / "images.json").read_text())["shop:v1"]
