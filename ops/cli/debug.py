"""`runbook debug performance|database|security|rate-limiting` (HerbisVeritas "Debugging Commands")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ops.cli.common import READS, Invocation, camel_keys, command
from ops.cli.durations import parse_seconds

app = typer.Typer(help="Find out what is slow, stuck or attacked. Only reads.", no_args_is_help=True)


@command(
    app,
    options=READS,
    examples="runbook debug performance --url /shop\nrunbook debug performance --url /shop --times 20 --json\n"
    "runbook debug:performance --url=/shop",
    exit_codes="Exit codes: 0 measured; 1 no answer, from outside or from inside; 2 refused.",
)
def performance(
    call: Invocation,
    url: Annotated[str, typer.Option(help="Path, or a URL of the shop.")] = "/",
    times: Annotated[int, typer.Option(min=1, max=50, help="Requests, one after another.")] = 5,
) -> None:
    """Measure the phases of a request (DNS, connect, TLS, first byte, transfer): from here, and from a pod."""
    from ops.commands import debugging

    found = debugging.debug_performance(call.open_session(), url, times)
    call.show_rows(found, _print_phases)
    if "error" in found["outside"] or "error" in found["inside"]:
        raise typer.Exit(1)


@command(
    app,
    options=READS,
    examples="runbook debug database --slow-queries\nrunbook debug database --slower-than 500 --json | jq .locks\n"
    "runbook debug:database --slow-queries",
    exit_codes="",
)
def database(
    call: Invocation,
    slow_queries: Annotated[
        bool, typer.Option("--slow-queries", help="Only slow queries. Default: locks, bloat and scans too.")
    ] = False,
    slower_than: Annotated[
        int | None,
        typer.Option(min=1, metavar="MS", help="Mean time of a slow query; default: operations.slowQueryMs."),
    ] = None,
) -> None:
    """Show slow queries, which session waits for which other one's lock, and tables to be vacuumed.

    Values in queries are not shown. Runs read-only, in the cluster, with a time limit (operations.querySeconds).
    """
    from ops.commands import debugging

    found = debugging.debug_database(call.open_session(), slower_than)
    if slow_queries:
        found = {key: found[key] for key in ("server", "slowerThanMs", "statements", "activity", "notes")}
    call.show_rows(camel_keys(found), _print_database)


@command(
    app,
    options=READS,
    examples="runbook debug security --suspicious-activity\nrunbook debug security --since 24h --json | jq .sources\n"
    "runbook debug:security --suspicious-activity",
    exit_codes="",
)
def security(
    call: Invocation,
    suspicious_activity: Annotated[  # noqa: ARG001
        bool, typer.Option("--suspicious-activity", help="The runbook's spelling; changes nothing.")
    ] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back: 30m, 2h, 1d.")] = "1h",
) -> None:
    """Count refused requests (401, 403, 429) by client from the logs, and security events from the metrics."""
    from ops.commands import debugging

    found = debugging.debug_security(call.open_session(), parse_seconds(since, "--since"))
    call.show_rows(found, _print_security)


@command(
    app,
    "rate-limiting",
    options=READS,
    examples="runbook debug rate-limiting --user 42\nrunbook debug rate-limiting --user 42 --json | jq .keys\n"
    "runbook debug:rate-limiting --user=42",
    exit_codes="Exit codes: 0 shown; 2 refused: runbook:operations.rateLimits is not written.",
)
def rate_limiting(
    call: Invocation, user: Annotated[str, typer.Option(help="The user, as the application's keys name it.")]
) -> None:
    """Show what a user has used of the application's rate limits: Redis keys, or a command of the release."""
    from ops.commands import debugging

    call.show_rows(debugging.debug_rate_limits(call.open_session(), user), _print_limits)


# -- text ----------------------------------------------------------------------------------------


def _print_phases(found: Mapping[str, Any]) -> None:
    from ops.cli.formatting import print_table
    from ops.decisions.slow_phase import TITLES

    rows = []
    for phase, title in TITLES.items():
        cells = [
            f"{side[which][phase]:.1f} ms" if "error" not in side and phase in side[which] else "-"
            for side in (found["outside"], found["inside"])
            for which in ("median", "slowest")
        ]
        rows.append((title, *cells))
    print_table(("PHASE", "OUTSIDE", "SLOWEST", "FROM A POD", "SLOWEST"), rows)
    for name in ("outside", "inside"):
        side = found[name]
        if "error" in side:
            typer.secho(f"{name}: {side['url']} failed at {side['phase']}: {side['error']}", fg="red")
        else:
            statuses = ", ".join(map(str, side["statuses"]))
            moved = f", redirects to {side['location']}" if side["location"] else ""
            typer.echo(f"{name}: {side['url']} ({side['address']}), {statuses}{moved}, {side['bytes']} bytes")
    typer.echo(found["conclusion"])


