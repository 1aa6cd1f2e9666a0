"""Certificates, CronJobs and restarts. CronJobs and restarts come from kube-state-metrics, where the cluster has it."""

from __future__ import annotations

from typing import Any

from monitoring.alerts.out_of_memory import out_of_memory
from monitoring.alerts.promtool_cases import Boundary, Case, steady, stepwise
from monitoring.alerts.rule import COUNT, Alert, Channel, Domain, Recording, Severity
from settings.monitoring import Monitoring

EVERY, _STEP, _DAY = 60, 60, 86_400
_WAIT = 300
"""Steps that the front door stays closed."""
_BACKUP = {"cronjob": "backup"}


def certificates(monitoring: Monitoring) -> Domain:
    limits = monitoring.infrastructure
    expiry, known = 'probe_ssl_earliest_cert_expiry{job="front-door"}', "certificate:expiry:last"
    works = 'probe_success{job="front-door"}'

    def ends(name: str, days: int, severity: Severity, channel: Channel) -> Alert:
        until = days * _DAY + 30 * _STEP
        return Alert(
            name=name,
            measure=f"({known}{{}} - time()) / {_DAY}",
            operator="<",
            limit=days,
            severity=severity,
            summary=f"the certificate of the public address expires within {days} days",
            about="certificate",
            channel=channel,
            chapter="Runbook de Production §1: certificats TLS",
            missing="`MetricsMissing`; without TLS at the front door it does not fire",
            advice="the issuer's log (cert-manager: `kubectl describe certificate`)",
            value=f"{COUNT} days",
            boundary=Boundary(
                beyond={expiry: steady(until)},
                within={expiry: steady(until + 5 * _STEP)},
                step=_STEP,
                since=31 * _STEP,
                value=f"{days} days",
            ),
            more=(
                Case(
                    title="it has expired, and the probe fails",
                    series={
                        expiry: f"{40 * _STEP}+0x40 stale",
                        works: f"1+0x40 0+0x{_WAIT}",
                    },
                    checks=((60 * _STEP, True), ((_WAIT - 10) * _STEP, True)),
                    step=_STEP,
                    value="-0 days",
                ),
                Case(
                    title="it was renewed",
                    series={expiry: f"{40 * _STEP}+0x40 stale _x20 {2 * days * _DAY}+0x100"},
                    checks=((60 * _STEP, True), (70 * _STEP, False)),
                    step=_STEP,
                    value="-0 days",
                ),
                Case(
                    title="the front door has TLS no longer",
                    series={expiry: f"{40 * _STEP}+0x20 stale", works: steady(1)},
                    checks=((20 * _STEP, True), (60 * _STEP, False)),
                    step=_STEP,
                    value="0 days",
                ),
            ),
        )

    # An expired certificate fails the probe, which then has no expiry: the last one counts while the probe fails.
    last = f"min({expiry}) or on () max(last_over_time({known}{{}}[1d])) unless on () {works} == 1"
    return Domain(
        name="certificates",
        title="Certificates",
        every=EVERY,
        recordings=(Recording(record=known, expr=last),),
        alerts=(
            ends("CertificateEndsSoon", limits.certificate_days, "warning", "alerts"),
            ends("CertificateEnds", limits.certificate_critical_days, "critical", "critical"),
        ),
    )


