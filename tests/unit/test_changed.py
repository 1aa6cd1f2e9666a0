"""`python -m tests --changed`: which tests are chosen for a change, and that every file leads to some."""

from __future__ import annotations

import pytest

from tests import changed


def of(*files: str) -> set[str]:
    return set(changed.choose(list(files)))


def test_a_module_leads_to_the_tests_that_import_it_and_to_those_that_import_these() -> None:
    ways = changed.choose(["settings/cron.py"])
    assert ways["tests/unit/test_settings_rotation.py"].endswith(" → settings/cron.py")
    assert "tests/unit/test_secrets_lint.py" not in of("settings/cron.py") & of("tasks/logs/counts.py")


@pytest.mark.parametrize(
    ("file", "chosen", "spared"),
    [
        # The command loads what a subcommand needs when it runs.
        ("ops/commands/rotate.py", "tests/cluster/test_rotation.py", "tests/tasks/test_gate.py"),
        ("ops/commands/deploy.py", "tests/cluster/test_backups.py", "tests/unit/test_dashboards.py"),
        ("components/lockdown_gateway.py", "tests/cluster/test_lockdown.py", "tests/unit/test_toolchain.py"),
        ("program/release.py", "tests/cluster/test_release.py", "tests/unit/test_toolchain.py"),
        ("monitoring/alerts/slo.py", "tests/unit/test_alert_rules.py", "tests/unit/test_ops_files.py"),
        ("ops/controller/worker.py", "tests/cluster/test_operator.py", "tests/cluster/test_release.py"),
        ("tests/support/servers.py", "tests/tasks/test_restore_servers.py", "tests/cluster/test_release.py"),
        # Named in a text, for importlib.
        ("tasks/backup/gate.py", "tests/tasks/test_backup_create.py", "tests/unit/test_settings.py"),
        ("tests/support/webhook_receiver.py", "tests/cluster/test_monitoring.py", "tests/cluster/test_release.py"),
        # Fixtures count only for tests that use them.
        ("tests/support/program.py", "tests/unit/test_components.py", "tests/unit/test_ops_files.py"),
        ("sandbox/shop/backend/src/app.ts", "tests/cluster/test_release.py", "tests/unit/test_settings.py"),
        ("sandbox/cluster/node.sh", "tests/cluster/test_sandbox.py", "tests/unit/test_settings.py"),
        ("Pulumi.sandbox.yaml", "tests/unit/test_settings.py", "tests/unit/test_toolchain.py"),
        ("tests/unit/test_alert_rules.py", "tests/unit/test_alert_rules.py", "tests/unit/test_settings.py"),
    ],
)
def test_what_a_change_leads_to(file: str, chosen: str, spared: str) -> None:
    found = of(file)
    assert chosen in found
    assert spared not in found


def test_a_change_of_the_environment_leads_to_all_tests() -> None:
    assert of("requirements.lock") == set(changed._tests())


def test_prose_leads_to_none() -> None:
    assert of("docs/runbook.md", "README.md", "LICENSE") == set()


def test_every_file_leads_to_some_test_or_is_prose() -> None:
    """Left out: what only people, workflows and `make` run."""
    listed = changed._git("ls-files").split()
    prose = (".md", "LICENSE", ".gitignore", ".npmrc")
    elsewhere = ("benchmarks/", ".github/", ".ci/", ".pre-commit", "Makefile")
    elsewhere += ("sandbox/images/__main__.py", "sandbox/toolchain/__main__.py")
    files = [file for file in listed if not file.endswith(prose) and not file.startswith(elsewhere)]
    assert [file for file in files if not changed._modules_of(file)] == []
    lost = [file for file in files if not of(file)]
    assert lost == []
