"""A stack with a rollback controller, and a real receiver of its notifications."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import enable_monitoring
from tests.support.secret_search import assert_secrets_stay_secret
from tests.support.webhook_receiver import Receiver, run_receiver

_POD = "app.kubernetes.io/name=rollback-controller"
COOLDOWN = 60
"""As in the sandbox's stack file."""
_WINDOW = 3600


@dataclass(frozen=True)
class ControlledStack:
    """A stack with its rollback controller."""

    stack: Stack
    receiver: Receiver

    def fire(self, name: str, action: str = "rollback") -> None:
        """An alert in the stack's own Alertmanager."""
        labels = [name, f"action={action}", f"namespace={self.stack.namespace}", "severity=critical"]
        labels += ["channel=critical", f"about={name}"]
        add = ["amtool", "alert", "add", *labels, "--annotation=summary=made by a test"]
        self.stack.kubectl("exec", "alertmanager-0", "--", *add, "--alertmanager.url=http://localhost:9093")

    def count(self, series: str) -> int:
        where = f"/api/v1/namespaces/{self.stack.namespace}/services/rollback-controller:8080/proxy/metrics"
        lines = self.stack.kubectl("get", "--raw", where).splitlines()
        return next(int(float(line.split()[-1])) for line in lines if line.startswith(f"runbook_controller_{series}"))

    def done(self, action: str) -> int:
        return self.count(f'actions_total{{action="{action}"}}')

    def journal(self) -> dict[str, Any]:
        found = json.loads(self.stack.kubectl("get", "configmap", "rollback-controller", "--output", "json"))
        return {key: json.loads(value) for key, value in (found.get("data") or {}).items()}

    def pod(self) -> str:
        return self.stack.kubectl("get", "pods", "--selector", _POD, "--output", "name").strip()

    def incidents(self) -> list[dict[str, Any]]:
        found = json.loads(
            self.stack.kubectl("get", "configmaps", "--selector", "runbook/incident", "--output", "json")
        )["items"]
        return [json.loads(item["data"]["record.json"]) for item in found]

    def post(self, body: Any, token: str) -> int:
        """The webhook's answer; called in the controller's own pod, so that no network policy applies."""
        script = (
            "import sys, urllib.request, urllib.error\n"
            "request = urllib.request.Request('http://localhost:8080/alerts', data=sys.stdin.read().encode(),"
            " headers={'Authorization': 'Bearer ' + sys.argv[1]})\n"
            "try: print(urllib.request.urlopen(request).status)\n"
            "except urllib.error.HTTPError as error: print(error.code)\n"
        )
        argv = ["exec", "--stdin", self.pod(), "--", "python3", "-c", script, token]
        words = ["kubectl", "--namespace", self.stack.namespace, *argv]
        return int(self.stack.run(*words, stdin=json.dumps(body)).check().out)


@contextmanager
def watched_stack(
    name: str,
    images: dict[str, str],
    folder: Path,
    *,
    window: int = _WINDOW,
    monitoring: Mapping[str, Any] | None = None,
) -> Iterator[ControlledStack]:
    """Version 2 of the shop after version 1, so that a rollback has a target.

    `window`: seconds for which a release is blamed for failures. `monitoring`: changes of `runbook:monitoring`.
    """
    if "RUNBOOK_S3" not in os.environ:
        pytest.skip("this sandbox has no S3 server: the cluster is not its own")
    made = Stack.create(name, folder, backups=False, monitoring=True)
    made.edit(lambda config: config["runbook:monitoring"].update(monitoring or {}))
    with run_receiver(name, images["tasks"]) as receiver:
        try:
            enable_monitoring(made, receiver, releaseWindowSeconds=window)
            made.runbook("deploy", images["shop:v1"], "--yes").check()
            made.runbook("deploy", images["shop:v2"], "--yes").check()
            yield ControlledStack(made, receiver)
            received = [message.text for message in receiver.messages()]
            assert received
            assert_secrets_stay_secret(made, received)
        finally:
            made.remove()


def over(stack: Stack) -> bool:
    """Whether the last rollback's cooldown is over, by the history's own clock."""
    last = next((entry for entry in stack.history() if entry["action"] == "rollback"), None)
    if last is None:
        return True
    since = datetime.now(UTC) - datetime.fromisoformat(last["when"])
    return since.total_seconds() > COOLDOWN + (last["seconds"] or 0) + 2


def refresh(stack: Stack) -> None:
    """Bring the stack file up to what the controller did, as an operator would."""
    words = ("pulumi", "config", "refresh", "--force", "--stack", stack.name, "--config-file", str(stack.file))
    stack.run(*words, config_file=False).check()
