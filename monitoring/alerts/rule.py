"""What an alert is, beyond its expression: who is told, what its absence of data means, and the cases that prove it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from monitoring.alerts.promtool_cases import Case
from settings.backup_alerts import AlertRule

Channel = Literal["critical", "alerts", "security", "business", "performance"]
Action = Literal["rollback", "lockdown"]

_METRIC = re.compile(
    r'"[^"]*"'  # what is quoted is no series
    r"|(?<![\w:])((?:http_request|shop|runbook|pg|redis|probe|container|kubelet|kube)_\w+|slo:[\w:]+|up(?=\{))(\{)?"
)


def scoped(promql: str, namespace: str) -> str:
    """Every series of a stack narrowed to its namespace: one Prometheus may watch several stacks.

    Nodes, and Prometheus itself, belong to nobody: their series are left as they are.
    """

    def narrowed(found: re.Match[str]) -> str:
        return f'{found[1]}{{namespace="{namespace}"{"," if found[2] else "}"}' if found[1] else found[0]

    return _METRIC.sub(narrowed, promql).replace('",}', '"}')


def seconds(span: timedelta | float) -> str:
    """A duration as PromQL has it."""
    whole = span.total_seconds() if isinstance(span, timedelta) else span
    return f"{int(whole)}s"


@dataclass(frozen=True, kw_only=True)
class Alert(AlertRule):
    """An alert rule with everything its message, its route and its tests need."""

    about: str
    """Its subject: of one subject, only the gravest alert is told."""
    channel: Channel
    chapter: str
    """Where the runbooks ask for it."""
    missing: str
    """What happens when its metrics are not there. Names of alerts stand in backticks."""
    advice: str
    """What to do first."""
    value: str = ""
    """Template of the value it tells; empty where the value says nothing."""
    action: Action | None = None
    """What the rollback controller does."""
    quiet: bool = False
    """Whether it is not told while maintenance mode is on."""
    on_absence: bool = False
    """Whether the absence of metrics is what makes it fire."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """What tells it from another of its name."""
    cases: tuple[Case, ...] = ()

    def to_prometheus(self) -> dict[str, Any]:
        rule = super().to_prometheus()
        rule["labels"] |= {"about": self.about, "channel": self.channel, **self.labels}
        rule["labels"] |= {"action": self.action} if self.action else {}
        rule["labels"] |= {"maintenance": "quiet"} if self.quiet else {}
        rule["annotations"] |= {"advice": self.advice, "runbook": f"docs/alerts.md#{self.name.lower()}"}
        rule["annotations"] |= {"chapter": self.chapter} | ({"value": self.value} if self.value else {})
        return rule


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A series that Prometheus computes, so that rules over days need not read every request."""

    record: str
    expr: str


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Alerts of one subject: one rule group, in a file of its own."""

    name: str
    title: str
    every: int
    """Seconds from one evaluation to the next."""
    alerts: tuple[Alert, ...]
    recordings: tuple[Recording, ...] = ()


def within(domain: Domain, namespace: str) -> Domain:
    """The domain's rules and cases for one stack."""

    def alert(one: Alert) -> Alert:
        cases = tuple(
            replace(case, series={scoped(name, namespace): values for name, values in case.series.items()})
            for case in one.cases
        )
        return replace(one, expr=scoped(one.expr, namespace), cases=cases)

    return replace(
        domain,
        alerts=tuple(map(alert, domain.alerts)),
        recordings=tuple(replace(one, expr=scoped(one.expr, namespace)) for one in domain.recordings),
    )
