"""`runbook status`: what runs, and whether it is healthy."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.adapters.cluster import Cluster, Rollout
from ops.adapters.environment import NODES, read_objects
from ops.cli.formatting import format_levels, local_time
from ops.commands import health
from ops.decisions.drift import Drift, find_drift
from ops.decisions.health_checks import answers_well
from ops.decisions.kept_images import KeptImage, count_nodes
from ops.decisions.release_state import ReleaseState, describe_lockdown, read_release_state
from ops.decisions.rollback_target import rollback_target
from ops.errors import NotMeasured, Refused
from ops.stack import stack_file
from ops.stack.command_lock import read_holder
from ops.stack.history import PAGE, History, history_row
from ops.stack.session import Session
from ops.stack.stack_context import load_settings, outputs, pending_creates


def read_status(session: Session) -> dict[str, Any]:
    """Read everything in parallel. A part that could not be read is a problem in the result."""
    settings, text = load_settings(session.file), stack_file.read(session.file)
    services = settings.application.services
    with ThreadPoolExecutor(max_workers=8) as pool:
        past_, state_ = pool.submit(session.reader.read_history, PAGE, 1), pool.submit(session.reader.read_state)
        locks_ = pool.submit(session.locks)
        cluster_ = pool.submit(session.cluster, settings, text.config)
        command_ = pool.submit(lambda: read_holder(cluster_.result()))
        rollouts_ = pool.submit(lambda: cluster_.result().rollouts(services))
        level_ = pool.submit(
            lambda: (
                cluster_.result().schema_level(settings.application.main_service, settings.commands)
                if services
                else None
            )
        )
        workloads_ = pool.submit(lambda: cluster_.result().read_workloads())
        nodes_ = pool.submit(lambda: _read_nodes(cluster_.result()))
        clock_ = pool.submit(lambda: cluster_.result().read_clock()) if settings.lockdown else None
        past, state, locks = past_.result(), state_.result(), locks_.result()
        url = outputs(state).get("url")
        report = health.read_health(url, settings.health_path) if isinstance(url, str) else None
        problems: list[str] = []
        rollouts = _or_problem(rollouts_, problems, [])
        level = _or_problem(level_, problems, None)
        command = _or_problem(command_, problems, None)
        workloads = _or_problem(workloads_, problems, None)
        clock = _or_problem(clock_, problems, None) if clock_ else None
        nodes = _or_problem(nodes_, problems, None)
    history = History(lambda size, page: past if page == 1 else session.reader.read_history(size, page))
    now = read_release_state(text.config, next(history.updates(), None))
    release = now.release.to_config() if now.release else {}
    running = [_describe(it) for it in rollouts] if services else list_servers(workloads or ())
    return {
        "stack": session.stack,
        "application": bool(services),
        **{key: release.get(key) for key in ("revision", "image", "git", "version", "action")},
        "finished": now.finished,
        "schema": {"database": level, "release": release.get("schema")},
        "services": running,
        "url": url if isinstance(url, str) else None,
        "health": {"status": report.status, "detail": report.detail} if report else None,
        "rollback": find_rollback(history, now, nodes),
        "drift": None if workloads is None else [vars(item) for item in find_drift(state, workloads)],
        "command": command,
        "lock": None if locks is None else [str(lock) for lock in locks],
        "pending": [item["urn"] for item in pending_creates(state)],
        "quarantine": [item.to_config() for item in now.quarantine],
        "lockdown": describe_lockdown(settings.lockdown, clock.now() if clock else datetime.now(UTC)),
        "lastUpdate": history_row(past[0]) if past else None,
        "problems": problems,
    }


def _describe(it: Rollout) -> dict[str, Any]:
    return {"name": it.service, "ready": it.ready, "wanted": it.wanted, "settled": it.settled, "image": it.image}


def list_servers(workloads: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What runs in a stack without an application: its Deployments and StatefulSets, described as services are."""
    found = []
    for item in workloads:
        spec, state = item["spec"], item.get("status") or {}
        wanted, ready, updated = spec.get("replicas", 1), state.get("readyReplicas", 0), state.get("updatedReplicas", 0)
        newest = state.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
        found.append(
            {
                "name": item["metadata"]["name"],
                "ready": ready,
                "wanted": wanted,
                "settled": newest and ready == updated == wanted == state.get("replicas", 0),
                "image": spec["template"]["spec"]["containers"][0]["image"],
            }
        )
    return sorted(found, key=lambda one: one["name"])


def _read_nodes(cluster: Cluster) -> list[dict[str, Any]] | None:
    """None for an identity that may not list them, which is no problem of the stack."""
    try:
        return read_objects(cluster, NODES)
    except NotMeasured:
        return None


