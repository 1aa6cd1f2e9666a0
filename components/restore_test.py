"""The restore test (runbook-de-production §2): a backup is restored aside, migrated, and must serve."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    EnvFromSourceArgsDict,
    EnvVarArgsDict,
    Secret,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_random import RandomPassword

from components import backup_tasks as tasks
from components.base.jobs import register_cron_job
from components.base.names import RESTORE_TEST, labels, metadata
from components.base.pods import APPLICATION_UID, container, memory_volume, register_service_account
from components.base.shapes import mounts, temporary_volumes
from components.placeholders import placeholder
from components.postgres_server import PGDATA, POSTGRES_VOLUME
from settings import Backup as BackupSettings
from settings import BundledPostgres, BundledRedis, Command, MigrateCommand, PodShape, Release, Resources
from settings.connection_url import application_parameters
from settings.rotation import TASK_RESOURCES
from settings.secret import Secret as SecretValue

_NAME = "restore_test"
"""Role and database of the temporary server; they differ from the live names, which the dump may contain."""
_DATABASE_URL, _REDIS_URL = "DATABASE_URL", "redis://127.0.0.1:6379/0"
_PASSWORD_FILE = "/run/secrets/postgres/password"  # noqa: S105 (a path)
_APPLICATION = "restore-test-application"
_WIPE_SECONDS = 30
"""For deleting the restored data."""
_WIPE = """import pathlib, shutil, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.sigwait({signal.SIGTERM})
for found in pathlib.Path(sys.argv[1]).iterdir():
    shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()
"""
_START = {"period_seconds": 1, "timeout_seconds": 5, "failure_threshold": 120}
_ANNOTATIONS = {
    **tasks.KEYS_IN_ENVIRONMENT,
    "checkov.io/skip2": "CKV_K8S_40=The servers start only as the user their image knows",
    "kube-score/ignore": "container-security-context-user-group-id",
}


@dataclass(frozen=True, kw_only=True)
class RestoreTestArgs:
    """The backup store to test, and the release that must serve on the restored data."""

    namespace: Input[str]
    """Where it runs."""
    image: Input[str]
    """The project's own image, which the tasks run in."""
    backup: BackupSettings
    """The store and the test's schedule."""
    postgres: BundledPostgres | None
    """The server to restore into: image, user, resources; None where the database is a file."""
    file: PodShape | None = None
    """Owner and folder of a database that is a file. The test has an empty folder there."""
    redis: BundledRedis | None
    """A cache for the release, where it has one."""
    secrets: Mapping[str, SecretValue]
    """Every variable of the services that is secret."""
    secret_name: str
    """Their Secret, which no container of the test gets."""
    database: SecretValue
    """URL of the live database: where in it the release has its tables."""
    release: Release | None
    """The release whose image migrates and serves; None where the stack has no application."""
    service: ContainerArgsDict | None
    """The main service's container, exactly as it is rolled out."""
    port: int | None
    """Its HTTP port."""
    shape: PodShape
    """Its pods. The test has their user and folders to write to, and neither their volumes nor their cloud identity."""
    migrate: MigrateCommand
    """The release's migrations."""
    smoke: Command
    """The smoke command, which must pass."""
    amounts: Resources
    """CPU, memory and scratch disk of migrations and smoke."""
    direct: str | None = None
    """Variable of the URL past a pooler."""
    paused: bool = False
    """Start nothing by schedule, whatever the settings of backups say."""


