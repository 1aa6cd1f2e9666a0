"""The emergency procedures of an incident, and what each would do now (HerbisVeritas "Incident Response", level 1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ops.decisions.incident import describe_duration
from settings import Lockdown, StackSettings


@dataclass(frozen=True)
class Procedure:
    """One of them. `possible`: it would not be refused, as far as is known now."""

    name: str
    command: str
    effect: str
    possible: bool = True

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Situation:
    """What the procedures are judged by."""

    rollback: str | None
    """What a rollback would do; None where it would be refused."""
    refusal: str
    """Why it would be."""
    ages: Mapping[str, float | None]
    """Seconds since the newest backup was made (`backupAge`), and since a restore was proven (`provenAge`)."""
    lockdown: Lockdown | None
    """The one that stands."""
    now: datetime


def list_procedures(settings: StackSettings, found: Situation) -> list[Procedure]:
    """From the one that takes least away from customers to the one that takes most."""
    return [
        _rollback(found),
        *_relief(settings),
        _maintenance(settings),
        _lockdown(settings, found),
        *_restore(settings, found),
    ]


def _rollback(found: Situation) -> Procedure:
    if found.rollback is None:
        return Procedure("rollback", "runbook rollback", f"refused: {found.refusal}", possible=False)
    return Procedure("rollback", "runbook rollback", found.rollback)


def _relief(settings: StackSettings) -> Iterator[Procedure]:
    names = ", ".join(one.name for one in settings.application.services)
    if names:
        yield Procedure("restart", "runbook system restart", f"new pods of the same release, in turn: {names}")
    if settings.operations.cache_clear or settings.commands.cache:
        given = settings.operations.cache_clear
        about = given.about if given else "purges and warms the caches (runbook:commands.cache)"
        yield Procedure("clear caches", "runbook performance emergency-cache-clear", about)
    if given := settings.operations.optimization:
        yield Procedure("relieve", "runbook performance emergency-optimization", given.about)


def _maintenance(settings: StackSettings) -> Procedure:
    if on := settings.maintenance:
        return Procedure("maintenance", "runbook maintenance off", f"is on ({on.reason}): customers get the shop again")
    effect = "customers get the maintenance page, status 503; the pods stay"
    return Procedure("maintenance", "runbook maintenance on REASON", effect)


def _lockdown(settings: StackSettings, found: Situation) -> Procedure:
    if found.lockdown:
        left = describe_duration(found.lockdown.until - found.now)
        effect = f"is on for {left} ({found.lockdown.reason}): all clients are admitted again"
        return Procedure("lockdown", "runbook security unlock", effect)
    security = settings.security
    clients = ", ".join(security.allow) or "no client (runbook:security.allow is empty)"
    lasts = describe_duration(timedelta(seconds=security.lockdown_seconds))
    effect = f"{clients} may read, all writes are refused, CronJobs are suspended; for {lasts}"
    return Procedure("lockdown", "runbook security lockdown --reason REASON", effect)


def _restore(settings: StackSettings, found: Situation) -> Iterator[Procedure]:
    if settings.backup is None:
        return
    command = "runbook restore start ID --in-place"
    made, proven = found.ages.get("backupAge"), found.ages.get("provenAge")
    if made is None:
        effect = "how old the newest backup is, is not known here: `runbook backup list`"
        yield Procedure("restore", command, effect)
        return
    tested = "no restore was proven" if proven is None else f"a restore was proven {_ago(proven)} ago"
    effect = (
        f"what was written in the last {_ago(made)} is lost (the newest backup's age; {tested}); maintenance meanwhile"
    )
    yield Procedure("restore", command, effect)


def _ago(seconds: float) -> str:
    """Without seconds, from a minute on."""
    return describe_duration(timedelta(seconds=seconds if seconds < 60 else seconds // 60 * 60)).removesuffix(" 0 s")
