"""Whether the application's log is read: a counter that reads nothing counts no attack."""

from __future__ import annotations

from monitoring.alerts.promtool_cases import Boundary, Case, rising, steady, stepwise
from monitoring.alerts.rule import Alert, Domain
from settings.logs import Logs
from settings.monitoring import Monitoring

_CHAPTER = "Runbook de Production §6: winston logs"
_DOWN = "without the log counter: `MetricsMissing`"
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
    return Alert(
        name="LogCounterBlind",
        measure=f"{up}{{}} == 0",
        lasting=monitoring.infrastructure.target_seconds,
        severity="critical",
        summary="the log counter cannot list the pods at the API server: attacks that only logs show are not detected",
        about="logs",
        channel="security",
        chapter=_CHAPTER,
        missing=_DOWN,
        advice="`kubectl logs deployment/log-counter` shows the API server's answer; check `monitoring.logs.apiServer` "
        "and the Role `log-counter`",
        boundary=Boundary(
            beyond={up: stepwise((1, 1), (0, 1000))},
            within={up: stepwise((1, 1), (0, 1), (1, 1000))},
            step=_STEP,
            since=_STEP,
        ),
    )


def _unread(monitoring: Monitoring, read: Logs) -> Alert:
    lasting, limit = monitoring.infrastructure.target_seconds, read.silent_seconds
    at = "runbook_log_read_timestamp_seconds"
    # promtool's clock begins at 0, and so do these pods.
    since = (limit // _STEP + 1) * _STEP
    return Alert(
        name="LogsUnread",
        measure=f"time() - {at}{{}}",
        operator=">",
        limit=limit,
        lasting=lasting,
        severity="critical",
        summary=f"{{{{ $labels.pod }}}} serves, but its log was not read for {limit} s: attacks are not detected",
        about="logs",
        channel="security",
        chapter=_CHAPTER,
        missing=f"a pod that does not serve is ignored; {_DOWN}; if the pods cannot be listed: `LogCounterBlind`",
        advice="`kubectl logs` of the pod: does it write JSON to standard output, at which level? "
        "`monitoring.logs.silentSeconds` is the longest silence allowed",
        boundary=Boundary(
            beyond={f'{at}{{pod="a"}}': steady(0), f'{at}{{pod="b"}}': rising(_STEP)},
            within={f'{at}{{pod="a"}}': f"0+0x{limit // _STEP} {since}+{_STEP}x1000"},
            step=_STEP,
            since=since,
            labels={"pod": "a"},
        ),
        more=(
            Case(
                title="a deleted pod is ignored",
                series={f'{at}{{pod="a"}}': f"0+0x{since // _STEP} stale"},
                checks=((since + lasting, False), (since + 10 * lasting, False)),
                step=_STEP,
            ),
        ),
    )
