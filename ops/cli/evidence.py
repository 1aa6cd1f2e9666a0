"""`runbook backup evidence …`: the chain of records of restore tests."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.common import ASKS, READS, Invocation, camel_keys, command
from ops.errors import Refused

app = typer.Typer(help="The records of restore tests, on which the gate of migrations relies.", no_args_is_help=True)


@command(
    app,
    options=READS,
    examples="runbook backup evidence verify\nrunbook backup evidence verify --json | jq .intact",
    exit_codes="Exit codes: 0 the records are what was written; 1 one was changed or removed.",
)
def verify(call: Invocation) -> None:
    """Check that no record was changed or removed."""
    from ops.commands import backups

    found = backups.verify_evidence(call.open_session())
    counts = (
        f"{found['records']} records, {found['passed']} passed, none changed or removed." if found["intact"] else ""
    )
    call.show(camel_keys(found), counts or found["why"])
    raise typer.Exit(0 if found["intact"] else 1)


@command(
    app,
    "begin-anew",
    options=ASKS,
    examples="runbook backup evidence begin-anew --reason 'the bucket was restored from its replica'",
)
def begin_anew(
    call: Invocation,
    reason: Annotated[str, typer.Option(help="Why a record was changed or removed. It is recorded.")],
) -> None:
    """After a break that is explained, count only records from now on. The ones before are kept."""
    from ops.commands import backups

    session = call.open_session()
    found = backups.verify_evidence(session)
    if found["intact"]:
        raise Refused(f"All {found['records']} records are what was written. Nothing was changed.")
    typer.echo(
        f"{found['why']}\nA new chain begins: the records before are kept, and prove nothing any more. Until `runbook "
        "backup verify` has passed, releases that bring migrations are refused.",
        err=True,
    )
    call.require_confirmation("Count only records from now on?")
    done = backups.begin_evidence_anew(session, reason)
    call.show(
        camel_keys(done), f"The records count from {done['sequence']} on: prove a backup with `runbook backup verify`."
    )
