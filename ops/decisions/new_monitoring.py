"""The stack file of monitoring alone: of an application, servers and nodes that belong to others."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from ops.decisions.new_stack import DataService, describe_server, first_lines
from settings.monitoring import Monitoring


@dataclass(frozen=True)
class NewMonitoring:
    """The answers."""

    stack: str
    namespace: str
    environment: str
    context: str | None
    tasks_image: str
    """By digest, as `monitoring_image`."""
    monitoring_image: str
    url: str | None
    """Public address that is probed; None: only servers are watched."""
    url_cidr: str | None
    """Its addresses."""
    slack_cidr: str
    """Addresses of the webhooks."""
    postgres: DataService | None = None
    redis: DataService | None = None

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The `secrets:` keys that have to be set first."""
        servers = (("DATABASE_URL", self.postgres), ("REDIS_URL", self.redis))
        return (*(name for name, there in servers if there), *Monitoring().secret_names)


def render_monitoring(answers: NewMonitoring) -> str:
    """The stack file. Keys with a default are left out: docs/settings.md has them all."""
    by = "`pulumi up` applies it."
    lines = first_lines(by, answers.namespace, answers.environment, answers.context, answers.tasks_image)
    if answers.postgres or answers.redis:
        lines.append("  runbook:data:")
    lines += describe_server("postgres", answers.postgres, 5432, "DATABASE_URL") if answers.postgres else []
    lines += describe_server("redis", answers.redis, 6379, "REDIS_URL") if answers.redis else []
    lines += [
        "  runbook:monitoring:",
        f"    image: {answers.monitoring_image} # images/monitoring",
    ]
    if answers.url:
        port = urlsplit(answers.url).port or (443 if answers.url.startswith("https:") else 80)
        lines += [
            "    frontDoor: # probed every 5 s; with https, its certificate is watched too",
            f"      address: {answers.url}",
            f"      egress: [{{cidr: {answers.url_cidr}, ports: [{port}]}}]",
        ]
    lines += [
        "    infrastructure: # true needs the cluster's exporter: prometheus.nodes, .kubelet, .kubeState",
        "      nodes: false",
        "      kubelet: false",
        "      kubeState: false",
        "    slack: # where messages go: secrets:SLACK_WEBHOOK_<CHANNEL>",
        f"      egress: [{{cidr: {answers.slack_cidr}, ports: [443]}}]",
    ]
    return "\n".join(lines) + "\n"
