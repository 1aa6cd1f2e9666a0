"""How long an automatic rollback takes at most (HerbisVeritas "Rollback Automatique (90 secondes)").

Counted from the moment a trigger's own window is over until customers are served by the release before; each part as
slow as it can be. What cannot be known from the settings was measured: the engine, and how long a pod starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from settings.application import Application, Service
from settings.base import Finding
from settings.monitoring import Monitoring

_DELIVERY = 1
"""Seconds from Prometheus through Alertmanager to the controller, all in one cluster."""


@dataclass(frozen=True)
class Part:
    """One phase of an automatic rollback."""

    name: str
    seconds: float
    why: str


@dataclass(frozen=True)
class Budget:
    """The phases of an automatic rollback."""

    parts: tuple[Part, ...]
    limit: float
    """The limit (`monitoring.rollback.limitSeconds`)."""
    windows: Mapping[str, float]
    """Detection time before it, by alert: the window of its condition, at the most."""

    @property
    def total(self) -> float:
        """From trigger to healthy at the most, in seconds."""
        return round(sum(part.seconds for part in self.parts), 3)

    @property
    def kept(self) -> bool:
        return self.total <= self.limit


def rollback_budget(monitoring: Monitoring, application: Application, startup_seconds: float | None = None) -> Budget:
    """`startup_seconds` is how long the slowest pod of the last release took, once that is known."""
    triggers, every = monitoring.triggers, monitoring.evaluation_seconds
    windows = {
        "RollbackErrorRate": monitoring.notice_seconds + triggers.error_rate_seconds,
        "RollbackResponseTime": monitoring.notice_seconds + triggers.response_seconds,
        "RollbackHealth": triggers.health_failures * monitoring.health_seconds,
        "RollbackRestarts": triggers.restart_seconds,
    }
    if monitoring.gateway:
        windows["RollbackGateway"] = windows["RollbackErrorRate"]
    start = monitoring.rollback.startup_seconds if startup_seconds is None else startup_seconds
    slowest = max(application.services, key=lambda service: _rollout(service, application.surge, start))
    waves = ceil(slowest.most_replicas / application.surge)
    probes = slowest.probes
    parts = (
        Part("scrape", monitoring.scrape_seconds, "the sample that shows it is scraped"),
        Part("evaluation", every, "the rule is evaluated"),
        Part("delivery", _DELIVERY, "Prometheus, Alertmanager (group_wait 0 s), the controller"),
        Part("engine", monitoring.rollback.engine_seconds, "state, history and gates are read, the update begins"),
        Part(
            "rollout",
            _rollout(slowest, application.surge, start),
            f"{slowest.name}: {slowest.most_replicas} pods, {application.surge} at a time: {waves} x "
            f"({start:g} s to start, startup probe every {probes.startup.period_seconds} s, readiness every "
            f"{probes.readiness.period_seconds} s)",
        ),
        Part("drain", slowest.pre_stop_seconds, "the last pods of the bad release are taken out of every proxy"),
        Part("health", monitoring.health_seconds, "the health check that says so"),
    )
    return Budget(parts, monitoring.rollback.limit_seconds, windows)


def _rollout(service: Service, surge: int, start: float) -> float:
    """Pods come in waves; a probe may run up to one period after the pod is ready."""
    asked = service.probes.startup.period_seconds + service.probes.readiness.period_seconds
    return ceil(service.most_replicas / surge) * (start + asked)


def findings(monitoring: Monitoring, application: Application) -> Iterator[Finding]:
    """What is wrong with `runbook:monitoring`, once it is known how many pods there are."""
    budget = rollback_budget(monitoring, application)
    if budget.kept or not monitoring.rollback.enabled:
        return
    parts = ", ".join(f"{part.name} {part.seconds:g}" for part in budget.parts)
    why = f"a rollback can take {budget.total:g} s from trigger to healthy ({parts})"
    faster = _surge_within(monitoring, application)
    if faster:
        why += f"; with runbook:application.surge: {faster} it keeps to {budget.limit:g} s"
    yield Finding(("rollback", "limitSeconds"), why, None if faster else ceil(budget.total))


def _surge_within(monitoring: Monitoring, application: Application) -> int | None:
    most = max(service.most_replicas for service in application.services)
    for surge in range(application.surge + 1, most + 1):
        if rollback_budget(monitoring, application.model_copy(update={"surge": surge})).kept:
            return surge
    return None
