"""Which backups stay, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.backup.manifest import Manifest
from tasks.environment import Environment
from tasks.errors import Refused

_INVALID = "retention_invalid"
_DEFAULT_LEAST = 3
_WAYS_BACK = 2
"""Pre-release backups that never go: releases are not made by the calendar."""


@dataclass(frozen=True)
class Retention:
    """How long and how many."""

    days: int
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    least: int = _DEFAULT_LEAST

    @classmethod
    def from_environment(cls, environment: Environment) -> Retention:
        """Refuses what would delete everything: `retention_invalid`."""
        days = environment.integer("BACKUP_RETENTION_DAYS", least=1, code=_INVALID)
        if days is None:
            raise Refused(_INVALID, "BACKUP_RETENTION_DAYS is not set; write for example BACKUP_RETENTION_DAYS=30")
        periods = {
            period: environment.integer(f"BACKUP_KEEP_{period.upper()}", least=0, code=_INVALID) or 0
            for period in ("daily", "weekly", "monthly", "yearly")
        }
        least = environment.integer("BACKUP_KEEP_LEAST", least=1, code=_INVALID) or _DEFAULT_LEAST
        return cls(days=days, least=least, **periods)


@dataclass(frozen=True)
class Verdict:
    """One backup: the reasons to keep it; none means that it goes."""

    manifest: Manifest
    why: tuple[str, ...]


def decide(
    backups: Sequence[Manifest],
    retention: Retention,
    now: datetime,
    *,
    proven: Iterable[str] = (),
    needed: Iterable[str] = (),
) -> list[Verdict]:
    """What becomes of each of `backups` (newest first)."""
    reasons: dict[str, list[str]] = {manifest.id: [] for manifest in backups}

    def keep(manifests: Iterable[Manifest], why: str) -> None:
        for manifest in manifests:
            reasons[manifest.id].append(why)

    keep([m for m in backups if now - m.created_at <= timedelta(days=retention.days)], f"within {retention.days} days")
    for name, count, period in _periods(retention):
        keep(_newest_of_each(backups, period)[:count], name)
    keep(backups[: retention.least], f"one of the newest {retention.least}")
    was_proven = set(proven)
    keep([m for m in backups if m.id in was_proven][:1], "newest proven")
    keep([m for m in backups if m.kind == "pre-release"][:_WAYS_BACK], "a rollback with its data may need it")
    wanted = set(needed)
    keep([m for m in backups if m.id in wanted], "needed by a rollback")
    return [Verdict(manifest, tuple(reasons[manifest.id])) for manifest in backups]


def check_clock(backups: Sequence[Manifest], now: datetime, store_now: datetime | None) -> None:
    """Refuse when this machine's time cannot be right: ages are what deleting goes by."""
    newest = backups[0] if backups else None
    if newest and now < newest.created_at:
        raise Refused(
            "clock_wrong",
            f"it is {now:%F %T} UTC here, before the newest backup {newest.id} was made: nothing is deleted. "
            "Set this machine's clock, or delete that backup if it was made with a wrong one",
        )
    off = abs((store_now - now).total_seconds()) if store_now else 0
    if off > _MOST_CLOCK_SECONDS:
        raise Refused(
            "clock_wrong",
            f"it is {now:%F %T} UTC here and {store_now:%F %T} UTC at the store: nothing is deleted. "
            "Set the clocks by NTP",
        )


_MOST_CLOCK_SECONDS = 300

Period = Callable[[datetime], tuple[Any, ...]]


def _periods(retention: Retention) -> list[tuple[str, int, Period]]:
    return [
        ("daily", retention.daily, lambda at: (at.date(),)),
        ("weekly", retention.weekly, lambda at: tuple(at.isocalendar()[:2])),
        ("monthly", retention.monthly, lambda at: (at.year, at.month)),
        ("yearly", retention.yearly, lambda at: (at.year,)),
    ]


def _newest_of_each(backups: Sequence[Manifest], period: Period) -> list[Manifest]:
    """The newest backup of each day, week …, newest first."""
    first: dict[tuple[Any, ...], Manifest] = {}
    for manifest in backups:
        first.setdefault(period(manifest.created_at.astimezone(UTC)), manifest)
    return list(first.values())
