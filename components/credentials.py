"""Secrets of the application: generated ones, those from the stack's encrypted configuration, and how pods get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import Secret
from pulumi_random import RandomPassword

from components.names import content_hash, labels, metadata
from settings import Generated
from settings.secret import Secret as SecretValue

DATABASE_SECRET = "database"  # noqa: S105 (a name)


@dataclass(frozen=True, kw_only=True)
class CredentialsArgs:
    """What the services get as secret variables."""

    namespace: Input[str]
    """Where the Secrets go."""
    generated: Mapping[str, Generated]
    """Secrets to generate, by variable."""
    given: Mapping[str, SecretValue]
    """Secrets that come from elsewhere, by variable; `DATABASE_URL` is one of them."""


class Credentials(pulumi.ComponentResource):
    """One immutable Secret for the services, named by its content, and one for the Jobs that need the database.

    When a secret changes, another Secret comes to be and the pods that name it are rolled; the old one is
    deleted only after that, so that pods of the release before can restart at any time.
    """

    secret_name: str
    """Secret with every variable of the services."""
    database_secret_name: str
    """Secret with `DATABASE_URL` alone. Its name stays: a Job that ran once must not run again because a
    password was rotated."""

    def __init__(self, name: str, args: CredentialsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:secrets:Credentials", name, None, opts)
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        values = {**args.given, **{key: self._generate(key, how) for key, how in args.generated.items()}}
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
        Secret(
            "database-secret",
            metadata=metadata(self.database_secret_name, args.namespace, labels("database", "credentials")),
            string_data={"DATABASE_URL": args.given["DATABASE_URL"].value},
            opts=inside,
        )
        self.register_outputs({})

    def _generate(self, variable: str, how: Generated) -> SecretValue:
        made = RandomPassword(
            variable.lower().replace("_", "-"), length=how.length, special=False, opts=ResourceOptions(parent=self)
        )
        return SecretValue(pulumi.Output.secret(made.result), content_hash(variable, how.to_config()))
