"""`runbook metrics business|conversion|revenue` (HerbisVeritas "Status Commands")."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.common import Invocation
from ops.cli.durations import parse_seconds

EXAMPLES = (
    "runbook metrics business --last 24h\nrunbook metrics revenue --last 30d --html revenue.html\n"
    "runbook metrics:conversion --last=7d"
)


def metrics(
    call: Invocation,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="business, conversion, revenue, or another of runbook:operations.metrics."),
    ],
    last: Annotated[str, typer.Option(metavar="TIME", help="24h, 7d, 30d.")] = "24h",
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write the plot as one HTML file.", dir_okay=False),
    ] = None,
) -> None:
    """Plot a business metric, and compare it with the period before: SQL of the stack file, run read-only.

    Its queries are in runbook:operations.metrics (docs/quick-reference.md).
    """
    from ops.commands import business
    from ops.decisions.plots import plot_lines, render_html
    from ops.errors import Refused

    session = call.open_session()
    found = business.read_metric(session, name, parse_seconds(last, "--last", "24h, 7d or 30d"))
    if page:
        try:
            page.write_text(render_html(found, session.stack))
        except OSError as error:
            raise Refused(f"--html {page}: {error.strerror}.") from None
    call.show_rows(found, lambda rows: typer.echo("\n".join(plot_lines(rows))))
