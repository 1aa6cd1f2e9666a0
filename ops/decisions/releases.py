"""What is decided, apart from what is done: pure functions over release, history and the database's level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ops.errors import Refused
from ops.stack.history import QUARANTINE, RELEASE, RESTORED, ROTATED, Entry, History
from settings import Lockdown, Quarantined, Release, SchemaRange
from settings.lockdown import LOCKDOWN

# -- what stands now ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReleaseState:
    """The release that should run now and the digests that must not."""

    release: Release | None
    quarantine: tuple[Quarantined, ...]
    finished: bool
    """False when the last run was killed: the stack file names a revision that no finished update has."""


def read_release_state(config: Mapping[str, Any], newest: Entry | None) -> ReleaseState:
    """The newer of the stack file and the last update wins: a fresh checkout's stack file may be behind."""
    written = Release.model_validate(config[RELEASE]) if config.get(RELEASE) else None
    recorded = newest.release if newest else None
    stale = recorded is not None and (written is None or written.revision < recorded.revision)
    source = newest.config if stale and newest else config
    return ReleaseState(
        release=recorded if stale else written,
        quarantine=tuple(Quarantined.model_validate(item) for item in source.get(QUARANTINE) or ()),
        finished=written is None or (recorded is not None and written.revision <= recorded.revision),
    )


def outdated_rotations(config: Mapping[str, Any], newest: Entry | None) -> list[str]:
    """Secrets whose rotation the last update knows further than the stack file does."""
    mine, theirs = config.get(ROTATED) or {}, (newest.config.get(ROTATED) if newest else None) or {}
    return sorted(
        name for name, state in theirs.items() if state["startedAt"] > (mine.get(name) or {}).get("startedAt", "")
    )


def released_since(config: Mapping[str, Any], newest: Entry | None) -> str | None:
    """The release that the stack file does not know: somebody, or the rollback controller, made it elsewhere."""
    written = (config.get(RELEASE) or {}).get("revision", 0)
    if newest is None or newest.revision is None or newest.revision <= written:
        return None
    how = newest.written.get("action", "deploy")
    return f"revision {newest.revision} ({how}) was released since, and {newest.who or 'somebody'} was the last there"


def locked_since(config: Mapping[str, Any], newest: Entry | None, now: datetime) -> str | None:
    """The lockdown that the stack file does not know, and would end."""
    theirs = newest.config.get(LOCKDOWN) if newest else None
    if not theirs or Lockdown.model_validate(theirs).over(now):
        return None
    mine = config.get(LOCKDOWN)
    if mine and Lockdown.model_validate(mine).since >= Lockdown.model_validate(theirs).since:
        return None
    return f"it is locked down since {theirs['since']} ({theirs['reason']})"


def last_good(history: Iterable[Entry]) -> Entry | None:
    """The last update that succeeded: what serves now, also when a later one failed."""
    return next((entry for entry in history if entry.succeeded and entry.release), None)


def next_revision(now: ReleaseState) -> int:
    return (now.release.revision if now.release else 0) + 1


def find_resumable(now: ReleaseState, image: str, schema: SchemaRange) -> Release | None:
    """The killed run's release, when this is the same deploy again."""
    release = now.release
    same = release is not None and (release.image, release.action) == (image, "deploy")
    return release if same and release and not now.finished and release.schema_ == schema else None


def describe_lockdown(lockdown: Lockdown | None, now: datetime) -> dict[str, Any]:
    """Whether there is a lockdown; one that is over stands in the stack file until the next command."""
    if lockdown is None:
        return {"state": "off", "lockdown": None, "secondsLeft": 0}
    left = max(0, round((lockdown.until - now).total_seconds()))
    state = "over" if lockdown.over(now) else "on"
    return {"state": state, "lockdown": lockdown.to_config(), "secondsLeft": left}


# -- the schema gate ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Database:
    """The schema level of the database; a range when nobody could be asked and the history leaves it open."""

    low: int
    high: int
    source: Literal["asked", "recorded", "empty"]

    def __str__(self) -> str:
        level = str(self.low) if self.low == self.high else f"{self.low} or {self.high}"
        return level if self.source == "asked" else f"{level} ({self.source})"


def exact_database(level: int) -> Database:
    return Database(level, level, "asked")


