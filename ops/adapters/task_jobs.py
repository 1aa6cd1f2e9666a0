"""Runs a task of the project's image as a Job in the cluster.

The pod is made from a CronJob's template, which has credentials of and routes to the database and the backup store:
the operator's machine needs neither.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from lightkube import ApiError, Client
from lightkube.resources.batch_v1 import CronJob, Job
from lightkube.resources.core_v1 import Pod
from lightkube.types import CascadeType

from ops.adapters.cluster import Cluster
from ops.causes.api import Api
from ops.causes.text import Masker
from ops.errors import OpsError, Refused
from settings import Command, go_live, operations
from settings.maintenance_tasks import RUNNER, cron_job
from settings.names import keep_dollars, keep_literal

TOOLBOX = "restore"
"""The suspended CronJob whose template tasks on the backup store and the database use."""
CREDENTIALS = "credentials"
"""The one for tasks that administer the servers' users."""
RESTORE_TEST = "restore-test"
_WITHOUT_VOLUME = {
    ("backup", "list"), ("backup", "gate"), ("backup", "cleanup"), ("restore", "state"),
    ("evidence", "verify"), ("evidence", "begin-anew"), ("maintenance", "report"), ("maintenance", "runs"),
    ("pages", "history"),
}  # fmt: skip
"""Tasks that need no volume: they start sooner without one."""
_KEEP_SECONDS = 600
_START_SECONDS = 120
_MASK_SECONDS = 10
HIDDEN = "(not shown: this identity may not read the namespace's Secrets, whose values would have to be masked)"
_LABEL = "runbook/task"
_JOB_NAME = "batch.kubernetes.io/job-name"
Say = Callable[[str], None]
Shape = Callable[[dict[str, Any]], None]
"""Changes the Job of a template."""


@dataclass(frozen=True)
class Output:
    """What the last container of a Job printed."""

    result: Any
    """A task's result."""
    last_line: str
    """Its last line that is no result."""


