"""The monitoring itself: no metrics, rules that fail, messages that do not arrive, and an alert that always fires."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from monitoring.alerts.lockdown import locked
from monitoring.alerts.promtool_cases import Case, fires, never, rising, steady, stepwise
from monitoring.alerts.rule import Alert, Domain
from monitoring.alerts.threshold_alert import above
from settings.lockdown import Lockdown
from settings.maintenance import Maintenance
from settings.monitoring import Monitoring

_CHAPTER = "Runbook de Production §6: Monitoring"
WATCHDOG, IN_MAINTENANCE = "Watchdog", "MaintenanceMode"
_STEP = 30


def watching(
    monitoring: Monitoring, maintenance: Maintenance | None, lockdown: Lockdown | None = None, *, backups: bool
) -> Domain:
    alerts = [
        _watchdog(),
        _target(monitoring),
        _missing(monitoring, backups=backups),
        _failing(
            "RulesFail",
            "prometheus_rule_evaluation_failures_total",
            "Prometheus cannot evaluate a rule: what it would tell nobody hears",
            "Prometheus' log names the rule",
        ),
        _failing(
            "AlertsUndelivered",
            "prometheus_notifications_dropped_total",
            "Prometheus could not hand alerts to Alertmanager",
            "is Alertmanager up? This came through: look at what came before",
            # A new Alertmanager is away for seconds: alerts are told again and again, so that nothing of it is lost.
            window="2m",
            lasting=180,
        ),
        _failing(
            "MessagesUndelivered",
            "alertmanager_notifications_failed_total",
            "Alertmanager could not deliver through {{ $labels.integration }}",
            "the webhook's secret; Slack's status; the rollback controller",
            {"integration": "slack"},
        ),
    ]
    if maintenance:
        alerts.append(_maintenance(maintenance))
    if lockdown:
        alerts += locked(lockdown)
    return Domain(
        name="watching", title="The monitoring itself", every=monitoring.evaluation_seconds, alerts=tuple(alerts)
    )


def sources(monitoring: Monitoring, *, backups: bool) -> Mapping[str, str]:
    """Where metrics come from, and a series that is there while they do."""
    infrastructure = monitoring.infrastructure
    return {
        "application": "http_request_duration_seconds_count",
        "front-door": 'probe_success{job="front-door"}',
        "health": 'probe_success{job="health"}',
        "postgres": "pg_up",
        "redis": "redis_up",
        **({"kubelet": "container_memory_working_set_bytes"} if infrastructure.kubelet else {}),
        **({"logs": "runbook_log_watch_up"} if monitoring.logs else {}),
        **({"backups": "runbook_backup_store_up"} if backups else {}),
        **({"kube-state": "kube_cronjob_spec_suspend"} if infrastructure.kube_state and backups else {}),
        **({"nodes": "node_memory_MemTotal_bytes"} if infrastructure.nodes else {}),
    }


def _missing(monitoring: Monitoring, *, backups: bool) -> Alert:
    lasting, wanted = monitoring.infrastructure.target_seconds, sources(monitoring, backups=backups)
    there = {series: steady(1) for series in wanted.values()}
    return Alert(
        "MetricsMissing",
        " or ".join(
            f'label_replace(vector(1) unless on () {series}, "source", "{source}", "", "")'
            for source, series in wanted.items()
        ),
        timedelta(seconds=lasting),
        "critical",
        "no metrics from {{ $labels.source }}: what they would show nobody sees",
        about="metrics",
        channel="critical",
        chapter=_CHAPTER,
        missing="that is what it tells: it fires",
        advice="Prometheus' page of targets says why; is the exporter up, does a network policy let Prometheus in?",
        on_absence=True,
        cases=(
            Case(title="all there", series=there, checks=never(lasting, since=0, step=_STEP), step=_STEP),
            *(
                Case(
                    title=f"none from {source}",
                    series={name: values for name, values in there.items() if name != series},
                    checks=fires(lasting, since=0, step=_STEP),
                    step=_STEP,
                    labels={"source": source},
                )
                for source, series in wanted.items()
            ),
        ),
    )


def _watchdog() -> Alert:
    return Alert(
        WATCHDOG,
        "vector(1)",
        timedelta(),
        "none",
        "this always fires: when it stops coming, nobody would hear of anything else",
        about="watchdog",
        channel="critical",
        chapter=_CHAPTER,
        missing="its own absence is the message: the dead man's switch outside tells of it",
        advice="nothing while it comes; when it does not: Prometheus, Alertmanager, the way out",
        on_absence=True,
        cases=(Case(title="always", series={}, checks=((0, True), (600, True)), step=_STEP),),
    )


def _maintenance(maintenance: Maintenance) -> Alert:
    return Alert(
        IN_MAINTENANCE,
        "vector(1)",
        timedelta(),
        "info",
        # The reason is an operator's text, and may look like a template.
        f"maintenance mode is on ({maintenance.reason.replace('{{', '{ {')}): what it explains is not told",
        about="maintenance",
        channel="alerts",
        chapter='HerbisVeritas "Emergency Commands": maintenance:enable',
        missing="a constant: it needs no metrics",
        advice="`runbook maintenance off` when it is done",
        on_absence=True,
        cases=(Case(title="while it is on", series={}, checks=((0, True),), step=_STEP),),
    )


def _target(monitoring: Monitoring) -> Alert:
    return above(
        "TargetAway",
        "sum by (job, instance) (up{} == 0)",
        lasting=monitoring.infrastructure.target_seconds,
        since=3 * _STEP,
        severity="warning",
        summary="{{ $labels.job }} ({{ $labels.instance }}) cannot be read",
        about="target",
        channel="alerts",
        chapter=_CHAPTER,
        missing="a target that is not even looked for: `MetricsMissing`",
        advice="Prometheus' page of targets says why",
        beyond={'up{job="backend",instance="1"}': stepwise((1, 3), (0, 1000))},
        within={'up{job="backend",instance="1"}': stepwise((1, 3), (0, 1), (1, 1000))},
        labels={"job": "backend", "instance": "1"},
        step=_STEP,
    )


def _failing(
    name: str,
    counter: str,
    summary: str,
    advice: str,
    labels: Mapping[str, str] | None = None,
    window: str = "5m",
    lasting: int = 0,
) -> Alert:
    shown = ",".join(f'{key}="{value}"' for key, value in (labels or {}).items())
    by = f" by ({', '.join(labels)})" if labels else ""
    series = f"{counter}{{{shown}}}"
    return above(
        name,
        f"sum{by} (increase({counter}[{window}])) > 0",
        lasting=lasting,
        since=_STEP if lasting else 600,
        severity="critical",
        summary=summary,
        about=name.lower(),
        channel="critical",
        chapter=_CHAPTER,
        missing="the watcher itself away: the dead man's switch",
        advice=advice,
        beyond={series: rising(1)},
        within={series: steady(7)},
        also=(
            Case(
                title="once, and no more",
                series={series: stepwise((0, 5), (1, 100))},
                checks=tuple((5 * _STEP + at, False) for at in range(0, 2 * lasting, _STEP)),
                step=_STEP,
            ),
        )
        if lasting
        else (),
        labels=labels,
        step=_STEP,
    )