def recorded_database(history: Iterable[Entry]) -> Database:
    """What the history says when no pod can be asked: the level of the last good deploy, or of a later
    failed one whose migrations may have run."""
    high = 0
    for entry in history:
        if entry.kind == "destroy" and entry.result == "succeeded" and entry.bundled_database:
            break
        release = entry.release
        if entry.kind != "update" or release is None or not release.migrate:
            continue
        high = max(high, release.schema_.level)
        if entry.succeeded:
            return Database(release.schema_.level, high, "recorded")
    return Database(0, high, "recorded" if high else "empty")


@dataclass(frozen=True)
class Block:
    """Why the schema gate refuses; `restore` says that only an older database would help."""

    code: Literal["database_ahead", "database_behind", "running_cannot_serve"]
    why: str
    then: str
    database: Database
    schema: SchemaRange
    restore: bool = False

    def refusal(self) -> Refused:
        return Refused(f"{self.why}\n{self.then}")


def deploy_gate(
    new: SchemaRange, running: Release | None, database: Database, *, allow_downtime: bool = False
) -> Block | None:
    """Whether the release can serve on the database as it will be, and the old one while it is replaced."""
    if database.high > new.max:
        return Block(
            "database_ahead",
            f"The database is at schema level {database}, but this release serves only levels {_range(new)}.",
            f"Build the release with the migrations up to level {database.high}, or deploy a newer one.",
            database,
            new,
            restore=True,
        )
    after = max(database.high, new.level)
    if running and after > running.schema_.max and not allow_downtime:
        return Block(
            "running_cannot_serve",
            f"This release brings the database from schema level {database} to {after}, but the running "
            f"revision {running.revision} serves only levels {_range(running.schema_)}: it would "
            "fail during the rollout.",
            "Expand first, contract later: deploy a release whose range includes both levels, then this one. "
            "Or accept errors until the new version serves: --allow-downtime.",
            database,
            running.schema_,
        )
    return None


def rollback_gate(target: Release, database: Database) -> Block | None:
    """Whether the older release can serve on the database as it is: a rollback runs no migrations."""
    serves = target.schema_
    if database.high > serves.max:
        return Block(
            "database_ahead",
            f"Revision {target.revision} serves schema levels {_range(serves)}, but the database is at level "
            f"{database}: migration {serves.max + 1} cannot be undone by running the older code.",
            f"Deploy a new release that works on level {database.high}, or choose a revision whose range includes it "
            "(`runbook history`), or go back together with the data of before: --restore-database.",
            database,
            serves,
            restore=True,
        )
    if database.low < serves.min:
        return Block(
            "database_behind",
            f"Revision {target.revision} serves schema levels {_range(serves)}, but the database is only at "
            f"level {database}, and a rollback runs no migrations.",
            f"Deploy its image again, with its migrations: `runbook deploy {target.image}`.",
            database,
            serves,
        )
    return None


def _range(schema: SchemaRange) -> str:
    return str(schema.min) if schema.min == schema.max else f"{schema.min} to {schema.max}"


# -- quarantine --------------------------------------------------------------------------------------


def find_quarantined(digest: str, quarantine: Iterable[Quarantined]) -> Quarantined | None:
    return next((item for item in quarantine if item.digest == digest), None)


def with_quarantined(quarantine: Sequence[Quarantined], item: Quarantined) -> tuple[Quarantined, ...]:
    """The list with this digest on it once, the latest reason last."""
    return (*(other for other in quarantine if other.digest != item.digest), item)


def without_quarantined(quarantine: Sequence[Quarantined], digest: str) -> tuple[Quarantined, ...]:
    """The list without the one digest that starts with these characters."""
    wanted = digest if digest.startswith("sha256:") else f"sha256:{digest}"
    found = [item for item in quarantine if item.digest.startswith(wanted)]
    if len(found) != 1:
        listed = "\n".join(f"  {item.digest}  {item.reason}" for item in quarantine) or "  (none)"
        what = "no quarantined digest starts" if not found else "more than one quarantined digest starts"
        raise Refused(f"{what} with {digest}. Quarantined are:\n{listed}")
    return tuple(item for item in quarantine if item is not found[0])


# -- where a rollback goes -----------------------------------------------------------------------------


