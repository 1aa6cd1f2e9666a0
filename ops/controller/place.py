"""Where the controller stands: what its pod tells it, and the stack's files, made anew from the last update."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ops.reading import Reader
from ops.session import Session

NAME = "rollback-controller"


@dataclass(frozen=True)
class Place:
    """What `components/controller.py` puts into the pod."""

    stack: str
    namespace: str
    alertmanager: str
    token: Path
    slack: Path
    work: Path
    port: int
    pod: str

    @classmethod
    def of_the_pod(cls) -> Place:
        def given(name: str) -> str:
            if not (value := os.environ.get(name)):
                raise SystemExit(f"{name} is not set: this runs where components/controller.py puts it")
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


class Stack:
    """The stack as an operator with a fresh checkout has it, and the newest stack file."""

    def __init__(self, place: Place, project: Path) -> None:
        self._file = place.work / f"Pulumi.{place.stack}.yaml"
        home = place.work / "pulumi"
        home.mkdir(parents=True, exist_ok=True)
        plugins = home / "plugins"
        if not plugins.is_symlink():
            plugins.symlink_to("/opt/pulumi/plugins")
        os.environ |= {"PULUMI_HOME": str(home), "PULUMI_OPTION_CONFIG_FILE": str(self._file)}
        self.session = Session(Reader(project, place.stack), self._file)

    def fresh(self) -> Session:
        """With the configuration of the last update, whoever made it: no checkout is known here."""
        reader = self.session.reader
        self.session.started = time.monotonic()
        options = ("--force", "--stack", reader.stack, "--config-file", str(self._file))
        reader.ask("config", "refresh", *options, config_file=False)
        return self.session
