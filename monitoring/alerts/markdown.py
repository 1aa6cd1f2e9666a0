"""docs/alerts.md: every alert as it is made of the settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from monitoring.alertmanager import inhibitions
from monitoring.alerts.rule import Alert, Domain
from settings.budget import Budget
from settings.monitoring import CHANNELS, DEAD_MANS_SWITCH, Monitoring

_ACTIONS = {
    "rollback": "the controller takes the release back, if it is young enough and nothing else speaks against it",
    "lockdown": "the controller locks down; no release goes back for it, or attackers could force rollbacks",
}
_HEAD = """\
# Alerts

Made from the settings by `python -m settings alerts`: change `runbook:monitoring` (`settings/monitoring.py`,
`settings/thresholds.py`), not this page. The numbers are those of `Pulumi.prod.yaml`, or the defaults.

The same declaration makes the rules, the cases that promtool tries at each limit (just beyond it: it fires; just within
it, or just before its time is up: it does not), the routes of Alertmanager and the lines of the dashboards.
"""


def page(domains: Iterable[Domain], monitoring: Monitoring, budget: Budget) -> str:
    domains = tuple(domains)
    return "\n".join((_HEAD, *_ways(monitoring), *_budget(budget), *_overview(domains), *_details(domains)))


def _ways(monitoring: Monitoring) -> Iterator[str]:
    slack = monitoring.slack
    yield "## Who is told\n"
    yield "| Channel | Webhook | Called by critical alerts |\n|---|---|---|"
    for channel in CHANNELS:
        called = " ".join(slack.escalation(channel)) or "nobody"
        yield f"| {channel} | `secrets:{slack.secret_names[channel]}` | {called} |"
    yield f"""
Alerts of one subject come in one message: after {slack.group_wait_seconds} s, then every
{slack.group_interval_seconds} s while new ones join, again every {slack.repeat_seconds // 3600} h while they last,
and once when they are over. Triggers go to the rollback controller at once, beside Slack.
The Watchdog goes to the dead man's switch every minute (`secrets:{DEAD_MANS_SWITCH}`): somebody outside tells when it
stops coming.

What one alert explains, another does not tell again:
"""
    for rule in inhibitions():
        same = " and ".join(f"`{label}`" for label in rule["equal"])
        yield f"- {_words(rule['source_matchers'])} silences {_words(rule['target_matchers'])} of the same {same}"
    yield ""


def _words(matchers: list[str]) -> str:
    return " with ".join(f"`{matcher}`" for matcher in matchers)


def _budget(budget: Budget) -> Iterator[str]:
    yield "## From trigger to healthy\n"
    yield f"At the most {budget.total:g} s of {budget.limit:g} s. A stack that cannot keep to it is refused.\n"
    yield "| | Seconds | |\n|---|---:|---|"
    for part in budget.parts:
        yield f"| {part.name} | {part.seconds:g} | {part.why} |"
    windows = ", ".join(f"{name} {seconds:g} s" for name, seconds in budget.windows.items())
    yield f"\nBefore that each trigger has to see it for its own time: {windows}; SqlInjection at once.\n"


def _overview(domains: Iterable[Domain]) -> Iterator[str]:
    yield "## Overview\n"
    yield "| Alert | Severity | Channel | For | What |\n|---|---|---|---:|---|"
    for domain in domains:
        for alert in domain.alerts:
            link = f"[{alert.name}](#{alert.name.lower()})"
            yield f"| {link} | {alert.severity} | {alert.channel} | {_for(alert)} | {_plain(alert.summary)} |"
    yield ""


def _details(domains: Iterable[Domain]) -> Iterator[str]:
    told: set[str] = set()
    for domain in domains:
        yield f"## {domain.title}\n"
        yield f"Asked every {domain.every} s.\n"
        if domain.recordings:
            yield "```promql"
            yield from (f"{one.record} = {one.expr}" for one in domain.recordings)
            yield "```\n"
        for alert in domain.alerts:
            if alert.name not in told:
                yield f"### {alert.name}\n"
                yield f"{_plain(alert.summary)[:1].upper()}{_plain(alert.summary)[1:]}.\n"
            told.add(alert.name)
            yield "```promql"
            yield alert.expr
            yield "```\n"
            yield f"- **Told**: {alert.severity}, channel {alert.channel}, {_lasting(alert)}"
            yield f"- **Do**: {alert.advice}"
            if alert.action:
                yield f"- **By itself**: {_ACTIONS[alert.action]}"
            yield f"- **Without data**: {alert.missing}"
            if alert.quiet:
                yield "- **In maintenance mode**: not told"
            yield f"- **From**: {alert.chapter}"
            yield f"- **Proved by**: {'; '.join(case.title for case in alert.cases)}\n"


def _for(alert: Alert) -> str:
    return f"{alert.lasting} s"


def _lasting(alert: Alert) -> str:
    return f"when it has been so for {_for(alert)}" if alert.lasting else "at once"


def _plain(template: str) -> str:
    """Labels as one reads them."""
    return template.replace("*", "\\*").replace("{{ $labels.", "`").replace(" }}", "`")
