"""Argo Rollouts aborts the bad release: a canary by number of pods, with an analysis in the background."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from benchmarks import peers
from benchmarks.peers import NAMESPACE, PORT, PROMETHEUS, Ground, Manifest, Outcome, place
from benchmarks.timing import run
from sandbox import toolchain
from sandbox.traffic import Traffic
from tests.support.monitored_stack import eventually

_NAME = peers.COPIES[1]
_MODULE = "github.com/argoproj/argo-rollouts"
_GROUP = "argoproj.io/v1alpha1"
_REPLICAS = 5
"""As in its first tutorial: a share of the traffic is a share of the pods."""
_GIVE_UP_SECONDS = 900


@dataclass(frozen=True)
class Analysis:
    """Argo Rollouts' settings of one release."""

    interval: int
    """Seconds between measurements."""
    failure_limit: int
    """Failed measurements that are tolerated."""
    pause: int
    """Seconds at each fifth of the traffic."""
    window: int
    """Seconds of requests that a measurement covers."""

    @property
    def steps(self) -> list[Manifest]:
        return [
            step
            for weight in (20, 40, 60, 80)
            for step in ({"setWeight": weight}, {"pause": {"duration": f"{self.pause}s"}})
        ]

    def template(self, where: Manifest) -> Manifest:
        metric = {
            "name": "success-rate",
            "interval": f"{self.interval}s",
            "successCondition": "result[0] >= 0.95",
            "failureLimit": self.failure_limit,
            "provider": {
                "prometheus": {"address": PROMETHEUS, "query": peers.good_share(_NAME, f"{self.window}s", "irate")}
            },
        }
        return {
            "apiVersion": _GROUP,
            "kind": "AnalysisTemplate",
            "metadata": where,
            "spec": {"metrics": [metric]},
        }


CONTENDERS: Mapping[str, Analysis] = {
    "Argo Rollouts, 300 s x 1": Analysis(interval=300, failure_limit=0, pause=600, window=300),
    "Argo Rollouts, 10 s x 2": Analysis(interval=10, failure_limit=1, pause=30, window=30),
}
"""First: interval, steps and query of the documented example, with the default `failureLimit` of 0. The example itself
tolerates three failures and starts its analysis after ten minutes. Second: Flagger's shortest interval, and two
failures, so that a single one does not abort a release."""


@contextmanager
def installed(ground: Ground) -> Iterator[None]:
    """Its controller runs."""
    with peers.defined(peers.definitions(toolchain.find_peer_file("argo-rollouts", _MODULE, "manifests/crds"))):
        image = ground.program("argo-rollouts", "rollouts-controller")
        ground.start("argo-rollouts", image, ["/usr/bin/rollouts-controller"], ("/healthz", 8080))
        yield


def measure(ground: Ground, good: str, bad: str, analysis: Analysis) -> Outcome:
    """From version `good` to `bad`, until the rollout is aborted."""
    stack = ground.stack
    where = place(_NAME, stack.namespace)
    labels, template = ground.shop(_NAME, good)
    url = ground.url(_NAME)
    canary = {"steps": analysis.steps, "analysis": {"templates": [{"templateName": _NAME}]}}
    rollout: Manifest = {
        "apiVersion": _GROUP,
        "kind": "Rollout",
        "metadata": where,
        "spec": {
            "replicas": _REPLICAS,
            "selector": {"matchLabels": labels},
            "template": template,
            "strategy": {"canary": canary},
        },
    }

    def status() -> Manifest:
        return json.loads(stack.kubectl("get", "rollout", _NAME, "--output", "json")).get("status", {})

    try:
        peers.apply(
            analysis.template(where),
            peers.service(where, labels, PORT),
            peers.ingress(where, url, _NAME, PORT),
            rollout,
        )
        eventually(lambda: status().get("phase") == "Healthy", 180, lambda: (status(), _log()))
        with Traffic(url, pause_seconds=0.03, limit_seconds=_GIVE_UP_SECONDS) as traffic:
            template["spec"]["containers"][0]["image"] = bad
            before = status()["currentPodHash"]
            peers.apply(rollout)
            eventually(lambda: status()["currentPodHash"] != before, 60, _log)
            eventually(lambda: status().get("phase") in ("Degraded", "Healthy"), _GIVE_UP_SECONDS, _log)
            peers.settle()
        if not (aborted := status().get("abortedAt")):
            raise SystemExit(f"Argo Rollouts went through with the bad release: {status()}")
        return peers.outcome(traffic, datetime.fromisoformat(aborted).timestamp())
    finally:
        for kind in ("rollout", "analysistemplate", "service", "ingress"):
            stack.kubectl("delete", kind, _NAME, "--ignore-not-found", "--cascade=foreground", "--timeout=120s")


def _log() -> str:
    return run(["kubectl", "logs", "deployment/argo-rollouts", "--namespace", NAMESPACE, "--tail=30"])
