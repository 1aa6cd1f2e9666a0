"""Why one object is not ready: its own conditions, its pods, their logs and the warnings about both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lightkube.core.exceptions import LoadResourceError
from lightkube.core.resource import NamespacedResource, api_info
from lightkube.core.resource_registry import resource_registry

from ops.causes.api import Api, selector
from ops.causes.cause import Cause
from ops.causes.pods import Object, Problem, condition, is_blameless, worst
from ops.causes.text import shortened

_REFUSED = re.compile(
    r"(admission webhook \S+ denied the request|Apply failed with \d+ conflict"
    r"|[\w./-]+ \"[^\"]*\" is (invalid|forbidden)\b).*"
)
_OUTPUT = "runbook/output"
_REVISION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class Target:
    """An object to be explained."""

    version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def path(self) -> str | None:
        """Path at the API server; None for an unknown kind."""
        try:
            resource = resource_registry.load(self.version, self.kind)
        except LoadResourceError:
            return None
        api = f"/apis/{self.version}" if "/" in self.version else f"/api/{self.version}"
        inside = f"/namespaces/{self.namespace}" if issubclass(resource, NamespacedResource) else ""
        return f"{api}{inside}/{api_info(resource).plural}/{self.name}"


@dataclass(frozen=True)
class Kept:
    """What was read from a pod before it was deleted."""

    pod: str
    problem: Problem
    log: Sequence[str] = ()


@dataclass(frozen=True)
class _Finding:
    """What an object's own status says."""

    what: str
    reason: str | None = None
    message: str = ""
    pods: Sequence[Object] | None = None
    """Its pods; None for a kind that has none."""
    uids: Sequence[str] = ()
    """Other objects whose events belong to it."""


def explain(api: Api, target: Target, kept: Kept | None = None) -> Cause | None:
    """Why it is not ready; None when the cluster shows nothing wrong with it."""
    found = api.get(target.path) if target.path else None
    finding = _find(api, target, found) if found else None
    if found is None or finding is None:
        return None
    own = (found["metadata"]["uid"], *finding.uids)
    if suspect := worst(finding.pods or ()):
        pod, problems = suspect
        return _of_pod(api, target, finding, pod, problems, api.warnings(target.namespace, *own))
    events = api.warnings(target.namespace, *own)
    if kept:
        note = "This was read while it ran." if finding.pods else "Its pod is gone; this was read while it ran."
        return _cause(api, target, finding, kept.pod, kept.problem, [note], kept.log, events)
    refused = next((event for event in events if event.startswith("FailedCreate")), "")
    why = refused or api.masker.line(finding.message) or next(iter(events), "")
    notes = [f"reason: {finding.reason}"] if finding.reason and finding.reason not in why else []
    if finding.pods is not None and not finding.pods and not refused:
        notes.append("It has no pods any more, so there is no log; only conditions and events remain.")
    line = f"{target} {finding.what}: {why}" if why else f"{target} {finding.what}"
    created = not refused and finding.reason != "FailedCreate"
    outside = not created and "admission webhook" not in why
    return Cause(str(target), line, finding.reason, notes=notes, events=events, outside=outside)


def _of_pod(
    api: Api,
    target: Target,
    finding: _Finding,
    pod: Object,
    problems: Sequence[Problem],
    about_owner: Sequence[str],
) -> Cause:
    meta, first = pod["metadata"], problems[0]
    events = api.warnings(meta["namespace"], meta["uid"])
    log, notes = read_log(api, pod, first)
    notes += [f"also: {other.text}" for other in problems[1:3]]
    together = [*dict.fromkeys([*events, *about_owner])]
    if first.exit_code is None and not first.message and events:
        first = replace(first, message=events[0])
    return _cause(api, target, finding, meta["name"], first, notes, log, together)


def refusal(target: Target, words: str) -> Cause | None:
    """The API server's refusal, found in the engine's message."""
    found = _REFUSED.search(" ".join(words.split()))
    if not found:
        return None
    # What a webhook denies may be the image.
    line = shortened(f"{target} was refused by the API server: {found[0]}")
    return Cause(str(target), line, outside=not found[0].startswith("admission webhook"))


def hides_output(pod: Object) -> bool:
    """Whether the pod runs a command that handles a secret."""
    return (pod["metadata"].get("annotations") or {}).get(_OUTPUT) == "secret"


