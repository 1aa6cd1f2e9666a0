"""The lint for stack files: what it must find, and what it must let pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli import main
from settings.lint import find_plain_secrets

# Put together here, so that no scanner takes this file for a leak.
LETTERS = "a1B2c3D4e5F6g7H8i9J0"
SECRETS = {
    "a private key": "  # -----BEGIN RSA " + "PRIVATE KEY-----",
    "an age identity": "  identities: AGE-SECRET-" + "KEY-1QQPQYSJNF0X6W7Z8K9M0N",
    "a Stripe key": "    STRIPE: sk_live_" + LETTERS,
    "a webhook secret": "  # the old one was whsec_" + LETTERS,
    "a Slack token": "  bot: xoxb-" + "1234567890-abcdef",
    "a Slack webhook": "  url: https://hooks.slack.com/" + "services/T0000/B0000/" + LETTERS,
    "an AWS access key": "  key: AKIA" + "ABCDEFGHIJKLMNOP",
    "a token of a code host": "  token: ghp_" + LETTERS * 2,
    "a signed token (JWT)": "  t: eyJhbGciOiJI.eyJzdWIiOiIx." + LETTERS,
    "a password in a URL": "  dsn: postgresql://shop:" + "hunter22@db.example.com/shop",
    "a value for a secret name": "  smtp_password: " + "hunter22",
}
CLEAN = """\
encryptionsalt: v1:ialtub3QTFw=:v1:JcqVH9FK6kljpKpk:1jQNXMuwTfSH7SO/BxDAWf393cA3iA==
config:
  secrets:STRIPE_SECRET_KEY:
    secure: v1:CDVR7k5u0A9IqMzC:Nim2PNzUUAqlUSkKEDzCjMM=
  secrets:SMTP_PASSWORD: {secure: v1:CDVR7k5u0A9IqMzC:Nim2PNzUUAqlUSkKEDzCjMM=}
  runbook:application:
    secrets: [STRIPE_SECRET_KEY, SMTP_PASSWORD]
    image: registry.example.com:5000/shop@sha256:1cffcf8a76207a4f5f30a2822f9fe0397a41e3dc041f945e483258264ee12723
    url: postgresql://db.example.com:5432/shop
  runbook:credentials: {generated: {JWT_SECRET: {length: 64}}}
  runbook:backup: {credentials: secret, apiKeyAge: 30}
"""


@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_is_found_and_not_shown(tmp_path: Path, what: str) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(CLEAN + SECRETS[what] + "\n")
    (found,) = find_plain_secrets(file)
    assert (found.what, found.line) == (what, len(CLEAN.splitlines()) + 1)
    assert SECRETS[what].split()[-1] not in str(found)


def test_encrypted_values_and_names_pass(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(CLEAN)
    assert find_plain_secrets(file) == []


def test_the_command_refuses(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(CLEAN)
    clean = CliRunner().invoke(main.app, ["secrets", "lint", "--cwd", str(tmp_path)])
    assert (clean.exit_code, clean.stdout) == (0, "No secret in Pulumi.prod.yaml.\n")
    file.write_text(CLEAN + SECRETS["a Stripe key"])
    assert CliRunner().invoke(main.app, ["secrets", "lint", str(file)]).exit_code == 1


def test_the_stack_files_of_this_project_are_clean() -> None:
    for file in sorted(Path(__file__).parents[2].glob("Pulumi.*.yaml")):
        assert find_plain_secrets(file) == []
