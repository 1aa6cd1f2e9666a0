"""The images: how each is built, what has to run in it, and the key of a stack file that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USER = "10001"
"""The user that every one of them runs as."""
_HELP = ("python3", "-m", "tasks", "--help")


@dataclass(frozen=True, eq=False)
class Recipe:
    """An image of this project."""

    name: str
    key: tuple[str, ...]
    """Its key in a stack file."""
    checks: Mapping[str, Sequence[str]]
    """Commands that must succeed in it, as its own user, by what they prove."""
    context: str = "."
    """Folder that the build reads, from the root of the checkout."""

    @property
    def dockerfile(self) -> Path:
        return ROOT / "images" / self.name / "Dockerfile"

    @property
    def ignore_file(self) -> Path | None:
        """What of the context the build does not read."""
        found = self.dockerfile.with_name("Dockerfile.dockerignore")
        return found if found.exists() else None

    @property
    def arguments(self) -> frozenset[str]:
        """Build arguments that its Dockerfile declares."""
        lines = [line.split() for line in self.dockerfile.read_text().splitlines()]
        return frozenset(word.partition("=")[0] for line in lines if line[:1] == ["ARG"] for word in line[1:])


RECIPES = (
    Recipe(
        "tasks",
        ("runbook:image",),
        {
            "the tasks start": _HELP,
            "PostgreSQL's client": ("psql", "--version"),
            "backups": ("pg_dump", "--version"),
            "restores": ("pg_restore", "--version"),
            "SQLite": ("sqlite3", "--version"),
            "the lockdown's gate": ("/usr/sbin/haproxy", "-v"),
        },
    ),
    Recipe(
        "monitoring",
        ("runbook:monitoring", "image"),
        {
            "Prometheus": ("prometheus", "--version"),
            "Alertmanager": ("prometheus-alertmanager", "--version"),
            "the exporter of HTTP checks": ("prometheus-blackbox-exporter", "--version"),
            "the exporter of PostgreSQL": ("prometheus-postgres-exporter", "--version"),
            "the exporter of Redis": ("prometheus-redis-exporter", "--version"),
        },
        context="images/monitoring",
    ),
    Recipe(
        "controller",
        ("runbook:monitoring", "rollback", "image"),
        {
            "the engine": ("pulumi", "version"),
            "the controller": ("python3", "-c", "import ops.controller.__main__"),
            "the program": ("python3", "-c", "import components.application, program.release"),
        },
    ),
    Recipe(
        "lighthouse",
        ("runbook:performance", "image"),
        {
            "the task starts": ("python3", "-m", "tasks", "lighthouse", "--help"),
            "Node": ("/opt/lighthouse/bin/node", "--version"),
            "Chromium": ("chromium", "--version"),
        },
    ),
)
