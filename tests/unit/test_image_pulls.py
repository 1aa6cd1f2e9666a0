"""Whether nodes can pull an image: by what kubelets say of a pod, and an end in bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from ops.adapters.image_pulls import find_present, judge_pod, try_pulls
from ops.errors import NotMeasured

IMAGE = "registry.example.com/shop@sha256:" + "a" * 64


def status(reason: str | None = None, *, image: str = "", **state: Any) -> dict[str, Any]:
    waiting = {"waiting": {"reason": reason, "message": "the kubelet's words"}} if reason else state
    return {"status": {"containerStatuses": [{"state": waiting, "imageID": image}]}}


@pytest.mark.parametrize(
    ("pod", "verdict"),
    [
        ({"status": {}}, None),
        (status("ContainerCreating"), None),
        (status("ErrImagePull"), "ErrImagePull: the kubelet's words"),
        (status("ImagePullBackOff"), "ImagePullBackOff: the kubelet's words"),
        # The image is there: only its program is not.
        (status("CreateContainerError"), ""),
        (status(terminated={"exitCode": 127}), ""),
        (status(running={}), ""),
        ({"status": {"phase": "Failed", "reason": "OutOfpods", "message": "full"}}, "OutOfpods: full"),
    ],
)
def test_what_a_pod_says(pod: dict[str, Any], verdict: str | None) -> None:
    assert judge_pod(pod) == verdict


def test_a_node_that_lists_the_digest_has_it() -> None:
    def node(name: str, *names: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "status": {"images": [{"names": list(names)}]}}

    nodes = [node("a", "mirror/shop@sha256:" + "a" * 64, "shop:1"), node("b", "shop:1"), {"metadata": {"name": "c"}}]
    assert find_present(nodes, IMAGE) == ["a"]


class Cluster:
    """An API server whose kubelets answer with these states."""

    namespace = "shop"

    def __init__(self, states: dict[str, dict[str, Any]], refuse: int = 0) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self._states, self._refuse = states, refuse

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        with httpx.Client(transport=httpx.MockTransport(self._answer), base_url="http://api") as client:
            yield client

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            self.pods.pop(request.url.path.rsplit("/", 1)[1], None)
            return httpx.Response(200)
        if self._refuse:
            return httpx.Response(self._refuse, json={"message": "pods is forbidden"})
        pod = json.loads(request.content)
        self.made.append(pod)
        self.pods[pod["metadata"]["name"]] = pod
        return httpx.Response(201)

    def watch_changes(self, _path: str, _seconds: float, **_: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for pod in list(self.pods.values()):
            yield "ADDED", {**pod, "status": {}}
            yield "MODIFIED", {**pod, **self._states.get(pod["spec"]["nodeName"], {"status": {}})}


def test_each_node_is_asked_and_nothing_is_left() -> None:
    cluster: Any = Cluster({"a": status(image="x", running={}), "b": status("ErrImagePull")})
    pulled, failed = try_pulls(cluster, IMAGE, ["a", "b", "silent"], ["login"], 5)
    assert pulled == ["a"]
    assert failed == {
        "b": "ErrImagePull: the kubelet's words",
        "silent": "no answer of its kubelet within 5 s",
    }
    assert cluster.pods == {}
    for pod in cluster.made:
        assert pod["spec"]["imagePullSecrets"] == [{"name": "login"}]
        assert pod["spec"]["activeDeadlineSeconds"] == 5
        assert pod["spec"]["containers"][0]["imagePullPolicy"] == "Always"


def test_an_identity_that_may_make_no_pods() -> None:
    with pytest.raises(NotMeasured, match="pods is forbidden"):
        try_pulls(Cluster({}, refuse=403), IMAGE, ["a"], [], 5)  # pyright: ignore[reportArgumentType]
