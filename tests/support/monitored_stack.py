"""Monitoring of a test stack: webhooks to a receiver, and queries to its Prometheus and Alertmanager."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from settings.monitoring import CHANNELS, DEAD_MANS_SWITCH, SLACK_SECRET, STATE_SECRETS
from tests.support.cluster_stack import Stack
from tests.support.webhook_receiver import Receiver

_POLL_SECONDS = 0.3


def enable_monitoring(stack: Stack, receiver: Receiver, **rollback: Any) -> None:
    """Webhooks in a stack's file lead to the receiver; `rollback` are changes of `monitoring.rollback`."""

    def change(config: dict[str, Any]) -> None:
        config["runbook:monitoring"]["slack"]["egress"] = receiver.egress
        config["runbook:monitoring"]["rollback"] |= rollback
        if rollback.get("enabled") is False:  # only the controller needs the keys of the state
            for secret in STATE_SECRETS:
                del config[f"secrets:{secret}"]

    stack.edit(change)
    urls = {f"{SLACK_SECRET}{channel.upper()}": f"{receiver.url}/{channel}" for channel in CHANNELS}
    urls[DEAD_MANS_SWITCH] = f"{receiver.url}/switch"
    words = [word for name, url in urls.items() for word in ("--secret", f"secrets:{name}={url}")]
    stack.run("pulumi", "config", "set-all", "--stack", stack.name, *words).check()


@dataclass(frozen=True)
class Observed:
    """Read through the API server, which no network policy keeps from the pods of the sandbox's only node."""

    stack: Stack

    def targets(self) -> list[dict[str, Any]]:
        return self._prometheus("targets?state=active")["activeTargets"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        return self._prometheus(f"query?query={quote(expr, safe='')}")["result"]

    def number(self, expr: str) -> float | None:
        """The value of the only series; None if there is none."""
        found = self.query(expr)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def rules(self) -> list[dict[str, Any]]:
        """The rules that Prometheus has loaded."""
        return [rule for group in self._prometheus("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        return {alert["metric"]["alertname"] for alert in self.query('ALERTS{alertstate="firing"}')}

    def alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager knows."""
        return json.loads(self._raw("alertmanager:9093/proxy/api/v2/alerts"))

    def status(self) -> str:
        """What Alertmanager shows of its configuration."""
        return self._raw("alertmanager:9093/proxy/api/v2/status")

    def configuration(self) -> str:
        """What Prometheus shows of its own."""
        return self._prometheus("status/config")["yaml"]

    def _prometheus(self, path: str) -> Any:
        return json.loads(self._raw(f"prometheus:9090/proxy/api/v1/{path}"))["data"]

    def _raw(self, path: str) -> str:
        return self.stack.kubectl("get", "--raw", f"/api/v1/namespaces/{self.stack.namespace}/services/{path}")


def eventually(condition: Callable[[], Any], seconds: float = 60, what: Callable[[], Any] | None = None) -> Any:
    """The first truthy answer."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if what else condition}"
        time.sleep(_POLL_SECONDS)
    return value
