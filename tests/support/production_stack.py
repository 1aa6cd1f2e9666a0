"""A stack made of the committed Pulumi.prod.yaml on the sandbox, its data services outside the cluster's stack."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyrage import x25519
from ruamel.yaml import YAML

from sandbox import cluster
from sandbox.cluster import pki
from sandbox.env import BACKEND, STACK_FILE
from sandbox.paths import ROOT
from settings.backup import IDENTITIES, S3_ACCESS_KEY, S3_SECRET_KEY
from settings.rotation import BACKUP_S3, DATABASE_ADMIN_URL, DATABASE_URL, REDIS_URL
from tests.support.cluster_stack import Stack, issue_key_pair, revoke_key_pair
from tests.support.external_servers import ADMIN, OWNER, ExternalServers, run_external_servers

NAME = "production"
GIVEN = {
    "STRIPE_SECRET_KEY": "sk_live_",
    "STRIPE_WEBHOOK_SECRET": "whsec_",
    "STRIPE_IDENTITY_WEBHOOK_SECRET": "whsec_",
    "SUPABASE_SERVICE_ROLE_KEY": "supabase_",
    "SENTRY_DSN": "https://{}@sentry.example.com/1",
}
"""Secrets under `application.secrets` of Pulumi.prod.yaml, and the form of their values. SMTP_URL is the other one."""


@dataclass(frozen=True)
class Production:
    """The stack and its servers, and the key pairs of the store that were given to it."""

    stack: Stack
    servers: ExternalServers
    pairs: list[dict[str, str]]

    def given(self) -> dict[str, str]:
        """A new value of each secret under `application.secrets`."""
        values = {name: invent(name) for name in GIVEN} | {"SMTP_URL": self.servers.smtp_url}
        self.stack.planted.extend(values.values())
        return values

    def rotate_everything(self) -> None:
        """At a terminal, as an operator who has made the new values at their providers."""
        self.stack.secret_values()  # those that are replaced have to stay secret, too
        pair = self.new_pair()
        answers = {
            **self.given(),
            REDIS_URL: self.servers.redis_url(f"shop-{len(self.pairs)}"),
            S3_ACCESS_KEY: pair["accessKeyId"],
            S3_SECRET_KEY: pair["secretAccessKey"],
        }
        self.stack.run_at_terminal("runbook", "rotate", "start", *self.secrets, "--yes", answers=answers).check()

    @property
    def secrets(self) -> list[str]:
        """Every secret of the stack that rotates."""
        config = self.stack.config
        generated, given = config["runbook:credentials"]["generated"], config["runbook:application"]["secrets"]
        return [*generated, *given, DATABASE_URL, REDIS_URL, BACKUP_S3]

    def issue_certificate(self) -> bytes:
        """Put a certificate of the stack's host into the ingress's Secret, as the cert-manager of the committed
        annotation does, and return it (DER). The sandbox's own is of `*.localhost`, which OpenSSL accepts for no host.
        """
        ingress = self.stack.config["runbook:ingress"]
        leaf = pki.Leaf(NAME, ingress["host"], hosts=(ingress["host"],), authority="ingress-ca")
        certificate, key = pki.sign(leaf)
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": ingress["tls"]["secretName"], "namespace": self.stack.namespace},
            "stringData": {"tls.crt": certificate.decode(), "tls.key": key.decode()},
        }
        self.stack.run("kubectl", "create", "--filename=-", stdin=json.dumps(secret)).check()
        return x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)

    def new_pair(self) -> dict[str, str]:
        self.pairs.append(issue_key_pair())
        return self.pairs[-1]


def invent(name: str) -> str:
    """A new value of a secret that its provider issues."""
    shape, value = GIVEN[name], secrets.token_hex(20)
    return shape.format(value) if "{}" in shape else shape + value


def fit_into_sandbox(
    config: dict[str, Any], images: Mapping[str, str], servers: ExternalServers, recipient: str
) -> None:
    """All that is replaced in Pulumi.prod.yaml, and why. What is not named here is tested as it is committed."""
    sandbox = YAML(typ="safe").load(STACK_FILE)["config"]
    command = ["kubectl", "config", "current-context"]
    context = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    # Addresses: of the cluster, of its ingress and of the servers. Pulumi.prod.yaml has examples of them.
    config["kubernetes:context"] = context
    # Another test previews the committed file meanwhile: to that one, the namespace must be free.
    config["runbook:namespace"] = f"shop-{NAME}"
    public = urlsplit(cluster_url())
    ingress = config["runbook:ingress"]
    ingress["host"] = f"{NAME}.localhost"
    ingress["publicUrl"] = f"https://{NAME}.localhost:{public.port}"  # the loopback port of the sandbox's ingress
    ingress["className"] = sandbox["runbook:ingress"]["className"]
    config["runbook:network"]["ingressController"] = sandbox["runbook:network"]["ingressController"]
    for server in ("postgres", "redis"):
        config["runbook:data"][server]["egress"] = servers.egress(server)
    config["runbook:network"]["egress"] += servers.egress("mail")
    destination = config["runbook:backup"]["destination"]
    for key in ("bucket", "endpoint", "pathStyle", "createBucket", "egress"):
        destination[key] = sandbox["runbook:backup"]["destination"][key]
    destination["prefix"] = (
        f"{NAME}-{secrets.token_hex(4)}"  # the sandbox's bucket is of many stacks and of earlier runs
    )

    # Images: those that the sandbox built.
    config["runbook:image"] = images["tasks"]
    test = config["runbook:backup"]["restoreTest"]
    test["postgresImage"], test["redisImage"] = images["postgres"], images["redis"]

    # The sandbox has no Prisma, whose engines cannot be downloaded: the shop migrates with another tool.
    commands, backup = sandbox["runbook:commands"], sandbox["runbook:backup"]
    config["runbook:commands"]["migrate"]["run"] = commands["migrate"]["run"]
    config["runbook:backup"]["schemaLevelQuery"] = backup["schemaLevelQuery"]

    # The sandbox's only node has two CPUs, which other stacks use too: six pods of 250m would not fit beside them.
    (service,) = config["runbook:application"]["services"]
    service["resources"]["requests"]["cpu"] = "50m"

    # Added, not replaced: encryption is a choice that the committed file leaves to its operators.
    config["runbook:backup"]["encryption"] = {"recipients": [recipient]}


def cluster_url() -> str:
    running = cluster.current()
    assert running is not None
    return running.https


@contextmanager
def production_stack(images: Mapping[str, str], folder: Path) -> Iterator[Production]:
    """Never released. Afterwards neither it nor its servers and keys are left, whatever the tests did."""
    identity = x25519.Identity.generate()
    with run_external_servers(f"{NAME}-data", images) as servers:
        yaml = YAML()
        document = yaml.load(ROOT / "Pulumi.prod.yaml")
        fit_into_sandbox(document["config"], images, servers, str(identity.to_public()))
        document["encryptionsalt"] = yaml.load(STACK_FILE)["encryptionsalt"]
        made = Production(Stack.begin(NAME, folder, document, backend=f"file://{BACKEND}"), servers, [])
        try:
            _set_secrets(made, str(identity))
            yield made
        finally:
            made.stack.forget()
            for pair in made.pairs:
                revoke_key_pair(pair)


def _set_secrets(made: Production, identity: str) -> None:
    pair = made.new_pair()
    values = {
        DATABASE_URL: made.servers.database_url(OWNER),
        DATABASE_ADMIN_URL: made.servers.database_url(ADMIN),
        REDIS_URL: made.servers.redis_url("shop-0"),
        S3_ACCESS_KEY: pair["accessKeyId"],
        S3_SECRET_KEY: pair["secretAccessKey"],
        IDENTITIES: identity,
        **made.given(),
    }
    words = [word for name, value in values.items() for word in ("--secret", f"secrets:{name}={value}")]
    made.stack.run("pulumi", "config", "set-all", "--stack", NAME, *words).check()
