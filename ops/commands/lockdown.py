"""Lockdown (HerbisVeritas "Emergency Commands"): known clients read, nothing is written, and it ends by the clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from lightkube.resources.core_v1 import ConfigMap

from ops.adapters.cluster import Unreachable
from ops.commands.status_page import publish_status
from ops.commands.update import LockPolicy, StackLock, apply, prepare_update
from ops.decisions.release_state import extend_lockdown, find_lockdown, last_applied
from ops.errors import OpsError, Refused, Stuck
from ops.stack import incidents, stack_file
from ops.stack.locks import whoami
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context, require_application
from settings import Lockdown
from settings.lockdown import GATE, GATE_PORT, LOCKDOWN

_TERMINATION_SECONDS = 60
"""Four times the grace period of a gate."""
_ASK_SECONDS = 15
_ASK = f"""
import http.client, json
gate = http.client.HTTPConnection("127.0.0.1", {GATE_PORT}, timeout=10)
gate.request("GET", "/")
answer = gate.getresponse()
print(json.dumps([answer.status, answer.read(10_000).decode(errors="replace")]))
"""
"""Run in a pod of the gate: a request of no known client, which only a gate whose time is up forwards."""


def switch_lockdown(session: Session, policy: LockPolicy, wanted: Lockdown | None) -> dict[str, Any]:
    """Begin, change or end (`wanted` None) a lockdown by one update. Without one, ending changes nothing.

    It lasts as long as `wanted` does, from the time in the cluster on.
    """
    require_application(session, "lock")
    with StackLock(session, "lockdown", policy):
        facts = gather_context(session, decides="lockdown")
        if facts.now.release is None:
            raise Refused(f"Stack {session.stack} was never deployed: there is nothing to lock.")
        prepare_update(session, facts, policy)
        now = facts.clock.now()
        standing = find_lockdown(facts.text.config, last_applied(facts.history), now)
        before = standing or facts.settings.lockdown
        wanted = extend_lockdown(wanted.starting(now), standing) if wanted else None
        record = _open_record(facts, before, wanted)
        after = wanted.model_copy(update={"incident": record}) if wanted else None
        new = facts.checked({LOCKDOWN: after.to_config() if after else None})
        word = f"on until {_utc(after.until)}: {after.reason}" if after else "off"
        try:
            run = apply(session, facts.text, new, f"lockdown {word} by {whoami()}", policy)
        except OpsError as error:
            _add_to_record(facts, record, {"result": error.brief})
            raise
        if not run.succeeded:
            _add_to_record(facts, record, {"result": run.what_failed})
            raise Stuck(f"The lockdown could not be {'begun' if after else 'ended'}:\n{run.why}", run.causes)
        if before and after:
            _await_rules(facts)
        if after:
            _require_refusals(facts, after)
        result = {
            "result": "succeeded",
            "lockdown": after.to_config() if after else None,
            "incident": record,
            "url": run.outputs.get("url"),
            "seconds": round(session.seconds, 1),
        }
        if record and not after:
            incidents.close_incident(facts.cluster, record, {"result": "ended", "endedBy": whoami()})
        elif record:
            _add_to_record(facts, record, {"result": "locked", "secondsToLock": result["seconds"]})
        if (page := facts.settings.status_page) and (why := publish_status(facts.cluster, page)):
            session.say(f"The status page is not published: {why}. `runbook incident publish` tries again.")
        return result


def find_standing(session: Session) -> Lockdown | None:
    """The lockdown that stands, also one that the rollback controller began and this stack file does not have."""
    applied = last_applied(session.history())
    return find_lockdown(stack_file.read(session.file).config, applied, datetime.now(UTC))


def _await_rules(facts: StackContext) -> None:
    """Wait until no gate pod answers by the earlier rules: a terminating one still serves open connections."""
    left = facts.cluster.await_terminated(GATE, _TERMINATION_SECONDS)
    if left:
        raise Stuck(
            f"The lockdown is on with its new rules, but gates with the earlier ones have not ended within "
            f"{_TERMINATION_SECONDS} s and may still answer: {', '.join(left)}. Check the nodes they run on."
        )


def _require_refusals(facts: StackContext, lockdown: Lockdown) -> None:
    """Ask each pod of the gate. Each compares the clock of its own node with the end of the lockdown."""
    if lockdown.over(facts.clock.now()):
        return
    found = _ask_gates(facts)
    if open_ := [pod for pod, printed in found.items() if not refuses(printed, lockdown)]:
        raise Stuck(
            f"The lockdown was written until {_utc(lockdown.until)}, but {', '.join(sorted(open_))} still forwards "
            "requests: the clock of its node is ahead. Correct that clock (`kubectl get pod -o wide` shows the node), "
            "or lock down for longer (`--for`)."
        )
    if not found:
        raise Stuck(
            f"The lockdown was written, but no pod of Deployment {GATE} is ready: no client is served, and whether the "
            f"gate refuses is unknown. `kubectl describe deployment {GATE}`."
        )


def _ask_gates(facts: StackContext) -> dict[str, str]:
    """What `_ASK` prints in each pod. The lockdown is written: it is not taken as refused when a connection breaks."""
    command = ["python3", "-c", _ASK]
    try:
        return facts.cluster.run_in_pods(GATE, command, _ASK_SECONDS)
    except Unreachable:
        try:
            return facts.cluster.run_in_pods(GATE, command, _ASK_SECONDS)
        except Unreachable as error:
            raise Stuck(f"The lockdown was written, but whether its gate refuses is unknown. {error}") from None


def refuses(printed: str, lockdown: Lockdown) -> bool:
    """Whether what `_ASK` printed is the refusal of this lockdown."""
    status, body = json.loads(printed)
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    until = f"{lockdown.until.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"
    return (
        status == 503
        and isinstance(answer, dict)
        and (answer.get("status"), answer.get("until")) == ("lockdown", until)
    )


def _open_record(facts: StackContext, before: Lockdown | None, wanted: Lockdown | None) -> str | None:
    """The incident record of this lockdown: the same one when it is extended."""
    known = before.incident if before and before.incident else None
    if known and facts.cluster.find(ConfigMap, known) is None:
        known = None
    if wanted is None:
        return known
    content = wanted.to_config()
    if known is None:
        return incidents.open_incident(facts.cluster, "lockdown", content)
    incidents.add_to_incident(facts.cluster, known, content)
    return known


def _add_to_record(facts: StackContext, record: str | None, what: dict[str, Any]) -> None:
    if record:
        incidents.add_to_incident(facts.cluster, record, what)


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
