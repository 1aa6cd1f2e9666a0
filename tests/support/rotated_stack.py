"""Secrets of a stack while they are rotated: what the stack file says, what the pods get, what the servers accept."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

from tests.support.cluster_stack import Stack

KEYS = ("JWT_SECRET", "SESSION_SECRET", "INTERNAL_API_KEY")
SERVERS = ("DATABASE_URL", "REDIS_URL")


def state(stack: Stack, name: str) -> dict[str, Any]:
    return stack.config.get("runbook:rotated", {}).get(name, {})


def secret(stack: Stack, name: str) -> str:
    """The value that the services' pods get."""
    template = json.loads(stack.kubectl("get", "deployment", "backend", "-o", "json"))["spec"]["template"]
    sources = template["spec"]["containers"][0]["envFrom"]
    (source,) = (item["secretRef"]["name"] for item in sources if "secretRef" in item)
    data = json.loads(stack.kubectl("get", "secret", source, "-o", "json"))["data"]
    return base64.b64decode(data[name]).decode()


def accepted(stack: Stack, dsn: str) -> bool:
    """Whether the real server lets somebody in with this DSN. The password goes by standard input."""
    parts = urlsplit(dsn)
    user, password = parts.username or "", parts.password or ""
    if parts.scheme == "redis":
        script = f'REDISCLI_AUTH="$(cat)" redis-cli --no-auth-warning --user {user} -h 127.0.0.1 ping | grep -q PONG'
        pod = "redis-0"
    else:
        script = f'PGPASSWORD="$(cat)" psql -w -h 127.0.0.1 -U {user} -d {parts.path[1:]} -tAc "select 1"'
        pod = "postgres-0"
    command = ["kubectl", "--namespace", stack.namespace, "exec", "-i", pod, "--", "sh", "-c", script]
    return stack.run(*command, stdin=password).code == 0


def rotate(stack: Stack, *words: str, stdin: str | None = None) -> None:
    stack.secret_values()  # those it replaces have to stay secret, too
    stack.run("runbook", "rotate", *words, "--yes", stdin=stdin).check()
