"""Measures what a first release needs, and changes nothing: rights, admission, classes, metrics, a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg

from ops.adapters.cluster import Cluster
from ops.errors import NotMeasured
from settings.connection_url import Unusable, parse_postgres

if TYPE_CHECKING:
    from ops.decisions.doctor import Right

_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SECONDS = 5
_ENFORCERS = ("calico", "cilium", "kube-router", "antrea", "weave", "canal", "anetd", "kube-network-policies")
"""Names of what enforces network policies, as its pods are called."""


def read_json(cluster: Cluster, path: str) -> dict[str, Any] | None:
    """An object of the API server; None where there is none."""
    with cluster.http() as http:
        answer = http.get(path)
    if answer.status_code == 404:
        return None
    if answer.status_code in (401, 403):
        raise NotMeasured(f"this identity may not read {path}")
    if answer.is_error:
        raise NotMeasured(f"the API server answered {answer.status_code} for {path}", fails=True)
    return answer.json()


def find_refused(cluster: Cluster, rights: Sequence[Right]) -> list[Right]:
    """The rights that this identity does not have."""
    with cluster.http() as http, ThreadPoolExecutor(max_workers=8) as pool:

        def has(right: Right) -> bool:
            resource, _, sub = right.resource.partition("/")
            asked = {"verb": right.verb, "group": right.group, "resource": resource, "subresource": sub}
            where = {"namespace": cluster.namespace} if right.namespaced else {}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {**asked, **where}},
            }
            answer = http.post(_REVIEW, json=review)
            if answer.is_error:
                raise NotMeasured(f"the API server answered {answer.status_code} for an access review", fails=True)
            return bool(answer.json()["status"]["allowed"])

        return [right for right, allowed in zip(rights, pool.map(has, rights), strict=True) if not allowed]


def try_admission(cluster: Cluster, labels: Mapping[str, str]) -> str:
    """Ask for what admission decides on, as a dry run: the namespace, or a pod that it has to refuse."""
    with cluster.http() as http:
        known = http.get(f"/api/v1/namespaces/{cluster.namespace}")
        if known.status_code == 404:
            meta = {"name": cluster.namespace, "labels": dict(labels)}
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
            answer = http.post("/api/v1/namespaces", params={"dryRun": "All"}, json=body)
            if answer.is_error:
                raise NotMeasured(f"the namespace is refused: {_message(answer)}", fails=True)
            return f"namespace {cluster.namespace} would be admitted; the first release makes it"
        container = {"name": "root", "image": "none", "securityContext": {"privileged": True}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "doctor"}, "spec": {"containers": [container]}}
        answer = http.post(f"/api/v1/namespaces/{cluster.namespace}/pods", params={"dryRun": "All"}, json=pod)
    enforced = known.json()["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
    if answer.status_code == 403 and "violates PodSecurity" in answer.text:
        return f"namespace {cluster.namespace} refuses a privileged pod"
    if enforced:
        why = f"the namespace has the label enforce={enforced}, and a privileged pod is not refused by it"
        raise NotMeasured(f"{why}: the API server answered {answer.status_code} {_message(answer)}", fails=True)
    return f"namespace {cluster.namespace} exists without Pod Security labels; the first release sets them"


def _message(answer: Any) -> str:
    try:
        return str(answer.json().get("message", ""))[:300]
    except ValueError:
        return answer.text[:300]


def find_enforcer(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """What enforces network policies, by the names of the cluster's own pods; None where none is known."""
    names = (item["metadata"]["name"] for item in pods)
    return next((enforcer for name in names for enforcer in _ENFORCERS if name.startswith(enforcer)), None)


def ask_database(url: str) -> dict[str, Any]:
    """Version, role and rights at a database's URL; no error shows the URL."""
    try:
        cleaned = parse_postgres(url).url
    except Unusable as error:
        raise NotMeasured(str(error), fails=True) from None
    try:
        with psycopg.connect(cleaned, connect_timeout=_SECONDS, autocommit=True) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version_num')::int, current_user, current_database(), "
                "has_database_privilege(current_database(), 'CREATE'), "
                "(SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user)"
            ).fetchone()
    except psycopg.OperationalError as error:
        raise NotMeasured(" ".join(str(error).split())[:400] or "no answer", fails=True) from None
    assert row is not None
    return dict(zip(("version", "user", "database", "create", "creates_roles"), row, strict=True))
