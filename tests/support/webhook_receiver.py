"""A real HTTP server in a namespace of its own, in place of Slack and the dead man's switch."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_PORT = 8080
_POLL_SECONDS = 0.3
_SERVER = """
import json, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

messages = []

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        message = {"at": time.time(), "path": self.path, "authorization": self.headers.get("Authorization", "")}
        messages.append({**message, "body": json.loads(text)})
        self.answer(b"ok")

    def do_GET(self):
        self.answer(json.dumps(messages).encode())

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args): pass

ThreadingHTTPServer(("", PORT), Receiver).serve_forever()
"""


@dataclass(frozen=True)
class Message:
    """A request that was received."""

    at: float
    """Seconds since 1970, by the receiver's clock."""
    path: str
    authorization: str
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return json.dumps(self.body)


@dataclass(frozen=True)
class Receiver:
    """Read through the API server: the host has no route to pods."""

    namespace: str
    address: str
    """Address of its pod."""

    @property
    def url(self) -> str:
        return f"http://receiver.{self.namespace}.svc:{_PORT}"

    @property
    def egress(self) -> list[dict[str, Any]]:
        """The opening of a stack's network policies that leads here."""
        return [{"cidr": f"{self.address}/32", "ports": [_PORT]}]

    def can_reach(self, host: str, port: int) -> bool:
        """Whether a connection succeeds from this pod, which is in a namespace of no stack."""
        script = (
            "import socket, sys\n"
            "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)\n"
            "except (TimeoutError, ConnectionRefusedError): sys.exit(7)"
        )
        command = ["kubectl", "exec", "--namespace", self.namespace, "receiver", "--", "python3", "-c", script]
        done = subprocess.run([*command, host, str(port)], capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, 7), done.stderr
        return done.returncode == 0

    def messages(self, path: str | None = None) -> list[Message]:
        """Everything so far, or what came to one path."""
        where = f"/api/v1/namespaces/{self.namespace}/services/receiver:{_PORT}/proxy/"
        found = [Message(**message) for message in json.loads(_kubectl("get", "--raw", where))]
        return [message for message in found if path in (None, message.path)]

    def wait(self, path: str, *words: str, since: float = 0, seconds: float = 60) -> Message:
        """The first message to this path with these words that came later than `since`."""
        deadline = time.monotonic() + seconds
        while True:
            received = self.messages()
            for message in received:
                if message.path == path and message.at > since and all(word in message.text for word in words):
                    return message
            assert time.monotonic() < deadline, f"{path} did not receive {words} within {seconds} s: {received}"
            time.sleep(_POLL_SECONDS)


@contextmanager
def run_receiver(name: str, image: str) -> Iterator[Receiver]:
    """`image` needs Python alone: the tasks' has it."""
    namespace = f"receiver-{name}"
    _kubectl("delete", "namespace", namespace, "--ignore-not-found")  # what an interrupted run left
    _kubectl("create", "namespace", namespace)
    try:
        _kubectl("apply", "--namespace", namespace, "--filename=-", stdin=json.dumps(_objects(image)))
        _kubectl("wait", "--namespace", namespace, "--for=condition=Ready", "--timeout=120s", "pod/receiver")
        address = _kubectl("get", "pod", "receiver", "--namespace", namespace, "-o", "jsonpath={.status.podIP}")
        yield Receiver(namespace, address)
    finally:
        _kubectl("delete", "namespace", namespace, "--wait=false")


def _objects(image: str) -> dict[str, Any]:
    labels = {"app": "receiver"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "receiver", "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "receiver",
                    "image": image,
                    "command": ["python3", "-c", _SERVER.replace("PORT", str(_PORT))],
                    "readinessProbe": {"httpGet": {"path": "/", "port": _PORT}, "periodSeconds": 1},
                    # What requests nothing gets next to nothing beside pods that do.
                    "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
                }
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "receiver"},
        # On a busy machine a probe is late: messages arrive all the same.
        "spec": {"selector": labels, "ports": [{"port": _PORT}], "publishNotReadyAddresses": True},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [pod, service]}


def _kubectl(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout
