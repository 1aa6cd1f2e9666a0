"""What the application runs on: data services, credentials, network, ingress and the namespace's limits."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from settings.base import (
    Bytes,
    Cidr,
    Cpu,
    DnsLabel,
    EnvName,
    Finding,
    HostName,
    ImageRef,
    PortNumber,
    Seconds,
    Settings,
    as_text,
    quantity,
    refuse,
)
from settings.containers import Resources, resources
from settings.peers import NetworkPeer
from settings.pods import DataVolume, ObjectName
from settings.sqlite import Sqlite


class Egress(Settings):
    """One opening of the network policies to the world outside the cluster."""

    cidr: Cidr
    """Addresses that may be reached."""
    except_: Annotated[tuple[Cidr, ...], Field(alias="except")] = ()
    """Addresses within `cidr` that may not."""
    ports: Annotated[tuple[PortNumber, ...], Field(min_length=1, examples=[[443]])]
    """TCP ports that may be reached."""


class External(Settings):
    """An external data service, reached by a secret DSN."""

    mode: Literal["external"]
    """`external`: the DSN is the secret `secrets:DATABASE_URL` or `secrets:REDIS_URL`."""
    egress: Annotated[tuple[Egress, ...], Field(min_length=1)]
    """Where it is, for the network policies (the DSN is secret)."""


class ExternalPostgres(External):
    """An external database."""

    admin: bool = False
    """`secrets:DATABASE_ADMIN_URL` is a DSN whose role may make others: passwords then rotate by themselves, and a
    restore in place ends the sessions of all these roles. Its own password is left alone. Without it, `runbook rotate`
    asks for a whole new DSN."""
    direct_url: EnvName | None = None
    """Secret among `runbook:application.secrets` with the database's URL past a pooler such as PgBouncer, for
    migrations, backups, restores and rotations. Without it, `DIRECT_URL` where that is among them."""
    ca: Annotated[
        str | None,
        Field(pattern=r"^\s*-----BEGIN CERTIFICATE-----", examples=["-----BEGIN CERTIFICATE-----\n…"]),
    ] = None
    """Certificates (PEM) of the authority that signed the server's, in place of the file that the URL's
    `sslrootcert` names in the application's image."""


_OWN_PARAMETERS = {"config_file", "data_directory", "hba_file", "listen_addresses", "port", "unix_socket_directories"}


def _switch(value: object) -> object:
    """YAML reads `on` and `off` as a truth value."""
    return ("on" if value else "off") if isinstance(value, bool) else as_text(value)


ParameterValue = Annotated[str, BeforeValidator(_switch)]


class BundledPostgres(Settings):
    """PostgreSQL as a StatefulSet of this program: one replica, which is away while its node is drained."""

    mode: Literal["bundled"]
    """`bundled`: a StatefulSet of this program."""
    image: ImageRef
    """PostgreSQL image, by digest: the official one, or one that takes the same variables."""
    storage: Bytes
    """Size of the volume. Raised later, the volume grows if its storage class expands volumes; a smaller size is
    refused."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    database: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "shop"
    """Database the application uses."""
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "shop"
    """Role the application uses."""
    uid: Annotated[int, Field(ge=1)] = 999
    """Numeric user and group the image runs as: 999 in the official image, 70 in its Alpine variant."""
    resources: Resources = resources("100m", "256Mi", "64Mi", limits=("1", "512Mi", "512Mi"))
    """CPU, memory and scratch disk. Of the memory limit, a quarter is `shared_buffers`, and a quarter at most is
    `/dev/shm`."""
    parameters: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_.]*$")], ParameterValue],
        Field(examples=[{"max_connections": "200"}]),
    ] = {}
    """Server parameters, in place of the defaults and of those that follow from the memory limit."""
    start_seconds: Seconds = 3600
    """Seconds that a start may take, the recovery after a crash included; then the container is started again."""

    @property
    def server_arguments(self) -> tuple[str, ...]:
        """Arguments of the server."""
        megabytes = int(quantity(self.resources.limits.memory)) // 2**20
        sizes = {
            "shared_buffers": megabytes // 4,
            "effective_cache_size": megabytes // 2,
            "maintenance_work_mem": megabytes // 16,
        }
        computed = {name: f"{max(size, 16)}MB" for name, size in sizes.items()}
        return tuple(
            word for name, value in {**computed, **self.parameters}.items() for word in ("-c", f"{name}={value}")
        )

    @property
    def shared_memory_bytes(self) -> int:
        """Size of /dev/shm: parallel queries and index builds exchange their rows there."""
        return int(quantity(self.resources.limits.memory)) // 4

    def _findings(self) -> list[Finding]:
        return [
            Finding(("parameters", name), "the program sets this parameter: remove it")
            for name in self.parameters
            if name in _OWN_PARAMETERS
        ]


class BundledRedis(Settings):
    """Redis as a StatefulSet of this program: one replica, which is away while its node is drained."""

    mode: Literal["bundled"]
    """`bundled`: a StatefulSet of this program."""
    image: ImageRef
    """Redis image, by digest: the official one, or another one with `redis-server`, `redis-cli` and a shell."""
    storage: Bytes
    """Size of the volume. Raised later, the volume grows if its storage class expands volumes; a smaller size is
    refused."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    uid: Annotated[int, Field(ge=1)] = 999
    """Numeric user and group the image runs as."""
    resources: Resources = resources("50m", "64Mi", "64Mi", limits=("500m", "256Mi", "256Mi"))
    """CPU, memory and scratch disk."""
    start_seconds: Seconds = 3600
    """Seconds in which the server has read its data; then the container is started again."""

    @property
    def server_arguments(self) -> tuple[str, ...]:
        """Arguments of the server. It counts only its data: the rest of the limit is for buffers and the fork that
        saves."""
        most = int(quantity(self.resources.limits.memory) * 6 / 10)
        return ("--maxmemory", str(most), "--maxmemory-policy", "volatile-lru")


