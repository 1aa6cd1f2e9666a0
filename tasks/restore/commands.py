"""`python -m tasks restore …`: restore tests, restores beside and over the live database."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict
from typing import Any

from tasks.backup import catalog
from tasks.backup.create import create
from tasks.backup.manifest import Manifest, name_other_owner
from tasks.backup.postgres import Database
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.restore import in_place
from tasks.restore import restore_test as attempts
from tasks.restore.fetch import verify
from tasks.restore.restore_target import RestoreTarget
from tasks.restore.restore_targets import live_target, test_target
from tasks.restore.verify import check_release, new_half_made, require_worthless, restore
from tasks.result import Result
from tasks.store import Store, open_store

_TEST_SECONDS = 3600
"""How long a restore test takes at most, where RESTORE_TEST_TIMEOUT_SECONDS is not set."""


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="verb")

    def verb(name: str, run: Any, what: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=what, description=what)
        added.set_defaults(run=run)
        return added

    def backup(added: argparse.ArgumentParser, *, required: bool = True) -> None:
        added.add_argument("--backup", required=required, metavar="ID", help="which backup; see `backup list`")

    def jobs(added: argparse.ArgumentParser) -> None:
        added.add_argument("--jobs", type=int, metavar="N", help="how much to do at once (BACKUP_JOBS, else 1)")

    def another(added: argparse.ArgumentParser) -> None:
        what = "also a backup of another stack or server than DATABASE_URL's"
        added.add_argument("--of-another", action="store_true", help=what)

    backup(verb("verify", _verify, "read a whole backup and compare it with its checksums; changes nothing"))
    begin = verb("test-begin", _test_begin, "restore a backup into RESTORE_DATABASE_URL and compare it")
    backup(begin, required=False)
    jobs(begin)
    verb("test-conclude", _test_conclude, "record that what followed on test-begin passed as well")
    into = verb("into", _into, "restore into a new database beside the live one")
    backup(into)
    another(into)
    into.add_argument("--database", required=True, metavar="NEW", help="its name; refused when there is one")
    jobs(into)
    prepare = verb("prepare", _prepare, "in place, 1: safety backup of the live database, restored copy beside it")
    backup(prepare)
    another(prepare)
    jobs(prepare)
    verb("swap", _swap, "in place, 2: the restored copy takes the live database's place")
    verb("undo", _undo, "in place: the live database is the one from before")
    verb("finish", _finish, "in place, 3: drop the replaced database, after its safety backup was verified")
    backup(verb("state", _state, "in place: where it stands, and whether a backup may be restored"), required=False)


def _verify(arguments: argparse.Namespace, environment: Environment) -> Result:
    store = open_store(environment)
    manifest = catalog.find(store, arguments.backup)
    verify(store, manifest)
    return Result(
        {"backup": manifest.id, "files": len(manifest.files), "size_bytes": manifest.size_bytes},
        f"{manifest.id}: all {len(manifest.files)} files are what was written",
    )


def _test_begin(arguments: argparse.Namespace, environment: Environment) -> Result:
    store, place = open_store(environment), test_target(environment)
    manifest = catalog.find(store, arguments.backup) if arguments.backup else _newest(store, environment)
    jobs = _jobs(arguments, environment)

    def work(attempt: attempts.RestoreTest) -> None:
        facts = attempt.facts
        facts["origin"] = manifest.origin and asdict(manifest.origin)
        facts["manifest_sha256"] = hashlib.sha256(manifest.to_bytes()).hexdigest()
        facts["server_versions"] = {"backed_up": manifest.server_version, "restored": place.version()}
        require_worthless(place)
        found = restore(environment, store, manifest, place, place.live, jobs=jobs, timed=attempt.step, test=True)
        facts["rows"], facts["sentinel"] = found.rows, "found"
        facts["in_place_needs"] = list(found.needs)
        assert found.integrity
        facts["integrity"] = found.integrity.findings
        if not found.integrity.passed:
            raise TaskError(
                "database_damaged", f"backup {manifest.id} restores to a damaged database: {found.integrity.findings}"
            )

        facts["release_finds"] = check_release(place, manifest, environment.text("SCHEMA_LEVEL_QUERY"))

    seconds = environment.integer("RESTORE_TEST_TIMEOUT_SECONDS", least=1) or _TEST_SECONDS
    attempt = attempts.begin(store, manifest, environment.scratch, place.identity, seconds, work)
    return Result(
        {"attempt": attempt.id, "backup": attempt.backup, "steps": attempt.steps, **attempt.facts},
        f"{attempt.backup} is restored: {attempt.facts['rows']['rows']} rows in {attempt.facts['rows']['tables']} "
        f"tables, as backed up{_needs(attempt.facts['in_place_needs'])}. Migrate and smoke it, then `restore "
        "test-conclude`",
    )


def _needs(found: list[str]) -> str:
    return f"; a restore in place would not bring back: {'; '.join(found)}" if found else ""


def _newest(store: Store, environment: Environment) -> Manifest:
    """The newest backup that is not another stack's."""
    stack = environment.text("BACKUP_STACK")
    for manifest in catalog.newest_first(store):
        if not name_other_owner(manifest.origin, stack, None):
            return manifest
    raise TaskError(
        "manifest_missing", f"there is no backup in {store.url} to test; check that the backup schedule has run"
    )


