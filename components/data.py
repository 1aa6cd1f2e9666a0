"""Data services: PostgreSQL and Redis, bundled as StatefulSets or external."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import (
    EnvVarArgsDict,
    ProbeArgsDict,
    Secret,
    Service,
    ServiceSpecArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.networking.v1 import NetworkPolicy, NetworkPolicyPortArgsDict

from components import logins
from components.base.claims import DATA, SIZE, claim_spec, register_growth
from components.base.names import POSTGRES, REDIS, SKIP_AWAIT, content_hash, labels, metadata, selector
from components.base.network_policies import register_egress_policy, select_clients
from components.base.pods import IMAGE_OWN_USER, container, memory_volume, register_service_account, template
from components.data_volumes import register_volumes
from components.logins import Logins, MonitorLogin, monitor_role
from components.postgres_server import MOVE_TO_PGDATA, PGDATA, POSTGRES_VOLUME
from components.redis_server import HEALTHY, start_command
from settings import BundledPostgres, BundledRedis, DataVolume, External, ExternalPostgres, Resources, SecretRotation
from settings.rotation import DATABASE_URL, REDIS_URL
from settings.secret import Secret as SecretValue

CA = "DATABASE_CA"
"""Variable with the certificates of the authority that signed the database's, for tasks."""
_READY_PERIOD = 2
"""Seconds between two probes of a server that is not ready."""
_REDIS_VOLUME = "/data"
_SECRETS = "/run/secrets/{name}"
REDIS_RULES = "~* &* +@all -@admin -@dangerous +info"
"""What a Redis user of the application may do; tasks/credentials gives it the same."""
REDIS_MONITOR_RULES = "-@all +info +ping +client|setname +latency|latest +slowlog|len"
"""What the exporter's user may do: read the server's state, no key, no command of another client."""
_REDIS_MONITOR = "monitor"


@dataclass(frozen=True, kw_only=True)
class DataServicesArgs:
    """The settings of the data services."""

    namespace: Input[str]
    """Namespace of the bundled ones."""
    postgres: BundledPostgres | External | None
    """The database, unless it is a file."""
    redis: BundledRedis | External | None
    """Cache and sessions."""
    rotations: Mapping[str, SecretRotation]
    """Which of their passwords are used now, by the variable of the DSN."""
    secrets: Mapping[str, SecretValue]
    """The `secrets:*` of the stack, with the DSNs of the external ones."""
    protect: bool
    """Refuse to delete the bundled ones, and the volumes."""
    volumes: Mapping[str, DataVolume]
    """Volumes for files of the services."""
    file_url: str | None = None
    """URL of a database that is a file; without it and `postgres`, there is no database."""
    direct: str | None = None
    """Secret with the database's URL past a pooler."""
    monitored: bool = False
    """Whether exporters ask the servers: with logins of their own where an administrator makes them."""


@dataclass(frozen=True, kw_only=True)
class _Store:
    """How one bundled data service differs from the other."""

    name: str
    image: str
    port: int
    uid: int
    data_path: str
    storage: str
    storage_class: str | None
    amounts: Resources
    arguments: Sequence[str]
    environment: Mapping[str, str]
    ready: ProbeArgsDict
    start_seconds: int
    command: Sequence[str] | None = None
    """None: the image's own."""
    run_path: str | None = None
    """Folder of its socket, besides /tmp."""
    memory_path: tuple[str, int] | None = None
    """Folder in memory, and the bytes that it may have."""
    prepares: str | None = None
    """Script that runs on the volume before the server."""