class TaskFailed(OpsError):
    """The task ran and failed; `code` is the task's error code."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class Tasks:
    """Tasks in the namespace of one stack."""

    def __init__(self, cluster: Cluster, say: Say) -> None:
        self._cluster, self._say = cluster, say

    def run(self, *words: str) -> Any:
        """Run `python -m tasks WORDS --json` in the cluster: its result; progress is passed to `say`."""
        template = CREDENTIALS if words[0] == CREDENTIALS else TOOLBOX
        return self._run_job(template, words, _set_commands({"": words})).result

    def run_restore_test(self, backup: str | None) -> Any:
        """One restore test, of this backup or of the newest."""
        words = ("restore", "test-begin", *(("--backup", backup) if backup else ()))
        return self._run_job(RESTORE_TEST, words, _set_commands({"begin": words})).result

    def run_maintenance(self, schedule: str, names: Sequence[str]) -> Any:
        """The report of a run of a schedule's tasks, or of those of these names."""
        words = ("maintenance", "run", schedule, *(word for name in names for word in ("--task", name)))
        return self._run_job(cron_job(schedule), words, _set_commands({RUNNER: words})).result

    def check_go_live(self) -> Any:
        """What the go-live checklist finds in the application's network."""
        words = (go_live.TOOLBOX, "check")
        return self._run_job(go_live.TOOLBOX, words, _keep_only(go_live.CHECKS, [_task_command(words)])).result

    def run_go_live_command(self, name: str, command: Command) -> str:
        """A command of the release with the application's environment; the last line that it prints."""
        return self._run_command(go_live.TOOLBOX, go_live.COMMAND, name, command)

    def debug(self, *words: str) -> Any:
        """What `python -m tasks debug WORDS` finds in the application's network, with its environment."""
        task = (operations.DEBUG, *words)
        return self._run_job(operations.TOOLBOX, task, _keep_only(operations.TASK, [_task_command(task)])).result

    def run_release_command(self, name: str, command: Command) -> str:
        """A command of the release that serves; the last line that it prints."""
        return self._run_command(operations.TOOLBOX, operations.COMMAND, name, command)

    def _run_command(self, template: str, container: str, name: str, command: Command) -> str:
        argvs = [[keep_dollars(word) for word in argv] for argv in command.argvs]
        shape = _keep_only(container, argvs, command.timeout_seconds)
        with self._cluster.http() as http:
            api = Api(http, Masker(), _MASK_SECONDS)
            api.learn_secrets(self._cluster.namespace)
        return self._run_job(template, (template, name, *command.run), shape, api.masker).last_line

    def _run_job(self, template: str, words: Sequence[str], shape: Shape, masker: Masker | None = None) -> Output:
        """`masker`: for what an application prints, which may be its secrets, and is no result where it is JSON."""
        with self._cluster.patient() as client:
            job = self._find_running(client, words) or self._start(client, template, words, shape)
            result = self._follow(client, job, masker)
            # Its volume is deleted with it. A failed one is kept for ten minutes.
            with suppress(ApiError):
                client.delete(Job, job, cascade=CascadeType.BACKGROUND)
            return result

    def _find_running(self, client: Client, words: Sequence[str]) -> str | None:
        """The Job of an earlier command that was killed while its Job went on."""
        for pod in client.list(Pod, labels={_LABEL: _hash_words(words)}):
            if pod.metadata and pod.metadata.labels and not _has_ended(pod):
                job = pod.metadata.labels[_JOB_NAME]
                self._say(f"Following {job}, which already runs.")
                return job
        return None

    def _start(self, client: Client, template: str, words: Sequence[str], shape: Shape) -> str:
        """A Job from a CronJob's template."""
        found = self._cluster.find(CronJob, template)
        if found is None:
            needed = " (with runbook:backup in its file for backups, and runbook:maintenanceTasks for maintenance)"
            if template == operations.TOOLBOX:
                needed = ""
            raise Refused(
                f"There is no CronJob {template} in namespace {self._cluster.namespace}: deploy this stack{needed}."
            )
        made = found.to_dict()["spec"]["jobTemplate"]
        pod = made["spec"]["template"]["spec"]
        shape(made["spec"])
        if words[:2] in _WITHOUT_VOLUME:
            for volume in pod["volumes"]:
                if volume.pop("ephemeral", None):
                    volume["emptyDir"] = {}
        name = f"{'-'.join(words[:2])}-{secrets.token_hex(3)}"
        metadata = made["spec"]["template"]["metadata"]
        metadata["labels"][_LABEL] = _hash_words(words)
        job = {
            "metadata": {"name": name, "namespace": self._cluster.namespace, "labels": metadata["labels"]},
            "spec": {**made["spec"], "ttlSecondsAfterFinished": _KEEP_SECONDS, "backoffLimit": 0},
        }
        client.create(Job.from_dict(job))
        return name

    def _follow(self, client: Client, job: str, masker: Masker | None) -> Output:
        """Print the logs of its containers in the order in which they run; the last one's output."""
        pod = self._await_pod(job)
        name, spec = pod["metadata"]["name"], pod["spec"]
        steps = [item["name"] for item in spec.get("initContainers", ()) if item.get("restartPolicy") != "Always"]
        result: Any = None
        printed: list[str] = []
        for container in (*steps, *(item["name"] for item in spec["containers"])):
            self._await_container(job, container, "running", "terminated")
            result, printed = None, []
            for line in client.log(name, container=container, follow=True, newlines=False):
                parsed = None if masker else _parse_result(line)
                if parsed is None:
                    shown = _mask(line, masker)
                    self._say(f"  {shown}")
                    printed.append(shown)
                else:
                    result = parsed
            ended = self._await_container(job, container, "terminated")["terminated"]
            # A task that came to its end says itself what failed.
            if ended["exitCode"] != 0 and not (ended["exitCode"] == 1 and _is_report(result)):
                raise _to_error(f"{job} ({container})", result, ended, printed)
        return Output(result, next((line.strip() for line in reversed(printed) if line.strip()), ""))

    def _await_pod(self, job: str) -> Mapping[str, Any]:
        for kind, pod in self._watch_pods(job, _START_SECONDS):
            if kind != "DELETED":
                return pod
        look = f"kubectl -n {self._cluster.namespace} describe job {job}"
        raise TaskFailed(f"Job {job} got no pod within {_START_SECONDS} s, most often because of a quota: `{look}`.")

    def _watch_pods(self, job: str, seconds: float) -> Iterator[tuple[str, Mapping[str, Any]]]:
        path = f"/api/v1/namespaces/{self._cluster.namespace}/pods"
        return self._cluster.watch_changes(path, seconds, labelSelector=f"{_JOB_NAME}={job}")

    def _await_container(self, job: str, container: str, *wanted: str) -> Mapping[str, Any]:
        """The container's state once it is one of these."""
        last = ""
        for kind, pod in self._watch_pods(job, _DAY):
            status = pod["status"]
            states = {
                item["name"]: item["state"]
                for item in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
            }
            state = states.get(container, {})
            if any(key in state for key in wanted):
                return state
            # An earlier container failed, or the deadline passed.
            if kind == "DELETED" or status.get("phase") in ("Failed", "Succeeded"):
                why = status.get("message") or status.get("reason") or "its pod ended earlier"
                raise TaskFailed(f"{job}: {container} never ran: {why}")
            waits = state.get("waiting", {})
            news = f"{waits.get('reason', '')} {waits.get('message', '')}".strip()
            if news and waits.get("reason") not in ("PodInitializing", "ContainerCreating") and news != last:
                last = news
                self._say(f"  {container} waits: {news}")
        raise TaskFailed(f"{job}: {container} did not run within a day")


