"""Whether a release may go live (runbook-de-production §5): each line of the checklist from what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ops.decisions.health_checks import answers_well
from ops.decisions.report import Line
from ops.decisions.schema_gate import Database
from settings import Backup, Release
from settings.go_live import LINES, GoLive

Step = Mapping[str, Any]


@dataclass(frozen=True)
class Ran:
    """A command of the release, run to its end."""

    passed: bool
    evidence: str


@dataclass(frozen=True)
class Facts:
    """What was found. A text instead of a value says why it could not be found."""

    now: datetime
    release: Release
    database: Database
    steps: Mapping[str, Sequence[Step]] | str
    """Of each line that was tried in the application's network."""
    backups: Sequence[Mapping[str, Any]] | str
    """Newest first, as `backup list` prints them."""
    backup: Backup | None
    url: str
    """URL that customers use."""
    front_door: tuple[int | None, str]
    """Status and detail of the health check there, from this machine."""
    commands: Mapping[str, Ran] = field(default_factory=dict)


def judge(checklist: GoLive, facts: Facts) -> list[Line]:
    """Every line of the checklist, in order; one that is left out says why."""
    found: list[Line] = []
    for name, title in LINES.items():
        if reason := checklist.without.get(name):  # type: ignore[call-overload] - the keys are the lines' names
            found.append(Line(name, title, "left out", f"by runbook:checklist.without: {reason}"))
            continue
        passed, evidence, remedy = _JUDGES.get(name, _judge_steps(name))(checklist, facts)
        found.append(Line(name, title, "pass" if passed else "fail", evidence, None if passed else remedy))
    return found


Verdict = tuple[bool, str, str]
_Judge = Callable[[GoLive, Facts], Verdict]
_SET = "set it with `pulumi config set --secret secrets:NAME` and name it in runbook:application.secrets, then deploy"
_REMEDIES = {
    "variables": _SET,
    "api": "look at `runbook status` and the pods' logs",
    "frontend": "look at the pods' logs; another page or status is runbook:checklist.frontend.check",
    "stripe": "compare the secret with the one of this endpoint in Stripe's dashboard (`runbook rotate start "
    "stripe-webhook` replaces it); paths and header are runbook:checklist.stripe.webhooks",
    "smtp": "check host, login and certificate with the mail provider; runbook:network.egress has to allow the port",
    "redis": "check secrets:REDIS_URL and the user's rights at the server",
    "clamav": "start clamd with TCPSocket and a signature database; runbook:network.egress has to allow the port",
    "administrators": "let every administrator set up TOTP or recovery codes, or take the role away",
}


def _judge_steps(name: str) -> _Judge:
    def decide(_checklist: GoLive, facts: Facts) -> Verdict:
        if isinstance(facts.steps, str):
            return False, f"not tried: {facts.steps}", "run `runbook go-live` again when that is mended"
        steps = facts.steps.get(name)
        if steps is None:
            why = "not tried: the stack was last updated with another runbook:checklist"
            return False, why, "run `pulumi up`, or deploy"
        if not steps:
            return True, "nothing more is named", ""
        last = steps[-1]
        if not last["passed"]:
            remedy = _SET if last["step"] == "variables" else _REMEDIES[name]
            return False, f"{last['step']}: {last['found']}", remedy
        return True, "; ".join(f"{step['step']}: {step['found']}" for step in steps), ""

    return decide


def _judge_migrations(_checklist: GoLive, facts: Facts) -> Verdict:
    schema, level = facts.release.schema_, facts.database
    if level.source != "measured":
        return False, "no ready pod could say the schema level", "look at `runbook status`"
    evidence = f"schema level {level}; revision {facts.release.revision} wants {schema.level} to {schema.max}"
    remedy = "deploy the release again; `runbook rollback --restore-database` goes back to older data"
    return schema.level <= level.low <= schema.max, evidence, remedy


def _judge_backup(checklist: GoLive, facts: Facts) -> Verdict:
    plan, backups = facts.backup, facts.backups
    if plan is None:
        return False, "the stack file has no runbook:backup", "write it (docs/backups.md), then deploy"
    if isinstance(backups, str):
        return False, backups, "look at `runbook backup list`"
    if not backups:
        return False, "there is no backup", "run `runbook backup now`, then `runbook backup verify`"
    newest = backups[0]
    age = facts.now - datetime.fromisoformat(newest["created_at"])
    evidence = f"{newest['id']} of {newest['created_at']}"
    if age < timedelta(0):
        return False, f"{evidence} is of the future", "set this machine's clock"
    limit = plan.interval * plan.alerts.missed_intervals
    if age > limit:
        return False, f"{evidence} is {_hours(age)} old, and {_hours(limit)} are allowed", "run `runbook backup now`"
    within = timedelta(hours=plan.restore_test.max_age_hours)
    candidates = backups[:1] if checklist.backup.proven == "newest" else backups
    for item in candidates:
        if item["proven_at"] and facts.now - datetime.fromisoformat(item["proven_at"]) <= within:
            which = "" if item is newest else f" ({item['id']})"
            return True, f"{evidence}; proven{which} at {item['proven_at']}", ""
    what = "it" if checklist.backup.proven == "newest" else "no backup"
    verb = "is not proven" if what == "it" else "is proven"
    return False, f"{evidence}; {what} {verb} within {_hours(within)}", "run `runbook backup verify`"


def _judge_administrators(checklist: GoLive, facts: Facts) -> Verdict:
    asked = checklist.administrators
    if asked.query:
        return _judge_steps("administrators")(checklist, facts)
    if asked.command:
        return _judge_command("administrators", _REMEDIES["administrators"])(checklist, facts)
    remedy = (
        "write runbook:checklist.administrators.query (or command), for example SELECT id, totp_enabled FROM users "
        "WHERE role = 'admin', then deploy"
    )
    return False, "nothing says how to learn the administrators' second factors", remedy


def _judge_front_door(_checklist: GoLive, facts: Facts) -> Verdict:
    status, detail = facts.front_door
    evidence = f"{facts.url} answers {status} {detail}" if status else f"{facts.url}: no answer: {detail}"
    remedy = "check DNS, certificate and ingress (`runbook check`), from a machine that reaches it as customers do"
    return answers_well(status), evidence, remedy


def _judge_command(name: str, remedy: str) -> _Judge:
    def decide(_checklist: GoLive, facts: Facts) -> Verdict:
        ran = facts.commands.get(name, Ran(False, "not run"))
        return ran.passed, ran.evidence, remedy

    return decide


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"


_JUDGES: Mapping[str, _Judge] = {
    "migrations": _judge_migrations,
    "backup": _judge_backup,
    "payments": _judge_command("payments", "read what the command printed; it is runbook:checklist.payments"),
    "administrators": _judge_administrators,
    "online": _judge_front_door,
    "smoke": _judge_command("smoke", "read what the command printed; it is runbook:checklist.smoke"),
}
