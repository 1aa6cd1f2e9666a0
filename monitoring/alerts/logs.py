"""Whether the application's log is read at all: a counter that reads nothing sees no attack."""

from __future__ import annotations

from monitoring.alerts.promtool_cases import Case, rising, steady, stepwise
from monitoring.alerts.rule import Alert, Domain
from monitoring.alerts.threshold_alert import above
from settings.logs import Logs
from settings.monitoring import Monitoring

_CHAPTER = "Runbook de Production §6: winston logs"
_AWAY = "the log counter itself away: `MetricsMissing`"
_STEP = 30


def logs(monitoring: Monitoring, read: Logs) -> Domain:
    alerts = (_blind(monitoring), _unread(monitoring, read))
    return Domain(
        name="logs",
        title="Security events in logs: only with `monitoring.logs`",
        every=monitoring.evaluation_seconds,
        alerts=alerts,
    )


def _blind(monitoring: Monitoring) -> Alert:
    up = "runbook_log_watch_up"
    return above(
        "LogCounterBlind",
        f"{up} == 0",
        lasting=monitoring.infrastructure.target_seconds,
        since=_STEP,
        severity="critical",
        summary="the log counter cannot ask the API server which pods there are: attacks told only by logs go unseen",
        about="logs",
        channel="security",
        chapter=_CHAPTER,
        missing=_AWAY,
        advice="the log of `deployment/log-counter` says what the API server answered: its address in "
        "`monitoring.logs.apiServer`, the Role `log-counter`",
        beyond={up: stepwise((1, 1), (0, 1000))},
        within={up: stepwise((1, 1), (0, 1), (1, 1000))},
        step=_STEP,
    )


def _unread(monitoring: Monitoring, read: Logs) -> Alert:
    lasting, limit = monitoring.infrastructure.target_seconds, read.silent_seconds
    at = "runbook_log_read_timestamp_seconds"
    silent = {f'{at}{{pod="a"}}': steady(0), f'{at}{{pod="b"}}': rising(_STEP)}
    # promtool's clock begins at 0, and so do these pods.
    since = (limit // _STEP + 1) * _STEP
    return above(
        "LogsUnread",
        f"time() - {at} > {limit}",
        lasting=lasting,
        since=since,
        severity="critical",
        summary=f"{{{{ $labels.pod }}}} serves, and no line of its log was read for {limit} s: attacks go unseen",
        about="logs",
        channel="security",
        chapter=_CHAPTER,
        missing=f"a pod that does not serve is not waited for; {_AWAY}; nobody knows the pods: `LogCounterBlind`",
        advice="`kubectl logs`: does it log at all, as JSON on standard output, at which level? "
        "`monitoring.logs.silentSeconds` says how long it may be silent",
        beyond=silent,
        within={f'{at}{{pod="a"}}': f"0+0x{limit // _STEP} {since}+{_STEP}x1000"},
        labels={"pod": "a"},
        step=_STEP,
        also=(
            Case(
                title="a pod that is gone is not missed",
                series={f'{at}{{pod="a"}}': f"0+0x{since // _STEP} stale"},
                checks=((since + lasting, False), (since + 10 * lasting, False)),
                step=_STEP,
            ),
        ),
    )
