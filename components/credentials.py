"""Secrets of the application: which values are used and which accepted now, and how pods get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.core.v1 import Secret

from components.base.names import content_hash, labels, logical, metadata
from components.data import CA
from components.logins import as_role
from components.secret_slots import generate_password, register_external_secret
from settings import Generated, SecretRotation
from settings.secret import Secret as SecretValue

DATABASE_SECRET = "database"  # noqa: S105 (a name)


@dataclass(frozen=True, kw_only=True)
class CredentialsArgs:
    """What the services get as secret variables."""

    namespace: Input[str]
    """Where the Secrets go."""
    rotations: Mapping[str, SecretRotation]
    """Every secret, and the state of its rotation."""
    generated: Mapping[str, Generated]
    """How to generate the values that the program makes."""
    secrets: Mapping[str, SecretValue]
    """The `secrets:*` of the stack."""
    dsns: Mapping[str, SecretValue]
    """`DATABASE_URL` and `REDIS_URL`, where there is a database or a Redis."""
    direct: str | None = None
    """Secret with the database's URL past a pooler."""
    role: tuple[str, Output[str]] | None = None
    """Slot and password of the role that both URLs of the database log in as, where it is not their own."""
    ca: str | None = None
    """Certificates of the authority that signed the database's."""


class Credentials(pulumi.ComponentResource):
    """One immutable Secret for the services, named by its content, and one for the Jobs that need the database.

    When a secret changes, another Secret comes to be and the pods that name it are rolled; the old one is
    deleted only after that, so that pods of the release before can restart at any time.
    """

    secret_name: str
    """Secret with every variable of the services."""
    database_secret_name: str
    """Secret with `DATABASE_URL` past a pooler, under its own name as well. Its name stays: a Job that ran once must
    not run again because a password was rotated."""
    database: SecretValue | None
    """That URL: what migrations, tasks and exporters connect to. None where there is no database."""
    values: Mapping[str, SecretValue]
    """Every variable of the services that is secret."""

    def __init__(self, name: str, args: CredentialsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:secrets:Credentials", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self._args = args
        values = dict(args.dsns)
        for rotating in args.rotations.values():
            values |= self._variables(rotating)
        self.database = self._past_the_pooler(values)
        self.values = values
        identity = content_hash({key: value.identity for key, value in values.items()})
        self.secret_name = f"app-secrets-{identity}"
        self.database_secret_name = DATABASE_SECRET
        Secret(
            self.secret_name,
            metadata=metadata(self.secret_name, args.namespace, labels("app-secrets", "credentials")),
            immutable=True,
            string_data={key: value.value for key, value in values.items()},
            opts=inside,
        )
        if self.database:
            Secret(
                "database-secret",
                metadata=metadata(self.database_secret_name, args.namespace, labels("database", "credentials")),
                string_data={
                    "DATABASE_URL": self.database.value,
                    **({args.direct: self.database.value} if args.direct else {}),
                    **({CA: args.ca} if args.ca else {}),
                },
                opts=inside,
            )
        self.register_outputs({})

    def _past_the_pooler(self, values: dict[str, SecretValue]) -> SecretValue | None:
        """The URL past the pooler, with the login that the database has now; it replaces the one in `values`."""
        args, dsn = self._args, self._args.dsns.get("DATABASE_URL")
        if args.direct is None or dsn is None:
            return dsn
        if args.role is not None:
            end, password = args.role
            given = values[args.direct]
            both = Output.all(given.value, password)
            values[args.direct] = SecretValue(
                Output.secret(both.apply(lambda both: as_role(both[0], end, both[1]))),
                content_hash(given.identity, dsn.identity),
            )
        return values[args.direct]

    def _variables(self, rotating: SecretRotation) -> Mapping[str, SecretValue]:
        """The value in use and, as `…_PREVIOUS`, the other one that is accepted: before a rollout, the newer."""
        if not rotating.exposes_previous:
            return {}
        args, name = self._args, rotating.name
        if rotating.kind == "key":
            values = {period: self._generate(rotating, period) for period in sorted(rotating.periods)}
        else:
            values = {
                period: value for period, (value,) in register_external_secret(self, rotating, args.secrets).items()
            }
        variables: dict[str, SecretValue] = {}
        for variable, period in ((name, rotating.in_use), (f"{name}_PREVIOUS", rotating.accepted)):
            if period is None:
                continue
            variables[variable] = values[period]
            if rotating.kind == "key":
                key_id = rotating.key_id(period)
                variables[f"{variable}_ID"] = SecretValue(pulumi.Output.secret(key_id), key_id)
        return variables

    def _generate(self, rotating: SecretRotation, period: int) -> SecretValue:
        how = self._args.generated[rotating.name]
        made = generate_password(self, logical(rotating.name), period, how.length)
        return SecretValue(made, content_hash(rotating.name, how.to_config(), period))
