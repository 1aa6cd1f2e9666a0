"""An alert: what it measures, its limit, its message and route, and the cases that promtool tests it with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from monitoring.alerts.promtool_cases import Boundary, Case

Channel = Literal["critical", "alerts", "security", "business", "performance"]
Action = Literal["rollback", "lockdown"]
Severity = Literal["critical", "warning", "info", "none"]
"""`info` requires no action; `none` is for machines."""

PERCENT, COUNT, SECONDS = (
    '{{ $value | printf "%.1f" }} %',
    '{{ $value | printf "%.0f" }}',
    '{{ $value | printf "%.0f" }} s',
)
"""Templates of values in messages."""

_SELECTOR = re.compile(r'"[^"]*"|([\w:]+\{)(\}?)')


def scoped(promql: str, namespace: str) -> str:
    """The query with every series that is written with braces (`pg_up{}`) limited to one namespace: one Prometheus may
    monitor several stacks. Series of Prometheus itself are written without braces, and stay as they are."""

    def narrowed(found: re.Match[str]) -> str:
        return f'{found[1]}namespace="{namespace}"{found[2] or ","}' if found[1] else found[0]

    return _SELECTOR.sub(narrowed, promql)


def scoped_series(series: Mapping[str, str], namespace: str) -> dict[str, str]:
    """Sample series in the namespace; their names may have no braces."""
    return {scoped(name if "{" in name else f"{name}{{}}", namespace): values for name, values in series.items()}


@dataclass(frozen=True, kw_only=True)
class Alert:
    """The rule, its documentation, its promtool cases and its line on dashboards are derived from this."""

    name: str
    measure: str
    """PromQL of the number that is compared; without `operator`, of the whole condition."""
    operator: Literal[">", ">=", "<", ""] = ""
    limit: float = 0
    before: str = ""
    after: str = ""
    """PromQL around the comparison: further conditions."""
    shown: str = ""
    """PromQL that dashboards show, if not `measure`."""
    lasting: int = 0
    """Seconds that the condition must last."""
    severity: Severity
    summary: str
    about: str
    """Subject: of the alerts of one subject, only the most severe is sent."""
    channel: Channel
    chapter: str
    """Where the runbooks require it."""
    missing: str
    """What happens when its metrics are missing. Names of alerts are in backticks."""
    advice: str
    """What to do first."""
    value: str = ""
    """Template of the value in the message; empty where the value says nothing."""
    action: Action | None = None
    """What the rollback controller does."""
    quiet: bool = False
    """Whether it is muted in maintenance mode."""
    on_absence: bool = False
    """Whether missing metrics make it fire."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels that distinguish it from another alert of the same name."""
    documents: str = "docs"
    """Where the folder `docs/` is readable: the message leads to the alert's section in alerts.md."""
    boundary: Boundary | None = None
    more: tuple[Case, ...] = ()
    """Cases besides the two of the boundary."""

    @property
    def expr(self) -> str:
        compared = f"{self.measure} {self.operator} {self.limit:.15g}" if self.operator else self.measure
        return f"{self.before}{compared} {self.after}".rstrip()

    @property
    def cases(self) -> tuple[Case, ...]:
        return (*(self.boundary.cases(self.lasting) if self.boundary else ()), *self.more)

    def to_prometheus(self) -> dict[str, Any]:
        """The rule as a rule file contains it."""
        labels = {"severity": self.severity, "about": self.about, "channel": self.channel, **self.labels}
        labels |= {"action": self.action} if self.action else {}
        labels |= {"maintenance": "quiet"} if self.quiet else {}
        annotations = {
            "summary": self.summary,
            "advice": self.advice,
            "runbook_url": f"{self.documents}/alerts.md#{self.name.lower()}",
            "chapter": self.chapter,
        }
        annotations |= {"value": self.value} if self.value else {}
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": f"{self.lasting}s",
            "labels": labels,
            "annotations": annotations,
        }


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
    shared: bool = False
    """Whether its series belong to the whole cluster, not to a namespace."""


def within(domain: Domain, namespace: str) -> Domain:
    """The domain's rules and cases, limited to the namespace of one stack."""
    if domain.shared:
        return domain

    def series(of: Mapping[str, str]) -> dict[str, str]:
        return scoped_series(of, namespace)

    def alert(one: Alert) -> Alert:
        edge = one.boundary
        return replace(
            one,
            measure=scoped(one.measure, namespace),
            after=scoped(one.after, namespace),
            shown=scoped(one.shown, namespace),
            boundary=edge and replace(edge, beyond=series(edge.beyond), within=series(edge.within)),
            more=tuple(replace(case, series=series(case.series)) for case in one.more),
        )

    return replace(
        domain,
        alerts=tuple(map(alert, domain.alerts)),
        recordings=tuple(replace(one, expr=scoped(one.expr, namespace)) for one in domain.recordings),
    )
