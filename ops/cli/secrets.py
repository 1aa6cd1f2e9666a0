"""`runbook secrets`: the lint for stack files, and who encrypts them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.common import (
    HERE,
    AsJson,
    BreakLock,
    Cwd,
    Stack,
    Yes,
    confirm,
    lock_policy,
    open_session,
    print_json,
    report_errors,
)
from ops.cli.common import print_result as told
from ops.errors import EXIT_CODES, Refused

app = typer.Typer(help="Stack files without plaintext secrets, and who encrypts them.", no_args_is_help=True)


@app.command(
    epilog="[bold]Examples[/]: runbook secrets lint\n\nrunbook secrets lint Pulumi.prod.yaml --json\n\n"
    "Exit codes: 0 clean; 1 a line shows a secret."
)
def lint(
    files: Annotated[list[Path] | None, typer.Argument(help="Default: every Pulumi.*.yaml here.", exists=True)] = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Refuse stack files that show a secret, in a value or a comment. Says where and what, never the value."""
    from settings.lint import find_plain_secrets as look

    with report_errors(as_json):
        chosen = files or sorted(cwd.glob("Pulumi.*.yaml"))
        if not chosen:
            raise Refused(f"There is no Pulumi.*.yaml in {cwd.resolve()}: go to the project, or name the files.")
        found = [item for file in chosen for item in look(file)]
        if as_json:
            print_json([vars(item) for item in found])
        else:
            for item in found:
                typer.echo(str(item), err=True)
            if not found:
                typer.echo(f"No secret in {', '.join(file.name for file in chosen)}.")
    if found:
        raise typer.Exit(1)


@app.command(
    epilog="[bold]Examples[/]: runbook secrets provider 'awskms://alias/shop?region=eu-west-3'\n\n"
    "runbook secrets provider passphrase < new-passphrase\n\n" + EXIT_CODES
)
def provider(
    url: Annotated[str, typer.Argument(metavar="PROVIDER", help="passphrase, awskms://…, gcpkms://…, …")],
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Encrypt the stack's secrets by another provider, or by another passphrase. No value changes."""
    from ops.commands import encryption

    with report_errors(as_json):
        session, policy = open_session(cwd, stack), lock_policy(break_lock, yes)
        passphrase = _passphrase() if url == "passphrase" else None
        if not yes and sys.stdin.isatty() and not confirm(f"Encrypt stack {session.stack} by {url}?"):
            raise Refused("Not confirmed; nothing was changed.")
        done = encryption.switch(session, url, passphrase, policy)
        then = "Put the new passphrase where PULUMI_CONFIG_PASSPHRASE(_FILE) points. " if passphrase else ""
        told(done, as_json, f"Encrypted by {url}. {then}Commit {session.file.name}.")


def _passphrase() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))
    given = sys.stdin.read().strip("\n")
    if not given:
        raise Refused("Bring the new passphrase on standard input, or run this on a terminal. Nothing was changed.")
    return given
