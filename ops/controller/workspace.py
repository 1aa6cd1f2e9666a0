"""The pod's environment, and the stack's files, written anew from the last update."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.adapters.cluster import Cluster
from ops.stack import stack_file
from ops.stack.pulumi_cli import PulumiCli
from ops.stack.session import Session
from settings import StackSettings
from settings.names import CONTROLLER

NAME = CONTROLLER
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class PodEnvironment:
    """The environment that `components/rollback_controller/controller.py` sets."""

    stack: str
    namespace: str
    alertmanager: str
    token: Path
    slack: Path
    work: Path
    port: int
    pod: str

    @classmethod
    def of_the_pod(cls) -> PodEnvironment:
        def given(name: str) -> str:
            if not (value := os.environ.get(name)):
                raise SystemExit(f"{name} is not set: this runs in the pod that components/rollback_controller makes")
            return value

        return cls(
            stack=given("RUNBOOK_STACK"),
            namespace=given("CONTROLLER_NAMESPACE"),
            alertmanager=given("CONTROLLER_ALERTMANAGER_URL"),
            token=Path(given("CONTROLLER_TOKEN_FILE")),
            slack=Path(given("CONTROLLER_SLACK_FILE")),
            work=Path(given("CONTROLLER_WORK")),
            port=int(given("CONTROLLER_PORT")),
            pod=socket.gethostname(),
        )


class _Session(Session):
    """Uses the cluster in which the pod runs, whatever kubeconfig context the stack names."""

    def cluster(self, settings: StackSettings, config: Mapping[str, Any]) -> Cluster:  # noqa: ARG002
        return Cluster(settings.namespace, {})


class Workspace:
    """The stack as in an operator's fresh checkout, with the newest stack file."""

    def __init__(self, place: PodEnvironment, project: Path) -> None:
        self._work = place.work
        self._file = place.work / f"Pulumi.{place.stack}.yaml"
        home = place.work / "pulumi"
        home.mkdir(parents=True, exist_ok=True)
        plugins = home / "plugins"
        if not plugins.is_symlink():
            plugins.symlink_to("/opt/pulumi/plugins")
        os.environ |= {
            "PULUMI_HOME": str(home),
            "PULUMI_OPTION_CONFIG_FILE": str(self._file),
            "KUBECONFIG": str(self._work / "kubeconfig"),
        }
        self.session = _Session(PulumiCli(project, place.stack), self._file)

    def fresh(self) -> Session:
        """Refresh the stack file from the last update: the pod has no checkout of it."""
        reader = self.session.reader
        self.session.started = time.monotonic()
        options = ("--force", "--stack", reader.stack, "--config-file", str(self._file))
        reader.run("config", "refresh", *options, config_file=False)
        context = stack_file.read(self._file).config.get("kubernetes:context")
        (self._work / "kubeconfig").write_text(json.dumps(kubeconfig(str(context or "here"))))
        return self.session


def kubeconfig(context: str) -> dict[str, Any]:
    """A kubeconfig with the pod's own identity, under the context name in the stack's configuration."""
    here = {"name": context}
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{**here, "context": {"cluster": context, "user": context}}],
        "clusters": [{**here, "cluster": {"server": server, "certificate-authority": f"{_ACCOUNT}/ca.crt"}}],
        "users": [{**here, "user": {"tokenFile": f"{_ACCOUNT}/token"}}],
    }