def _print_database(found: Mapping[str, Any]) -> None:
    typer.echo(f"PostgreSQL {found['server']}")
    statements = found["statements"]
    if statements is not None:
        rows = [(_ms(one["meanMs"]), _ms(one["slowestMs"]), str(one["calls"]), one["query"]) for one in statements]
        _section(
            f"Queries of {found['slowerThanMs']} ms or more on average", ("MEAN", "SLOWEST", "CALLS", "QUERY"), rows
        )
    rows = [(str(one["pid"]), one["role"], one["state"], _s(one["seconds"]), one["query"]) for one in found["activity"]]
    _section("Sessions that are not idle", ("PID", "ROLE", "STATE", "SINCE", "QUERY"), rows)
    if "locks" in found:
        _print_state(found)
    for note in found["notes"]:
        typer.secho(f"note: {note}", fg="yellow")


def _print_state(found: Mapping[str, Any]) -> None:
    typer.secho("Waiting for locks", bold=True)
    for one in found["locks"]:
        typer.echo(f"  {one['pid']} ({one['role']}, {one['application']}) waits {_s(one['seconds'])} for {one['mode']}")
        typer.echo(f"    on {one['onWhat']}: {one['query']}")
        typer.echo(
            f"    held by {one['blockedBy']} ({one['blockingRole']}, {one['blockingApplication']}), "
            f"{one['blockingState']}, in a transaction for {_s(one['blockingSeconds'])}: {one['blockingQuery']}"
        )
        typer.echo(f"    end it: SELECT pg_terminate_backend({one['blockedBy']})")
    if not found["locks"]:
        typer.echo("  none")
    rows = [
        (one["table"], str(one["dead"]), f"{one['deadPercent']:.0f} %", (one["lastVacuum"] or "never")[:16])
        for one in found["bloat"]
    ]
    _section("Tables with dead rows", ("TABLE", "DEAD ROWS", "PART", "LAST VACUUM"), rows)
    scans = [(one["table"], str(one["scans"]), f"{one['rowsPerScan']:.0f}") for one in found["scans"]]
    _section("Large tables read without an index", ("TABLE", "SCANS", "ROWS EACH"), scans)
    invalid = [(one["index"], one["table"]) for one in found["invalidIndexes"]]
    _section("Invalid indexes", ("INDEX", "TABLE"), invalid)


def _print_security(found: Mapping[str, Any]) -> None:
    hours = found["sinceSeconds"] / 3600
    typer.echo(f"The last {hours:g} h, {found['requestsInLogs']} requests in logs")
    rows = [
        (
            one["source"] or "(not logged)",
            str(one["total"]),
            ", ".join(f"{status}: {count}" for status, count in one["statuses"].items()),
            ", ".join(one["routes"]),
        )
        for one in found["sources"]
    ]
    _section("Refused requests by client, from logs", ("CLIENT", "REQUESTS", "STATUS", "ROUTES"), rows)
    for name, title in (("refused", "Refused requests"), ("events", "Security events"), ("alerts", "Alerts")):
        if found[name] is not None:
            counts = {key: count for key, count in found[name].items() if count}
            said = ", ".join(key if name == "alerts" else f"{key}: {count}" for key, count in counts.items())
            typer.echo(f"{title}, from metrics: {said or 'none'}")
    for note in found["notes"]:
        typer.secho(f"note: {note}", fg="yellow")


def _print_limits(found: Mapping[str, Any]) -> None:
    if found["keys"] is None:
        typer.echo(str(found["printed"]))
        return
    rows = [
        (
            one["key"],
            one["kind"],
            _amount(one),
            "never" if one["expiresInSeconds"] is None else _s(one["expiresInSeconds"]),
        )
        for one in found["keys"]
    ]
    _section(f"Limits of {found['user']}", ("KEY", "KIND", "USED", "EXPIRES IN"), rows)
    if found["more"]:
        typer.echo("… and more")


def _amount(one: Mapping[str, Any]) -> str:
    if one["entries"] is not None:
        return f"{one['entries']} entries"
    return "(no number)" if one["value"] is None else f"{one['value']:g}"


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from ops.cli.formatting import print_table

    typer.secho(title, bold=True)
    if rows:
        print_table([f"  {head[0]}", *head[1:]], [[f"  {row[0]}", *row[1:]] for row in rows])
    else:
        typer.echo("  none")


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _s(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"
