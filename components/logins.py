"""Logins of the data services: roles and passwords of each period, and the environment of the rotation tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_random import RandomPassword

from components.base.names import content_hash
from components.secret_slots import generate_password, register_external_secret
from settings import SecretRotation
from settings.connection_url import parse_postgres, with_login
from settings.rotation import DATABASE_ADMIN_URL, DATABASE_URL, slot
from settings.secret import Secret

_MONITOR, _MONITOR_URL = "_monitor", "MONITOR_URL"
_LONGEST_ROLE = 63


@dataclass(frozen=True, kw_only=True)
class MonitorLogin:
    """The exporter's own, which may read statistics. A task makes it; its password changes when the server's does."""

    role: Output[str]
    password: Output[str]
    identity: str

    def put_into(self, dsn: Secret) -> Secret:
        """The same server's URL with this login."""
        made = Output.all(dsn.value, self.role, self.password).apply(lambda parts: with_login(*parts))
        return Secret(Output.secret(made), content_hash(dsn.identity, self.identity))


@dataclass(frozen=True, kw_only=True)
class Logins:
    """Of one data service."""

    dsn: Secret
    """What services and tasks use."""
    environment: Mapping[str, Output[str]] = field(default_factory=dict)
    """Environment of the rotation tasks."""
    role: tuple[str, Output[str]] | None = None
    """Slot and password of the role that is used now, where it is one of two that an administrator made."""
    monitor: MonitorLogin | None = None
    """Where the server is monitored, and an administrator makes its roles."""


@dataclass(frozen=True, kw_only=True)
class BundledLogins(Logins):
    """Logins of a bundled server, which receives the same values at its start."""

    administrator: Output[str]
    """The administrator's password."""
    roles: Mapping[str, Output[str]]
    """The roles that live beside it, and their passwords."""


def register_bundled_logins(
    parent: pulumi.Resource,
    server: str,
    rotating: SecretRotation,
    *,
    administrator: str,
    role: str,
    scheme: str,
    at: str,
    monitor: str | None,
) -> BundledLogins:
    """The first login is the administrator's own; then two roles take turns, and only tasks are administrator.

    `monitor` is the exporter's role, if there is an exporter.
    """
    periods = {*rotating.known, *({0} & set(rotating.administrators))}
    passwords = {period: generate_password(parent, f"{server}-password", period) for period in sorted(periods)}

    def url(user: str, secret: Output[str]) -> Output[str]:
        return Output.concat(scheme, "://", user, ":", secret, "@", at)

    def login(period: int) -> Output[str]:
        return url(f"{role}{slot(period)}" if period else administrator, passwords[period])

    admins = [_administrator(parent, server, period) if period else passwords[0] for period in rotating.administrators]
    names = ("ADMIN_URL", "ADMIN_URL_PREVIOUS")
    values = {name: url(administrator, secret) for name, secret in zip(names, admins, strict=False)}
    if rotating.kind == "database":
        values["OWNER"] = Output.from_input(administrator)
    dsn = Secret(login(rotating.in_use), content_hash(server, administrator, at, rotating.in_use))
    exporter = _register_monitor_login(parent, server, rotating, Output.from_input(monitor)) if monitor else None
    if exporter:
        values[_MONITOR_URL] = exporter.put_into(dsn).value
    return BundledLogins(
        dsn=dsn,
        monitor=exporter,
        environment=_environment(rotating, values | _alternate(rotating, login)),
        administrator=admins[0],
        roles={f"{role}{slot(period)}": passwords[period] for period in sorted(rotating.periods) if period},
    )


def register_external_logins(
    parent: pulumi.Resource,
    rotating: SecretRotation,
    secrets: Mapping[str, Secret],
    direct: SecretRotation | None = None,
    *,
    monitored: bool = False,
) -> Logins:
    """Logins of an external server: whole DSNs from outside, or roles that an administrator makes after the first.

    `direct` is the secret with the URL past a pooler, which tasks use.
    """
    if rotating.kind == "database":
        return _register_roles_of_administrator(parent, rotating, secrets, direct, monitored=monitored)
    dsns = {period: values[0] for period, values in register_external_secret(parent, rotating, secrets).items()}
    dsn = dsns[rotating.in_use]
    if rotating.name == DATABASE_URL:
        return Logins(dsn=dsn)
    # Tasks do not rotate it, but end all sessions and check that revoked values are refused.
    values = {"ADMIN_URL": dsn.value, "ADMIN_FIXED": Output.from_input("true")}
    if rotating.other is not None:
        values["OLD_URL"] = dsns[rotating.other].value
    return Logins(dsn=dsn, environment=_environment(rotating, values))


