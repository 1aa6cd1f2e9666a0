"""`python -m tasks backup …`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tasks.backup.cleanup import cleanup
from tasks.backup.create import await_idle, create, skip_reason
from tasks.backup.gate import gate
from tasks.backup.listing import listing, table
from tasks.backup.manifest import KINDS
from tasks.backup.migration_guard import guard_migration
from tasks.environment import Environment
from tasks.progress import say, size
from tasks.result import Result


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="verb", required=True)

    verb = verbs.add_parser("create", help="back up DATABASE_URL into BACKUP_STORE")
    verb.add_argument("--kind", required=True, choices=KINDS)
    verb.add_argument(
        "--if-behind", type=int, metavar="LEVEL", help="only if the database's schema level is below LEVEL"
    )
    verb.set_defaults(run=_create)

    verb = verbs.add_parser("list", help="backups, newest first, and what proves them")
    verb.set_defaults(run=_list)

    verb = verbs.add_parser("cleanup", help="delete what retention does not keep")
    verb.add_argument("--dry-run", action="store_true", help="only list them")
    verb.set_defaults(run=_cleanup)

    verb = verbs.add_parser("gate", help="fail unless a restore test passed lately")
    _add_gate(verb)
    what = "also wait until no other backup runs (BACKUP_WAIT_SECONDS)"
    verb.add_argument("--when-idle", action="store_true", help=what)
    verb.set_defaults(run=_gate)

    verb = verbs.add_parser("pre-release", help="the gate, and then a backup; nothing if there is nothing to migrate")
    _add_gate(verb)
    verb.set_defaults(run=_pre_release, when_idle=False)

    verb = verbs.add_parser("guard-migration", help="until SIGTERM: no backup, and no long wait for a lock")
    verb.add_argument("--level", type=int, required=True, metavar="LEVEL", help="the level that the migration leads to")
    what = "cancel a migration that waits so long for a lock; 0: never"
    verb.add_argument("--lock-seconds", type=int, required=True, metavar="N", help=what)
    verb.add_argument("--ready", type=Path, required=True, metavar="FILE", help="made when the migration may begin")
    verb.set_defaults(run=_guard)


def _add_gate(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--within-hours", type=_hours, required=True, metavar="N")
    verb.add_argument("--without-proof", metavar="REASON", help="let pass, and record why")
    verb.add_argument("--if-behind", type=int, metavar="LEVEL", help="pass if there is nothing to migrate up to LEVEL")


def _create(arguments: argparse.Namespace, environment: Environment) -> Result:
    if arguments.if_behind is not None:
        reason = skip_reason(environment, arguments.if_behind)
        if reason:
            return Result({"skipped": reason}, f"no backup: {reason}")
    manifest = create(environment, arguments.kind)
    rows = sum(manifest.tables.values())
    summary = f"{manifest.id}: {len(manifest.tables)} tables, {rows} rows, {size(manifest.size_bytes)}"
    return Result(manifest.to_json(), summary)


def _list(_: argparse.Namespace, environment: Environment) -> Result:
    rows = listing(environment)
    return Result(rows, table(rows))


def _cleanup(arguments: argparse.Namespace, environment: Environment) -> Result:
    done = cleanup(environment, dry_run=arguments.dry_run)
    verb = "would be deleted" if arguments.dry_run else "deleted"
    return Result(done, f"{len(done['deleted'])} {verb}, {len(done['kept'])} kept")


def _gate(arguments: argparse.Namespace, environment: Environment) -> Result:
    if arguments.if_behind is not None:
        reason = skip_reason(environment, arguments.if_behind)
        if reason:
            return Result({"allowed_by": "nothing to migrate", "reason": reason}, f"allowed: {reason}")
    passed = gate(environment, within_hours=arguments.within_hours, without_proof=arguments.without_proof)
    if arguments.when_idle:
        await_idle(environment)
    return Result(passed, f"allowed by {passed['allowed_by']}")


def _pre_release(arguments: argparse.Namespace, environment: Environment) -> Result:
    passed = _gate(arguments, environment)
    say(passed.summary)
    arguments.kind = "pre-release"
    made = _create(arguments, environment)
    return Result({"gate": passed.data, "backup": made.data}, made.summary)


def _guard(arguments: argparse.Namespace, environment: Environment) -> Result:
    guard_migration(environment, level=arguments.level, lock_seconds=arguments.lock_seconds, ready=arguments.ready)
    return Result({"cancelled": False}, "the migration waited for no lock")


def _hours(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} has to be a whole number from 1 on")
    return int(text)
