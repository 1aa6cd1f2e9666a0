"""docs/alerts.md: every alert, with the numbers of the settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from monitoring.alertmanager import inhibitions
from monitoring.alerts.rule import Alert, Domain
from settings.budget import Budget
from settings.monitoring import CHANNELS, DEAD_MANS_SWITCH, Monitoring

_ACTIONS = {
    "rollback": "the controller rolls the release back, if it is young enough and no other check refuses it",
    "lockdown": "the controller locks down; no release is rolled back, or attackers could force rollbacks",
}
_HEAD = """\
# Alerts

Generated from the settings by `python -m monitoring`: change `runbook:monitoring` (`settings/monitoring.py`,
`settings/thresholds.py`), not this page. The numbers are those of `Pulumi.prod.yaml`, or the defaults.

The rules, the promtool cases at each limit (just beyond it, the alert fires; just within it, or just before its time is
up, it does not), the routes of Alertmanager and the lines of the dashboards come from the same declaration.
"""


def page(domains: Iterable[Domain], monitoring: Monitoring, budget: Budget) -> str:
    domains = tuple(domains)
    return "\n".join((_HEAD, *_channels(monitoring), *_budget(budget), *_overview(domains), *_details(domains)))


def _channels(monitoring: Monitoring) -> Iterator[str]:
    slack = monitoring.slack
    yield "## Channels\n"
    yield "| Channel | Webhook | Mentioned in critical alerts |\n|---|---|---|"
    for channel in CHANNELS:
        called = " ".join(slack.escalation(channel)) or "none"
        yield f"| {channel} | `secrets:{slack.secret_names[channel]}` | {called} |"
    yield f"""
Alerts of one subject are sent in one message: after {slack.group_wait_seconds} s, then every
{slack.group_interval_seconds} s while new ones join, again every {slack.repeat_seconds // 3600} h while they last,
and once when they are resolved. Triggers are sent to the rollback controller at once, as well as to Slack.
The Watchdog is sent every minute to the dead man's switch (`secrets:{DEAD_MANS_SWITCH}`), an external service that
reports when it stops.

An alert is muted while another one explains it:
"""
    for rule in inhibitions():
        *most, last = (f"`{label}`" for label in rule["equal"])
        same = f"{', '.join(most)} and {last}" if most else last
        yield f"- {_words(rule['source_matchers'])} mutes {_words(rule['target_matchers'])} of the same {same}"
    yield ""


def _words(matchers: list[str]) -> str:
    return " with ".join(f"`{matcher}`" for matcher in matchers)


def _budget(budget: Budget) -> Iterator[str]:
    yield "## From trigger to healthy\n"
    yield f"At most {budget.total:g} s; the limit is {budget.limit:g} s. A stack that exceeds it is refused.\n"
    yield "| | Seconds | |\n|---|---:|---|"
    for part in budget.parts:
        yield f"| {part.name} | {part.seconds:g} | {part.why} |"
    windows = ", ".join(f"{name} {seconds:g} s" for name, seconds in budget.windows.items())
    yield f"\nBefore that, each trigger needs at most its window: {windows}; SqlInjection fires at once.\n"


def _overview(domains: Iterable[Domain]) -> Iterator[str]:
    yield "## Overview\n"
    yield "| Alert | Severity | Channel | For | What |\n|---|---|---|---:|---|"
    for domain in domains:
        for alert in domain.alerts:
            link = f"[{alert.name}](#{alert.name.lower()})"
            yield f"| {link} | {alert.severity} | {alert.channel} | {_for(alert)} | {_plain(alert.summary)} |"
    yield ""


def _details(domains: Iterable[Domain]) -> Iterator[str]:
    seen: set[str] = set()
    for domain in domains:
        yield f"## {domain.title}\n"
        yield f"Evaluated every {domain.every} s.\n"
        if domain.recordings:
            yield "```promql"
            yield from (f"{one.record} = {one.expr}" for one in domain.recordings)
            yield "```\n"
        for alert in domain.alerts:
            if alert.name not in seen:
                yield f"### {alert.name}\n"
                yield f"{_plain(alert.summary)[:1].upper()}{_plain(alert.summary)[1:]}.\n"
            seen.add(alert.name)
            yield "```promql"
            yield alert.expr
            yield "```\n"
            yield f"- **Sent**: {alert.severity}, channel {alert.channel}, {_lasting(alert)}"
            yield f"- **Do**: {alert.advice}"
            if alert.action:
                yield f"- **Automatically**: {_ACTIONS[alert.action]}"
            yield f"- **Without data**: {alert.missing}"
            if alert.quiet:
                yield "- **In maintenance mode**: muted"
            yield f"- **From**: {alert.chapter}"
            yield f"- **Tested**: {'; '.join(case.title for case in alert.cases)}\n"


def _for(alert: Alert) -> str:
    return f"{alert.lasting} s"


def _lasting(alert: Alert) -> str:
    return f"after {_for(alert)}" if alert.lasting else "at once"


def _plain(template: str) -> str:
    """The template with its labels as code."""
    return template.replace("*", "\\*").replace("{{ $labels.", "`").replace(" }}", "`")
