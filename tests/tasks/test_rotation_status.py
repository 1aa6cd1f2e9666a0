"""Metrics of the rotation of secrets, from the file that the program writes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from tasks.environment import Environment
from tasks.exporter import Exporter
from tasks.rotation_status import rotation
from tasks.store import open_store
from tests.support.exposition import expose, parse_samples, read_samples

RETIRED = {
    "secret": "JWT_SECRET",
    "kind": "key",
    "phase": "retired",
    "period": 3,
    "generation": 0,
    "rotated_at": "2026-11-15T00:00:04Z",
    "max_age_seconds": 1468800,
    "overlap_until": None,
    "failure": None,
    "emergency_at": None,
}
NEVER = RETIRED | {"secret": "SMTP_PASSWORD", "kind": "given", "period": 0, "rotated_at": None}
FAILED = RETIRED | {
    "secret": "STRIPE_WEBHOOK_SECRET",
    "phase": "failed",
    "overlap_until": "2026-11-16T01:00:04+01:00",
    "failure": "webhooks: 400",
    "emergency_at": "2026-11-01T00:00:00Z",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


class Rotation:
    """Only the metrics of the rotation."""

    def __init__(self, file: Path) -> None:
        self._environment = Environment({"ROTATION_STATUS": str(file)})

    def collect(self) -> Iterator[Metric]:
        return rotation(self._environment)


def metrics(file: Path) -> str:
    return expose(Rotation(file))


def test_a_secret_that_is_never_rotated_has_no_maximum_age(file: Path) -> None:
    file.write_text(json.dumps([RETIRED, NEVER | {"max_age_seconds": None}]))
    found = parse_samples(metrics(file))
    assert found["runbook_rotation_status_readable"] == 1
    assert [name for name in found if "max_age" in name] == ['runbook_secret_max_age_seconds{secret="JWT_SECRET"}']
    assert found['runbook_secret_rotated_timestamp_seconds{secret="SMTP_PASSWORD"}'] == 0


def test_the_metrics_of_each_secret(file: Path) -> None:
    file.write_text(json.dumps([RETIRED, NEVER, FAILED]))
    text = metrics(file)
    assert subprocess.run(["promtool", "check", "metrics"], input=text, text=True).returncode == 0
    jwt, smtp, stripe = (f'{{secret="{entry["secret"]}"}}' for entry in (RETIRED, NEVER, FAILED))
    stripe_phase, jwt_phase = '{phase="failed",' + stripe[1:], '{phase="retired",' + jwt[1:]
    found = parse_samples(text)
    expected = {
        "runbook_rotation_status_readable": 1,
        f"runbook_secret_rotated_timestamp_seconds{jwt}": 1794700804,
        f"runbook_secret_rotated_timestamp_seconds{smtp}": 0,
        f"runbook_secret_max_age_seconds{jwt}": 1468800,
        f"runbook_secret_overlap_until_timestamp_seconds{jwt}": 0,
        f"runbook_secret_overlap_until_timestamp_seconds{stripe}": 1794787204,
        f"runbook_secret_verification_failed{jwt}": 0,
        f"runbook_secret_verification_failed{stripe}": 1,
        f"runbook_secret_emergency_timestamp_seconds{smtp}": 0,
        f"runbook_secret_emergency_timestamp_seconds{stripe}": 1793491200,
        f"runbook_secret_phase{jwt_phase}": 1,
        f"runbook_secret_phase{stripe_phase}": 1,
    }
    assert expected.items() <= found.items()
    assert len(found) == 1 + 6 * 3


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[",
        "{}x",
        json.dumps({"JWT_SECRET": RETIRED}),
        json.dumps([{"secret": "JWT_SECRET"}]),
        json.dumps([RETIRED, NEVER | {"rotated_at": "yesterday"}]),
        json.dumps([RETIRED | {"rotated_at": "2026-11-15T00:00:04"}]),
        json.dumps([RETIRED | {"max_age_seconds": "long"}]),
    ],
)
def test_a_file_that_cannot_be_read_says_so_and_nothing_else(
    file: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        file.write_text(content)
    assert parse_samples(metrics(file)) == {"runbook_rotation_status_readable": 0}
    assert f"ROTATION_STATUS={file}" in capsys.readouterr().err


def test_it_is_read_again_each_time_also_while_the_store_is_away(file: Path, tmp_path: Path) -> None:
    def scrape(**changed: Any) -> dict[str, float]:
        file.write_text(json.dumps([RETIRED | changed]))
        exporter.refresh()
        return read_samples(exporter)

    environment = Environment({"BACKUP_STORE": f"file://{tmp_path}/none/none", "ROTATION_STATUS": str(file)})
    exporter = Exporter(environment, open_store(environment))
    assert scrape()['runbook_secret_phase{phase="retired",secret="JWT_SECRET"}'] == 1
    found = scrape(phase="pending")
    assert found["runbook_backup_store_up"] == 0
    assert [name for name in found if "phase" in name] == ['runbook_secret_phase{phase="pending",secret="JWT_SECRET"}']


def test_nothing_without_the_variable() -> None:
    assert list(rotation(Environment({}))) == []