def rollback_target(history: History, now: ReleaseState, to: int | None, *, allow_quarantined: bool) -> Entry:
    """The update whose release comes back: revision `to`, or the last good one that ran something else."""
    current = now.release
    if current is None:
        raise Refused("This stack was never deployed: there is nothing to roll back to.")
    if to is not None:
        return _revision_to_restore(history, current, to, now.quarantine, allow_quarantined=allow_quarantined)
    left = {current.rollback_of}
    serves = any(entry.succeeded for entry in history.updates() if entry.revision == current.revision)
    for entry in history.updates():
        release = entry.release
        if release is None:
            continue
        left.add(release.rollback_of)
        if (
            entry.succeeded
            and release.revision < current.revision
            and release.revision not in left
            and not find_quarantined(release.digest, now.quarantine)
            and (not serves or release.image != current.image or _differs(entry, history, current.revision))
        ):
            return entry
    raise Refused(
        f"There is no earlier release to go back to: no revision before {current.revision} succeeded with "
        "another image or configuration and is not quarantined (`runbook history` lists them all)."
    )


def _revision_to_restore(
    history: History, current: Release, to: int, quarantine: Sequence[Quarantined], *, allow_quarantined: bool
) -> Entry:
    seen = [entry for entry in history.updates() if entry.revision == to]
    if not seen:
        raise Refused(describe_missing_revision(history, to))
    good = next((entry for entry in seen if entry.succeeded), None)
    if good is None or good.release is None:
        raise Refused(f"Revision {to} never succeeded (its last update: {seen[0].result}): choose one that did.")
    if to == current.revision:
        raise Refused(f"Revision {to} is what runs now; to repair drift run `pulumi up`.")
    if (bad := find_quarantined(good.release.digest, quarantine)) and not allow_quarantined:
        raise Refused(
            f"The image of revision {to} is quarantined ({bad.reason}, revision {bad.revision}). Choose "
            "another revision, or force it with --allow-quarantined REASON."
        )
    return good


def describe_missing_revision(history: History, revision: int) -> str:
    known = sorted({entry.revision for entry in history.updates() if entry.revision})
    have = f"it has {known[0]} to {known[-1]}" if known else "it was never deployed"
    return f"Revision {revision} does not exist in this stack's history: {have} (`runbook history`)."


def _differs(entry: Entry, history: History, revision: int) -> bool:
    """Whether an entry with the same image ran other services or commands than the revision did."""
    ran = next((other for other in history.updates() if other.revision == revision), None)
    return ran is not None and ran.restored() != entry.restored()


# -- what is written -----------------------------------------------------------------------------------


def rollback_changes(
    target: Entry,
    revision: int,
    leaving: Release,
    quarantine: Sequence[Quarantined],
    allow_quarantined: str | None = None,
    restored_from: str | None = None,
) -> dict[str, Any]:
    """Configuration keys that put the target's release back; never secrets, data or ingress."""
    if target.release is None:
        raise ValueError("the target of a rollback has a release")
    release = target.release.model_copy(
        update={
            "revision": revision,
            "migrate": False,
            "action": "rollback",
            "rollback_of": leaving.revision,
            "allow_quarantined": allow_quarantined,
            "without_proof": None,
            "restored_from": restored_from,
            "restored_over": None,
        }
    )
    return {RELEASE: release.to_config(), **quarantine_change(quarantine), **target.restored()}


def quarantine_change(quarantine: Sequence[Quarantined]) -> dict[str, Any]:
    return {QUARANTINE: [item.to_config() for item in quarantine] or None}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What differs between two releases with their services and commands: (path, old, new), leaf by leaf."""
    ours = ("revision", "action", "migrate", "rollbackOf", "allowQuarantined", "withoutProof")
    ours += ("restoredFrom", "restoredOver")
    ignored = {f"{RELEASE}.{name}" for name in ours}
    before, after = (
        {k: v for key in (RELEASE, *RESTORED) for k, v in _leaves(key, side.get(key))} for side in (old, new)
    )
    paths = [*before, *(path for path in after if path not in before)]
    return [
        (path.removeprefix("runbook:"), before.get(path), after.get(path))
        for path in paths
        if path not in ignored and before.get(path) != after.get(path)
    ]


def _leaves(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}", item)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, Mapping) else index
            yield from _leaves(f"{path}[{name}]", item)
    elif value is not None:
        yield path, value
