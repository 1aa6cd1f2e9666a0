"""Which phase of a request takes the time, and who is responsible for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TITLES = {
    "name": "name (DNS)",
    "connect": "connect",
    "tls": "TLS",
    "firstByte": "first byte",
    "transfer": "transfer",
    "total": "total",
}
_NEAR = 0.6
"""Part of the time outside that is spent inside too, from which the application is responsible."""


def judge_phases(outside: Mapping[str, Any], inside: Mapping[str, Any]) -> str:
    """One sentence: where to look first."""
    if "error" in inside and "error" in outside:
        if inside["phase"] == "job":
            return "The shop does not answer, and it could not be asked from a pod: `runbook status`."
        return f"The service itself does not answer ({inside['phase']}: {inside['error']}): `runbook status`."
    if "error" in outside:
        where = {"name": "DNS", "connect": "the load balancer or a firewall", "tls": "the certificate"}
        first = where.get(outside["phase"], "the ingress controller")
        return f"The service answers in the cluster, and not from here ({outside['error']}): look at {first}."
    if "error" in inside:
        return f"It answers from here; from a pod it could not be asked: {inside['error']}"
    median = outside["median"]
    phase = max((name for name in median if name != "total"), key=lambda name: median[name])
    share = 100 * median[phase] / max(median["total"], 0.1)
    said = f"Most of the time ({share:.0f} %) is {TITLES[phase]}"
    if phase in ("name", "connect", "tls"):
        remedy = {
            "name": "the resolver",
            "connect": "the network to the load balancer",
            "tls": "the ingress controller",
        }
        return f"{said}: look at {remedy[phase]}."
    if inside["median"].get(phase, 0) >= _NEAR * median[phase]:
        return f"{said}, from a pod as well: the application, or what it waits for (`runbook debug database`)."
    return f"{said}, and much less from a pod: the ingress controller or the network."
