"""Flagger rolls the bad release back: a canary behind a Traefik gateway, whose traffic it shifts step by step.

Flagger's Traefik provider uses an API group that Traefik 3 no longer has, so this uses its Gateway API provider.
"""

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

_NAME = peers.COPIES[0]
_MODULE, _GATEWAY_MODULE = "github.com/fluxcd/flagger", "sigs.k8s.io/gateway-api"
_GATEWAY_PORT = 8000
_GIVE_UP_SECONDS = 900


@dataclass(frozen=True)
class Analysis:
    """Flagger's settings of one canary."""

    interval: int
    """Seconds between checks."""
    threshold: int
    """Failed checks until it rolls back."""
    step: int
    """Percent of the traffic that each good check adds."""
    window: int
    """Seconds of requests that a check covers."""

    def to_manifest(self) -> Manifest:
        metric = {
            "name": "success-rate",
            "templateRef": {"name": _NAME},
            "interval": f"{self.window}s",
            "thresholdRange": {"min": 99},
        }
        return {
            "interval": f"{self.interval}s",
            "threshold": self.threshold,
            "maxWeight": 50,
            "stepWeight": self.step,
            "metrics": [metric],
        }


CONTENDERS: Mapping[str, Analysis] = {
    "Flagger, 60 s x 5": Analysis(interval=60, threshold=5, step=10, window=60),
    "Flagger, 10 s x 2": Analysis(interval=10, threshold=2, step=5, window=30),
}
"""Interval and threshold of its Gateway API tutorial, its defaults among them; and the shortest interval that it takes,
with two failed checks, so that a single one does not roll a release back."""


@contextmanager
def installed(ground: Ground) -> Iterator[None]:
    """Flagger and a gateway run."""
    kinds = peers.definitions(toolchain.find_peer_file("flagger", _MODULE, "artifacts/flagger/crd.yaml"))
    kinds += peers.definitions(toolchain.find_peer_file("gateway-api", _GATEWAY_MODULE, "config/crd/standard"))
    with peers.defined(kinds):
        _start_gateway(ground)
        flags = [
            "-mesh-provider=gatewayapi:v1",
            f"-metrics-server={PROMETHEUS}",
            f"-namespace={ground.stack.namespace}",
        ]
        image = ground.program("flagger", "flagger")
        ground.start("flagger", image, ["/usr/bin/flagger", *flags], ("/healthz", 8080))
        yield


def _start_gateway(ground: Ground) -> None:
    """A second Traefik, which routes by HTTPRoutes; the sandbox's own, in front of it, by Ingresses only."""
    shown = run(["kubectl", "get", "deployment", "traefik", "--namespace", "traefik", "--output", "json"])
    pod = json.loads(shown)["spec"]["template"]["spec"]
    program = next(volume for volume in pod["volumes"] if volume["name"] == "program")
    (theirs,) = pod["containers"]
    command = [
        theirs["command"][0],
        "--global.checknewversion=false",
        "--ping=true",
        f"--entrypoints.web.address=:{_GATEWAY_PORT}",
        "--entrypoints.traefik.address=:8080",
        "--providers.kubernetesgateway=true",
        "--providers.providersthrottleduration=100ms",
    ]
    mount = {"name": "program", "mountPath": command[0], "readOnly": True}
    ground.start(
        "gateway",
        theirs["image"],
        command,
        ("/ping", 8080),
        container={"imagePullPolicy": "Never", "volumeMounts": [mount]},
        volumes=[program],
    )
    listener = {
        "name": "web",
        "protocol": "HTTP",
        "port": _GATEWAY_PORT,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    group = "gateway.networking.k8s.io/v1"
    peers.apply(
        {
            "apiVersion": group,
            "kind": "GatewayClass",
            "metadata": {"name": NAMESPACE},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        },
        {
            "apiVersion": group,
            "kind": "Gateway",
            "metadata": place("gateway"),
            "spec": {"gatewayClassName": NAMESPACE, "listeners": [listener]},
        },
        peers.service(place("web"), {"app": "gateway"}, _GATEWAY_PORT),
        peers.ingress(place("web"), ground.url(_NAME), "web", _GATEWAY_PORT),
    )


def measure(ground: Ground, good: str, bad: str, analysis: Analysis) -> Outcome:
    """From version `good` to `bad`, until Flagger has given it up."""
    stack = ground.stack
    where = place(_NAME, stack.namespace)
    labels, template = ground.shop(_NAME, good)
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    url = ground.url(_NAME)
    canary: Manifest = {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": where,
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": _NAME},
            "service": {
                "port": PORT,
                "targetPort": PORT,
                "hosts": [url.partition("//")[2].partition(":")[0]],
                "gatewayRefs": [{"name": "gateway", "namespace": NAMESPACE}],
            },
            "analysis": analysis.to_manifest(),
        },
    }

    template_of_metric: Manifest = {
        "apiVersion": "flagger.app/v1beta1",
        "kind": "MetricTemplate",
        "metadata": where,
        "spec": {
            "provider": {"type": "prometheus", "address": PROMETHEUS},
            "query": f"100 * {peers.good_share(_NAME, '{{ interval }}')}",
        },
    }

    def phase() -> str:
        found = json.loads(stack.kubectl("get", "canary", _NAME, "--output", "json"))
        return found.get("status", {}).get("phase", "")

    try:
        peers.apply(
            template_of_metric, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": where, "spec": spec}
        )
        peers.apply(canary)
        eventually(lambda: phase() == "Initialized", 300, _log)
        with Traffic(url, pause_seconds=0.03, limit_seconds=_GIVE_UP_SECONDS) as traffic:
            container = template["spec"]["containers"][0]["name"]
            stack.kubectl("set", "image", f"deployment/{_NAME}", f"{container}={bad}")
            eventually(lambda: phase() in ("Failed", "Succeeded"), _GIVE_UP_SECONDS, _log)
            peers.settle()
        return peers.outcome(traffic, _decided_at())
    finally:
        for kind in ("canary", "metrictemplate", "deployment"):
            stack.kubectl("delete", kind, _NAME, "--ignore-not-found", "--cascade=foreground", "--timeout=120s")


def _log(lines: int = 30) -> str:
    return run(["kubectl", "logs", "deployment/flagger", "--namespace", NAMESPACE, f"--tail={lines}"])


def _decided_at() -> float:
    """When the last rollback began, in seconds since 1970, by Flagger's own log."""
    entries = [json.loads(line) for line in _log(-1).splitlines() if line.startswith("{")]
    back = [entry for entry in entries if entry["msg"].startswith("Rolling back")]
    if not back:
        raise SystemExit(f"Flagger promoted the bad release:\n{_log()}")
    return datetime.fromisoformat(back[-1]["ts"]).timestamp()
