"""Whether the pods of a service are as they are wanted, by its Deployment."""

from __future__ import annotations

from typing import Any

import pytest
from lightkube.resources.apps_v1 import Deployment

from ops.adapters.cluster import Cluster, Rollout
from settings import Service
from tests.support.program import stack_config


def rollout(asked: int, pods: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Rollout:
    """Of a Deployment whose controller has done what it was asked for, with so many pods."""
    config = stack_config("Pulumi.sandbox.yaml")["runbook:application"]["services"][0]
    service = Service.model_validate({**config, **settings})
    status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), pods)
    found = Deployment.from_dict(
        {
            "metadata": {"name": service.name, "generation": 2},
            "spec": {
                "replicas": asked,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "backend", "image": "shop@sha256:1"}]}},
            },
            "status": {"observedGeneration": 2, **status},
        }
    )
    monkeypatch.setattr(Cluster, "_find_deployment", lambda *_: found)
    (made,) = Cluster.rollouts(object.__new__(Cluster), [service])
    return made


def test_a_deployment_is_settled_on_the_pods_that_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rollout(2, 2, monkeypatch).settled
    assert not rollout(3, 2, monkeypatch).settled


def test_a_service_that_was_scaled_to_none_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rollout(0, 0, monkeypatch)
    assert (found.settled, found.ready, found.wanted) == (False, 0, 1)
    assert rollout(0, 0, monkeypatch, replicas=0).settled, "as its settings want it"