def _register_roles_of_administrator(
    parent: pulumi.Resource,
    rotating: SecretRotation,
    secrets: Mapping[str, Secret],
    direct: SecretRotation | None,
    *,
    monitored: bool,
) -> Logins:
    first = secrets[DATABASE_URL]
    # Where a command issues the URL past the pooler, its value is known only to the pods that get it.
    given = direct.given_by(direct.in_use) if direct else ()
    of_tasks = secrets[given[0]] if given else first

    def login(period: int, of: Secret = first) -> Output[str]:
        if period == 0:
            return of.value
        return Output.all(of.value, passwords[period]).apply(lambda both: as_role(both[0], slot(period), both[1]))

    passwords = {period: generate_password(parent, "postgres-password", period) for period in rotating.known if period}
    values = {
        "ADMIN_URL": secrets[DATABASE_ADMIN_URL].value,
        "ADMIN_FIXED": Output.from_input("true"),
        "OWNER": first.value.apply(owner),
    }
    exporter = None
    if monitored:
        role = first.value.apply(lambda dsn: monitor_role(owner(dsn)))
        exporter = _register_monitor_login(parent, "postgres", rotating, role)
        values[_MONITOR_URL] = exporter.put_into(of_tasks).value
    return Logins(
        dsn=Secret(login(rotating.in_use), content_hash(first.identity, rotating.in_use)),
        monitor=exporter,
        environment=_environment(rotating, values | _alternate(rotating, lambda period: login(period, of_tasks))),
        role=(slot(rotating.in_use), passwords[rotating.in_use]) if rotating.in_use else None,
    )


def _register_monitor_login(
    parent: pulumi.Resource, server: str, rotating: SecretRotation, role: Output[str]
) -> MonitorLogin:
    period = rotating.in_use
    password = generate_password(parent, f"{server}-monitor-password", period)
    identity = content_hash(server, "monitor", period, rotating.state.generation)
    return MonitorLogin(role=role, password=password, identity=identity)


def monitor_role(owner: str) -> str:
    """The exporter's role, by the application's. The server cuts longer names."""
    return f"{owner.encode()[: _LONGEST_ROLE - len(_MONITOR)].decode(errors='ignore')}{_MONITOR}"


def _administrator(parent: pulumi.Resource, server: str, period: int) -> Output[str]:
    """Named by its period, and not by its slot: in an emergency two that would share one are needed."""
    made = RandomPassword(
        f"{server}-administrator-{period}",
        length=40,
        special=False,
        opts=ResourceOptions(parent=parent),
    )
    return Output.secret(made.result)


def _alternate(rotating: SecretRotation, login: Callable[[int], Output[str]]) -> dict[str, Output[str]]:
    if rotating.state.previous is None:
        return {}
    return {"NEW_URL": login(rotating.state.period), "OLD_URL": login(rotating.state.previous)}


def _environment(rotating: SecretRotation, values: Mapping[str, Output[str]]) -> Mapping[str, Output[str]]:
    return {
        f"ROTATE_{rotating.name.removesuffix('_URL')}_{name}": Output.secret(value) for name, value in values.items()
    }


def owner(dsn: str) -> str:
    """The role of a DSN."""
    try:
        if user := urlsplit(parse_postgres(dsn).url).username:
            return unquote(user)
    except ValueError:
        pass  # whose message may show the DSN
    raise ValueError(f"secrets:{DATABASE_URL} names no role: write postgresql://role:password@host:5432/database")


def as_role(dsn: str, end: str, secret: str) -> str:
    """The DSN for one of the two roles that take turns for its own."""
    return with_login(dsn, f"{owner(dsn)}_{end}", secret)
