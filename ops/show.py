"""What the reading commands find out (`history`, `diff`, `status`), and how it looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops import decisions, health, stackfile
from ops.errors import Refused
from ops.history import Entry
from ops.locks import held
from ops.session import Session, outputs, pending_creates
from settings import parse, stack_file

# -- history -------------------------------------------------------------------------------------------


def history(session: Session, size: int, page: int) -> list[dict[str, Any]]:
    return [row(entry) for entry in session.engine.history(size, page)]


def row(entry: Entry) -> dict[str, Any]:
    release = entry.release
    return {
        "revision": entry.revision,
        "when": entry.started.isoformat(),
        "who": entry.who,
        "action": entry.action,
        "image": release.image if release else None,
        "git": release.git if release else None,
        "version": release.version if release else None,
        "schema": release.schema_.to_config() if release else None,
        "rollbackOf": release.rollback_of if release else None,
        "result": entry.result,
        "seconds": entry.seconds,
        "changes": {op: count for op, count in entry.changes.items() if op != "same"},
    }


def print_history(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    table = _table("REVISION", "WHEN", "WHO", "ACTION", "IMAGE", "GIT", "SCHEMA", "RESULT", "TIME")
    for item in rows:
        action = f"{item['action']} of {item['rollbackOf']}" if item["rollbackOf"] else item["action"]
        result = item["result"]
        table.add_row(
            _text(item["revision"]), local(item["when"]), item["who"], action, shorter(item["image"]), (item["git"] or "-")[:10],
            _schema(item["schema"]), f"[{'green' if result == 'succeeded' else 'red'}]{result}[/]",
            "-" if item["seconds"] is None else f"{item['seconds']} s",
        )  # fmt: skip
    console.print(table)


# -- diff ----------------------------------------------------------------------------------------------


def diff(session: Session, revision: int) -> list[dict[str, Any]]:
    """What differs between that revision and now: image, schema, services and commands."""
    past = session.history()
    entry = next((item for item in past.updates() if item.revision == revision), None)
    if entry is None:
        known = sorted({item.revision for item in past.updates() if item.revision})
        have = f"it has {known[0]} to {known[-1]}" if known else "this stack was never deployed"
        raise Refused(
            f"Revision {revision} does not exist in this stack's history: {have} (`runbook history`)."
        )
    now = stackfile.read(session.file).config
    found = decisions.differences(entry.config, now)
    return [{"path": path, "then": then, "now": current} for path, then, current in found]


def print_differences(console: Console, rows: Sequence[Mapping[str, Any]], then: str, now: str) -> None:
    table = _table("WHAT", then, now)
    for item in rows:
        table.add_row(escape(item["path"]), _text(item["then"]), _text(item["now"]))
    console.print(table if rows else "No difference in image, schema, services or commands.")


# -- status --------------------------------------------------------------------------------------------


def status(session: Session) -> dict[str, Any]:
    """Everything asked at once. A part that could not be asked says why instead."""
    settings = parse(stack_file(session.file))
    text = stackfile.read(session.file)
    with ThreadPoolExecutor() as pool:
        past_, state_ = pool.submit(session.engine.history, 10, 1), pool.submit(session.engine.state)
        backend_ = pool.submit(session.engine.backend)
        cluster_ = pool.submit(session.cluster, settings, text.config)
        services = settings.application.services
        rollouts_ = pool.submit(lambda: cluster_.result().rollouts(services))
        level_ = pool.submit(lambda: cluster_.result().schema_level(services[0], settings.commands))
        past, state = past_.result(), state_.result()
        url = outputs(state).get("url")
        report = health.ask(url) if isinstance(url, str) else None
        problems: list[str] = []
        rollouts = _or_problem(rollouts_, problems, [])
        level = _or_problem(level_, problems, None)
    now = decisions.standing(text.config, next((item for item in past if item.release), None))
    locks = held(backend_.result(), session.project, session.stack.rsplit("/", 1)[-1])
    release = now.release
    return {
        "stack": session.stack,
        "revision": release.revision if release else None,
        "image": release.image if release else None,
        "git": release.git if release else None,
        "version": release.version if release else None,
        "action": release.action if release else None,
        "finished": now.finished,
        "schema": {"database": level, "release": release.schema_.to_config() if release else None},
        "services": [
            {"name": r.service, "ready": r.ready, "wanted": r.wanted, "settled": r.settled, "image": r.image} for r in rollouts
        ],
        "url": url if isinstance(url, str) else None,
        "health": {"status": report.status, "detail": report.detail} if report else None,
        "lock": None if locks is None else [str(lock) for lock in locks],
        "pending": [item["urn"] for item in pending_creates(state)],
        "quarantine": [item.to_config() for item in now.quarantine],
        "lastUpdate": row(past[0]) if past else None,
        "problems": problems,
    }  # fmt: skip


def healthy(found: Mapping[str, Any]) -> bool:
    """Deployed, every pod ready on the newest template, and the health report not bad."""
    last = found["lastUpdate"]
    return (
        found["revision"] is not None
        and bool(found["services"])
        and all(item["settled"] for item in found["services"])
        and not (found["health"] and (found["health"]["status"] or 200) >= 500)
        and (last is None or last["result"] == "succeeded")
    )


def _or_problem(future: Any, problems: list[str], otherwise: Any) -> Any:
    try:
        return future.result()
    except Refused as error:
        if str(error) not in problems:
            problems.append(str(error))
        return otherwise


def print_status(console: Console, found: Mapping[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    last, release = found["lastUpdate"], found["schema"]["release"]
    never = "never deployed: `runbook deploy IMAGE`"
    rows: list[tuple[str, str]] = [
        ("stack", found["stack"]),
        ("revision", f"{found['revision']} ({found['action']})" if found["revision"] else never),
    ]
    if found["revision"]:
        unfinished = "" if found["finished"] else "  [yellow]not finished: run the same command again[/]"
        rows[1] = ("revision", rows[1][1] + unfinished)
        rows += [("image", found["image"]), ("git", found["git"])]
    if release:
        database = "unknown" if found["schema"]["database"] is None else str(found["schema"]["database"])
        rows.append(("schema", f"database at {database}, release serves {_schema(release)}"))
    for item in found["services"]:
        colour = "green" if item["settled"] else "red"
        rows.append((item["name"], f"[{colour}]{item['ready']} of {item['wanted']} ready[/]"))
    if report := found["health"]:
        word = (
            f"{report['status']} {report['detail']}" if report["status"] else f"not asked: {report['detail']}"
        )
        rows.append(
            ("health", f"[{'green' if report['status'] == 200 else 'red'}]{escape(word)}[/] {found['url']}")
        )
    locks = found["lock"]
    rows.append(("lock", "not visible in this backend" if locks is None else ", ".join(locks) or "none"))
    rows.append(("pending", ", ".join(found["pending"]) or "nothing"))
    if last:
        rows.append(
            (
                "last update",
                f"{last['result']}, {local(last['when'])}, {last['seconds']} s, {last['who'] or '-'}",
            )
        )
    rows += [
        ("quarantine", f"{item['digest'][:19]} revision {item['revision']}: {escape(item['reason'])}")
        for item in found["quarantine"]
    ]
    rows += [("problem", f"[red]{escape(problem)}[/]") for problem in found["problems"]]
    for name, value in rows:
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table)


# -- small words ---------------------------------------------------------------------------------------


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def local(when: str) -> str:
    return f"{datetime.fromisoformat(when).astimezone():%Y-%m-%d %H:%M:%S}"


def shorter(image: str | None) -> str:
    """The image with twelve digits of its digest."""
    if not image:
        return "-"
    name, _, digest = image.partition("@sha256:")
    return f"{name.rsplit('/', 1)[-1]}@{digest[:12]}" if digest else name


def _schema(schema: Mapping[str, int] | None) -> str:
    if not schema:
        return "-"
    return str(schema["min"]) if schema["min"] == schema["max"] else f"{schema['min']} to {schema['max']}"


def _text(value: object) -> str:
    return "-" if value is None else escape(str(value))