_DAY = 86400


def _task_command(words: Sequence[str]) -> list[str]:
    return ["python3", "-m", "tasks", *map(keep_literal, words), "--json"]


def _set_commands(commands: Mapping[str, Sequence[str]]) -> Shape:
    """Other tasks for some containers ("" is the only one)."""

    def shape(job: dict[str, Any]) -> None:
        pod = job["template"]["spec"]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            words = commands.get(container["name"]) or commands.get("")
            if words:
                container["command"] = _task_command(words)
                container.pop("args", None)

    return shape


def _keep_only(name: str, argvs: Sequence[list[str]], seconds: int | None = None) -> Shape:
    """One of the containers, which runs these command lines one after another."""

    def shape(job: dict[str, Any]) -> None:
        pod = job["template"]["spec"]
        kept = next(container for container in pod["containers"] if container["name"] == name)
        *first, last = [
            {**deepcopy(kept), "name": name if index == len(argvs) else f"{name}-{index}", "command": argv}
            for index, argv in enumerate(argvs, start=1)
        ]
        before = [*pod.get("initContainers", ()), *_wait_for_network(pod["containers"], kept)]
        pod["containers"], pod["initContainers"] = [last], [*before, *first]
        if seconds:
            job["activeDeadlineSeconds"] = seconds

    return shape


def _wait_for_network(containers: Sequence[dict[str, Any]], command: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Before a command of the release, by the task container beside it: the network of a new pod refuses connections
    until its policies are in place. A service that does not answer at all is the command's to report."""
    url = next((each.get("value") for each in command.get("env", ()) if each["name"] == "TARGET_URL"), None)
    tasks = next((each for each in containers if each["name"] != command["name"]), None)
    if not (url and tasks):
        return []
    kept = {key: value for key, value in deepcopy(tasks).items() if key not in ("env", "envFrom", "args")}
    return [{**kept, "name": "reach", "command": ["sh", "-c", 'python3 -m tasks reach "$0" || true', url]}]


def _mask(line: str, masker: Masker | None) -> str:
    if masker is None:
        return line
    return HIDDEN if masker.blind else masker.text(line)


def _has_ended(pod: Pod) -> bool:
    """Also before its phase says so."""
    statuses = (pod.status and pod.status.containerStatuses) or []
    over = bool(statuses) and all(item.state and item.state.terminated for item in statuses)
    failed = bool(pod.status and pod.status.phase in ("Succeeded", "Failed"))
    return over or failed or bool(pod.metadata and pod.metadata.deletionTimestamp)


def _hash_words(words: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _parse_result(line: str) -> Any:
    """A task's result is a line of JSON; everything else is progress."""
    if not line.startswith(("{", "[")):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_report(result: Any) -> bool:
    return isinstance(result, Mapping) and "error" not in result


def _to_error(what: str, result: Any, ended: Mapping[str, Any], printed: Sequence[str]) -> OpsError:
    error = result.get("error") if isinstance(result, Mapping) else None
    if isinstance(error, Mapping):
        failed = TaskFailed(str(error.get("message")), str(error.get("code")))
        return Refused(str(failed)) if ended["exitCode"] == 2 else failed
    reason = f" ({ended['reason']})" if ended.get("reason") not in (None, "Error") else ""
    tail = "\n".join(printed[-10:])
    return TaskFailed(f"{what} ended with exit code {ended['exitCode']}{reason}:\n{tail}")