def read_log(api: Api, pod: Object, problem: Problem) -> tuple[list[str], list[str]]:
    """The last lines of the failing container's log, and why there are none."""
    if not problem.ran or not problem.container:
        return [], []
    meta = pod["metadata"]
    if hides_output(pod):
        look = f"`kubectl -n {meta['namespace']} logs {meta['name']} -c {problem.container}` shows it"
        return [], [f"Its log is not shown, because the command handles a secret: {look}."]
    log = api.log(meta["namespace"], meta["name"], problem.container, previous=problem.previous)
    if api.masker.blind:
        return [], ["Its log is not shown: the namespace's Secrets, which would have to be masked, cannot be read."]
    return log, [] if log else ["Its log is empty or deleted."]


def _cause(
    api: Api,
    target: Target,
    finding: _Finding,
    pod: str,
    problem: Problem,
    notes: Sequence[str],
    log: Sequence[str],
    events: Sequence[str],
) -> Cause:
    what = problem.text if target.kind == "Pod" else f"pod {pod}{',' if problem.container else ''} {problem.text}"
    # The exit code is enough on the first line; the container's last message follows as a note.
    message = api.masker.line(problem.message, cut_end=True)
    exited = problem.exit_code is not None
    if message and (not exited or (problem.outside and not api.masker.blind)):
        what += f": {message}"
    shown = exited and not problem.outside
    notes = [
        *_status(api, finding),
        *([f"its last message: {message}"] if message and shown and not api.masker.blind else []),
        *notes,
    ]
    line = f"{target} {finding.what}: {what}"
    return Cause(
        *(str(target), line, finding.reason, pod, problem.container, problem.exit_code, notes, log, events),
        outside=is_blameless(finding.pods) if finding.pods else problem.outside,
    )


def _status(api: Api, finding: _Finding) -> list[str]:
    text = ": ".join(filter(None, (finding.reason, api.masker.line(finding.message))))
    return [f"its status: {text}"] if text else []


def _find(api: Api, target: Target, found: Object) -> _Finding | None:
    if found["metadata"].get("deletionTimestamp"):
        left = ", ".join(found["metadata"].get("finalizers") or ()) or "none"
        return _Finding("is being deleted, and still there", message=f"finalizers left: {left}")
    judges = {
        "Job": _job,
        "Deployment": _deployment,
        "StatefulSet": _pods_of_revision,
        "DaemonSet": _pods_of_revision,
        "Pod": _pod,
        "PersistentVolumeClaim": _claim,
        "Service": _service,
        "Ingress": _ingress,
    }
    return judges.get(target.kind, _other)(api, target, found)


def _pods(api: Api, target: Target, labels: Mapping[str, str]) -> list[Object]:
    return api.list(f"/api/v1/namespaces/{target.namespace}/pods", labelSelector=selector(labels)) if labels else []


def _selected(found: Object) -> Mapping[str, str]:
    return (found["spec"].get("selector") or {}).get("matchLabels") or {}


def _job(api: Api, target: Target, found: Object) -> _Finding | None:
    failed = condition(found, "Failed") or condition(found, "FailureTarget")
    if failed.get("status") == "True":
        what, reason, message = "failed", failed.get("reason"), failed.get("message", "")
    elif condition(found, "Complete").get("status") == "True":
        return None
    else:
        status = found.get("status") or {}
        counts = f"{status.get('active', 0)} pods active, {status.get('failed', 0)} failed"
        what, reason, message = "did not end in time", None, counts
    return _Finding(what, reason, message, _pods(api, target, _selected(found)))


