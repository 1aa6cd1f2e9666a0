"""Whether the environment is ready for a release (runbook-de-production §1): each line from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from ops.decisions.capacity import (
    accepts_pods,
    find_short_quotas,
    find_unplaceable,
    is_ready,
    pods_of_rollout,
    pressures,
)
from ops.decisions.report import Line
from ops.decisions.schema_gate import Database
from ops.errors import NotMeasured
from settings.application import Application
from settings.checks import LINES, Checks

Objects = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Pulls:
    """What is known of the image on each node that takes pods."""

    present: Sequence[str]
    """Nodes whose kubelet lists the image. A kubelet lists its 50 largest images."""
    pulled: Sequence[str] = ()
    """Nodes on which a pod pulled it just now."""
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Node → why its kubelet could not."""
    untried: Sequence[str] = ()
    """Nodes of which nothing is known."""


@dataclass(frozen=True)
class Measured:
    """What was found in the cluster, at the front door and on this machine."""

    now: datetime
    application: Application
    running: Mapping[str, int]
    """Pods of each service that was rolled out before."""
    nodes: Objects | NotMeasured
    pods: Objects | NotMeasured
    """Of all namespaces: they share the nodes."""
    quotas: Objects | NotMeasured
    claims: Objects | NotMeasured
    image: str | NotMeasured
    """The release's image, as its registry knows it."""
    pulls: Pulls | NotMeasured
    """The same on the nodes that take pods."""
    addresses: Sequence[str] | NotMeasured
    """Of the customers' host name."""
    certificate_ends: datetime | NotMeasured
    secrets_missing: Sequence[str]
    secrets: int
    database: Database
    clock_ahead: float | NotMeasured
    """Seconds that this machine's clock is ahead of the API server's."""


@dataclass(frozen=True)
class _Verdict:
    passed: bool
    measured: str
    remedy: str = ""
    limit: str | None = None


def judge_environment(checks: Checks, found: Measured) -> list[Line]:
    """Every line, in order; one that could not be measured, or is left out by setting, says why."""
    lines: list[Line] = []
    for name, title in LINES.items():
        if reason := checks.without.get(name):  # type: ignore[call-overload] - the keys are the lines' names
            lines.append(Line(name, title, "left out", f"by runbook:checks.without: {reason}"))
            continue
        verdict = _JUDGES[name](checks, found)
        if isinstance(verdict, NotMeasured):
            result = "fail" if verdict.fails else "left out"
            lines.append(Line(name, title, result, verdict.why, _REMEDIES.get(name) if verdict.fails else None))
            continue
        remedy = None if verdict.passed else verdict.remedy
        lines.append(Line(name, title, "pass" if verdict.passed else "fail", verdict.measured, remedy, verdict.limit))
    return lines


_REMEDIES = {
    "image": "push the image, or log in to its registry",
    "dns": "create the record of runbook:ingress.host",
    "certificate": "renew it, or look at what its issuer says: `kubectl describe certificate`",
    "clock": "look at the API server",
}
CLOCK_REMEDY = "set this machine's clock (`timedatectl set-ntp true`): backups and proofs are judged by it"


def _judge_nodes(checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.nodes, NotMeasured):
        return found.nodes
    ready = [node for node in found.nodes if is_ready(node)]
    away = [node["metadata"]["name"] for node in found.nodes if not is_ready(node)]
    measured = f"{len(ready)} of {len(found.nodes)} ready" + (f", not {_some(away)}" if away else "")
    enough = bool(ready) and 100 * len(ready) >= checks.ready_nodes_percent * len(found.nodes)
    remedy = f"`kubectl describe node {away[0]}`" if away else "add a node"
    return _Verdict(enough, measured, remedy, f"{checks.ready_nodes_percent} %")


def _judge_pressure(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.nodes, NotMeasured):
        return found.nodes
    usable = [node for node in found.nodes if is_ready(node)]
    pressed = [f"{node['metadata']['name']} ({', '.join(kinds)})" for node in usable if (kinds := pressures(node))]
    if not pressed:
        return _Verdict(True, f"none on {len(usable)} nodes")
    return _Verdict(len(pressed) < len(usable), _some(pressed), "free disk or memory there, or cordon and replace it")


def _judge_room(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.nodes, NotMeasured):
        return found.nodes
    if isinstance(found.pods, NotMeasured):
        return found.pods
    new = pods_of_rollout(found.application, found.running)
    left = find_unplaceable(new, found.nodes, found.pods)
    usable = sum(accepts_pods(node) for node in found.nodes)
    if not left:
        return _Verdict(True, f"{len(new)} more pods fit on {usable} nodes")
    largest = left[0]
    wanted = f"{largest.requests['cpu']} CPU and {_bytes(largest.requests['memory'])}"
    return _Verdict(
        False,
        f"{len(left)} of {len(new)} more pods fit on none of {usable} nodes; one of {largest.of} requests {wanted}",
        "add a node, lower application.surge or the requests; where nodes are added when pods wait, leave the line out "
        "(runbook:checks.without)",
    )


