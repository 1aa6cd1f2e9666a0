"""What is wrong with a pod, from its status."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from settings.commands import MIGRATION_GUARD

Object = Mapping[str, Any]

_STARTING = ("ContainerCreating", "PodInitializing")
NOT_PULLED = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")
"""The image could not be pulled."""
_ENDED_FROM_OUTSIDE = (137, 143)
"""SIGKILL and SIGTERM: how containers end when their pod is deleted."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a pod, or with one of its containers."""

    text: str
    rank: int
    """The lower, the closer to the cause."""
    container: str | None = None
    exit_code: int | None = None
    ran: bool = False
    """There may be a log."""
    previous: bool = False
    """Read the log of the previous run."""
    message: str = ""
    """What the container or its runtime wrote about it."""
    outside: bool = False
    """It came from the cluster or another session of the database: the release is not to blame."""


def problems(pod: Object) -> list[Problem]:
    """What is wrong, the closest to the cause first; empty when the status shows nothing."""
    return sorted([*_of_pod(pod), *_of_containers(pod)], key=lambda problem: problem.rank)


def worst(pods: Sequence[Object]) -> tuple[Object, list[Problem]] | None:
    """The pod that best explains why its owner is not ready: the newest of those closest to the cause."""
    unwell = [(pod, problems(pod) or [_unfinished(pod)]) for pod in pods if not _well(pod)]
    newest = sorted(unwell, key=lambda item: item[0]["metadata"].get("creationTimestamp", ""), reverse=True)
    return min(newest, key=lambda item: item[1][0].rank, default=None)


def has_begun(pod: Object) -> bool:
    """Whether it has a node and its images, or one of these cannot be pulled: from then on it has to become ready."""
    states = [
        (found.get("state") or {}, found.get("lastState"))
        for key in ("containerStatuses", "initContainerStatuses")
        for found in (pod.get("status") or {}).get(key) or ()
    ]
    waits = [(state.get("waiting") or {}).get("reason") for state, _ in states]
    return any(last or (state and "waiting" not in state) for state, last in states) or any(
        reason and reason not in _STARTING for reason in waits
    )


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def is_blameless(pods: Sequence[Object]) -> bool:
    """Whether what is wrong with all of them came from outside."""
    unwell = [(problems(pod) or [_unfinished(pod)])[0] for pod in pods if not _well(pod)]
    return bool(unwell) and all(problem.outside for problem in unwell)


def owner(pod: Object) -> tuple[str, str]:
    """(kind, name) of the owner: for a Deployment's pod the Deployment, not its ReplicaSet."""
    meta = pod["metadata"]
    for reference in meta.get("ownerReferences") or ():
        if reference.get("controller"):
            kind, name = reference["kind"], reference["name"]
            template = (meta.get("labels") or {}).get("pod-template-hash")
            if kind == "ReplicaSet" and template:
                return "Deployment", name.removesuffix(f"-{template}")
            return kind, name
    return "Pod", meta["name"]


def condition(item: Object, kind: str) -> Object:
    """A condition of an object; empty when it has none of that type."""
    found = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})


