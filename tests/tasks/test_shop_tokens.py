"""S3: the shop's own check of a rotation, as the sandbox's stack file runs it: a token of before is accepted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from sandbox.paths import ROOT
from settings.rotation import RotationSettings
from tests.support.rotation_world import Cache
from tests.support.servers import Postgres, free_ports, running
from tests.support.shop_release import copy_release

OLD, NEW = ({"JWT_SECRET": f"jwt-{name}-canary", "JWT_SECRET_ID": f"0.{period}"} for period, name in enumerate("ab"))


def previous(values: Mapping[str, str]) -> dict[str, str]:
    """The variables of a value that services have to accept besides."""
    return {name.replace("JWT_SECRET", "JWT_SECRET_PREVIOUS"): value for name, value in values.items()}


class Shop:
    """Release v2 as its image carries it, on a migrated database."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**copy_release(folder), "SESSION_SECRET": "session-canary", **variables}
        assert self.run(["npm", "run", "db:migrate", "--workspace", "backend"], OLD).returncode == 0

    def run(self, command: list[str], values: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self._folder, env={**self._environment, **values}, capture_output=True, text=True
        )

    @contextmanager
    def serving(self, values: Mapping[str, str]) -> Iterator[str]:
        """Its URL."""
        (port,) = free_ports(1)
        environment = {**self._environment, "HOST": "127.0.0.1", "PORT": str(port), **values}
        program = [Path(environment["PATH"].partition(":")[0]) / "node", self._folder / "backend/dist/src/main.js"]
        with running(program, '"serving"', environment=environment):
            yield f"http://127.0.0.1:{port}"


@pytest.fixture
def released(postgres: Postgres, database: str, cache: Cache, tmp_path: Path) -> Shop:
    redis = cache.url("default", cache.of_period(0))
    return Shop(tmp_path / "app", {"DATABASE_URL": postgres.url(database), "REDIS_URL": redis})


def test_a_token_of_before_is_accepted_only_by_a_shop_that_reads_the_previous_value(released: Shop) -> None:
    """`verifyPrevious` gets the two values exchanged: it signs with the one that the shop does not sign with."""
    config = yaml.safe_load((ROOT / "Pulumi.sandbox.yaml").read_text())["config"]
    command = RotationSettings.model_validate(config["runbook:rotation"]).secrets["JWT_SECRET"].verify_previous
    assert command is not None
    (check,) = command.argvs
    exchanged = {**OLD, **previous(NEW)}
    with released.serving({**NEW, **previous(OLD)}) as url:
        done = released.run(check, {**exchanged, "TARGET_URL": url})
        assert done.returncode == 0, done.stdout + done.stderr
        assert "a token of the other JWT_SECRET (0.0) is accepted" in done.stdout
        # With its own values it would prove nothing, and says so.
        same = released.run(check, {**NEW, **previous(OLD), "TARGET_URL": url})
        assert same.returncode == 1
        assert "the shop signs with the JWT_SECRET given here" in same.stdout
    with released.serving(NEW) as url:
        done = released.run(check, {**exchanged, "TARGET_URL": url})
        assert done.returncode == 1
        assert "its token is refused" in done.stdout
    assert "canary" not in done.stdout + done.stderr + same.stdout + same.stderr
