"""`runbook rotate`: replace secrets without a failed request.

The state is written to the stack file, then one update makes it true (HerbisVeritas "Rotation Clés Sécurité",
runbook-de-production §4). When a step fails before the old value is retired, the old value is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ops.adapters.automation import Run
from ops.commands.update import LockPolicy, StackLock, apply, prepare_update
from ops.decisions import rotation
from ops.decisions.rotation import NEXT, RESTING, Due
from ops.errors import OpsError, Refused, RolledBack, Stuck
from ops.stack.history import ROTATED
from ops.stack.locks import whoami
from ops.stack.secret_values import Values, read_values, remove_retired, store_values
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context
from settings.rotation import RotationState, SecretRotation

ReadValues = Callable[[SecretRotation], Values]
"""Reads the new values of a secret that comes from outside."""
AUTOMATIC = ("resume", "retire", "begin")
"""Actions that `rotate due` takes."""
_WITHOUT_UPDATE = ("tested",)
"""Phases that an earlier update has already proven."""
_ACCEPTED_BY_PODS = ("key", "given")
"""Kinds that pods check: they have to receive the new value before it is used. Servers accept both."""


def rotate(
    session: Session, wanted: Sequence[str], policy: LockPolicy, bring: ReadValues, *, overlap: bool
) -> dict[str, Any]:
    """Rotate these secrets together; what was interrupted is finished. Without `overlap` old values go at once."""
    with StackLock(session, "rotate", policy):
        run = RotationRun.start(session, policy)
        names = rotation.find_secrets(wanted, run.rotations)
        rotation.refuse_never(names, run.rotations)
        if overlap:
            run.refuse_within_overlap(names)
        prepare_update(session, run.facts, policy)
        # The overlap is over: retire the previous value before the next rotation.
        late = [name for name in names if overlap and run.rotations[name].state.phase == "verified"]
        run.advance(names, bring, overlap=overlap)
        if late := [name for name in late if run.rotations[name].state.phase == "retired"]:
            run.advance(late, bring, overlap=overlap)
        return run.report(names)


def rotate_due(session: Session, policy: LockPolicy) -> dict[str, Any]:
    """Advance everything that is due; `notDue` lists the rest."""
    with StackLock(session, "rotate due", policy):
        run = RotationRun.start(session, policy)
        found = run.list_due()
        now = {action: [item.secret for item in found if item.action == action] for action in AUTOMATIC}
        if any(now.values()):
            prepare_update(session, run.facts, policy)
        failures = [why for action, names in now.items() for why in run.advance_each(names, overlap=action != "retire")]
        if failures:
            raise RolledBack("\n".join(failures))
        rest = [item for item in found if item.action not in AUTOMATIC]
        done = run.report([name for names in now.values() for name in names])
        return {**done, "notDue": [vars(item) | {"when": item.when and item.when.isoformat()} for item in rest]}


class RotationRun:
    """Rotations of one stack, step by step."""

    def __init__(self, session: Session, facts: StackContext, policy: LockPolicy) -> None:
        self._session, self.facts, self._policy = session, facts, policy
        self._url: str | None = None
        self.rotations: dict[str, SecretRotation] = dict(facts.settings.rotations())
        last = next((entry for entry in facts.history if entry.succeeded), None)
        proven = (last.config.get(ROTATED) or {}) if last else {}
        self._proven = {name: RotationState.model_validate(state) for name, state in proven.items()}

    @classmethod
    def start(cls, session: Session, policy: LockPolicy) -> RotationRun:
        facts = gather_context(session)
        if facts.now.release is None:
            raise Refused(f"Stack {session.stack} was never deployed: `runbook deploy IMAGE` makes its first secrets.")
        return cls(session, facts, policy)

    def list_due(self) -> list[Due]:
        """The next action for every secret, the urgent ones first."""
        at = self.facts.clock.now()
        # A secret that was never rotated is as old as the stack.
        since = min(entry.started for entry in self.facts.history)
        found = [
            replace(item, action="resume") if item.action == "wait" and self.is_interrupted(item.secret) else item
            for item in (rotation.due(rotating, at, since) for rotating in self.rotations.values())
        ]
        return sorted(found, key=lambda item: (item.action in ("wait", "never"), item.when or at))

    def refuse_within_overlap(self, names: Sequence[str]) -> None:
        """A third value would need the slot of one that is still accepted."""
        for name in names:
            now = self.rotations[name]
            waits = now.state.phase == "verified" and rotation.is_finished(now, self.facts.clock.now(), overlap=True)
            if waits and not self.is_interrupted(name):
                raise Refused(
                    f"{name} was rotated, and its previous value is accepted until {now.overlap_until}. To end that "
                    f"now: `runbook rotate start {name} --no-overlap`."
                )

    def advance_each(self, names: Sequence[str], *, overlap: bool) -> list[str]:
        """Rotate all together, for fewer rollouts; when that fails one by one, so that a bad one stops no other."""
        failures: list[str] = []
        groups = [names] if names else []
        while groups:
            group = groups.pop()
            try:
                self.advance(group, read_values, overlap=overlap)
            except RolledBack as failure:
                self._session.say(str(failure), "red")
                if len(group) == 1:
                    failures.append(str(failure))
                else:
                    groups = [[name] for name in group]
        return failures

    def advance(self, names: Sequence[str], bring: ReadValues, *, overlap: bool) -> None:
        """Begin or continue rotations, until each is finished or its overlap runs."""
        begun: dict[str, RotationState] = {}
        for name in names:
            rotating = self.rotations[name]
            state = rotating.state
            if self.is_interrupted(name):
                self._session.say(f"{name}: continuing period {state.period}, phase {state.phase}")
                self._run_step({name: state})
            elif state.phase in RESTING:
                begun[name] = rotation.begin_rotation(rotating, self.facts.clock.now())
        # All are read before the first is stored: a missing one must leave the stack file as it was.
        values = {name: bring(self.rotations[name]) for name in begun if rotation.needs_value(self.rotations[name])}
        for name, given in values.items():
            self.facts.text = store_values(self._session, begun[name].period, given)
        if begun:
            self._run_step(begun)
        while unfinished := [
            n for n in names if not rotation.is_finished(self.rotations[n], self.facts.clock.now(), overlap=overlap)
        ]:
            phase = min((self.rotations[name].state.phase for name in unfinished), key=list(NEXT).index)
            at = self.facts.clock.now()
            states = {name: self.rotations[name].state for name in unfinished}
            self._run_step(
                {n: rotation.enter_phase(now, NEXT[phase], at) for n, now in states.items() if now.phase == phase}
            )

    def replace_at_once(self, names: Sequence[str]) -> None:
        """Replace values by one update; the old ones are revoked when it ends."""
        at = self.facts.clock.now()
        self._run_step({name: self._begin_emergency(name, at) for name in names})

    def _begin_emergency(self, name: str, at: datetime) -> RotationState:
        rotating = self.rotations[name]
        if rotating.state.emergency and self.is_interrupted(name):
            return rotating.state  # interrupted: the values it made were never used
        return rotation.begin_rotation(rotating, at, emergency=True)

    def report(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "result": "succeeded",
            "rotated": {name: self.rotations[name].state.to_config() for name in names},
            "url": self._url,
            "seconds": round(self._session.seconds, 1),
        }

    def is_interrupted(self, name: str) -> bool:
        """Whether the update that makes the state in the file true did not succeed yet."""
        state = self.rotations[name].state
        return bool(state.started_at) and self._proven.get(name) != state

    def _run_step(self, states: Mapping[str, RotationState]) -> None:
        """Make these states true by one update; when that fails, return to the previous values."""
        before = {name: self.rotations[name].state for name in states}
        phase = next(iter(states.values())).phase
        names = ", ".join(states)
        self._session.say(f"{names}: {phase}", "bold")
        if phase in _WITHOUT_UPDATE or (phase == "dual" and not self._changes_pods(states)):
            self._write(states).save()
            return
        old = self.facts.text
        if phase == "retired":
            self.facts.text = remove_retired(self.facts.text, [self.rotations[name] for name in states])
        run = self._apply(old, states, f"rotate {names} to {phase}")
        if not run.succeeded:
            raise self._go_back(old, before, states, run)

    def _changes_pods(self, states: Mapping[str, RotationState]) -> bool:
        return any(self.rotations[name].kind in _ACCEPTED_BY_PODS for name in states)

    def _go_back(
        self, old: Any, before: Mapping[str, RotationState], states: Mapping[str, RotationState], failed: Run
    ) -> OpsError:
        """After a failed step: use the previous value again, or accept it again when it was being retired."""
        why, causes = failed.why, failed.causes
        names = ", ".join(states)
        if any(state.emergency for state in states.values()):
            return Stuck(f"The emergency rotation of {names} failed; run the same command again.\n{why}", causes)
        at = self.facts.clock.now()
        retiring = next(iter(states.values())).phase == "retired"
        if retiring:
            back: Mapping[str, RotationState] = before
            # In the file too, where settings are judged: the update removed the previous value from it.
            self.facts.text = old
            old.save()
        else:
            back = {name: rotation.fail(state, at, failed.what_failed) for name, state in states.items()}
        self._session.say(f"{names} failed; returning to the previous values:\n{why}", "red")
        run = self._apply(self.facts.text, back, f"rotate {names} back")
        if not run.succeeded:
            both = [*causes, *run.causes]
            return Stuck(
                f"The rotation of {names} failed, and so did the return to the previous values:\n{why}\n{run.why}", both
            )
        if retiring:
            return RolledBack(f"The previous value of {names} could not be retired; both are valid.\n{why}", causes)
        return RolledBack(f"{names} could not be rotated; the previous value is in use.\n{why}", causes)

    def _write(self, states: Mapping[str, RotationState]) -> Any:
        written = {**(self.facts.text.config.get(ROTATED) or {})}
        written |= {name: state.to_config() for name, state in states.items()}
        self.facts.text = self.facts.checked({ROTATED: written})
        for name, state in states.items():
            self.rotations[name] = replace(self.rotations[name], state=state)
        return self.facts.text

    def _apply(self, old: Any, states: Mapping[str, RotationState], message: str) -> Run:
        run = apply(self._session, old, self._write(states), f"{message} by {whoami()}", self._policy)
        if run.succeeded:
            self._proven |= states
            self._url = run.outputs.get("url")
        return run
