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


@dataclass(frozen=True, kw_only=True)
class Logins:
    """Of one data service."""

    dsn: Secret
    """What services and tasks use."""
    environment: Mapping[str, Output[str]] = field(default_factory=dict)
    """Environment of the rotation tasks."""
    role: tuple[str, Output[str]] | None = None
    """Slot and password of the role that is used now, where it is one of two that an administrator made."""


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
) -> BundledLogins:
    """The first login is the administrator's own; then two roles take turns, and only tasks are administrator."""
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
    return BundledLogins(
        dsn=Secret(login(rotating.in_use), content_hash(server, administrator, at, rotating.in_use)),
        environment=_environment(rotating, values | _alternate(rotating, login)),
        administrator=admins[0],
        roles={f"{role}{slot(period)}": passwords[period] for period in sorted(rotating.periods) if period},
    )


def register_external_logins(
    parent: pulumi.Resource,
    rotating: SecretRotation,
    secrets: Mapping[str, Secret],
    direct: SecretRotation | None = None,
) -> Logins:
    """Logins of an external server: whole DSNs from outside, or roles that an administrator makes after the first.

    `direct` is the secret with the URL past a pooler, which tasks use.
    """
    if rotating.kind == "database":
        return _register_roles_of_administrator(parent, rotating, secrets, direct)
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
    return Logins(
        dsn=Secret(login(rotating.in_use), content_hash(first.identity, rotating.in_use)),
        environment=_environment(rotating, values | _alternate(rotating, lambda period: login(period, of_tasks))),
        role=(slot(rotating.in_use), passwords[rotating.in_use]) if rotating.in_use else None,
    )


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