class RestoreTest(pulumi.ComponentResource):
    """A pod with a PostgreSQL and a Redis of its own, which end with it; network policies block the live ones.

    Restored and compared by a task, migrated by the release, asked by its smoke command; only when all of
    that went well does the last container write that the backup is proven.
    """

    def __init__(self, name: str, args: RestoreTestArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:backup:RestoreTest", name, None, opts)
        self._args = args
        inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        backup, test = args.backup, args.backup.restore_test
        # Not bound to a cloud role: the release would have its rights.
        account = register_service_account(RESTORE_TEST, RESTORE_TEST, args.namespace, inside)
        ready = [account, self._secret(inside), self._placeholders(inside)]
        register_cron_job(
            RESTORE_TEST,
            RESTORE_TEST,
            namespace=args.namespace,
            time_zone=backup.time_zone,
            schedule=test.schedule,
            suspend=backup.suspend or args.paused,
            annotations=_ANNOTATIONS,
            job={
                # No retry: a failed test is a result, and the schedule starts the next one.
                "backoff_limit": 0,
                "active_deadline_seconds": test.timeout_seconds,
                "template": tasks.task_pod(
                    RESTORE_TEST,
                    RESTORE_TEST,
                    backup=backup,
                    account=account,
                    decrypts=True,
                    scratch=True,
                    restart_policy="Never",
                    # Nothing to drain, but the restored data to delete.
                    termination_grace_period_seconds=_WIPE_SECONDS,
                    file=self._owner,
                    init_containers=[
                        self._wipe() if args.postgres is None else self._postgres(args.postgres),
                        *([_redis(args.redis)] if args.redis else []),
                        self._task("begin", ["restore", "test-begin"]),
                        *self._migrate(),
                        *self._serve_and_smoke(),
                    ],
                    # Its last line is the evidence, read by the command that started the test.
                    containers=[self._task("conclude", ["restore", "test-conclude", "--json"])],
                    volumes=[*_server_volumes(args.postgres), *temporary_volumes(args.shape)],
                ),
            },
            opts=ResourceOptions.merge(inside, ResourceOptions(depends_on=ready)),
        )
        self.register_outputs({})

    def _secret(self, opts: ResourceOptions) -> Secret:
        made = RandomPassword("restore-test-password", length=40, special=False, opts=ResourceOptions(parent=self))

        def address(both: Sequence[str]) -> str:
            # The release finds its tables where the live URL says that they are.
            where = application_parameters(both[1])
            return f"postgresql://{_NAME}:{both[0]}@127.0.0.1:5432/{_NAME}" + (f"?{where}" if where else "")

        live = self._args.database.value
        # A file has the same place in the test, where another volume is.
        url = live if self._args.file else pulumi.Output.all(made.result, live).apply(address)
        return Secret(
            f"{RESTORE_TEST}-secret",
            metadata=metadata(RESTORE_TEST, self._args.namespace, labels(RESTORE_TEST, RESTORE_TEST)),
            string_data={"password": made.result, _DATABASE_URL: pulumi.Output.secret(url)},
            opts=opts,
        )

    def _placeholders(self, opts: ResourceOptions) -> Secret:
        """What the release gets in place of its secrets: values of the same shape, and addresses of the test's own."""
        args = self._args

        def harmless(name: str, value: str) -> str:
            if re.match(r"(jdbc:)?postg(res|is)[a-z0-9+]*://", value):
                # The test's own; where it is one that the release connects to, `_service_env` adds the password.
                return f"postgresql://{_NAME}@127.0.0.1:5432/{_NAME}"
            if re.match(r"(redis|valkey)s?://", value):
                return _REDIS_URL
            return placeholder(name, value)

        def made(name: str, of: SecretValue) -> pulumi.Output[str]:
            # A key's id is none of a secret; the previous value of a kept one is kept as well.
            if name.endswith("_ID") and name.removesuffix("_ID") in args.secrets:
                return of.value
            if name.removesuffix("_PREVIOUS") in args.backup.restore_test.secrets:
                return of.value
            return pulumi.Output.secret(of.value.apply(lambda value: harmless(name, value)))

        return Secret(
            f"{_APPLICATION}-secret",
            metadata=metadata(_APPLICATION, args.namespace, labels(_APPLICATION, RESTORE_TEST)),
            string_data={name: made(name, of) for name, of in args.secrets.items()},
            opts=opts,
        )

    def _database(self, variable: str = _DATABASE_URL) -> EnvVarArgsDict:
        return {"name": variable, "value_from": {"secret_key_ref": {"name": RESTORE_TEST, "key": _DATABASE_URL}}}

    def _task(self, name: str, words: Sequence[str]) -> ContainerArgsDict:
        # The live DATABASE_URL is not among its variables.
        env = [self._database("RESTORE_DATABASE_URL")]
        args = self._args
        made = tasks.task_container(
            name,
            words,
            image=args.image,
            backup=args.backup,
            env=env,
            decrypts=True,
            scratch=True,
            through_window=True,
            file=args.file,
        )
        return self._restored(made)

    @property
    def _owner(self) -> PodShape | None:
        """The user of the test where the database is a file, which the release opens; without its live volume."""
        file = self._args.file
        return file and PodShape(uid=file.uid, gid=file.gid, fs_group=file.fs_group)

    def _restored(self, made: ContainerArgsDict) -> ContainerArgsDict:
        """With the test's own folder in place of the live one, where the database is a file."""
        file = self._args.file
        if file is None:
            return made
        folder = file.volumes[0].path
        own: VolumeMountArgsDict = {"name": "scratch", "mount_path": folder, "sub_path": "database"}
        mounted = cast(Sequence[VolumeMountArgsDict], made.get("volume_mounts") or ())
        others = [mount for mount in mounted if mount["mount_path"] != folder]
        return {**made, "volume_mounts": [*others, own]}

    def _wipe(self) -> ContainerArgsDict:
        """A native sidecar that deletes what was restored, however the test ends: a finished pod keeps its volume."""
        made = container(
            "wipe",
            image=self._args.image,
            amounts=TASK_RESOURCES,
            command=["python3", "-c", _WIPE, self._folder],
            restart_policy="Always",
        )
        return self._restored(made)

    @property
    def _folder(self) -> str:
        assert self._args.file is not None, "without a server, the database is a file"
        return self._args.file.volumes[0].path

    def _postgres(self, wanted: BundledPostgres) -> ContainerArgsDict:
        ask = ["pg_isready", "--host=127.0.0.1", f"--username={_NAME}", f"--dbname={_NAME}"]
        return _sidecar(
            "postgres",
            uid=wanted.uid,
            image=wanted.image,
            amounts=wanted.resources,
            args=[*wanted.server_arguments, "-c", "listen_addresses=127.0.0.1"],
            env=[
                {"name": "POSTGRES_PASSWORD_FILE", "value": _PASSWORD_FILE},
                {"name": "POSTGRES_USER", "value": _NAME},
                {"name": "POSTGRES_DB", "value": _NAME},
                {"name": "PGDATA", "value": PGDATA},
            ],
            mounts=[
                {"name": "scratch", "mount_path": POSTGRES_VOLUME},
                {"name": "password", "mount_path": _PASSWORD_FILE.rsplit("/", 1)[0], "read_only": True},
                {"name": "run", "mount_path": "/var/run/postgresql"},
                {"name": "memory", "mount_path": "/dev/shm"},  # noqa: S108 (a mount point in the pod)
            ],
            startup_probe={"exec_": {"command": ask}, **_START},
            # However the test ends: a finished pod keeps its volume until the next one. As its image's user, which
            # alone may delete these files.
            lifecycle={"pre_stop": {"exec_": {"command": ["sh", "-c", 'rm -rf "$PGDATA"']}}},
        )

    def _migrate(self) -> list[ContainerArgsDict]:
        args = self._args
        if args.migrate.runner != "job" or args.release is None:
            return []  # the release has no migrations
        names = filter(None, (_DATABASE_URL, args.direct))
        return self._steps("migrate", args.migrate, env=[self._database(name) for name in names])

    def _serve_and_smoke(self) -> list[ContainerArgsDict]:
        args = self._args
        if args.port is None or args.service is None:
            return []
        leaving = ("lifecycle", "readiness_probe", "liveness_probe")
        staying: dict[str, Any] = {key: value for key, value in args.service.items() if key not in leaving}
        env = self._service_env()
        staying["env_from"] = [self._harmless(source) for source in staying["env_from"]]
        service = {**staying, "restart_policy": "Always", "env": [*(staying.get("env") or []), *env]}
        target: EnvVarArgsDict = {"name": "TARGET_URL", "value": f"http://127.0.0.1:{args.port}"}
        smoke = self._steps("smoke", args.smoke, env=[*env, target], env_from=staying["env_from"])
        return [self._restored(self._as_service(service)), *smoke]

    def _harmless(self, source: EnvFromSourceArgsDict) -> EnvFromSourceArgsDict:
        if source.get("secret_ref") == {"name": self._args.secret_name}:
            return {"secret_ref": {"name": _APPLICATION}}
        return source

    def _service_env(self) -> list[EnvVarArgsDict]:
        """Variables that differ from production; they take precedence over the release's own."""
        given: Mapping[str, str] = self._args.backup.restore_test.env
        own: list[EnvVarArgsDict] = [{"name": key, "value": value} for key, value in given.items()]
        databases = [self._database(name) for name in ("DATABASE_URL", self._args.direct) if name]
        cache: list[EnvVarArgsDict] = [{"name": "REDIS_URL", "value": _REDIS_URL}] if self._args.redis else []
        return [*own, *cache, *databases]

    def _steps(
        self, name: str, command: Command, *, env: Sequence[EnvVarArgsDict], env_from: Any = ()
    ) -> list[ContainerArgsDict]:
        argvs, release = command.argvs, self._args.release
        assert release is not None, "only a release has commands"
        return [
            self._restored_as_service(
                container(
                    name if len(argvs) == 1 else f"{name}-{index}",
                    image=release.image,
                    amounts=self._args.amounts,
                    command=argv,
                    mounts=mounts(self._args.shape),
                    env=list(env),
                    env_from=list(env_from),
                )
            )
            for index, argv in enumerate(argvs, start=1)
        ]

    def _restored_as_service(self, made: Mapping[str, Any]) -> ContainerArgsDict:
        return self._restored(self._as_service(made))

    def _as_service(self, made: Mapping[str, Any]) -> ContainerArgsDict:
        """With the user of the release's image, where it is not that of the tasks."""
        uid, gid = self._args.shape.uid, self._args.shape.gid
        return _as_user(made, uid, gid) if uid or gid else cast(ContainerArgsDict, made)


def _server_volumes(wanted: BundledPostgres | None) -> list[VolumeArgsDict]:
    """What the test's PostgreSQL mounts besides its data."""
    if wanted is None:
        return []
    return [
        {"name": "password", "secret": {"secret_name": RESTORE_TEST, "default_mode": 0o440}},
        {"name": "run", "empty_dir": {}},
        memory_volume("memory", wanted.shared_memory_bytes),
    ]


def _redis(wanted: BundledRedis) -> ContainerArgsDict:
    return _sidecar(
        "redis",
        uid=wanted.uid,
        image=wanted.image,
        amounts=wanted.resources,
        command=["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"],  # noqa: S108
        startup_probe={"exec_": {"command": ["redis-cli", "ping"]}, **_START},
    )


def _sidecar(name: str, *, uid: int, **more: Any) -> ContainerArgsDict:
    """A server that has started before the next container begins, and ends with the last; as its image's user."""
    return _as_user(cast(dict[str, Any], container(name, restart_policy="Always", **more)), uid, None)


def _as_user(made: Mapping[str, Any], uid: int | None, gid: int | None) -> ContainerArgsDict:
    user = uid or APPLICATION_UID
    ids = {"run_as_user": user, "run_as_group": gid or user}
    return cast(ContainerArgsDict, {**made, "security_context": {**made["security_context"], **ids}})