def _judge_quota(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.quotas, NotMeasured):
        return found.quotas
    new = pods_of_rollout(found.application, found.running)
    short = [
        f"{name}: {_amount(name, need)} needed, {_amount(name, free)} free"
        for name, need, free in find_short_quotas(new, found.quotas)
    ]
    if short:
        return _Verdict(False, "; ".join(short), "end Jobs that hold it, or raise runbook:guards.quota")
    return _Verdict(True, f"{len(new)} more pods fit into {len(found.quotas)} quotas")


def _judge_claims(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.claims, NotMeasured):
        return found.claims
    # A claim that waits for its first pod is bound with it; one that has lost its volume is not.
    lost = [claim["metadata"]["name"] for claim in found.claims if claim.get("status", {}).get("phase") == "Lost"]
    bound = sum(claim.get("status", {}).get("phase") == "Bound" for claim in found.claims)
    measured = f"{bound} of {len(found.claims)} bound" + (f", lost {_some(lost)}" if lost else "")
    return _Verdict(not lost, measured, f"`kubectl describe pvc {lost[0]}`" if lost else "")


def _judge_image(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.image, NotMeasured):
        return found.image
    return _Verdict(True, found.image)


def _judge_pull(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.pulls, NotMeasured):
        return found.pulls
    pulls = found.pulls
    known = f"{len(pulls.present)} nodes have it, {len(pulls.pulled)} pulled it"
    if pulls.failed:
        why = "; ".join(f"{node}: {reason}" for node, reason in list(pulls.failed.items())[:3])
        remedy = "look at runbook:registry.pullSecrets, and at the way from these nodes to the registry"
        return _Verdict(False, f"{known}, {len(pulls.failed)} could not: {why}", remedy)
    if pulls.untried:
        return NotMeasured(f"{known}; not tried on {_some(pulls.untried)}: `runbook check --pull` starts a pod on each")
    return _Verdict(bool(pulls.present or pulls.pulled), known, "no node takes pods: see the line Nodes ready")


def _judge_dns(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.addresses, NotMeasured):
        return found.addresses
    return _Verdict(bool(found.addresses), _some(list(found.addresses)), _REMEDIES["dns"])


def _judge_certificate(checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.certificate_ends, NotMeasured):
        return found.certificate_ends
    days = (found.certificate_ends - found.now).total_seconds() / 86400
    measured = f"valid for {days:.1f} days, to {found.certificate_ends:%Y-%m-%d}"
    remedy = _REMEDIES["certificate"]
    return _Verdict(days >= checks.certificate_days, measured, remedy, f"{checks.certificate_days} days")


def _judge_secrets(_checks: Checks, found: Measured) -> _Verdict:
    measured = f"{found.secrets - len(found.secrets_missing)} of {found.secrets} set"
    if found.secrets_missing:
        remedy = f"`pulumi config set --secret secrets:{found.secrets_missing[0]}`"
        return _Verdict(False, f"{measured}, not {_some(found.secrets_missing)}", remedy)
    return _Verdict(True, measured)


def _judge_database(_checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if found.database.source != "measured":
        # The release may be what mends that.
        return NotMeasured("no ready pod can ask it")
    return _Verdict(True, f"answers, schema level {found.database}")


def _judge_clock(checks: Checks, found: Measured) -> _Verdict | NotMeasured:
    if isinstance(found.clock_ahead, NotMeasured):
        return found.clock_ahead
    ahead = found.clock_ahead
    measured = f"{abs(ahead):.0f} s {'ahead of' if ahead >= 0 else 'behind'} the API server's"
    return _Verdict(abs(ahead) <= checks.clock_seconds, measured, CLOCK_REMEDY, f"{checks.clock_seconds} s")


_JUDGES: Mapping[str, Callable[[Checks, Measured], _Verdict | NotMeasured]] = {
    "nodes": _judge_nodes,
    "pressure": _judge_pressure,
    "room": _judge_room,
    "quota": _judge_quota,
    "claims": _judge_claims,
    "image": _judge_image,
    "pull": _judge_pull,
    "dns": _judge_dns,
    "certificate": _judge_certificate,
    "secrets": _judge_secrets,
    "database": _judge_database,
    "clock": _judge_clock,
}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _amount(name: str, amount: Decimal) -> str:
    return _bytes(amount) if name.endswith(("memory", "storage")) else f"{amount.normalize():f}"


def _bytes(amount: Decimal) -> str:
    return f"{amount / 2**20:.0f}Mi"
