"""A stack of the program on the sandbox, driven by the same commands an operator types."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sandbox.env import BACKEND
from sandbox.paths import ROOT, STATE
from settings.backup import S3_ACCESS_KEY, S3_SECRET_KEY, SECRET_NAMES
from settings.monitoring import STATE_SECRETS, Monitoring
from tests.support.terminal import run_at_terminal


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def json(self) -> Any:
        return json.loads(self.out)


HARMLESS = "restore-test-application"
"""Secret with placeholders, which the release gets in a restore test."""


@dataclass(frozen=True)
class Stack:
    """One stack with a stack file and a namespace of its own, beside the one `make up` released."""

    name: str
    file: Path
    planted: list[str] = field(default_factory=list)
    """Secrets of its own that no command may print, whatever it is about: every output is searched for them."""
    printed: list[str] = field(default_factory=list)
    """Secrets that a command of its settings prints, and that nothing may keep or repeat."""
    known: set[str] = field(default_factory=set)
    """Every secret value that was read from the cluster so far, those that are no longer in use among them."""
    backend: str | None = None
    """Where its state is; without it, where the sandbox's own is: on S3."""

    @classmethod
    def create(cls, name: str, folder: Path, *, backups: bool, monitoring: bool = False) -> Stack:
        """From the sandbox's stack file: same images and settings, other namespace and host, never released.

        Without backups a release is quicker, and migrates without the gate. Without monitoring it is quicker, too, and
        the state is in a folder: no pod has to reach it.
        """
        document = YAML().load(STATE / "Pulumi.sandbox.yaml")
        config = document["config"]
        config["runbook:namespace"] = f"shop-{name}"
        ingress = config["runbook:ingress"]
        ingress["publicUrl"] = ingress["publicUrl"].replace("//localhost", f"//{name}.localhost")
        ingress["host"] = f"{name}.localhost"
        config.pop("runbook:release", None)
        config.pop("runbook:quarantine", None)
        config.pop("runbook:rotated", None)
        for key in [key for key in config if key.startswith("secrets:") and key.endswith("_B")]:
            del config[key]
        if not backups:
            # What rotation says there is about the store of backups, where reports of maintenance are kept as well.
            keys = ("runbook:backup", "runbook:maintenanceTasks", "runbook:rotation")
            for key in (*keys, *(f"secrets:{secret}" for secret in SECRET_NAMES)):
                config.pop(key, None)
        if not monitoring:
            for key in ("runbook:monitoring", *(f"secrets:{secret}" for secret in Monitoring().secret_names)):
                config.pop(key, None)
            for secret in STATE_SECRETS:
                config.pop(f"secrets:{secret}", None)
        stack = cls.begin(name, folder, document, backend=None if monitoring else f"file://{BACKEND}")
        stack.plant("STRIPE_SECRET_KEY", f"canary-{name}-5f0c2e-in-the-coal-mine")
        if backups:
            stack.issue_keys()
        return stack

    @classmethod
    def begin(cls, name: str, folder: Path, document: Any, *, backend: str | None) -> Stack:
        """A new stack of this stack file, in whose place nothing is left of an interrupted run."""
        file = folder / f"Pulumi.{name}.yaml"
        YAML().dump(document, file)
        BACKEND.mkdir(exist_ok=True)
        stack = cls(name, file, backend=backend)
        # The salt in the copied file goes with the sandbox's passphrase: the secrets stay readable.
        scratch = folder / "project"
        scratch.mkdir()
        shutil.copy(ROOT / "Pulumi.yaml", scratch)
        shutil.copy(file, scratch)
        stack.forget()
        stack.run("kubectl", "wait", "--for=delete", f"namespace/{stack.namespace}", "--timeout=150s").check()
        stack.run("pulumi", "stack", "init", name, "--cwd", str(scratch), config_file=False).check()
        return stack

    def issue_keys(self) -> None:
        """A key pair of its own for the store of backups: it is revoked together with the stack."""
        pair = issue_key_pair()
        self.set_secret(S3_ACCESS_KEY, pair["accessKeyId"])
        self.set_secret(S3_SECRET_KEY, pair["secretAccessKey"])

    def plant(self, name: str, value: str) -> None:
        """A secret in the stack file that has to stay one."""
        self.set_secret(name, value)
        self.planted.append(value)

    def set_secret(self, name: str, value: str) -> None:
        words = ("pulumi", "config", "set", "--secret", f"secrets:{name}", "--stack", self.name)
        self.run(*words, stdin=value).check()

    def environment(self, *, config_file: bool = True) -> dict[str, str]:
        environment = dict(os.environ) | {"RUNBOOK_STACK": self.name, "PULUMI_STACK": self.name}
        environment.pop("PULUMI_OPTION_CONFIG_FILE", None)
        if self.backend:
            environment["PULUMI_BACKEND_URL"] = self.backend
        if config_file:
            environment["PULUMI_OPTION_CONFIG_FILE"] = str(self.file)
        return environment

    def start(self, *argv: str, config_file: bool = True) -> subprocess.Popen[str]:
        return subprocess.Popen(
            argv, cwd=ROOT, env=self.environment(config_file=config_file), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *argv: str, config_file: bool = True, stdin: str | None = None) -> Checked:
        done = subprocess.run(
            argv, cwd=ROOT, env=self.environment(config_file=config_file), text=True,
            input=stdin or "", capture_output=True, timeout=900,
        )  # fmt: skip
        return self._search(argv, Checked(done.returncode, done.stdout, done.stderr))

    def run_at_terminal(self, *argv: str, answers: Mapping[str, str]) -> Checked:
        """A command that asks for values, typed by an operator."""
        code, printed = run_at_terminal(argv, answers, cwd=ROOT, environment=self.environment(), seconds=600)
        return self._search(argv, Checked(code, printed, ""))

    def _search(self, argv: Sequence[str], done: Checked) -> Checked:
        if argv[0] in ("runbook", "pulumi"):
            for value in (*self.planted, *self.printed):
                assert value not in done.text, f"{' '.join(argv[:3])} … prints a secret"
        return done

    def runbook(self, *arguments: str) -> Checked:
        return self.run("runbook", *arguments)

    def remove(self) -> None:
        """Destroy it, to the last object, and forget it."""
        self.run("pulumi", "destroy", "--stack", self.name, "--yes", "--non-interactive", "--skip-preview").check()
        self.forget()

    def forget(self) -> None:
        """Namespace and state go; from a folder of its own, because `stack rm` also unselects the folder's stack."""
        self.run("kubectl", "delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false").check()
        scratch = str(self.file.parent / "project")
        self.run("pulumi", "cancel", "--stack", self.name, "--yes", "--cwd", scratch, config_file=False)
        self.run("pulumi", "stack", "rm", self.name, "--yes", "--force", "--cwd", scratch, config_file=False)

    def changes(self) -> Mapping[str, int]:
        """What a plain `pulumi preview` would change; empty on a clean stack."""
        preview = self.run("pulumi", "preview", "--stack", self.name, "--json", "--non-interactive").check()
        summary = json.loads(preview.out)["changeSummary"]
        return {kind: count for kind, count in summary.items() if kind != "same" and count}

    def history(self) -> list[dict[str, Any]]:
        return self.runbook("history", "--json").check().json()

    @property
    def namespace(self) -> str:
        return self.config["runbook:namespace"]

    @property
    def config(self) -> dict[str, Any]:
        return YAML(typ="safe").load(self.file)["config"]

    @property
    def release(self) -> dict[str, Any]:
        return self.config["runbook:release"]

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the stack file as an editor would; `change` gets its `config`."""
        yaml = YAML()
        document = yaml.load(self.file)
        change(document["config"])
        yaml.dump(document, self.file)

    @property
    def url(self) -> str:
        outputs = self.run("pulumi", "stack", "output", "--stack", self.name, "--json", config_file=False).check()
        return json.loads(outputs.out)["url"]

    def secret_values(self) -> set[str]:
        """Every secret value that the stack has or had when this was asked before, generated ones included."""
        listed = json.loads(self.kubectl("get", "secrets", "-o", "json"))
        values = [
            base64.b64decode(value).decode()
            for item in listed["items"]
            if item["metadata"]["name"] != HARMLESS
            for value in item.get("data", {}).values()
        ]
        # A Secret of tasks and of Redis also has what is no secret: a role's name, a pattern, a comment.
        self.known.update(value for value in values if len(value) >= 12 and not value.startswith(("session:", "#")))
        return self.known

    def sql(self, statement: str, database: str = "shop") -> str:
        """What the bundled database answers, unaligned."""
        psql = ["psql", "--username=shop", f"--dbname={database}", "--tuples-only", "--no-align"]
        return self.kubectl("exec", "postgres-0", "--", *psql, "--command", statement).strip()

    def evict(self, pod: str) -> Checked:
        """Ask for what `kubectl drain` asks for; a disruption budget may refuse it."""
        meta = {"name": pod, "namespace": self.namespace}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        where = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        return self.run("kubectl", "create", "--raw", where, "--filename", "-", stdin=json.dumps(eviction))

    def kubectl(self, *arguments: str) -> str:
        return self.run("kubectl", "--namespace", self.namespace, *arguments).check().out


def issue_key_pair() -> dict[str, str]:
    """A key pair of the sandbox's store, as `rotate` reads one: `accessKeyId` and `secretAccessKey`."""
    command = [sys.executable, "-m", "sandbox", "s3-key", "issue"]
    return json.loads(subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout)


def revoke_key_pair(pair: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "sandbox", "s3-key", "revoke"]
    subprocess.run(command, cwd=ROOT, text=True, input=json.dumps(dict(pair)), capture_output=True, check=True)


class Checked(Done):
    def check(self) -> Checked:
        assert self.code == 0, f"ended with {self.code}:\n{self.text}"
        return self
