"""`runbook doctor`: what keeps a first release from working, on this machine and in the cluster. It changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ops.adapters import doctor as measuring
from ops.adapters import environment, registry
from ops.adapters.cluster import Cluster
from ops.decisions import doctor as judging
from ops.decisions.capacity import is_ready
from ops.decisions.doctor import Fault
from ops.decisions.environment import CLOCK_REMEDY
from ops.decisions.report import Line, Report
from ops.errors import NotMeasured, OpsError, Refused
from ops.stack import stack_file
from ops.stack.locks import whoami
from ops.stack.pulumi_cli import PulumiCli
from settings import SettingsError, StackFile, StackSettings, parse, read_stack_file
from settings.checks import Checks

Outcome = str | Fault
ENFORCED_LABEL = "pod-security.kubernetes.io/enforce"


class Doctor:
    """One examination. A line whose ground is missing is left out, and names that ground."""

    def __init__(self, cwd: Path, stack: str | None, image: str | None, without: Mapping[str, str]) -> None:
        self._cwd, self._wanted, self._image, self._without = cwd, stack, image, without
        self._began = time.monotonic()
        self._lines: list[Line] = []
        self.stack = stack or "?"
        self._values: dict[str, str] = {}
        self._stacks: set[str] = set()
        self._settings: StackSettings

    def examine(self) -> Report:
        """Every line. What the stack file lacks does not hide what the cluster lacks, where it can be read."""
        machine = self._try("machine", "This machine", self._look_at_machine)
        login = machine and self._try("login", "Login and backend", self._look_at_login)
        made = login and self._try("stack", "Stack", self._look_at_stack)
        self._try("file", "Stack file", self._look_at_file)
        readable = "_settings" in vars(self)
        if made:
            self._try("provider", "Secrets provider", self._look_at_secrets)
        if readable and self._try("cluster", "Cluster", self._look_at_cluster):
            self._try_all(
                [
                    ("access", "Access rights", self._look_at_rights),
                    ("admission", "Admission", self._look_at_admission),
                    ("nodes", "Nodes", self._look_at_nodes),
                    ("storage", "Storage classes", self._look_at_storage),
                    ("ingress", "Ingress class", self._look_at_ingress),
                    ("policies", "Network policies", self._look_at_policies),
                    ("metrics", "metrics-server", self._look_at_metrics),
                    ("clock", "Clock", self._look_at_clock),
                    ("pull", "Pull secrets", self._look_at_pull_secrets),
                ]
            )
        if readable:
            self._try_all([("images", "Images", self._look_at_images), ("release", "Release", self._look_at_release)])
            self._try("database", "Database", self._look_at_database)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        subject = {"stack": self.stack, "image": self._image}
        return Report("doctor", subject, whoami(), at, round(time.monotonic() - self._began, 1), self._lines)

    def _try_all(self, checks: list[tuple[str, str, Callable[[], Outcome]]]) -> None:
        with ThreadPoolExecutor(max_workers=len(checks)) as pool:
            self._lines += pool.map(lambda check: self._measure(*check), checks)

    def _try(self, name: str, title: str, look: Callable[[], Outcome]) -> bool:
        """Whether the line passed, or was left out."""
        self._lines.append(self._measure(name, title, look))
        return self._lines[-1].result != "fail"

    def _measure(self, name: str, title: str, look: Callable[[], Outcome]) -> Line:
        if reason := self._without.get(name):
            return Line(name, title, "left out", f"by --without: {reason}")
        try:
            found = look()
        except NotMeasured as why:
            return Line(name, title, "fail" if why.fails else "left out", why.why, _REMEDIES.get(name))
        except OpsError as error:
            return Line(name, title, "fail", str(error).strip(), _REMEDIES.get(name))
        if isinstance(found, Fault):
            return Line(name, title, "fail", found.what, found.remedy)
        return Line(name, title, "pass", found)

    # -- this machine ------------------------------------------------------------------------------------

    @cached_property
    def _folder(self) -> Path:
        here = self._cwd.resolve()
        found = next((place for place in (here, *here.parents) if (place / "Pulumi.yaml").is_file()), None)
        if found is None:
            raise Refused(f"There is no Pulumi.yaml in {here} or above it.")
        return found

    def _look_at_machine(self) -> Outcome:
        folder = self._folder
        if shutil.which("pulumi") is None:
            return Fault(
                "pulumi is not on PATH", "install it (https://www.pulumi.com/docs/install), then run this again"
            )
        version = self._pulumi.run("version").strip().removeprefix("v")
        asked = yaml.safe_load((folder / "Pulumi.yaml").read_text())
        least = re.findall(r"\d+", str(asked.get("requiredPulumiVersion", "")))
        if least and [int(part) for part in re.findall(r"\d+", version)[:3]] < [int(part) for part in least[:3]]:
            return Fault(f"pulumi {version}, but Pulumi.yaml wants {asked['requiredPulumiVersion']}", "upgrade pulumi")
        runtime = asked.get("runtime")
        virtual = (runtime.get("options") or {}).get("virtualenv") if isinstance(runtime, dict) else None
        if virtual and not (folder / virtual / "bin" / "python").exists():
            return Fault(f"{folder / virtual}, in which the program runs, is not there", "`pulumi install`")
        return f"pulumi {version}, Python {sys.version_info.major}.{sys.version_info.minor}"

    @cached_property
    def _pulumi(self) -> PulumiCli:
        return PulumiCli(self._folder, self._wanted or "?")

    def _look_at_login(self) -> Outcome:
        url = os.environ.get("PULUMI_BACKEND_URL") or json.loads(self._pulumi.run("whoami", "--json")).get("url", "")
        self._stacks = {item["name"] for item in json.loads(self._pulumi.run("stack", "ls", "--all", "--json"))}
        shown = re.sub(r"://[^/@]*@", "://", str(url)).partition("?")[0]
        return f"{shown}, {len(self._stacks)} stacks"

    def _look_at_stack(self) -> Outcome:
        if self._wanted is None:
            try:
                self.stack = self._pulumi.run("stack", "--show-name").strip()
            except Refused:
                return Fault("no stack is selected", "`pulumi stack select NAME`, or add --stack NAME")
            self._pulumi = PulumiCli(self._folder, self.stack)
        if self.stack.rsplit("/", 1)[-1] not in {name.rsplit("/", 1)[-1] for name in self._stacks}:
            return Fault(f"the backend has no stack {self.stack}", f"`pulumi stack init {self.stack}`")
        return self.stack

    @cached_property
    def _file(self) -> Path:
        given = os.environ.get("PULUMI_OPTION_CONFIG_FILE")
        return Path(given) if given else self._folder / f"Pulumi.{self.stack.rsplit('/', 1)[-1]}.yaml"

    def _look_at_file(self) -> Outcome:
        if not self._file.exists():
            return Fault(f"{self._file.name} does not exist", f"`runbook init {self.stack}`")
        file = read_stack_file(self._file)
        try:
            self._settings = parse(file)
        except SettingsError as error:
            # Secrets that are not set yet hide no other line.
            lacking = {name for problem in error.problems for name in str(problem.path[0]).split(", ")}
            if all(name.startswith("secrets:") for name in lacking):
                self._settings = parse(StackFile(file.name, file.values, file.sealed | lacking))
            return Fault(str(error).strip(), f"edit {self._file.name} as written there")
        return self._file.name

    def _look_at_secrets(self) -> Outcome:
        shown = self._pulumi.run("config", "--json", "--show-secrets", "--stack", self.stack)
        config = json.loads(shown)
        secret = {key: str(item["value"]) for key, item in config.items() if item.get("secret")}
        self._values = {key.partition(":")[2]: value for key, value in secret.items()}
        document = yaml.safe_load(self._file.read_text()) if self._file.exists() else {}
        provider = (document or {}).get("secretsprovider") or "a passphrase"
        return f"{provider.partition('?')[0]}, {len(secret)} secrets can be read"

    # -- the cluster -------------------------------------------------------------------------------------

    @cached_property
    def _cluster(self) -> Cluster:
        return Cluster(self._settings.namespace, stack_file.read(self._file).config)

    def _look_at_cluster(self) -> Outcome:
        version = measuring.read_json(self._cluster, "/version")
        return judging.judge_version(version or {})

    def _look_at_rights(self) -> Outcome:
        rights = judging.list_rights(self._settings)
        return judging.judge_rights(measuring.find_refused(self._cluster, rights), len(rights))

    def _look_at_admission(self) -> Outcome:
        return measuring.try_admission(self._cluster, {ENFORCED_LABEL: "restricted"})

    def _look_at_nodes(self) -> Outcome:
        nodes = environment.read_objects(self._cluster, "/api/v1/nodes")
        ready = sum(map(is_ready, nodes))
        if not ready:
            return Fault(f"none of {len(nodes)} nodes is ready", "`kubectl describe nodes`")
        return f"{ready} of {len(nodes)} ready"

    def _look_at_storage(self) -> Outcome:
        classes = environment.read_objects(self._cluster, "/apis/storage.k8s.io/v1/storageclasses")
        return judging.judge_storage(judging.list_storage_classes(self._settings), classes)

    def _look_at_ingress(self) -> Outcome:
        if self._settings.ingress is None:
            raise NotMeasured("the stack has no ingress")
        classes = environment.read_objects(self._cluster, "/apis/networking.k8s.io/v1/ingressclasses")
        return judging.judge_ingress_class(self._settings.ingress.class_name, classes)

    def _look_at_policies(self) -> Outcome:
        pods = environment.read_objects(self._cluster, "/api/v1/namespaces/kube-system/pods")
        if enforcer := measuring.find_enforcer(pods):
            return f"{enforcer} runs"
        raise NotMeasured(
            "no pod of kube-system is a known one that enforces them: if none does, every connection is open"
        )

    def _look_at_metrics(self) -> Outcome:
        service = measuring.read_json(
            self._cluster, "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
        )
        conditions = (service or {}).get("status", {}).get("conditions", [])
        if any(item["type"] == "Available" and item["status"] == "True" for item in conditions):
            return "answers"
        if judging.needs_metrics_server(self._settings):
            return Fault("a service has an autoscaler, and metrics-server does not answer", "install metrics-server")
        raise NotMeasured("not there, and no service has an autoscaler")

    def _look_at_clock(self) -> Outcome:
        ahead, most = environment.read_clock(self._cluster), (self._settings.checks or Checks()).clock_seconds
        shown = f"{abs(ahead):.0f} s {'ahead of' if ahead >= 0 else 'behind'} the API server's"
        return shown if abs(ahead) <= most else Fault(f"{shown} (limit {most} s)", CLOCK_REMEDY)

    def _look_at_pull_secrets(self) -> Outcome:
        names = self._settings.registry.pull_secrets
        if not names:
            raise NotMeasured("runbook:registry.pullSecrets names none")
        where = self._cluster.namespace
        missing = [
            name
            for name in names
            if measuring.read_json(self._cluster, f"/api/v1/namespaces/{where}/secrets/{name}") is None
        ]
        if missing:
            make = f"`kubectl create namespace {where}` if it is not there, then "
            login = f"`kubectl create secret docker-registry {missing[0]} --namespace {where} …`"
            return Fault(f"namespace {where} has no secret {', '.join(missing)}", make + login)
        return ", ".join(names)

    # -- images and data ---------------------------------------------------------------------------------

    @property
    def _release(self) -> str | None:
        release = self._settings.release
        return self._image or (release.image if release else None)

    def _look_at_images(self) -> Outcome:
        images = judging.list_images(self._settings, self._release)
        for name, image in images.items():
            try:
                registry.resolve(image)
            except Refused as error:
                return Fault(f"{name}: {error}", _REMEDIES["images"])
        return f"{len(images)} are in their registries"

    def _look_at_release(self) -> Outcome:
        if not self._settings.application.services:
            raise NotMeasured("the stack has no application")
        if self._release is None:
            raise NotMeasured("no image is given: `runbook doctor IMAGE` also looks at its labels and its user")
        return judging.judge_release_image(self._settings, registry.resolve(self._release))

    def _look_at_database(self) -> Outcome:
        settings, names = self._settings, list(judging.names_database(self._settings))
        if not names:
            if not settings.data.has_database:
                raise NotMeasured("the stack has none")
            raise NotMeasured(f"{'a file' if settings.data.sqlite else 'bundled'}: the first release makes it")
        if absent := [name for name in names if name not in self._values]:
            raise NotMeasured(f"secrets:{absent[0]} cannot be read", fails=True)
        found = measuring.ask_database(self._values[names[0]])
        if len(names) > 1:
            found["admin_creates"] = measuring.ask_database(self._values[names[1]])["creates_roles"]
        return judging.judge_database(found, writes=bool(settings.application.services or settings.backup))


_REMEDIES = {
    "machine": "go to the project's folder, or add --cwd",
    "login": "`pulumi login s3://BUCKET` (or file://FOLDER, or Pulumi Cloud)",
    "provider": "set PULUMI_CONFIG_PASSPHRASE_FILE, or log in to the cloud whose key it is",
    "cluster": "set KUBECONFIG, and kubernetes:context to a name of `kubectl config get-contexts -o name`",
    "admission": "look at the admission webhooks: `kubectl get validatingwebhookconfigurations`",
    "images": "push it, or `docker login` to its registry",
    "release": "push it, or `docker login` to its registry",
    "policies": "`kubectl get pods --all-namespaces | grep -E 'calico|cilium|antrea'`",
    "database": "set the URL (`pulumi config set --secret secrets:DATABASE_URL`); from a machine outside its network: "
    "--without database=REASON",
}


def examine(cwd: Path, stack: str | None, image: str | None, without: Mapping[str, str]) -> dict[str, Any]:
    """The report of an examination."""
    return Doctor(cwd, stack, image, without).examine().to_json()
