"""`runbook incident …` (HerbisVeritas "Incident Response", "Post-Mortem Automatique")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.common import READS, Invocation, command

if TYPE_CHECKING:
    from ops.commands.incident import IncidentLog

app = typer.Typer(help="Incidents: a log that only grows, who is notified, and the post-mortem.", no_args_is_help=True)
Which = Annotated[
    str | None,
    typer.Option("--incident", "-i", metavar="NAME", help="Its name, or how it begins. Default: the open one."),
]
Text = Annotated[str, typer.Argument(help="What happened, for the log.")]
Affects = Annotated[
    list[str] | None,
    typer.Option("--affects", metavar="NAME", help="What does not work, of runbook:statusPage.components; repeatable."),
]
Level = Annotated[int, typer.Option(min=1, max=4, help="1 critical, 2 major, 3 minor, 4 low (runbook:incidents).")]
_EXIT_CODES = "Exit codes: 0 written; 2 refused, nothing was changed."


@command(
    app,
    options=READS,
    examples="runbook incident start --level 1 'checkout answers 500'\nrunbook incident:start --level=1 'shop is down'",
    exit_codes=_EXIT_CODES,
)
def start(
    call: Invocation,
    title: Annotated[str, typer.Argument(help="What is wrong.")],
    level: Level,
    another: Annotated[bool, typer.Option("--another", help="Although another incident is open.")] = False,
    affects: Affects = None,
) -> None:
    """Open an incident and notify the people of its level; at level 1, show what the emergency procedures would do.

    Refused while one is open: two people write into one log.
    """
    log = open_log(call)
    _report(call, _with_procedures(log, log.start(level, title, another=another, affects=affects or ())), "is open")


@command(app, options=READS, examples="runbook incident note 'only card payments fail'", exit_codes=_EXIT_CODES)
def note(call: Invocation, text: Text, incident: Which = None) -> None:
    """Write down what is seen or done."""
    _report(call, open_log(call).append(incident, {"kind": "note", "text": text}), "has a note")


@command(
    app,
    options=READS,
    examples="runbook incident assess --users 1200 'who pay by card'\nrunbook incident:assess --level=2 'search fails'",
    exit_codes=_EXIT_CODES,
)
def assess(
    call: Invocation,
    text: Text,
    incident: Which = None,
    users: Annotated[int | None, typer.Option(min=0, help="How many users are affected.")] = None,
    level: Annotated[int | None, typer.Option(min=1, max=4, help="The level that it turns out to be.")] = None,
    affects: Affects = None,
) -> None:
    """Write down the impact: which users, how many, what does not work."""
    entry = {"kind": "assess", "text": text, "users": users, "level": level, "affects": affects or []}
    _report(call, open_log(call).append(incident, entry), "is assessed")


@command(
    app, options=READS, examples="runbook incident workaround 'card payments switched off'", exit_codes=_EXIT_CODES
)
def workaround(call: Invocation, text: Text, incident: Which = None) -> None:
    """Write down what relieves customers until it is resolved; the people of the level are notified."""
    _report(
        call, open_log(call).append(incident, {"kind": "workaround", "text": text}, notify=True), "has a workaround"
    )


@command(app, options=READS, examples="runbook incident escalate --level 1 'all payments fail'", exit_codes=_EXIT_CODES)
def escalate(call: Invocation, text: Text, level: Level, incident: Which = None, affects: Affects = None) -> None:
    """Change the level, and notify the people of the new one; at level 1, show the emergency procedures."""
    log, entry = open_log(call), {"kind": "escalate", "text": text, "level": level, "affects": affects or []}
    _report(call, _with_procedures(log, log.append(incident, entry, notify=True)), f"is of level {level}")


def _status_page(
    call: Invocation,
    text: Annotated[str | None, typer.Argument(help="What customers read.")] = None,
    incident: Which = None,
    template: Annotated[str | None, typer.Option(metavar="NAME", help="The text of a template, instead.")] = None,
    title: Annotated[str | None, typer.Option(help="What the page calls the incident, from now on.")] = None,
) -> None:
    """Write on the status page. Of an incident, customers read only this, its level, its times and what it affects."""
    _report(call, open_log(call).say(incident, text, template, title), "is on the status page")


_SAY_EXAMPLES = (
    "runbook incident status-page 'Payments by card fail. Other payments work.'\n"
    "runbook incident status-page --template identified\n"
    "runbook incident:status-page-update 'Investigating critical issue'"
)
command(app, "status-page", options=READS, examples=_SAY_EXAMPLES, exit_codes=_EXIT_CODES)(_status_page)
command(app, "status-page-update", options=READS, examples=_SAY_EXAMPLES, exit_codes=_EXIT_CODES)(_status_page)


@command(
    app,
    "schedule-fix",
    options=READS,
    examples="runbook incident schedule-fix 'a bigger pool' --at 2026-12-01T03:00 --for 30m "
    "--public 'We change the database. Orders may take longer.'\n"
    "runbook incident schedule-fix --withdraw 'the provider mended it'",
    exit_codes=_EXIT_CODES,
)
def schedule_fix(
    call: Invocation,
    text: Annotated[str, typer.Argument(help="What will be done, for the log.")],
    incident: Which = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When, such as 2026-12-01T03:00, in this machine's time.")
    ] = None,
    lasts: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long it takes.")] = "1h",
    public: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What customers read of it, as planned maintenance.")
    ] = None,
    affects: Affects = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="It will not be done; off the status page.")] = False,
) -> None:
    """Schedule the fix of an incident, or withdraw it; the last one counts. With -i also after the incident ended."""
    from ops.cli.durations import parse_seconds

    log = open_log(call)
    seconds = parse_seconds(lasts, "--for")
    done = log.schedule_fix(incident, text, at, seconds, public, affects or (), withdraw=withdraw)
    entry = done["entry"]
    when = "no longer has a fix scheduled" if withdraw else f"has a fix from {entry['from']} to {entry['until']}"
    _report(call, done, when)


@command(
    app, options=READS, examples="runbook incident publish", exit_codes="Exit codes: 0 published; 2 not published."
)
def publish(call: Invocation) -> None:
    """Publish the status page again: for the first time, or after its bucket could not be written."""
    from ops.errors import Refused

    done = open_log(call).publish()
    if not done["sent"]:
        raise Refused(str(done["text"]))
    call.show(done, str(done["text"]))


@command(
    app,
    options=READS,
    examples="runbook incident resolve 'rolled back to 41' --cause 'a short timeout' --action 'raise it=ada'\n"
    "runbook incident resolve 'provider answers again' --post-mortem post-mortem.md",
    exit_codes=_EXIT_CODES,
)
def resolve(
    call: Invocation,
    text: Annotated[str, typer.Argument(help="What resolved it.")],
    incident: Which = None,
    cause: Annotated[str | None, typer.Option(help="The root cause; unknown without it.")] = None,
    action: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=OWNER", help="What prevents it in future; repeatable.")
    ] = None,
    post_mortem: Annotated[
        Path | None,
        typer.Option(
            "--post-mortem",
            metavar="FILE",
            help="Also write the post-mortem there; as HTML with a picture, if it ends in .html.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Close an incident and notify. After level 1 or 2 a post-mortem is written, and kept in the record."""
    from ops.commands.incident import parse_actions

    entry = {"text": text, "cause": cause, "actions": parse_actions(action or ())}
    done = open_log(call).resolve(incident, entry)
    if post_mortem and done["postMortem"]:
        _write(post_mortem, done["postMortemPage" if post_mortem.suffix == ".html" else "postMortem"])
    kept = (
        f"; its post-mortem: `runbook incident show -i {done['incident']} --post-mortem`" if done["postMortem"] else ""
    )
    _report(call, done, f"is resolved{kept}")


