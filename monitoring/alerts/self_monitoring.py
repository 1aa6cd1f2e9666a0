"""The monitoring itself: missing metrics, failing rules, undelivered messages, and an alert that always fires."""

from __future__ import annotations

from collections.abc import Mapping

from monitoring.alerts.gateway import gateway_requests
from monitoring.alerts.lockdown import locked
from monitoring.alerts.promtool_cases import Boundary, Case, fires, never, rising, steady, stepwise
from monitoring.alerts.rule import PERCENT, Alert, Domain
from settings.lockdown import Lockdown
from settings.maintenance import Maintenance
from settings.monitoring import Monitoring

_CHAPTER = "Runbook de Production §6: Monitoring"
WATCHDOG, IN_MAINTENANCE = "Watchdog", "MaintenanceMode"
_STEP = 30


def watching(
    monitoring: Monitoring,
    maintenance: Maintenance | None,
    lockdown: Lockdown | None = None,
    *,
    backups: bool,
    application: bool,
) -> Domain:
    wanted = sources(monitoring, backups=backups, application=application)
    alerts = [
        _watchdog(monitoring),
        _target(monitoring),
        *((_missing(monitoring, wanted),) if wanted else ()),
        *((_near_limit(),) if application else ()),
        _failing(
            "RulesFail",
            "prometheus_rule_evaluation_failures_total",
            "rule evaluation fails: alerts of this group cannot fire",
            "Prometheus' log names the rule (`kubectl logs prometheus-0`)",
        ),
        _failing(
            "RulesMissed",
            "prometheus_rule_group_iterations_missed_total",
            "rules are evaluated late or not at all: alerts are delayed",
            "Prometheus has too little CPU or memory, or too many series (`prometheus.resources`, `sampleLimit`)",
            lasting=300,
        ),
        _failing(
            "AlertsUndelivered",
            "prometheus_notifications_dropped_total",
            "Prometheus could not send alerts to Alertmanager",
            "is Alertmanager up? Earlier alerts may not have been sent: check the page Alerts of Prometheus",
            # A replaced Alertmanager is down for seconds, and Prometheus sends alerts repeatedly: nothing is lost.
            window="2m",
            lasting=180,
        ),
        _failing(
            "MessagesUndelivered",
            "alertmanager_notifications_failed_total",
            "Alertmanager could not deliver through {{ $labels.integration }}",
            "check the webhook's secret, Slack's status and the rollback controller",
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


def sources(monitoring: Monitoring, *, backups: bool, application: bool) -> Mapping[str, str]:
    """Sources of metrics, and a series that each of them has."""
    infrastructure, door = monitoring.infrastructure, {"front-door": 'probe_success{job="front-door"}'}
    asked = {
        "application": "http_request_duration_seconds_count{}",
        **door,
        "health": 'probe_success{job="health"}',
    }
    return {
        **(asked if application else door if monitoring.front_door.address else {}),
        **({"postgres": "pg_up{}"} if monitoring.postgres else {}),
        **({"redis": "redis_up{}"} if monitoring.redis else {}),
        **({"kubelet": "container_memory_working_set_bytes{}"} if infrastructure.kubelet else {}),
        **({"ingress": gateway_requests(monitoring.gateway)} if monitoring.gateway else {}),
        **({"logs": "runbook_log_watch_up{}"} if monitoring.logs else {}),
        **({"backups": "runbook_backup_store_up{}"} if backups else {}),
        **({"kube-state": "kube_cronjob_spec_suspend{}"} if infrastructure.kube_state and backups else {}),
        **({"nodes": "node_memory_MemTotal_bytes"} if infrastructure.nodes else {}),
    }


def _missing(monitoring: Monitoring, wanted: Mapping[str, str]) -> Alert:
    lasting = monitoring.infrastructure.target_seconds
    there = {series: steady(1) for series in wanted.values()}
    return Alert(
        name="MetricsMissing",
        measure=" or ".join(
            f'label_replace(vector(1) unless on () {series}, "source", "{source}", "", "")'
            for source, series in wanted.items()
        ),
        lasting=lasting,
        severity="critical",
        summary="no metrics from {{ $labels.source }}: alerts on it cannot fire",
        about="metrics",
        channel="critical",
        chapter=_CHAPTER,
        missing="it fires",
        advice="Prometheus' page Targets shows the error; is the exporter up, does a network policy admit Prometheus?",
        on_absence=True,
        more=(
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


def _watchdog(monitoring: Monitoring) -> Alert:
    # A message that cannot be delivered is tried again, and counted again, every group interval.
    window = max(120, 3 * monitoring.slack.group_interval_seconds)
    sent = 'alertmanager_notifications_failed_total{integration="slack"}'
    failing = f"sum(increase({sent}[{window}s]))"
    step = window // 4
    return Alert(
        name=WATCHDOG,
        measure=f"vector(1) unless on () ({failing} > 0 and {failing.replace(']', f'] offset {window}s')} > 0)",
        severity="none",
        summary="always fires: when it stops, no other alert can be sent, or none reaches Slack",
        about="watchdog",
        channel="critical",
        chapter=_CHAPTER,
        missing="when it stops, the dead man's switch outside the cluster reports it",
        advice="while it fires: nothing; when it stops: check Prometheus, Alertmanager and their egress, then Slack's "
        "status and webhooks: what fires is on Alertmanager's page",
        on_absence=True,
        more=(
            Case(title="always", series={}, checks=((0, True), (600, True)), step=_STEP),
            Case(
                title="until messages to Slack fail again and again",
                series={sent: stepwise((0, 10)) + f" 1+1x20 {steady(21)}"},
                checks=((12 * step, True), (19 * step, False), (60 * step, True)),
                step=step,
            ),
            Case(
                title="not for one message, nor for the controller's",
                series={
                    sent: stepwise((0, 10), (1, 100)),
                    sent.replace("slack", "webhook"): rising(1),
                },
                checks=tuple((at * step, True) for at in range(8, 24)),
                step=step,
            ),
        ),
    )


def _maintenance(maintenance: Maintenance) -> Alert:
    return Alert(
        name=IN_MAINTENANCE,
        measure="vector(1)",
        severity="info",
        # The reason is an operator's text, and may look like a template.
        summary=f"maintenance mode is on ({maintenance.reason.replace('{{', '{ {')}): alerts it explains are muted",
        about="maintenance",
        channel="alerts",
        chapter='HerbisVeritas "Emergency Commands": maintenance:enable',
        missing="a constant: it needs no metrics",
        advice="`runbook maintenance off` when the work is done",
        on_absence=True,
        more=(Case(title="while it is on", series={}, checks=((0, True),), step=_STEP),),
    )


def _target(monitoring: Monitoring) -> Alert:
    series = 'up{job="backend",instance="1"}'
    return Alert(
        name="TargetAway",
        measure="sum by (job, instance) (up{} == 0)",
        lasting=monitoring.infrastructure.target_seconds,
        severity="warning",
        summary="Prometheus cannot scrape {{ $labels.job }} ({{ $labels.instance }})",
        about="target",
        channel="alerts",
        chapter=_CHAPTER,
        missing="for a target that is not discovered: `MetricsMissing`",
        advice="Prometheus' page Targets shows the error",
        boundary=Boundary(
            beyond={series: stepwise((1, 3), (0, 1000))},
            within={series: stepwise((1, 3), (0, 1), (1, 1000))},
            step=_STEP,
            since=3 * _STEP,
            labels={"job": "backend", "instance": "1"},
        ),
    )


def _near_limit() -> Alert:
    limit, target = 80, '{job="backend",instance="1"}'
    found, most = f"scrape_samples_post_metric_relabeling{target}", f"scrape_sample_limit{target}"
    return Alert(
        name="SamplesNearLimit",
        measure="100 * max by (job, instance) (scrape_samples_post_metric_relabeling{} / (scrape_sample_limit{} > 0))",
        operator=">",
        limit=limit,
        lasting=60,
        severity="critical",
        summary="{{ $labels.job }} ({{ $labels.instance }}) has more than "
        f"{limit} % of the series that one target may have: above 100 % its scrapes are refused",
        about="samples",
        channel="alerts",
        chapter=_CHAPTER,
        missing="an operator's Prometheus needs its feature extra-scrape-metrics; refused scrapes: `TargetAway`",
        advice="does the application label by path, user or id? Label by route; `prometheus.sampleLimit` is the limit",
        value=PERCENT,
        boundary=Boundary(
            beyond={found: steady(10 * limit + 1), most: steady(1000)},
            within={found: steady(10 * limit), most: steady(1000)},
            step=_STEP,
            labels={"job": "backend", "instance": "1"},
            value=f"{limit + 0.1:.1f} %",
        ),
        more=(
            Case(
                title="a target without a limit",
                series={found: steady(1e6), most: steady(0)},
                checks=never(60, since=0, step=_STEP),
                step=_STEP,
            ),
        ),
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
    by = f" by ({', '.join(labels)})" if labels else ""
    matchers = ",".join(f'{key}="{value}"' for key, value in (labels or {}).items())
    series = f"{counter}{{{matchers}}}"
    once = Case(
        title="once, and no more",
        series={series: stepwise((0, 5), (1, 100))},
        checks=tuple((5 * _STEP + at, False) for at in range(0, 2 * lasting, _STEP)),
        step=_STEP,
    )
    return Alert(
        name=name,
        measure=f"sum{by} (increase({counter}[{window}]))",
        operator=">",
        lasting=lasting,
        severity="critical",
        summary=summary,
        about=name.lower(),
        channel="critical",
        chapter=_CHAPTER,
        missing="without the monitoring server itself: the dead man's switch",
        advice=advice,
        boundary=Boundary(
            beyond={series: rising(1)},
            within={series: steady(7)},
            step=_STEP,
            since=_STEP if lasting else 600,
            labels=labels or {},
        ),
        more=(once,) if lasting else (),
    )
