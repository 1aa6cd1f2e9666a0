"""Alerts of rotation by Prometheus' own promtool: each fires just beyond its limit, and not at it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring.alerts.schedules import rotations
from tests.support.program import RELEASE, secrets_for, stack_config
from tests.unit.test_settings import judged

HOUR, DAY = 3_600, 86_400
AGES = 'runbook_secret_max_age_seconds{secret="JWT_SECRET"}'
ROTATED = 'runbook_secret_rotated_timestamp_seconds{secret="JWT_SECRET"}'
OVERLAP = 'runbook_secret_overlap_until_timestamp_seconds{secret="JWT_SECRET"}'
USES = 'shop_secret_uses_total{secret="JWT_SECRET",which="%s",pod="%d"}'

CASES: list[tuple[str, dict[str, str], int, int]] = [
    # alert, series, the last moment without it, the first with it (in seconds from the beginning)
    ("SecretRotationOverdue", {ROTATED: f"{HOUR}x2000", AGES: f"{2 * HOUR}x2000"}, 3 * HOUR, 3 * HOUR + 60),
    # JWT_SECRET's longest time between two runs is 17 days, and a day beyond.
    ("SecretNeverRotated", {ROTATED: "0x500"}, 18 * DAY - HOUR, 18 * DAY),
    (
        "SecretVerificationFailed",
        {'runbook_secret_verification_failed{secret="JWT_SECRET"}': "0x60 1x100"},
        HOUR,
        HOUR + 60,
    ),
    (
        "SecretRotationStuck",
        {'runbook_secret_phase{secret="JWT_SECRET",phase="dual"}': "_x60 1x100"},
        2 * HOUR - 60,
        2 * HOUR,
    ),
    ("SecretNotRetired", {OVERLAP: f"{HOUR}x2000"}, HOUR + DAY, HOUR + DAY + 60),
    (
        "SecretPreviousUsedAfterOverlap",
        {OVERLAP: f"{HOUR}x2000", USES % ("previous", 1): "0+1x2000", USES % ("current", 2): "0+9x2000"},
        HOUR + 300,
        HOUR + 360,
    ),
    (
        "SecretEmergencyRotation",
        {'runbook_secret_emergency_timestamp_seconds{secret="JWT_SECRET"}': f"0x47 {2 * DAY}x100"},
        2 * DAY - HOUR,
        2 * DAY,
    ),
    ("RotationStatusUnreadable", {"runbook_rotation_status_readable": "1x60 0x100"}, HOUR + 300, HOUR + 360),
]

HEALTHY = {
    ROTATED: f"{DAY}x2000", AGES: f"{9 * DAY}x2000", OVERLAP: f"{3 * DAY}x2000",
    USES % ("previous", 1): "0+1x2000",
    'runbook_secret_verification_failed{secret="JWT_SECRET"}': "0x2000",
    'runbook_secret_phase{secret="JWT_SECRET",phase="verified"}': "1x2000",
    'runbook_secret_emergency_timestamp_seconds{secret="JWT_SECRET"}': "0x2000",
    "runbook_rotation_status_readable": "1x2000",
}  # fmt: skip


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    made = rotations(judged(config, set(secrets_for(config))).rotations()).alerts
    file = tmp_path_factory.mktemp("rules") / "rules.json"
    groups = [{"name": "rotation", "rules": [rule.to_prometheus() for rule in made]}]
    file.write_text(json.dumps({"groups": groups}))
    return file


def firing(rules: Path, series: dict[str, str], moments: dict[int, set[str]]) -> str:
    """The output of promtool when exactly these alerts are expected at these moments; empty if they match."""
    # The interval between the moments is the evaluation step.
    step = f"{max(moments) - min(moments)}s"
    names = sorted({rule["alert"] for rule in json.loads(rules.read_text())["groups"][0]["rules"]})
    checks = [
        {
            "expr": f'count by (alertname) (ALERTS{{alertstate="firing",alertname="{name}"}})',
            "eval_time": f"{moment}s",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}] if name in expected else [],
        }
        for moment, expected in moments.items()
        for name in names
        if name in expected or name not in AWAY
    ]
    tests: list[dict[str, Any]] = [
        {
            "interval": step,
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": checks,
        }
    ]
    file = rules.with_name("test.json")
    file.write_text(json.dumps({"rule_files": [rules.name], "evaluation_interval": step, "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


AWAY = {"RotationStatusUnreadable"}
"""Alerts that fire when the test has only one series."""


@pytest.mark.parametrize(("alert", "series", "before", "after"), CASES, ids=[case[0] for case in CASES])
def test_an_alert_fires_beyond_its_limit_and_not_at_it(
    alert: str, series: dict[str, str], before: int, after: int, rules: Path
) -> None:
    assert firing(rules, series, {before: set(), after: {alert}}) == ""
    assert firing(rules, series, {before: {alert}, after: {alert}}) != "", "it would say so"


def test_nothing_fires_while_all_is_well(rules: Path) -> None:
    assert firing(rules, HEALTHY, {moment: set() for moment in (2 * DAY - HOUR, 2 * DAY)}) == ""


def test_promtool_accepts_the_rules(rules: Path) -> None:
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
