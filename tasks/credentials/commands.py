"""`python -m tasks credentials …`.

Environment, of each kind that rotates: ROTATE_DATABASE_ADMIN_URL, with the password to set, and
…_ADMIN_URL_PREVIOUS, with the one that may still; …_ADMIN_FIXED=true if rotation must not change it; …_NEW_URL and
…_OLD_URL, the roles that take turns; …_OWNER, which owns all objects; …_MONITOR_URL, the exporter's login.
ROTATE_REDIS_… the same, without an owner.
SESSION_KEYS for log-out.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tasks.credentials import postgres, redis
from tasks.credentials.rotation import Rotation, try_login
from tasks.credentials.server import Account, Server
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.progress import step
from tasks.result import Result

KINDS = ("database", "redis")
_ACCOUNTS = {"database": postgres.account, "redis": redis.account}
_EXAMPLES = {"database": "postgresql://user:password@host:5432/database", "redis": "redis://user:password@host:6379/0"}


@dataclass(frozen=True)
class Variables:
    """The environment of one kind."""

    environment: Environment
    kind: str

    def name(self, which: str) -> str:
        return f"ROTATE_{self.kind.upper()}_{which}"

    def account(self, which: str) -> Account | None:
        name = self.name(which)
        url = self.environment.text(name)
        return _ACCOUNTS[self.kind](url, name) if url else None

    def required(self, which: str) -> Account:
        name = self.name(which)
        return _ACCOUNTS[self.kind](self.environment.required(name, _EXAMPLES[self.kind]), name)

    @property
    def admins(self) -> tuple[Account, ...]:
        """In the order in which to try them."""
        first, second = self.required("ADMIN_URL"), self.account("ADMIN_URL_PREVIOUS")
        return (first, second) if second else (first,)

    def admit_monitor(self, server: Server) -> str | None:
        """Make the exporter's login if it has one of its own, and try it; its role."""
        account = self.account("MONITOR_URL")
        if account is None:
            return None
        with step(f"{self.kind}: admit {account.role}"):
            server.admit_monitor(account)
            if not server.accepts(account):
                why = f"the server refuses {account.role} of {account.variable}; its rules of access have to admit it"
                raise TaskError("new_refused", why)
        return account.role

    def server(self) -> closing[Server]:
        if self.kind == "redis":
            return closing(redis.RedisServer(self.admins))
        owner = self.environment.required(self.name("OWNER"), "shop")
        return closing(postgres.PostgresServer(self.admins, owner))

    def rotation(self, server: Server) -> Rotation:
        return Rotation(
            kind=self.kind,
            server=server,
            admin=self.admins[0],
            admin_fixed=self.environment.flag(self.name("ADMIN_FIXED")),
            new=self.required("NEW_URL"),
            old=self.account("OLD_URL"),
        )


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="verb", required=True)

    verb = verbs.add_parser("prepare", help="make and test the role of NEW_URL")
    verb.add_argument("kind", choices=KINDS)
    verb.set_defaults(run=_prepare)

    verb = verbs.add_parser("retire", help="end the role of OLD_URL, and prove that it is refused")
    verb.add_argument("kind", choices=KINDS)
    verb.add_argument("--force", action="store_true", help="also while it is used; ends its sessions and the admin's")
    verb.set_defaults(run=_retire)

    verb = verbs.add_parser("repair", help="make the server's logins those of NEW_URL and OLD_URL again")
    verb.add_argument("kind", choices=KINDS)
    verb.add_argument("--retired", action="store_true", help="the role of OLD_URL is refused")
    verb.set_defaults(run=_repair)

    verb = verbs.add_parser("monitor", help="make and test the exporters' logins of MONITOR_URL")
    verb.set_defaults(run=_monitor)

    verb = verbs.add_parser("sessions", help="list sessions")
    verb.set_defaults(run=_sessions)

    verb = verbs.add_parser("log-out", help="remove the application's sessions (SESSION_KEYS) from Redis")
    verb.set_defaults(run=_log_out)

    verb = verbs.add_parser("try", help="check that OLD_URL and ADMIN_URL_PREVIOUS are refused")
    verb.set_defaults(run=_try)


def _prepare(arguments: argparse.Namespace, environment: Environment) -> Result:
    variables = Variables(environment, arguments.kind)
    with variables.server() as server:
        done = variables.rotation(server).prepare()
    return Result(done, f"{done['role']}: {'let in' if done['created'] else 'was there'}, tested")


def _retire(arguments: argparse.Namespace, environment: Environment) -> Result:
    variables = Variables(environment, arguments.kind)
    with variables.server() as server:
        done = variables.rotation(server).retire(force=arguments.force)
    return Result(done, f"{done['role']}: refused, {done['ended_sessions']} sessions ended")


def _repair(arguments: argparse.Namespace, environment: Environment) -> Result:
    variables = Variables(environment, arguments.kind)
    with variables.server() as server:
        done = variables.rotation(server).repair(retired=arguments.retired)
        variables.admit_monitor(server)
    words = [*(f"{role}: let in" for role in done["admitted"]), *(["the previous login: refused"] * done["refused"])]
    return Result(done, "; ".join(words) or "nothing to repair")


def _rotating(environment: Environment) -> list[Variables]:
    kinds = [Variables(environment, kind) for kind in KINDS]
    return [kind for kind in kinds if environment.text(kind.name("ADMIN_URL"))]


def _monitor(_: argparse.Namespace, environment: Environment) -> Result:
    made: dict[str, str] = {}
    for one in _rotating(environment):
        with one.server() as server:
            if role := one.admit_monitor(server):
                made[one.kind] = role
    return Result({"roles": made}, "\n".join(f"{kind}: {role}: let in, tested" for kind, role in made.items()))


def _sessions(_: argparse.Namespace, environment: Environment) -> Result:
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    unknown: dict[str, str] = {}
    for one in _rotating(environment):
        old = one.account("OLD_URL")
        try:
            with one.server() as server:
                rows = server.sessions()
        except Refused:
            raise
        except TaskError as error:  # a managed Redis shows no client to others; the database's are known all the same
            unknown[one.kind] = str(error)
            continue
        found[one.kind] = [{**row, "previous": bool(old) and row["role"] == old.role} for row in rows]
    lines = [f"{kind}: {' '.join(map(str, row.values()))}" for kind, rows in found.items() for row in rows]
    lines += [f"{kind}: unknown: {why}" for kind, why in unknown.items()]
    return Result({**found, "unknown": unknown}, "\n".join(lines) or "no sessions")


def _log_out(_: argparse.Namespace, environment: Environment) -> Result:
    variables = Variables(environment, "redis")
    patterns = environment.required("SESSION_KEYS", "'session:*'").split()
    with closing(redis.RedisServer(variables.admins)) as server:
        ended = server.log_out(patterns)
    return Result({"sessions": ended}, f"{ended} sessions ended")


def _try(_: argparse.Namespace, environment: Environment) -> Result:
    answers = {kind: {"old": "none", "admin_previous": "none"} for kind in KINDS}
    for one in _rotating(environment):
        accounts = {"old": one.account("OLD_URL"), "admin_previous": one.account("ADMIN_URL_PREVIOUS")}
        with one.server() as server:
            answers[one.kind] = try_login(server, accounts)
    lines = [f"{kind}, {which}: {said}" for kind, said_of in answers.items() for which, said in said_of.items()]
    return Result(answers, "\n".join(lines))