class DataServices(pulumi.ComponentResource):
    """The database and the cache, and their DSNs."""

    dsns: Mapping[str, SecretValue]
    """`DATABASE_URL` and `REDIS_URL`, where there is a database or a Redis."""
    rotation_environment: Mapping[str, pulumi.Output[str]]
    """Environment of the rotation tasks."""
    role: tuple[str, pulumi.Output[str]] | None
    """Slot and password of the database's role in use, where it is one of two that take turns on an external server."""

    monitors: Mapping[str, MonitorLogin]
    """Logins of the exporters, by the variable of the DSN."""

    def __init__(self, name: str, args: DataServicesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:data:DataServices", name, None, opts)
        self._namespace = args.namespace
        self._protects_data = args.protect
        self._after = opts.depends_on if opts else None
        self._rotations = args.rotations
        self._monitored = args.monitored
        database: Logins | None = None
        if isinstance(args.postgres, BundledPostgres):
            database = self._postgres(args.postgres)
        elif url := args.file_url:
            database = Logins(dsn=SecretValue(pulumi.Output.secret(url), content_hash(url)))
        elif args.postgres is not None:
            register_egress_policy(self, "allow-postgres", args.namespace, args.postgres.egress)
            direct = args.rotations[args.direct] if args.direct else None
            database = logins.register_external_logins(
                self, args.rotations[DATABASE_URL], args.secrets, direct, monitored=args.monitored
            )
        if args.redis is None:
            cache = None
        elif isinstance(args.redis, BundledRedis):
            cache = self._redis(args.redis)
        else:
            register_egress_policy(self, "allow-redis", args.namespace, args.redis.egress)
            cache = logins.register_external_logins(self, args.rotations[REDIS_URL], args.secrets)
        register_volumes(
            self, args.volumes, args.namespace, ResourceOptions(depends_on=self._after), protect=args.protect
        )
        there = {name: login for name, login in ((DATABASE_URL, database), (REDIS_URL, cache)) if login}
        self.dsns = {name: login.dsn for name, login in there.items()}
        self.rotation_environment = {key: value for login in there.values() for key, value in login.environment.items()}
        if self.rotation_environment and isinstance(args.postgres, ExternalPostgres) and args.postgres.ca:
            self.rotation_environment[CA] = pulumi.Output.from_input(args.postgres.ca)
        self.role = database.role if database else None
        self.monitors = {name: login.monitor for name, login in there.items() if login.monitor}
        self.register_outputs({})

    def _postgres(self, wanted: BundledPostgres) -> Logins:
        # Over TCP: while official images initialise the database, a server answers at the socket only.
        ask = ["pg_isready", "--host=127.0.0.1", f"--username={wanted.user}", f"--dbname={wanted.database}"]
        made = logins.register_bundled_logins(
            self,
            POSTGRES,
            self._rotations[DATABASE_URL],
            administrator=wanted.user,
            role=f"{wanted.user}_",
            scheme="postgresql",
            at=f"{POSTGRES}:5432/{wanted.database}",
            monitor=monitor_role(wanted.user) if self._monitored else None,
        )
        self._store(
            _Store(
                name=POSTGRES,
                image=wanted.image,
                port=5432,
                uid=wanted.uid,
                data_path=POSTGRES_VOLUME,
                storage=wanted.storage,
                storage_class=wanted.storage_class,
                amounts=wanted.resources,
                arguments=wanted.server_arguments,
                environment={"POSTGRES_USER": wanted.user, "POSTGRES_DB": wanted.database, "PGDATA": PGDATA},
                ready={"exec_": {"command": ask}, "period_seconds": _READY_PERIOD, "timeout_seconds": 5},
                start_seconds=wanted.start_seconds,
                memory_path=("/dev/shm", wanted.shared_memory_bytes),  # noqa: S108 (a mount point in the pod)
                prepares=MOVE_TO_PGDATA,
                run_path="/var/run/postgresql",
            ),
            {"password": made.administrator},
        )
        return made

    def _redis(self, wanted: BundledRedis) -> Logins:
        made = logins.register_bundled_logins(
            self,
            REDIS,
            self._rotations[REDIS_URL],
            administrator="default",
            role="shop-",
            scheme="redis",
            at=f"{REDIS}:6379/0",
            monitor=_REDIS_MONITOR if self._monitored else None,
        )
        self._store(
            _Store(
                name=REDIS,
                image=wanted.image,
                port=6379,
                uid=wanted.uid,
                data_path=_REDIS_VOLUME,
                storage=wanted.storage,
                storage_class=wanted.storage_class,
                amounts=wanted.resources,
                command=start_command("--dir", _REDIS_VOLUME),
                arguments=wanted.server_arguments,
                environment={"REDIS_USERS_FILE": f"{_SECRETS.format(name=REDIS)}/users"},
                ready={
                    "exec_": {"command": ["sh", "-c", HEALTHY]},
                    "period_seconds": _READY_PERIOD,
                    "timeout_seconds": 5,
                },
                start_seconds=wanted.start_seconds,
            ),
            {"password": made.administrator, "users": _redis_users(made)},
        )
        return made

    def _store(self, store: _Store, secrets: Mapping[str, pulumi.Output[str]]) -> None:
        """One StatefulSet with its secrets, services and opening."""
        name, opts = store.name, ResourceOptions(parent=self, depends_on=self._after)
        # Not hashed: the server reads it only at start; rotation's tasks change a running server.
        secret = Secret(
            f"{name}-secret",
            metadata=metadata(f"{name}-password", self._namespace, labels(name, name)),
            string_data=secrets,
            opts=opts,
        )
        account = register_service_account(name, name, self._namespace, opts)
        policy = self._opening(store, opts)
        services = [self._service(store, headless=headless, opts=opts) for headless in (True, False)]
        server = self._stateful_set(
            store,
            account=account.metadata.apply(lambda meta: meta.name or ""),
            opts=ResourceOptions(
                parent=self,
                depends_on=[secret, policy, services[0]],
                protect=self._protects_data,
                ignore_changes=[SIZE],
                custom_timeouts=pulumi.CustomTimeouts(create="10m", update="10m"),
            ),
        )

        register_growth(server, name, store.storage, namespace=self._namespace, kind=labels(name, name), opts=opts)

    def _service(self, store: _Store, *, headless: bool, opts: ResourceOptions) -> Service:
        name = f"{store.name}-pods" if headless else store.name
        spec: ServiceSpecArgsDict = {
            "selector": selector(store.name, store.name),
            "ports": [{"name": store.name, "port": store.port, "target_port": store.port, "protocol": "TCP"}],
            "type": "ClusterIP",
        }
        if headless:
            spec["cluster_ip"] = "None"
        return Service(
            f"{name}-service",
            # Not awaited: it has no endpoints before its StatefulSet, which depends on it.
            metadata=metadata(name, self._namespace, labels(store.name, store.name), SKIP_AWAIT),
            spec=spec,
            opts=opts,
        )

    def _opening(self, store: _Store, opts: ResourceOptions) -> NetworkPolicy:
        """Egress of services and Jobs and ingress of the server; without both, the connection is denied."""
        ports: list[NetworkPolicyPortArgsDict] = [{"port": store.port, "protocol": "TCP"}]
        NetworkPolicy(
            f"allow-to-{store.name}",
            metadata=metadata(f"allow-to-{store.name}", self._namespace, labels(store.name, store.name)),
            spec={
                "pod_selector": select_clients(),
                "policy_types": ["Egress"],
                "egress": [
                    {"to": [{"pod_selector": {"match_labels": selector(store.name, store.name)}}], "ports": ports}
                ],
            },
            opts=opts,
        )
        return NetworkPolicy(
            f"allow-into-{store.name}",
            metadata=metadata(f"allow-into-{store.name}", self._namespace, labels(store.name, store.name)),
            spec={
                "pod_selector": {"match_labels": selector(store.name, store.name)},
                "policy_types": ["Ingress"],
                "ingress": [{"from_": [{"pod_selector": select_clients()}], "ports": ports}],
            },
            opts=opts,
        )

    def _stateful_set(self, store: _Store, *, account: Input[str], opts: ResourceOptions) -> StatefulSet:
        secrets = _SECRETS.format(name=store.name)
        volume: VolumeMountArgsDict = {"name": DATA, "mount_path": store.data_path}
        environment: list[EnvVarArgsDict] = [
            {"name": f"{store.name.upper()}_PASSWORD_FILE", "value": f"{secrets}/password"},
            *({"name": key, "value": value} for key, value in store.environment.items()),
        ]
        server = container(
            store.name,
            image=store.image,
            amounts=store.amounts,
            command=store.command,
            mounts=[
                volume,
                {"name": "password", "mount_path": secrets, "read_only": True},
                *([{"name": "run", "mount_path": store.run_path}] if store.run_path else []),
                *([{"name": "memory", "mount_path": store.memory_path[0]}] if store.memory_path else []),
            ],
            args=list(store.arguments),
            env=environment,
            ports=[{"name": store.name, "container_port": store.port, "protocol": "TCP"}],
            # The first start creates the database; after a crash the server replays its log, and a restart of the
            # container would make it begin again.
            startup_probe={**store.ready, "failure_threshold": math.ceil(store.start_seconds / _READY_PERIOD)},
            readiness_probe={**store.ready, "period_seconds": 5, "failure_threshold": 3},
            # Passes while the process accepts connections, even under load.
            liveness_probe={"tcp_socket": {"port": store.port}, "period_seconds": 20, "failure_threshold": 6},
        )
        before = (
            [
                container(
                    "prepare",
                    image=store.image,
                    amounts=store.amounts,
                    command=["sh", "-c", store.prepares],
                    mounts=[volume],
                )
            ]
            if store.prepares
            else []
        )
        return StatefulSet(
            store.name,
            metadata=metadata(
                store.name,
                self._namespace,
                labels(store.name, store.name),
                IMAGE_OWN_USER,
            ),
            spec={
                "service_name": f"{store.name}-pods",
                "replicas": 1,
                "selector": {"match_labels": selector(store.name, store.name)},
                "template": template(
                    store.name,
                    store.name,
                    service_account=account,
                    uid=store.uid,
                    init_containers=before,
                    containers=[server],
                    volumes=[
                        {
                            "name": "password",
                            "secret": {"secret_name": f"{store.name}-password", "default_mode": 0o440},
                        },
                        *([{"name": "run", "empty_dir": {}}] if store.run_path else []),
                        *([memory_volume("memory", store.memory_path[1])] if store.memory_path else []),
                    ],
                    termination_grace_period_seconds=120,
                ),
                "volume_claim_templates": [
                    {"metadata": {"name": DATA}, "spec": claim_spec(store.storage, store.storage_class)}
                ],
                # The volume is kept when the StatefulSet is deleted.
                "persistent_volume_claim_retention_policy": {"when_deleted": "Retain", "when_scaled": "Retain"},
            },
            opts=opts,
        )


def _redis_users(made: logins.BundledLogins) -> pulumi.Output[str]:
    """The users that Redis loads at start, because it does not store them. Only hashes of passwords."""
    users = [(name, password, REDIS_RULES) for name, password in made.roles.items()]
    if made.monitor:
        users.append((_REDIS_MONITOR, made.monitor.password, REDIS_MONITOR_RULES))

    def lines(passwords: Sequence[str]) -> str:
        hashes = [hashlib.sha256(password.encode()).hexdigest() for password in passwords]
        # Never empty: API servers drop empty entries of a Secret.
        return "# made by the program\n" + "".join(
            f"user {name} on #{hashed} {rules}\n" for (name, _, rules), hashed in zip(users, hashes, strict=True)
        )

    return pulumi.Output.secret(pulumi.Output.all(*(password for _, password, _ in users)).apply(lines))
