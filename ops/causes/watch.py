"""Watches the pods of what an update changes, and finds out why the update failed.

A Job that gives up deletes pods that were to be restarted, and their logs with them: so the log of a failing container
is read when it fails. It is also shown at once, not only when the engine's wait has timed out.

The official provider waits for a Deployment until its time-out, for each wave of pods anew. The update is ended when a
pod that has started is not ready in time. Time without a node or an image does not count: a Deployment's progress
deadline, which includes it, is longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from pulumi.automation.events import EngineEvent

from ops.adapters.automation import Run
from ops.adapters.cluster import Cluster
from ops.causes.api import Api, TimeIsUp
from ops.causes.cause import Cause
from ops.causes.lookup import Kept, Target, explain, read_log, refusal
from ops.causes.pods import Object, condition, owner, problems
from ops.causes.starting import StartingPods
from ops.causes.text import Masker
from ops.errors import OpsError

_WATCH_SECONDS = 10
_LOOK_SECONDS = 1
_READ_SECONDS = 5
_EXPLAIN_SECONDS = 10
_MOST = 5
"""Most failed objects that are explained; for the others the engine's message is shown."""
_SHOWN_AT_ONCE = 5
"""Lines of a failing container's log that are shown while the update goes on."""


class FailureWatch:
    """A context around an update; it is called with the engine's events."""

    def __init__(
        self,
        connect: Callable[[], Cluster],
        say: Callable[[str], None],
        stop: Callable[[], None],
        start_seconds: float,
    ) -> None:
        self._connect, self._say, self._stop = connect, say, stop
        self._starting = StartingPods(start_seconds)
        self._masker = Masker()
        self._changed: set[tuple[str, str]] = set()
        self._awaited: set[str] = set()
        """Deployments whose rollout the engine waits for."""
        self._before: dict[str, Object] = {}
        """Condition `Progressing` of each Deployment before the update."""
        self._seen: set[tuple[str, str]] = set()
        self._kept: dict[tuple[str, str], Kept] = {}
        self._reading = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> FailureWatch:
        for watched in (("/api/v1", "pods", self._keep_log), ("/apis/apps/v1", "deployments", self._end_if_failed)):
            threading.Thread(target=self._watch, args=watched, daemon=True).start()
        threading.Thread(target=self._end_if_late, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # The threads end when their watch times out.
        self._over.set()

    def __call__(self, event: EngineEvent) -> None:
        if event.resource_pre_event:
            step = event.resource_pre_event.metadata
            if step.new:
                self.begins(step.new.type, step.new.inputs)
        elif event.res_outputs_event:
            step = event.res_outputs_event.metadata
            target = target_of(step.new.type, step.new.inputs) if step.new else None
            if target and target.kind == "Deployment":
                self._awaited.discard(target.name)

    def begins(self, token: str, inputs: Mapping[str, Any] | None) -> None:
        """This resource is being changed: its pods count."""
        target = target_of(token, inputs)
        if target is None or inputs is None:
            return
        self._changed.add((target.kind, target.name))
        annotations = inputs["metadata"].get("annotations") or {}
        if target.kind == "Deployment" and annotations.get("pulumi.com/skipAwait") != "true":
            self._awaited.add(target.name)

    def explain(self, run: Run) -> None:
        """Put the causes before the engine's messages, which stay: the cluster may not answer."""
        failed = [(target, each) for each in run.failed if (target := target_of(each.type, each.inputs))]
        if not failed:
            return
        words = {target: run.words_about(each) for target, each in failed}
        causes, trouble = self._why(words)
        said = [self._masker.text(error) for error in run.errors]
        if causes:
            said = [f"The engine: {error}" for error in said]
        run.causes = causes
        run.errors = [*map(str, causes), *([trouble] if trouble else []), *said]

    def _why(self, failed: Mapping[Target, str]) -> tuple[list[Cause], str | None]:
        """The causes, and why some may be missing."""
        causes: list[Cause] = []
        try:
            with self._connect().http() as http:
                api = Api(http, self._masker, _EXPLAIN_SECONDS)
                for namespace in {target.namespace for target in failed}:
                    api.learn_secrets(namespace)
                for target, words in [*failed.items()][:_MOST]:
                    cause = explain(api, target, self._keeps(target)) or refusal(target, self._masker.text(words))
                    causes += [cause] if cause else []
        except OpsError as error:
            return causes, f"The cause could not be looked up: {error}"
        except TimeIsUp:
            return causes, f"The search for the cause was stopped after {_EXPLAIN_SECONDS} s: the cluster is slow."
        except Exception as error:  # the engine's own error must be shown in any case
            return causes, f"The cause could not be looked up: {type(error).__name__}"
        return causes, None

    def _keeps(self, target: Target) -> Kept | None:
        # A log that is being read now is the one that is wanted.
        with self._reading:
            return self._kept.get((target.kind, target.name))

    def _watch(self, api: str, plural: str, look: Callable[[Cluster, Object], None]) -> None:
        try:
            cluster = self._connect()
        except OpsError:
            return  # `explain` reports it if the update fails
        path = f"{api}/namespaces/{cluster.namespace}/{plural}"
        while not self._over.is_set():
            try:
                for kind, item in cluster.watch_changes(path, _WATCH_SECONDS):
                    if self._over.is_set():
                        return
                    if plural == "pods":
                        self._starting.see(item, self._awaited, time.monotonic(), gone=kind == "DELETED")
                    if kind in ("ADDED", "MODIFIED"):
                        look(cluster, item)
            except Exception:  # the update must go on; `explain` reads again
                self._over.wait(1)

    def _end_if_late(self) -> None:
        """End the update when a pod that has started is not ready in time."""
        while not self._over.wait(_LOOK_SECONDS):
            for name, why in self._starting.find_late(time.monotonic()):
                self._end(name, why)

    def _end(self, name: str, why: str) -> None:
        if name in self._awaited:
            self._awaited.discard(name)
            self._say(f"  ! Deployment {name} {why}: the update is ended")
            self._stop()

    def _end_if_failed(self, _cluster: Cluster, deployment: Object) -> None:
        """End the update when the rollout it waits for has failed."""
        name, progress = deployment["metadata"]["name"], condition(deployment, "Progressing")
        # The condition of the version before stays until the new one has made its first step.
        before = self._before.setdefault(name, progress)
        failed = progress.get("status") == "False" and progress.get("reason") == "ProgressDeadlineExceeded"
        if failed and progress != before:
            self._end(name, f"made no progress for {deployment['spec'].get('progressDeadlineSeconds')} s")

    def _keep_log(self, cluster: Cluster, pod: Object) -> None:
        """Keep what a failing container of something that is being changed has written."""
        of = owner(pod)
        first = next(iter(problems(pod)), None)
        if of not in self._changed or first is None or first.exit_code is None:
            return
        # Report each exit once, not the restart that follows.
        key = (pod["metadata"]["uid"], f"{first.container} {first.exit_code}")
        if key in self._seen:
            return
        self._seen.add(key)
        with self._reading, cluster.http() as http:
            api = Api(http, self._masker, _READ_SECONDS)
            try:
                api.learn_secrets(pod["metadata"]["namespace"])
                log, _ = read_log(api, pod, first)
            except (TimeIsUp, httpx.HTTPError):
                log = []
            self._kept[of] = Kept(pod["metadata"]["name"], first, log)
        self._say(f"  ! pod {pod['metadata']['name']}, {first.text}")
        for line in log[-_SHOWN_AT_ONCE:]:
            self._say(f"      | {line}")


def target_of(token: str, inputs: Mapping[str, Any] | None) -> Target | None:
    """The Kubernetes object of a resource; None for other resources."""
    if not token.startswith("kubernetes:") or not inputs:
        return None
    meta = inputs.get("metadata")
    if not isinstance(meta, Mapping) or not meta.get("name") or not inputs.get("kind"):
        return None
    namespace = str(meta.get("namespace") or "default")
    return Target(str(inputs.get("apiVersion")), str(inputs["kind"]), namespace, str(meta["name"]))
