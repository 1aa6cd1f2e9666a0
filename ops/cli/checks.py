"""`runbook check`, `check-code` and `go-live`: whether a release can be made, and what is not ready."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.common import Invocation

CHECK_EXAMPLES = "runbook check\nrunbook check --pull\nrunbook check registry.example.com/shop:2.4.0 --json"
CHECK_CODE_EXAMPLES = "runbook check-code ../shop\nrunbook check-code ../shop --again --json"
CHECK_DOCS_EXAMPLES = (
    "runbook check-docs ../shop\nrunbook check-docs ../shop --older-than 365d --external --json | jq .findings"
)
GO_LIVE_EXAMPLES = (
    "runbook go-live\nrunbook go-live --report reports\nrunbook go-live --json | jq '.lines[] | "
    'select(.result == "fail")\''
)


def check(
    call: Invocation,
    image: Annotated[str | None, typer.Argument(help="Image to be released; default: the one that serves.")] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FOLDER", help="Also write check.json and check.html there."),
    ] = None,
    pull: Annotated[
        bool, typer.Option("--pull", help="Also start a pod on each node that does not list the image, to pull it.")
    ] = False,
) -> None:
    """Measure whether the environment is ready for a release: nodes, room, quota, image, DNS, certificate, clock.

    `runbook deploy` does the same before it changes anything, where the stack file has `runbook:checks`.
    """
    from ops.cli import formatting
    from ops.commands import check as checking

    done = checking.check(call.open_session(), image, report, pull=pull)
    formatting.show_report(call, done, failed=2)


def check_code(
    call: Invocation,
    directory: Annotated[Path, typer.Argument(help="Checkout of the release's commit.", exists=True, file_okay=False)],
    again: Annotated[bool, typer.Option("--again", help="Also the steps that passed with the same code.")] = False,
) -> None:
    """Run the checks of the code (lint, types, tests, audits, build), side by side, and keep their report.

    A step that passed is not run again while the code is the same.
    """
    from ops.cli import formatting
    from ops.commands import code_checks

    done = code_checks.check_code(call.open_session(), directory, again=again)
    formatting.show_report(call, done, failed=1)


def check_docs(
    call: Invocation,
    directory: Annotated[Path, typer.Argument(help="Checkout with the documents.", exists=True, file_okay=False)],
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Also name what no commit changed for so long.")
    ] = None,
    external: Annotated[bool, typer.Option("--external", help="Also ask other servers for their pages.")] = False,
) -> None:
    """Name links of Markdown documents that lead nowhere, and documents that are old. Needs git, and no stack."""
    from ops.cli.durations import parse_seconds
    from ops.commands import documents

    seconds = None if older_than is None else parse_seconds(older_than, "--older-than")
    done = documents.check_documents(directory, seconds, external=external)
    counted = f"{done['documents']} documents, {done['links']} links: {len(done['findings'])} problems"
    call.show(done, "\n".join([*done["lines"], counted]))
    raise typer.Exit(1 if done["findings"] else 0)


def go_live(
    call: Invocation,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FOLDER", help="Also write go-live.json and go-live.html there."),
    ] = None,
) -> None:
    """Try the go-live checklist: variables, servers, webhooks, migrations, backup, payments, administrators, smoke.

    The checks run in the application's network. The report is kept in the namespace, as a ConfigMap.
    """
    from ops.cli import formatting
    from ops.commands import go_live as going

    done = going.go_live(call.open_session(), report)
    formatting.show_report(call, done, failed=1)
