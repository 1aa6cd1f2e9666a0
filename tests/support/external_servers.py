"""A PostgreSQL, a Redis and a mail server outside a stack's namespace, with the logins that a cloud gives."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from components.redis_server import HEALTHY, start_command

OWNER, ADMIN, DATABASE = "herbis", "cloud_admin", "herbisveritas"
REDIS_RULES = "~* &* +@all -@admin -@dangerous +info"
"""What managed servers leave to their users."""
_PORTS = {"postgres": 5432, "redis": 6379, "mail": 5587}
_UID = 999
_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}}
"""What requests nothing gets next to nothing beside pods that do: connections took over three seconds."""
_MAIL = """
import socketserver

class Greeting(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 mail.example.com\\r\\n")
        self.rfile.readline()

class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128  # of five, a busy node drops those that come at once

Server(("", PORT), Greeting).serve_forever()
"""


@dataclass(frozen=True)
class ExternalServers:
    """Pods of one namespace, reached by their addresses."""

    namespace: str
    passwords: Mapping[str, str]
    """Of OWNER and ADMIN."""
    addresses: Mapping[str, str]

    def database_url(self, role: str) -> str:
        return f"postgresql://{role}:{self.passwords[role]}@{self._place('postgres')}/{DATABASE}"

    def redis_url(self, user: str) -> str:
        """A user of Redis that is made with this call, as in a cloud's console."""
        password = secrets.token_hex(20)
        answer = self.redis(f"ACL SETUSER {user} reset on >{password} {REDIS_RULES}")
        assert answer == "OK", answer
        return f"redis://{user}:{password}@{self._place('redis')}/0"

    @property
    def smtp_url(self) -> str:
        """A new login of the mail server, which asks for none."""
        return f"smtp://shop:{secrets.token_hex(20)}@{self._place('mail')}"

    def egress(self, server: str) -> list[dict[str, Any]]:
        """The opening of a stack's network policies that leads to it."""
        return [{"cidr": f"{self.addresses[server]}/32", "ports": [_PORTS[server]]}]

    def _place(self, server: str) -> str:
        return f"{self.addresses[server]}:{_PORTS[server]}"

    def sql(self, statement: str, database: str = DATABASE) -> str:
        """What the database answers its superuser, who is in no DSN, unaligned."""
        psql = ["psql", "--username=postgres", f"--dbname={database}", "-XAtq", "-v", "ON_ERROR_STOP=1"]
        return self._exec("postgres", *psql, stdin=statement).strip()

    def redis(self, command: str) -> str:
        script = 'REDISCLI_AUTH="$(cat "$REDIS_PASSWORD_FILE")" exec redis-cli'
        return self._exec("redis", "sh", "-c", script, stdin=command + "\n").strip()

    def accepts(self, dsn: str) -> bool:
        """Whether PostgreSQL accepts this login. Standard input passes the password."""
        user, password = dsn.partition("://")[2].partition("@")[0].split(":")
        script = f'PGPASSWORD="$(cat)" psql -w -h 127.0.0.1 -U {user} -d {DATABASE} -tAc "select 1"'
        command = ["kubectl", "--namespace", self.namespace, "exec", "-i", "postgres", "--", "sh", "-c", script]
        return subprocess.run(command, input=password, capture_output=True, text=True, timeout=60).returncode == 0

    def redis_accepts(self, url: str) -> bool:
        """Whether Redis accepts this login. Standard input passes the password."""
        user, password = url.partition("://")[2].partition("@")[0].split(":")
        script = f'REDISCLI_AUTH="$(cat)" redis-cli --no-auth-warning --user {user} ping'
        return self._exec("redis", "sh", "-c", script, stdin=password).strip() == "PONG"

    def _exec(self, pod: str, *command: str, stdin: str) -> str:
        return _kubectl("exec", "--namespace", self.namespace, "--stdin", pod, "--", *command, stdin=stdin)


@contextmanager
def run_external_servers(namespace: str, images: Mapping[str, str]) -> Iterator[ExternalServers]:
    """Empty servers; the database has an owner and an administrator, who may create roles and databases."""
    _kubectl("delete", "namespace", namespace, "--ignore-not-found")  # what an interrupted run left
    _kubectl("create", "namespace", namespace)
    try:
        _kubectl("apply", "--namespace", namespace, "--filename=-", stdin=json.dumps(_objects(images)))
        pods = [f"pod/{name}" for name in _PORTS]
        _kubectl("wait", "--namespace", namespace, "--for=condition=Ready", "--timeout=120s", *pods)
        listed = json.loads(_kubectl("get", *pods, "--namespace", namespace, "--output=json"))["items"]
        passwords = {role: secrets.token_hex(20) for role in (OWNER, ADMIN)}
        made = ExternalServers(
            namespace, passwords, {item["metadata"]["name"]: item["status"]["podIP"] for item in listed}
        )
        made.sql(
            f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD '{passwords[ADMIN]}';"
            f"GRANT pg_signal_backend TO {ADMIN};"
            # CREATEDB is what docs/backups.md asks for: a restore in place makes a database beside the live one.
            f"CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{passwords[OWNER]}';",
            "postgres",
        )
        made.sql(f"CREATE DATABASE {DATABASE} OWNER {OWNER}", "postgres")
        yield made
    finally:
        _kubectl("delete", "namespace", namespace, "--wait=false")


def _objects(images: Mapping[str, str]) -> dict[str, Any]:
    servers = {
        "postgres": ("/var/lib/postgresql/data", ["pg_isready", "--host=/var/run/postgresql"]),
        "redis": ("/data", ["sh", "-c", HEALTHY]),
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "superusers"},
        "stringData": {**{name: secrets.token_hex(20) for name in servers}, "users": "# none yet\n"},
    }
    pods = [_data_server(name, images[name], data, ready) for name, (data, ready) in servers.items()]
    mail = {
        "name": "mail",
        "image": images["tasks"],
        "command": ["python3", "-c", _MAIL.replace("PORT", str(_PORTS["mail"]))],
        "readinessProbe": {"tcpSocket": {"port": _PORTS["mail"]}, "periodSeconds": 1},
        "resources": _RESOURCES,
    }
    return {"apiVersion": "v1", "kind": "List", "items": [secret, *pods, _pod(mail)]}


def _data_server(name: str, image: str, data: str, ready: list[str]) -> dict[str, Any]:
    server = {
        "name": name,
        "image": image,
        "env": [
            {"name": f"{name.upper()}_PASSWORD_FILE", "value": f"/run/secrets/superusers/{name}"},
            {"name": "REDIS_USERS_FILE", "value": "/run/secrets/superusers/users"},
        ],
        **({"command": start_command()} if name == "redis" else {}),
        # Each start of a command in a container takes a tenth of a second of a processor: only until it is ready.
        "startupProbe": {
            "exec": {"command": ready},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 120,
        },
        "resources": _RESOURCES,
        "volumeMounts": [
            {"name": "data", "mountPath": data},
            {"name": "superusers", "mountPath": "/run/secrets/superusers", "readOnly": True},
        ],
    }
    volumes = [
        {"name": "data", "emptyDir": {}},
        {"name": "superusers", "secret": {"secretName": "superusers", "defaultMode": 0o440}},
    ]
    return _pod(server, volumes)


def _pod(container: dict[str, Any], volumes: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": container["name"]},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": _UID, "runAsGroup": _UID, "fsGroup": _UID},
            "containers": [container],
            "volumes": list(volumes),
        },
    }


def _kubectl(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout
