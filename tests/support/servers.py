"""Real servers for the tests of tasks: PostgreSQL and S3, on 127.0.0.1; they end with the test session.

Each is an ordinary child that the kernel ends with us, so that a killed test run leaves none behind.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import psycopg
from botocore.config import Config
from psycopg import sql

from sandbox import packages

BIN = Path("/usr/lib/postgresql/15/bin")
_START_SECONDS = 60


def free_ports(count: int) -> list[int]:
    """Distinct free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running(
    command: Sequence[str | Path],
    ready: str,
    *,
    stop: signal.Signals = signal.SIGTERM,
    user: pwd.struct_passwd | None = None,
    environment: Mapping[str, str] | None = None,
    log: list[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A program, from the moment its output says `ready` until the block ends; `log` gets its lines."""
    as_user: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        cwd="/",
        **as_user,
    )
    lines = [] if log is None else log
    is_ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if ready in line:
                is_ready.set()
        is_ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert is_ready.wait(_START_SECONDS), f"{command[0]} is not ready:\n{''.join(lines)[-3000:]}"
        assert process.poll() is None, f"{command[0]} ended:\n{''.join(lines)[-3000:]}"
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        process.wait(_START_SECONDS)
        reader.join()


def unprivileged() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    packages.require(str(BIN / "postgres"))  # the package makes the user
    return pwd.getpwnam("postgres")


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server; its superuser is `postgres`."""

    port: int
    password: str
    data: Path
    process: subprocess.Popen[str]

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        return f"postgresql://{user}:{quote(password or self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(database), autocommit=True)

    def execute(self, query: str, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            connection.execute(query.encode())

    @contextmanager
    def database(self, name: str | None = None) -> Iterator[str]:
        """A new database; its name."""
        name = name or f"shop_{secrets.token_hex(3)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            with self.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def role(self, database: str) -> Iterator[str]:
        """A new role without rights; its password is `NAME-pw`. Dropped at the end with what it owns in `database`."""
        name = f"role_{secrets.token_hex(3)}"
        self.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}-pw'")
        try:
            yield name
        finally:
            self.execute(f"DROP OWNED BY {name}; DROP ROLE {name}", database)


@contextmanager
def postgres(*options: str, programs: Path = BIN, log: list[str] | None = None) -> Iterator[Postgres]:
    """A new server with data checksums; `options` go to it as they are, its lines to `log`."""
    user = unprivileged()
    (port,) = free_ports(1)
    folder = Path(tempfile.mkdtemp(prefix="runbook-postgres-"))
    try:
        # Special characters: what a URL has to escape, and what must not be found in any log.
        password = f"p@ss/{secrets.token_hex(8)}"
        secret = folder / "password"
        secret.write_text(password)
        if user:
            for path in (folder, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
        initdb = [programs / "initdb", "--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256"]
        subprocess.run(
            [*initdb, "--data-checksums", "--no-sync", "--encoding=UTF8", "--locale=C", folder / "data"],
            check=True,
            capture_output=True,
            cwd="/",
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
        command = [programs / "postgres", "-D", folder / "data", "-p", str(port), "-k", "", "-c", "fsync=off"]
        with running(
            [*command, "-c", "listen_addresses=127.0.0.1", *options],
            "ready to accept connections",
            stop=signal.SIGINT,  # fast: does not wait for clients
            user=user,
            log=log,
        ) as process:
            yield Postgres(port, password, folder / "data", process)
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class S3:
    """An S3 server with two identities: one may do everything, one may only read."""

    port: int
    access_key: str
    secret_key: str
    process: subprocess.Popen[str]
    reader: tuple[str, str] = ("", "")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, bucket: str, prefix: str = "shop") -> dict[str, str]:
        """What a task needs to keep backups in this bucket."""
        return {
            "BACKUP_STORE": f"s3://{bucket}/{prefix}",
            "S3_ENDPOINT_URL": self.endpoint,
            "S3_REGION": "us-east-1",
            "S3_PATH_STYLE": "true",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def client(self, endpoint: str | None = None) -> Any:
        """A boto3 client, independent of the tasks' own, to check the bucket."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def new_bucket(self) -> str:
        name = f"backups-{secrets.token_hex(4)}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def s3() -> Iterator[S3]:
    """A new server: SeaweedFS, alone."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runbook-s3-")))
        ports = free_ports(8)
        stack.callback(_remove_sockets)
        keys = [(f"key{secrets.token_hex(6)}", secrets.token_hex(16)) for _ in range(2)]
        actions = [["Admin", "Read", "Write", "List", "Tagging"], ["Read", "List"]]
        identities = [
            {"name": f"user{n}", "credentials": [{"accessKey": key, "secretKey": secret}], "actions": what}
            for n, ((key, secret), what) in enumerate(zip(keys, actions, strict=True))
        ]
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        parts = ("master", "volume", "filer", "s3")
        listening = [f"-{part}.port={ports.pop()}" for part in parts]
        s3_port = int(listening[-1].partition("=")[2])
        listening += [f"-{part}.port.grpc={ports.pop()}" for part in parts]
        data = folder / "data"
        data.mkdir()
        command = [
            Path(sys.executable).parent / "weed",
            "-logtostderr=true",
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-master.peers=none",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=0",
            "-s3",
            f"-s3.config={config}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *listening,
        ]
        # HOME for its state files; a key, which encryption at rest requires.
        # One volume for each bucket instead of seven: their number is limited by the free disk space.
        environment = {
            "HOME": str(folder),
            "WEED_S3_SSE_KEK": secrets.token_hex(32),
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
        }
        with running(command, "Start Seaweed S3 API Server", environment=environment, stop=signal.SIGKILL) as it:
            server = S3(s3_port, *keys[0], process=it, reader=keys[1])
            _await_bucket(server)
            yield server


def _remove_sockets() -> None:
    """SeaweedFS leaves them in /tmp, with any options. Removes those of killed runs as well."""
    for path in Path("/tmp").glob("seaweedfs-*.sock"):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except ConnectionRefusedError:  # no process listens any more
                path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue


def _await_bucket(server: S3) -> None:
    """The port answers before there is a volume to write to."""
    client = server.client()
    waiter = threading.Event()
    for _ in range(200):
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="it", Body=b"is")
        except Exception:
            waiter.wait(0.05)
            continue
        return
    raise AssertionError("the S3 server does not take objects")
