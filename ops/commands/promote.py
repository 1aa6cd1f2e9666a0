"""`runbook promote`: release on one stack, by digest, exactly what another one has served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.adapters import fired_triggers
from ops.commands import health
from ops.commands.deploy import Wish, deploy
from ops.commands.update import LockPolicy
from ops.decisions.promotion import (
    Candidate,
    compare_stacks,
    find_candidate,
    refuse_after_triggers,
    refuse_quarantined,
)
from ops.errors import NotMeasured, Refused
from ops.stack import stack_file
from ops.stack.history import Entry
from ops.stack.session import Session
from ops.stack.stack_context import load_settings, outputs, require_application
from settings import Quarantined


@dataclass(frozen=True)
class Promotion:
    """What would be released, and how the stacks differ beside it."""

    candidate: Candidate
    differences: list[tuple[str, Any, Any]]
    """(path, value of the source, value of the target)."""

    def to_dict(self) -> dict[str, Any]:
        release = self.candidate.release
        return {
            "image": release.image,
            "git": release.git,
            "version": release.version,
            "servedMinutes": int(self.candidate.served.total_seconds() // 60),
            "differences": [
                {"path": path, "source": source, "target": target} for path, source, target in self.differences
            ],
        }


def plan_promotion(source: Session, target: Session) -> Promotion:
    """Judge what the source serves now. Reads its history, its stack file and its health; writes nothing."""
    if source.file == target.file:
        raise Refused(f"Both stacks read {source.file.name}: PULUMI_OPTION_CONFIG_FILE is for one stack only.")
    require_application(target, "promote a release to")
    settings = load_settings(target.file)
    there, here = stack_file.read(source.file).config, stack_file.read(target.file).config
    least = timedelta(minutes=settings.guards.promote_after_minutes)
    now = datetime.now(UTC)
    updates: list[Entry] = []
    for entry in source.history().updates():  # page by page: the first one that is old enough ends it
        updates.append(entry)
        if now - (entry.ended or entry.started) >= least:
            break
    candidate = find_candidate(source.stack, there, updates, least, now)
    refuse_quarantined(
        target.stack,
        candidate.release,
        [Quarantined.model_validate(item) for item in here.get("runbook:quarantine") or ()],
    )
    _refuse_unhealthy(source)
    _refuse_after_triggers(source, target, candidate, now)
    return Promotion(candidate, compare_stacks(there, here))


def _refuse_unhealthy(source: Session) -> None:
    url = outputs(source.reader.read_state()).get("url")
    if not isinstance(url, str):
        return
    path = load_settings(source.file).health_path
    answer = health.read_health(url, path)
    if answer.bad:
        raise Refused(f"{source.stack} is not healthy now: {url}{path} answers {answer.status} {answer.detail}")


def _refuse_after_triggers(source: Session, target: Session, candidate: Candidate, now: datetime) -> None:
    """Ask the source's cluster what fired while it served the release. What cannot be asked is said, and refuses
    nothing: an identity that may promote need not read the other cluster."""
    settings = load_settings(source.file)
    if not settings.monitoring:
        source.say(f"warning: {source.stack} has no monitoring, so no trigger could fire there", "yellow")
        return
    cluster = source.cluster(settings, stack_file.read(source.file).config)
    since = now - candidate.served
    fired: list[fired_triggers.Fired] = []
    questions = (
        lambda: fired_triggers.read_records(cluster, since),
        lambda: fired_triggers.read_alerts(cluster, since, now),
    )
    for ask in questions:
        try:
            fired += ask()
        except (NotMeasured, Refused) as error:
            source.say(f"warning: whether a trigger fired on {source.stack} is not known: {error}", "yellow")
    refuse_after_triggers(source.stack, target.stack, candidate.release, [str(one) for one in fired])


def promote(target: Session, promotion: Promotion, policy: LockPolicy, wish: Mapping[str, Any]) -> dict[str, Any]:
    """Release it on the target, with all gates of a deploy."""
    release = promotion.candidate.release
    schema = {"min": release.schema_.min, "max": release.schema_.max, "level": release.schema_.level}
    return deploy(target, Wish(release.image, release.git, release.version, schema, **wish), policy)