@command(app, "list", options=READS, examples="runbook incident list\nrunbook incident list --json", exit_codes="")
def list_(call: Invocation) -> None:
    """List incidents, and the records of automatic rollbacks, lockdowns and emergency rotations; the newest first."""
    from ops.cli.formatting import local_time, print_table
    from ops.decisions.incident import KIND, read_incident

    rows = []
    for record in open_log(call).list_all():
        found = read_incident(record, record["entries"])
        closed = record.get("closedAt") or found.to_json()["resolvedAt"]
        level = found.level if record["kind"] == KIND else None
        rows.append(
            {"name": found.name, "kind": record["kind"], "level": level, "title": found.title}
            | {"by": found.by, "openedAt": record["openedAt"], "closedAt": closed}
        )
    if not rows and not call.as_json:
        typer.echo("There was no incident.", err=True)
        return

    def show(found: Sequence[Mapping[str, Any]]) -> None:
        head = ("INCIDENT", "LEVEL", "OPENED", "CLOSED", "TITLE")
        cells = [
            (
                one["name"],
                str(one["level"] or "-"),
                local_time(one["openedAt"]),
                local_time(one["closedAt"]) if one["closedAt"] else "open",
                one["title"],
            )
            for one in found
        ]
        print_table(head, cells)

    call.show_rows(rows, show)