class Data(Settings):
    """The data services, bundled or external."""

    postgres: Annotated[BundledPostgres | ExternalPostgres, Field(discriminator="mode")] | None = None
    """The database, unless it is SQLite."""
    sqlite: Sqlite | None = None
    """The database as a file of the main service, in place of `postgres`."""
    redis: Annotated[BundledRedis | External, Field(discriminator="mode")] | None = None
    """Cache and sessions. Without it there is no Redis: no `REDIS_URL`, no exporter, no alerts on it."""
    volumes: Annotated[dict[DnsLabel, DataVolume], Field(examples=[{"uploads": {"size": "20Gi"}}])] = {}
    """Volumes for files of the services, by name; `pod.volumes` of a service mounts them. A rollback leaves them alone.
    """

    @property
    def has_database(self) -> bool:
        return bool(self.postgres or self.sqlite)

    @property
    def is_empty(self) -> bool:
        """Whether the stack has neither a server nor a volume."""
        return not (self.has_database or self.redis or self.volumes)

    def _findings(self) -> list[Finding]:
        if self.postgres and self.sqlite:
            return [Finding(("sqlite",), "an application has one database: remove sqlite or postgres")]
        return []


class Registry(Settings):
    """A private registry."""

    pull_secrets: Annotated[tuple[ObjectName, ...], Field(examples=[["registry-login"]])] = ()
    """Secrets of the namespace with the login of the registry, for every pod of the stack. They exist already: `kubectl
    create secret docker-registry`. Nodes that log in by themselves (ECR, Artifact Registry) need none."""


Rotate = Literal["by-schedule", "never"]


class Generated(Settings):
    """A secret that the program generates and keeps in its encrypted state."""

    length: Annotated[int, Field(ge=32, le=256)] = 64
    """Characters (letters and digits)."""
    rotate: Rotate | None = None
    """`never` for a key that encrypts data: no schedule, command or emergency replaces it. Without it, a name that
    looks like such a key (ENCRYPTION_KEY, FERNET_KEY, …) is not rotated, any other by its schedule."""


class Credentials(Settings):
    """Secrets that the program generates."""

    generated: dict[EnvName, Generated] = {"JWT_SECRET": Generated(), "SESSION_SECRET": Generated()}
    """Generated secrets, by the variable every service gets them as."""


class Network(Settings):
    """Openings of the network policies: everything that is not written here is closed."""

    dns: NetworkPeer = NetworkPeer(namespace="kube-system", pod_labels={"k8s-app": "kube-dns"}, ports=(53,))
    """The cluster's DNS. With NodeLocal DNSCache: also `cidrs: [169.254.20.10/32]`."""
    ingress_controller: NetworkPeer | None = None
    """The ingress controller, required with `runbook:ingress`: the only client from outside the namespace that may call
    the services. For a load balancer that sends requests to pods by address (ALB with IP targets): `cidrs` of its
    subnets."""
    egress: tuple[Egress, ...] = ()
    """What the services may call outside the cluster (payments, mail, error reports)."""


class Tls(Settings):
    """How the ingress gets its certificate."""

    secret_name: DnsLabel | None = None
    """Secret with the certificate; without it, the ingress controller's default certificate."""


_NGINX, _TRAEFIK = re.compile(r"^nginx(-|$)"), re.compile(r"^traefik(-|$)")
_TRAEFIK_LIMITS = (
    "Traefik takes no annotation for it: remove it. Its body limit is a Middleware (buffering.maxRequestBodyBytes), "
    "named under annotations by traefik.ingress.kubernetes.io/router.middlewares; its time-outs are those of the entry "
    "point (respondingTimeouts)"
)
_UNKNOWN_LIMITS = (
    "the annotations of ingress class {name} are not known here: remove it, and write those of its controller under "
    "annotations"
)


