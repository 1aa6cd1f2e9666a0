"""Notification routes: the configuration of Alertmanager (HerbisVeritas "Alertes Critiques (Slack)")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitoring.alerts.lockdown import LOCKED
from monitoring.alerts.self_monitoring import IN_MAINTENANCE, WATCHDOG
from settings.monitoring import CHANNELS, DEAD_MANS_SWITCH, Monitoring

ROLLBACK, NONE, SWITCH = "rollback", "none", "dead-mans-switch"
_SIGNS = {"critical": "🚨", "alerts": "⚠️", "security": "🔒", "business": "💳", "performance": "⚠️"}
_TITLE = (
    '{{ if eq .Status "firing" }}%s {{ .Alerts.Firing | len }} firing{{ else }}✅ resolved{{ end }}: '
    "{{ .CommonLabels.namespace }}, {{ .CommonLabels.about }}"
)
_TEXT = (
    "{{ range .Alerts.Firing }}*{{ .Labels.alertname }}*: {{ .Annotations.summary }}"
    "{{ if .Annotations.value }} (now {{ .Annotations.value }}){{ end }}\n"
    "{{ .Annotations.advice }} · {{ .Annotations.runbook_url }}\n{{ end }}"
    "{{ range .Alerts.Resolved }}*{{ .Labels.alertname }}* is over: {{ .Annotations.summary }}\n{{ end }}"
)
# A message has the alerts of one subject, some of which may be warnings: about another pod, claim or node.
_WORST = '{{ range .Alerts.Firing }}{{ if eq .Labels.severity "critical" }}{{ $worst = true }}{{ end }}{{ end }}'
_IF_CRITICAL = f"{{{{ $worst := false }}}}{_WORST}{{{{ if $worst }}}}"
_COLOR = '{{ if eq .Status "resolved" }}good{{ else }}' + _IF_CRITICAL + "danger{{ else }}warning{{ end }}{{ end }}"


THINGS = (
    "persistentvolumeclaim",
    "pod",
    "container",
    "instance",
    "mountpoint",
    "device",
    "cronjob",
    "secret",
    "datname",
)
"""Labels that say which of several things an alert is about. Alertmanager takes a label that both lack as equal."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Addresses and mounted files that the configuration names."""

    secrets: str = "/etc/alertmanager/secrets"
    """Folder with one file for each `secrets:*` key, named as the key."""
    controller: str | None = None
    """URL of the rollback controller's webhook; without it, no release is rolled back automatically."""
    token: str = "/etc/alertmanager/controller/token"  # noqa: S105 (a file)
    """File with the token that the controller requires."""
    switch: str | None = None
    """URL of the dead man's switch, for an Alertmanager before 0.26, which cannot read it from a file: the whole
    configuration is a secret then."""


def alertmanager(monitoring: Monitoring, places: Places) -> dict[str, Any]:
    """Alertmanager's configuration file. An alert is muted while another one explains it."""
    slack = monitoring.slack
    routes: list[dict[str, Any]] = [
        {
            "matchers": [f'alertname="{WATCHDOG}"'],
            "receiver": SWITCH if monitoring.dead_mans_switch else NONE,
            "group_wait": "0s",
            "group_interval": "30s",
            "repeat_interval": "1m",
        }
    ]
    if places.controller:
        routes.append(
            {
                "matchers": ['action=~"rollback|lockdown"'],
                "receiver": ROLLBACK,
                # Each alert alone and at once; Alertmanager retries while the controller does not answer.
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "10s",
                "repeat_interval": "5m",
                "continue": True,
            }
        )
    routes += [{"matchers": [f'channel="{channel}"'], "receiver": f"slack-{channel}"} for channel in CHANNELS]
    receivers: list[dict[str, Any]] = [{"name": NONE}]
    receivers += [_slack(monitoring, channel, places) for channel in CHANNELS]
    if monitoring.dead_mans_switch:
        url = {"url": places.switch} if places.switch else {"url_file": f"{places.secrets}/{DEAD_MANS_SWITCH}"}
        receivers.append({"name": SWITCH, "webhook_configs": [{**url, "send_resolved": False}]})
    if places.controller:
        known = {"authorization": {"type": "Bearer", "credentials_file": places.token}}
        hook = {"url": places.controller, "send_resolved": True, "http_config": known}
        receivers.append({"name": ROLLBACK, "webhook_configs": [hook]})
    return {
        "route": {
            "receiver": "slack-alerts",
            "group_by": ["namespace", "about"],
            "group_wait": f"{slack.group_wait_seconds}s",
            "group_interval": f"{slack.group_interval_seconds}s",
            "repeat_interval": f"{slack.repeat_seconds}s",
            "routes": routes,
        },
        "inhibit_rules": inhibitions(),
        "receivers": receivers,
    }


def inhibitions() -> list[dict[str, Any]]:
    """Each alert has a subject: alerts without one would mute each other."""
    same = ["namespace", "about"]
    return [
        # Of one subject and thing, only the most severe: a full volume does not mute another one that fills.
        {
            "source_matchers": ['severity="critical"'],
            "target_matchers": ['severity="warning"'],
            "equal": [*same, *THINGS],
        },
        # A rollback trigger replaces the alert for people on the same subject.
        {"source_matchers": ['action="rollback"'], "target_matchers": ['action=""', 'about!=""'], "equal": same},
        # Maintenance mutes what customers notice, not attacks, backups and disks.
        {
            "source_matchers": [f'alertname="{IN_MAINTENANCE}"'],
            "target_matchers": ['maintenance="quiet"'],
            "equal": ["namespace"],
        },
        # During a lockdown only the front-door probes are muted.
        {
            "source_matchers": [f'alertname="{LOCKED}"'],
            "target_matchers": ['about="front-door"'],
            "equal": ["namespace"],
        },
    ]


def _slack(monitoring: Monitoring, channel: str, places: Places) -> dict[str, Any]:
    called = " ".join(monitoring.slack.escalation(channel))
    escalation = f"{_IF_CRITICAL}{called}{{{{ end }}}}" if called else ""
    message = {
        "api_url_file": f"{places.secrets}/{monitoring.slack.secret_names[channel]}",
        "send_resolved": True,
        "link_names": True,
        "pretext": escalation,
        "title": _TITLE % _SIGNS[channel],
        "text": _TEXT,
        "color": _COLOR,
    }
    return {"name": f"slack-{channel}", "slack_configs": [message]}