def _well(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Succeeded" or is_ready(pod)


def _unfinished(pod: Object) -> Problem:
    """It has not started; an event may say why."""
    phase = (pod.get("status") or {}).get("phase", "unknown")
    # None of its containers has run: it is still being placed, or its image pulled.
    return Problem(f"is not ready yet (phase {phase})", 9, outside=phase == "Pending" and not has_begun(pod))


def _of_pod(pod: Object) -> Iterator[Problem]:
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        word = "was evicted" if status["reason"] == "Evicted" else f"failed: {status['reason']}"
        yield Problem(word, 0, message=status.get("message", ""), outside=_evicted(status))
    placed = condition(pod, "PodScheduled")
    if placed.get("status") == "False":
        why = placed.get("message") or placed.get("reason", "")
        yield Problem("cannot be scheduled", 1, message=why, outside=True)
    disrupted = condition(pod, "DisruptionTarget")
    if disrupted.get("status") == "True":
        what = f"is being removed: {disrupted.get('reason')}"
        yield Problem(what, 0, message=disrupted.get("message", ""), outside=True)


def _evicted(status: Object) -> bool:
    """Not by the pod's own deadline, nor for more disk than its own limit."""
    return status["reason"] != "DeadlineExceeded" and " limit" not in str(status.get("message") or "")


def _of_containers(pod: Object) -> Iterator[Problem]:
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    # In a Job main containers first: when one of them fails, its sidecars are stopped and do not explain the failure.
    # In the pods of a service what started first: without its proxy to the database, a service fails as well.
    keys = ["containerStatuses", "initContainerStatuses"]
    if spec.get("restartPolicy") == "Always":
        keys.reverse()
    for order, key in enumerate((*keys, "ephemeralContainerStatuses")):
        for found in status.get(key) or ():
            yield from _of_container(pod, spec, found, init=key != "containerStatuses", order=min(order, 1))


def _of_container(pod: Object, spec: Object, found: Object, *, init: bool, order: int) -> Iterator[Problem]:
    name, state = found["name"], found.get("state") or {}
    now, waits = state.get("terminated") or {}, state.get("waiting") or {}
    last = (found.get("lastState") or {}).get("terminated") or {}
    restarts, what = found.get("restartCount", 0), _name(spec, name)
    if now:
        stopped = init and _sidecar(spec, name) and _is_done(pod)
        if now.get("exitCode") and not _ended_by_deletion(pod, now) and not stopped:
            yield _exit(what, name, now, spec, 2 + order)
    elif waits and last:
        then = f", restarted {restarts} times, now {waits.get('reason')}" if restarts else ""
        yield _exit(what, name, last, spec, 2 + order, then, previous=True)
    elif waits and waits.get("reason") not in _STARTING:
        pulling = waits.get("reason") in NOT_PULLED
        yield Problem(f"{what} waits: {waits.get('reason')}", 4 + order, name, message=_said(waits), outside=pulling)
    elif "running" in state and last.get("exitCode") and (spec.get("restartPolicy") != "Always" or not _up(found)):
        # A Job that counts restarts has failed with it already, or will soon.
        yield _exit(what, name, last, spec, 2 + order, f", restarted {restarts} times", previous=True)
    elif "running" in state and not _up(found) and not (init and not _sidecar(spec, name)):
        probe = "readiness" if found.get("started") else "startup"
        yield Problem(f"{what} runs, but its {probe} probe does not succeed", 6 + order, name, ran=True)


def _is_done(pod: Object) -> bool:
    """Whether the main containers succeeded: then the sidecars are stopped, by a signal if need be."""
    ended = [(found.get("state") or {}).get("terminated") for found in pod["status"].get("containerStatuses") or ()]
    return bool(ended) and all(state and not state.get("exitCode") for state in ended)


def _up(found: Object) -> bool:
    return bool(found.get("ready"))


def _sidecar(spec: Object, name: str) -> bool:
    return any(
        item.get("name") == name and item.get("restartPolicy") == "Always" for item in spec.get("initContainers") or ()
    )


def _name(spec: Object, name: str) -> str:
    """What a container is called. A Job's steps are init containers for a technical reason only."""
    first = spec.get("restartPolicy") == "Always" and any(
        item.get("name") == name for item in spec.get("initContainers") or ()
    )
    return f"{'sidecar' if _sidecar(spec, name) else 'init container'} {name}" if first else f"container {name}"


def _exit(
    what: str, name: str, ended: Object, spec: Object, rank: int, then: str = "", *, previous: bool = False
) -> Problem:
    code = int(ended.get("exitCode", 0))
    why = [_signal(code), ended.get("reason", "")]
    if ended.get("reason") == "OOMKilled" and (limit := _memory_limit(spec, name)):
        why.append(f"its memory limit is {limit}")
    words = ", ".join(filter(None, why))
    text = f"{what} exited with code {code}{f' ({words})' if words else ''}{then}"
    if name == MIGRATION_GUARD and code not in _ENDED_FROM_OUTSIDE:
        # Its last line says why it cancelled the migration, which then failed.
        last = "".join(_said(ended).strip().splitlines()[-1:]).removeprefix("error: ")
        return Problem(text, 1, name, code, ran=True, previous=previous, message=last, outside=True)
    return Problem(text, rank, name, code, ran=True, previous=previous, message=_said(ended))


def _signal(code: int) -> str:
    """The signal that ended a container, by the shell's convention (128 + signal), which container runtimes follow."""
    try:
        return signal.Signals(code - 128).name if code > 128 else ""
    except ValueError:
        return ""


def _memory_limit(spec: Object, name: str) -> str:
    for item in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        if item.get("name") == name:
            return str(((item.get("resources") or {}).get("limits") or {}).get("memory", ""))
    return ""


def _said(state: Object) -> str:
    return str(state.get("message") or "")


def _ended_by_deletion(pod: Object, ended: Object) -> bool:
    """It ended because its pod was deleted, so it is not why."""
    meta = pod["metadata"]
    if not meta.get("deletionTimestamp"):
        return False
    asked = _moment(meta["deletionTimestamp"]) - timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)
    finished = _moment(ended["finishedAt"]) if ended.get("finishedAt") else asked
    return finished > asked or (finished == asked and ended.get("exitCode") in _ENDED_FROM_OUTSIDE)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