class Ingress(Settings):
    """The ingress."""

    host: HostName
    """Host name the ingress answers to."""
    class_name: Annotated[DnsLabel, Field(examples=["traefik"])]
    """Ingress class."""
    tls: Tls = Tls()
    """Certificate. There is no ingress without TLS."""
    annotations: dict[str, str] = {}
    """For the ingress controller and the issuer of certificates."""
    max_body: Annotated[Bytes | None, Field(examples=["20Mi"])] = None
    """Largest body of a request, for uploads; ingress-nginx refuses more than 1 MiB by default. Written as annotations
    for the class `nginx`; Traefik has no limit by default, other controllers have annotations of their own."""
    timeout_seconds: Annotated[Seconds | None, Field(examples=[120])] = None
    """Seconds that the ingress, and the gate of a lockdown, wait for an answer of a service. Written as annotations for
    the class `nginx`."""
    public_url: Annotated[str | None, Field(pattern=r"^https?://[^/]+$", examples=["https://shop.example.com"])] = None
    """URL customers use, when it is not https://<host>."""

    def _findings(self) -> list[Finding]:
        wanted = [("maxBody", self.max_body), ("timeoutSeconds", self.timeout_seconds)]
        if _NGINX.match(self.class_name):
            taken = sorted(self.limits.keys() & self.annotations.keys())
            return [Finding(("annotations", key), "follows from maxBody or timeoutSeconds: remove it") for key in taken]
        why = _TRAEFIK_LIMITS if _TRAEFIK.match(self.class_name) else _UNKNOWN_LIMITS.format(name=self.class_name)
        return [Finding((key,), why) for key, value in wanted if value is not None]

    @property
    def limits(self) -> dict[str, str]:
        """Annotations of ingress-nginx, and of the other controller that is named so (F5 NGINX); each ignores those of
        the other."""
        found: dict[str, str] = {}
        if self.max_body is not None:
            size = str(int(quantity(self.max_body)))
            found |= {"nginx.ingress.kubernetes.io/proxy-body-size": size, "nginx.org/client-max-body-size": size}
        if (seconds := self.timeout_seconds) is not None:
            for kind in ("read", "send"):
                found[f"nginx.ingress.kubernetes.io/proxy-{kind}-timeout"] = str(seconds)
                found[f"nginx.org/proxy-{kind}-timeout"] = f"{seconds}s"
        return found

    @property
    def url(self) -> str:
        """The URL customers use."""
        return self.public_url or f"https://{self.host}"


class Quota(Settings):
    """The most the whole namespace may ask for: a mistake here cannot starve the cluster."""

    cpu: Cpu = "8"
    """Sum of all CPU requests."""
    memory: Bytes = "16Gi"
    """Sum of all memory requests."""
    limits_cpu: Cpu = "32"
    """Sum of all CPU limits."""
    limits_memory: Bytes = "32Gi"
    """Sum of all memory limits."""
    pods: Annotated[int, Field(ge=1)] = 100
    """Number of pods, including the surge of a rollout."""
    storage: Bytes = "200Gi"
    """Sum of all volumes."""


class Guards(Settings):
    """Limits of the namespace. Pod Security `restricted` and default-deny networking are always on."""

    quota: Quota = Quota()
    """The most the namespace may ask for."""
    pod_security_version: Annotated[str, Field(pattern=r"^(latest|v1\.[0-9]+)$", examples=["v1.34"])] = "v1.34"
    """Kubernetes version whose Pod Security `restricted` the namespace enforces, so that an upgrade of the cluster
    refuses no pod of a running stack. What the cluster's own version would refuse is a warning meanwhile."""
    protect_data: bool = True
    """Refuse to delete the namespace and the data services until this is false and `pulumi up` has run. The preview of
    `pulumi destroy` is refused as a whole; with `--skip-preview` the engine deletes everything else before it is."""
    adopt_namespace: bool = False
    """Use a namespace that exists already (with a pull secret in it, for instance), and leave it when the stack is
    destroyed. Without it, the first update is refused if the namespace exists."""
    admission: Literal["off", "warn", "deny"] = "off"
    """Pods of the namespace with an image without digest, that may run as root or that show a secret in a variable:
    `deny` refuses them, `warn` warns the client that creates them. Needs the right to make ValidatingAdmissionPolicies,
    which belong to the cluster."""
    promote_after_minutes: Annotated[int, Field(ge=0, le=10_080)] = 30
    """Minutes that another stack has to have served a release before `runbook promote` takes it to this one."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        pairs = (
            ("limitsCpu", self.quota.limits_cpu, self.quota.cpu),
            ("limitsMemory", self.quota.limits_memory, self.quota.memory),
        )
        refuse(
            Finding(("quota", key), f"the limit is below the request {asked}", asked)
            for key, limit, asked in pairs
            if quantity(limit) < quantity(asked)
        )
        return self