def workloads(monitoring: Monitoring, *, scheduled: bool) -> Domain:
    """`scheduled`: whether the stack has CronJobs that run."""
    limits = monitoring.infrastructure
    common: dict[str, Any] = {
        "missing": "without a CronJob or kube-state-metrics: `MetricsMissing`",
        "chapter": "Runbook de Production §2, HerbisVeritas crontabs: scheduled tasks must run",
        "channel": "alerts",
    }
    owner = 'kube_job_owner{job_name="backup-1",owner_kind="CronJob",owner_name="backup"}'
    failed = {
        'kube_job_failed{job_name="backup-1",condition="true"}': steady(1),
        owner: steady(1),
        'kube_job_status_start_time{job_name="backup-1"}': steady(1000),
    }
    succeeded = 'kube_cronjob_status_last_successful_time{cronjob="backup"}'
    next_, running = 'kube_cronjob_next_schedule_time{cronjob="backup"}', 'kube_cronjob_spec_suspend{cronjob="backup"}'
    grace = limits.cron_grace_seconds
    late = (grace // _STEP + 20) * _STEP
    restarts = 'kube_pod_container_status_restarts_total{pod="backend-1",container="backend"}'
    # Of each CronJob, when the newest Job that failed was started. While kube-state-metrics is replaced, both pods have
    # each series: `max` makes one of them.
    failures = (
        "max by (cronjob) (label_replace(max by (job_name) (kube_job_status_start_time{}) * on (job_name) group_left "
        '(owner_name) max by (job_name, owner_name) (kube_job_owner{owner_kind="CronJob"}) and on (job_name) '
        'kube_job_failed{condition="true"} == 1, "cronjob", "$1", "owner_name", "(.+)"))'
    )
    cron_jobs = (
        Alert(
            name="CronJobFailed",
            measure=f"{failures} unless on (cronjob) {failures} < on (cronjob) "
            "max by (cronjob) (kube_cronjob_status_last_successful_time{})",
            severity="warning",
            summary="CronJob {{ $labels.cronjob }} has failed, and has not succeeded since",
            about="cronjob-failed",
            advice="`kubectl logs` of its newest Job",
            boundary=Boundary(
                beyond=failed | {succeeded: steady(999)},
                within=failed | {succeeded: steady(1001)},
                step=_STEP,
                labels=_BACKUP,
            ),
            more=(
                Case(
                    title="while kube-state-metrics is replaced",
                    series={
                        f'{name[:-1]},instance="{pod}"}}': value
                        for name, value in (failed | {succeeded: steady(999)}).items()
                        for pod in "ab"
                    },
                    checks=((_STEP, True),),
                    step=_STEP,
                    labels=_BACKUP,
                ),
                Case(
                    title="it has never succeeded",
                    series=failed,
                    checks=((_STEP, True),),
                    step=_STEP,
                    labels=_BACKUP,
                ),
                Case(
                    title="a Job of a release is not a CronJob's",
                    series={k: v for k, v in failed.items() if k != owner},
                    checks=((_STEP, False),),
                    step=_STEP,
                ),
            ),
            **common,
        ),
        Alert(
            name="CronJobMissed",
            measure="time() - max by (cronjob) (kube_cronjob_next_schedule_time{})",
            operator=">",
            limit=grace,
            after="and on (cronjob) max by (cronjob) (kube_cronjob_spec_suspend{}) == 0",
            severity="critical",
            summary=f"CronJob {{{{ $labels.cronjob }}}} should have started more than {grace} s ago, and has not",
            about="cronjob-missed",
            advice="its events (`kubectl describe cronjob`): a quota, or the previous Job still runs",
            boundary=Boundary(
                beyond={next_: steady(late - grace - 1), running: steady(0)},
                within={next_: steady(late - grace + 4 * _STEP), running: steady(0)},
                step=_STEP,
                since=late,
                labels=_BACKUP,
            ),
            more=(
                Case(
                    title="a suspended CronJob misses nothing",
                    series={next_: steady(0), running: steady(1)},
                    checks=((late, False),),
                    step=_STEP,
                ),
            ),
            **common,
        ),
    )
    return Domain(
        name="workloads",
        title="CronJobs and pods",
        every=EVERY,
        alerts=(
            *(() if limits.kubelet else (out_of_memory(monitoring),)),
            *(cron_jobs if scheduled else ()),
            Alert(
                name="PodRestarts",
                measure="sum by (pod, container) (increase(kube_pod_container_status_restarts_total{}[1h]))",
                operator=">",
                limit=limits.restarts,
                severity="warning",
                summary=f"{{{{ $labels.pod }}}} ({{{{ $labels.container }}}}) was restarted more than "
                f"{limits.restarts} times within an hour",
                about="restarts",
                advice="`kubectl logs --previous`; did it begin with the last release (`runbook history`)?",
                value=COUNT,
                boundary=Boundary(
                    beyond={restarts: stepwise((2, 80), (3 + limits.restarts, 100))},
                    within={restarts: stepwise((2, 80), (2 + limits.restarts, 100))},
                    step=_STEP,
                    since=7200,
                    labels={"pod": "backend-1", "container": "backend"},
                    value=str(limits.restarts + 1),
                ),
                **common,
            ),
        ),
    )