def _deployment(api: Api, target: Target, found: Object) -> _Finding | None:
    progress, refused = condition(found, "Progressing"), condition(found, "ReplicaFailure")
    sets = [
        item
        for item in api.list(
            f"/apis/apps/v1/namespaces/{target.namespace}/replicasets", labelSelector=selector(_selected(found))
        )
        if any(ref["uid"] == found["metadata"]["uid"] for ref in item["metadata"].get("ownerReferences") or ())
    ]
    newest = max(
        sets, key=lambda item: int((item["metadata"].get("annotations") or {}).get(_REVISION, 0)), default=None
    )
    status, spec = found.get("status") or {}, found["spec"]
    wanted = spec.get("replicas", 1)
    if (
        newest
        and status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0)
        == status.get("availableReplicas", 0)
        == status.get("replicas", 0)
        == wanted
    ):
        return None
    pods = _pods(api, target, newest["metadata"].get("labels") or _selected(found)) if newest else []
    if refused.get("status") != "True" and newest:
        refused = condition(newest, "ReplicaFailure")
    if refused.get("status") == "True":
        return _Finding(
            "is not ready: its pods are refused",
            refused.get("reason"),
            refused.get("message", ""),
            None,
            [newest["metadata"]["uid"]] if newest else [],
        )
    stuck = progress.get("status") == "False"
    counts = f"{status.get('availableReplicas', 0)} of {wanted} pods available"
    return _Finding(
        "is not ready",
        progress.get("reason") if stuck else None,
        progress.get("message", "") if stuck else counts,
        pods,
        [newest["metadata"]["uid"]] if newest else [],
    )


def _pods_of_revision(api: Api, target: Target, found: Object) -> _Finding | None:
    status, spec = found.get("status") or {}, found["spec"]
    wanted = status.get("desiredNumberScheduled", spec.get("replicas", 1))
    ready = status.get("numberReady", status.get("readyReplicas", 0))
    updated = status.get("updatedNumberScheduled", status.get("updatedReplicas", 0))
    if ready == updated == wanted:
        return None
    message = f"{ready} of {wanted} pods ready, {updated} of the new version"
    return _Finding("is not ready", None, message, _pods(api, target, _selected(found)))


def _pod(_api: Api, _target: Target, found: Object) -> _Finding | None:
    return _Finding("is not ready", (found.get("status") or {}).get("reason"), pods=[found])


def _claim(api: Api, target: Target, found: Object) -> _Finding | None:
    phase = (found.get("status") or {}).get("phase")
    if phase == "Bound":
        return None
    uid, name = found["metadata"]["uid"], found["spec"].get("storageClassName")
    why = api.message(target.namespace, uid, "ProvisioningFailed", "FailedBinding", "WaitForFirstConsumer")
    return _Finding(f"is {phase} (storage class {name or 'of the cluster'})", None, why)


def _service(api: Api, target: Target, found: Object) -> _Finding | None:
    spec = found["spec"]
    if spec.get("type") == "LoadBalancer" and not _addresses(found):
        return _Finding("has no address", message="no load balancer has given it one")
    labels = spec.get("selector") or {}
    if not labels:
        return None
    slices = api.list(
        f"/apis/discovery.k8s.io/v1/namespaces/{target.namespace}/endpointslices",
        labelSelector=f"kubernetes.io/service-name={target.name}",
    )
    conditions = [end.get("conditions") or {} for item in slices for end in item.get("endpoints") or ()]
    if any(one.get("ready") is not False for one in conditions):
        return None
    pods = _pods(api, target, labels)
    message = "" if pods else f"its selector {selector(labels)} matches no pod"
    return _Finding("has no ready endpoints", None, message, pods)


def _ingress(api: Api, target: Target, found: Object) -> _Finding | None:
    if _addresses(found):
        return None
    spec = found["spec"]
    paths = [path for rule in spec.get("rules") or () for path in (rule.get("http") or {}).get("paths") or ()]
    backends = [path.get("backend") or {} for path in paths] + [spec.get("defaultBackend") or {}]
    names = dict.fromkeys(item["service"]["name"] for item in backends if "service" in item)
    services = f"/api/v1/namespaces/{target.namespace}/services"
    missing = [name for name in names if api.get(f"{services}/{name}") is None]
    if missing:
        return _Finding("has no address", message=f"Service {', '.join(missing)} does not exist")
    name = spec.get("ingressClassName")
    return _Finding("has no address", message=f"no controller of ingress class {name or '(none)'} has given it one")


def _other(_api: Api, _target: Target, found: Object) -> _Finding | None:
    """Any other kind: a condition that is not met."""
    for kind in ("Ready", "Available", "Established", "Healthy"):
        if (one := condition(found, kind)) and one.get("status") != "True":
            return _Finding(f"is not {kind.lower()}", one.get("reason"), one.get("message", ""))
    return None


def _addresses(found: Object) -> object:
    return ((found.get("status") or {}).get("loadBalancer") or {}).get("ingress")