def _require_own(
    arguments: argparse.Namespace, environment: Environment, place: RestoreTarget, manifest: Manifest
) -> None:
    """`backup_of_another` unless the backup is of this stack and of the server of DATABASE_URL, or is asked for."""
    whose = None if arguments.of_another else _whose(environment, place, manifest)
    if whose is None:
        return
    raise Refused(
        "backup_of_another",
        f"backup {manifest.id} is of {whose}. Nothing was changed. To restore it here, also onto a server that took "
        "the other one's place, pass --of-another",
    )


def _whose(environment: Environment, place: RestoreTarget, manifest: Manifest) -> str | None:
    return name_other_owner(manifest.origin, environment.text("BACKUP_STACK"), place.server())


def _test_conclude(_arguments: argparse.Namespace, environment: Environment) -> Result:
    store = open_store(environment)

    def check(attempt: attempts.RestoreTest) -> None:
        manifest = catalog.find(store, attempt.backup)
        check_release(test_target(environment), manifest, environment.text("SCHEMA_LEVEL_QUERY"), migrated=True)

    record = attempts.conclude(store, environment.scratch, check)
    if record["result"] != "passed":
        raise TaskError("not_proven", f"restore test {record['sequence']} has failed: {record['reason']}")
    return Result(
        record,
        f"{record['backup']} is proven (evidence {record['sequence']}): RTO {record['rto_seconds']:.0f} s, "
        f"RPO {record['rpo_seconds']:.0f} s{_needs(record.get('in_place_needs', []))}",
    )


def _into(arguments: argparse.Namespace, environment: Environment) -> Result:
    store, place, name = open_store(environment), live_target(environment), arguments.database
    place.check_name(name)
    manifest = catalog.find(store, arguments.backup)
    _require_own(arguments, environment, place, manifest)
    with place.exclusive():
        if name in place.databases():
            raise Refused(
                "database_exists", f"the database {name} exists already; it was not changed. Use another name"
            )
        made = new_half_made(place)
        found = restore(environment, store, manifest, place, made, jobs=_jobs(arguments, environment))
        place.publish(made, name, None)
    rows, left_out = found.rows, list(found.needs)
    named = f". Not restored: {'; '.join(left_out)}" if left_out else ""
    return Result(
        {"backup": manifest.id, "database": name, "url": place.shown(name), **rows, "left_out": left_out},
        f"{manifest.id} is restored into {place.shown(name)}: {rows['rows']} rows in {rows['tables']} tables{named}",
    )


def _prepare(arguments: argparse.Namespace, environment: Environment) -> Result:
    store, place = open_store(environment), live_target(environment)
    manifest = catalog.find(store, arguments.backup)
    _require_own(arguments, environment, place, manifest)

    def make(name: str) -> tuple[str, ...]:
        return restore(environment, store, manifest, place, name, jobs=_jobs(arguments, environment)).needs

    return _as_result(in_place.prepare(place, manifest, make, lambda: create(environment, "safety")))


def _swap(_arguments: argparse.Namespace, environment: Environment) -> Result:
    return _as_result(in_place.swap(live_target(environment)))


def _undo(_arguments: argparse.Namespace, environment: Environment) -> Result:
    return _as_result(in_place.undo(live_target(environment)))


def _finish(_arguments: argparse.Namespace, environment: Environment) -> Result:
    def verified(backup: str) -> Manifest:
        store = open_store(environment)
        manifest = catalog.find(store, backup)
        verify(store, manifest)
        return manifest

    place = live_target(environment)

    def back_up(name: str) -> Manifest:
        values = {**environment.values, "DATABASE_URL": place.url(name)}
        if own := environment.text("BACKUP_DATABASE_URL"):
            values["BACKUP_DATABASE_URL"] = Database.at(own, "BACKUP_DATABASE_URL").named(name).url
        return create(Environment(values), "safety")

    return _as_result(in_place.finish(place, verified, back_up))


def _state(arguments: argparse.Namespace, environment: Environment) -> Result:
    place = live_target(environment)
    now = in_place.state(place)
    found = _as_result(now)
    if arguments.backup is None:
        return found
    if now.phase in ("idle", "preparing"):
        place.require_swappable()
    manifest = catalog.find(open_store(environment), arguments.backup)
    return Result({**found.data, "of_another": _whose(environment, place, manifest)}, found.summary)


def _as_result(state: in_place.State) -> Result:
    of = f", backup {state.backup}" if state.backup else ""
    named = f". Not restored: {'; '.join(state.left_out)}" if state.left_out else ""
    if state.late_backup:
        named += f". What was written after the safety backup is in backup {state.late_backup}: {'; '.join(state.late)}"
    return Result(state.to_json(), f"{state.live}: {state.phase}{of}; {in_place.NEXT[state.phase]}{named}")


def _jobs(arguments: argparse.Namespace, environment: Environment) -> int:
    if arguments.jobs is not None and arguments.jobs < 1:
        raise Refused("environment_invalid", f"--jobs {arguments.jobs}: it has to be 1 or more")
    return arguments.jobs or environment.integer("BACKUP_JOBS", least=1) or 1