def find_rollback(
    history: History, now: ReleaseState, nodes: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any] | None:
    """What `runbook rollback` would go back to, and on which nodes its image is; None without such a release."""
    try:
        target = rollback_target(history, now, None, allow_quarantined=False).release
    except Refused:
        return None
    if target is None:
        return None
    kept = count_nodes(nodes, target.revision, target.image) if nodes is not None else None
    return {"revision": target.revision, "image": target.image, "kept": kept.to_json() if kept else None}


def is_healthy(found: Mapping[str, Any]) -> bool:
    """Deployed, finished, every pod ready on the newest template, and the health report not bad. Without an application
    there is no release: what was applied last succeeded, and its pods are ready."""
    if not found["application"]:
        last = found["lastUpdate"]
        return bool(last) and last["result"] == "succeeded" and all(item["settled"] for item in found["services"])
    return (
        found["revision"] is not None
        and found["finished"]
        and bool(found["services"])
        and all(item["settled"] for item in found["services"])
        and (found["health"] is None or found["health"]["status"] is None or answers_well(found["health"]["status"]))
        and found["lastUpdate"]["result"] == "succeeded"
    )


def _or_problem(future: Future[Any], problems: list[str], otherwise: Any) -> Any:
    try:
        return future.result()
    except Refused as error:
        if str(error) not in problems:
            problems.append(str(error))
        return otherwise


def print_status(found: Mapping[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in [*_release(found), *_running(found), *_upkeep(found)]:
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _release(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not found["application"]:
        applied = (
            "none: `pulumi up` applies the stack file" if found["lastUpdate"] else "none. Never applied: `pulumi up`"
        )
        return [("stack", found["stack"]), ("application", applied)]
    if found["revision"] is None:
        return [("stack", found["stack"]), ("revision", "never deployed: `runbook deploy IMAGE`")]
    unfinished = "" if found["finished"] else "  [yellow]not finished: run the same command again[/]"
    database, serves = found["schema"]["database"], format_levels(found["schema"]["release"])
    return [
        ("stack", found["stack"]),
        ("revision", f"{found['revision']} ({found['action']}){unfinished}"),
        ("image", found["image"]),
        ("git", found["git"] + (f", version {found['version']}" if found["version"] else "")),
        ("schema", f"database at {'unknown' if database is None else database}, release serves {serves}"),
    ]


def _running(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (it["name"], f"[{'green' if it['settled'] else 'red'}]{it['ready']} of {it['wanted']} pods ready[/]")
        for it in found["services"]
    ]
    if report := found["health"]:
        text = f"{report['status']} {report['detail']}" if report["status"] else f"no answer: {report['detail']}"
        colour = "green" if answers_well(report["status"]) else "red"
        rows.append(("health", f"[{colour}]{escape(text)}[/] {found['url']}"))
    return rows


def _upkeep(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    locks, last = found["lock"], found["lastUpdate"]
    command = found["command"]
    rows = [
        ("in use", "{doing} by {user}@{host}, since {since}".format(**command) if command else "no"),
        (
            "lock",
            "unknown: this backend reports locks only to updates" if locks is None else ", ".join(locks) or "none",
        ),
        ("pending", ", ".join(found["pending"]) or "nothing"),
    ]
    if (back := found["rollback"]) and back["kept"]:
        rows.append(("rollback", str(KeptImage(**back["kept"]))))
    if last:
        text = f"{last['result']}, {local_time(last['when'])}, {last['seconds']} s, by {last['who'] or 'unknown'}"
        rows.append(("last update", text))
    drift = found["drift"] or []
    rows += [("drift", f"[red]{escape(str(Drift(**item)))}[/]") for item in drift]
    if drift:
        rows.append(("", "`pulumi up --refresh` restores what the stack says"))
    for item in found["quarantine"]:
        reason = escape(textwrap.shorten(item["reason"], 100, placeholder=" …"))
        rows.append(("quarantine", f"{item['digest'][:19]} revision {item['revision']}: {reason}"))
    if (locked := found["lockdown"])["state"] != "off":
        rows.append(("lockdown", _locked(locked)))
    return rows + [("problem", f"[red]{escape(problem)}[/]") for problem in found["problems"]]


def _locked(found: Mapping[str, Any]) -> str:
    it = found["lockdown"]
    until = local_time(it["until"])
    if found["state"] == "over":
        return f"[yellow]ended at {until}; CronJobs start again after `runbook security unlock`[/]"
    reason = escape(textwrap.shorten(it["reason"], 100, placeholder=" …"))
    return f"[red]until {until} ({found['secondsLeft']} s)[/] {reason}"
