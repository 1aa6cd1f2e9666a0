"""`runbook secrets lint|provider`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.common import Invocation, command
from ops.errors import Refused

app = typer.Typer(help="Find plaintext secrets in stack files, and change what encrypts them.", no_args_is_help=True)


@command(
    app,
    options=("cwd", "as_json"),
    examples="runbook secrets lint\nrunbook secrets lint Pulumi.prod.yaml --json",
    exit_codes="Exit codes: 0 clean; 1 a line shows a secret.",
)
def lint(
    call: Invocation,
    files: Annotated[list[Path] | None, typer.Argument(help="Default: every Pulumi.*.yaml here.", exists=True)] = None,
) -> None:
    """Find secrets in stack files, in a value or a comment. Prints where and what kind, never the value."""
    from settings.lint import find_plain_secrets

    chosen = files or sorted(call.cwd.glob("Pulumi.*.yaml"))
    if not chosen:
        raise Refused(f"There is no Pulumi.*.yaml in {call.cwd.resolve()}: go to the project, or name the files.")
    found = [item for file in chosen for item in find_plain_secrets(file)]
    if call.as_json:
        call.show([vars(item) for item in found], "")
    else:
        for item in found:
            typer.echo(str(item), err=True)
        if not found:
            typer.echo(f"No secret in {', '.join(file.name for file in chosen)}.")
    if found:
        raise typer.Exit(1)


@command(
    app,
    examples="runbook secrets provider 'awskms://alias/shop?region=eu-west-3'\n"
    "runbook secrets provider passphrase --yes < new-passphrase",
)
def provider(
    call: Invocation,
    url: Annotated[str, typer.Argument(metavar="PROVIDER", help="passphrase, awskms://…, gcpkms://…, …")],
) -> None:
    """Encrypt the stack's secrets by another provider, or by another passphrase. No value changes."""
    from ops.commands import encryption

    session = call.open_session()
    call.require_confirmation(f"Encrypt stack {session.stack} by {url}?")
    passphrase = _read_passphrase() if url == "passphrase" else None
    done = encryption.change_provider(session, url, passphrase, call.lock_policy())
    then = "Put the new passphrase where PULUMI_CONFIG_PASSPHRASE(_FILE) points. " if passphrase else ""
    call.report(done, f"Encrypted by {url}. {then}Commit {session.file.name}.")


def _read_passphrase() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))
    given = sys.stdin.read().strip("\n")
    if not given:
        raise Refused("Standard input is empty: write the new passphrase to it, or use a terminal. Nothing changed.")
    return given