@command(
    app,
    options=READS,
    examples="runbook incident show\nrunbook incident show -i incident-reported-0007 --post-mortem > report.md\n"
    "runbook incident show -i incident-reported-0007 --post-mortem --html > report.html",
    exit_codes="",
)
def show(
    call: Invocation,
    incident: Which = None,
    post_mortem: Annotated[
        bool, typer.Option("--post-mortem", help="Write the post-mortem from what is known now, and print it.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="With --post-mortem: as HTML, with a picture.")] = False,
) -> None:
    """Show the log of an incident; without a name, of the newest one."""
    from ops.cli.formatting import local_time, print_table

    log = open_log(call)
    found = log.find(incident, closed=True)
    if post_mortem:
        text, page = log.write_post_mortem(found)
        call.show({**found.to_json(), "postMortem": text}, (page if html else text).rstrip())
        return
    shown = found.to_json()

    def print_log(_: Any) -> None:
        state = f"resolved {local_time(shown['resolvedAt'])}" if shown["resolvedAt"] else "open"
        typer.secho(f"{found.name}, level {found.level}, {state}: {found.title}", bold=True)
        if shown["entries"]:
            rows = [(local_time(one["at"]), one["by"], one["kind"], one["text"]) for one in shown["entries"]]
            print_table(("WHEN", "WHO", "WHAT", ""), rows)

    call.show_rows(shown, print_log)


def open_log(call: Invocation) -> IncidentLog:
    """The incidents of the stack of a call."""
    from ops.commands.incident import IncidentLog

    return IncidentLog(call.open_session())


def _write(file: Path, text: str) -> None:
    from ops.errors import Refused

    try:
        file.write_text(text)
    except OSError as error:
        raise Refused(f"--post-mortem {file}: {error.strerror}. The incident is resolved, the record has it.") from None


def _report(call: Invocation, done: Mapping[str, Any], what: str) -> None:
    if call.as_json:
        call.show(done, "")
        return
    typer.secho(f"{done['incident']} {what}.", fg="green")
    for sent in filter(None, (done["notified"], done["published"], done.get("announced"))):
        typer.secho(sent["text"], fg=None if sent["sent"] else "yellow", err=not sent["sent"])
    for line in done.get("next", ()):
        typer.echo(line)
    if "procedures" in done:
        from ops.cli.incident_watch import print_procedures

        print_procedures(done["procedures"])


def _with_procedures(log: IncidentLog, done: Mapping[str, Any]) -> dict[str, Any]:
    """With what to do next. It is open, and people are notified: what cannot be read now is only said."""
    from ops.cli.incident_watch import list_for
    from ops.errors import OpsError
    from settings.incidents import PROCEDURES_LEVEL

    level, following = int(done["level"]), dict(done)
    if seconds := log.settings.incidents.pace(level).watch_seconds:
        following["next"] = [f"Enhanced mode, an observation every {seconds} s: `runbook incident watch`."]
    if level <= PROCEDURES_LEVEL:
        try:
            following["procedures"] = list_for(log.session)
        except OpsError as error:
            why = f"The emergency procedures cannot be judged now: {error.brief} `runbook incident procedures`."
            following["next"] = [*following.get("next", ()), why]
    return following
