"""A server that answers as the API server does about pods and their logs, and fails as it does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support import http_servers

PODS = "/api/v1/namespaces/shop/pods"
CONTAINER = "backend"


@dataclass(eq=False)
class Instance:
    """One container's log file."""

    lines: list[tuple[int, bytes]] = field(default_factory=list)
    ended: bool = False


@dataclass(eq=False)
class Cluster:
    """Pods, what changed of them, and what they say."""

    port: int = 0
    token: str | None = None
    """What has to be shown; None accepts every client."""
    selector: str = "part=service"
    """What has to be asked for."""
    secrets: list[dict[str, Any]] | None = None
    """The namespace's Secrets; None: they may not be read."""
    status: dict[str, int] = field(default_factory=dict)
    """What `list`, `watch` or `log` are answered instead."""
    refusals: int = 0
    """How often that was the answer."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    _events: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    _version: int = 1
    _oldest: int = 0
    _logs: dict[str, list[Instance]] = field(default_factory=dict)
    _connections: int = 0
    """Goes up when every stream is to break."""
    _half: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # -- what happens ----------------------------------------------------------------------------------

    def start(self, name: str, *, ready: bool = True) -> None:
        self._logs[name] = [Instance()]
        meta = {"name": name, "uid": f"uid-{name}", "labels": {"part": "service"}}
        status = {"phase": "Running", "containerStatuses": [self._container(0)], "conditions": self._ready(ready)}
        spec = {"containers": [{"name": CONTAINER}]}
        self._change("ADDED", {"metadata": meta, "spec": spec, "status": status})

    def ready(self, name: str, ready: bool) -> None:
        pod = self._pods[name]
        self._change("MODIFIED", {**pod, "status": {**pod["status"], "conditions": self._ready(ready)}})

    def say(self, name: str, line: object, at: int | None = None) -> None:
        text = line if isinstance(line, bytes) else json.dumps(line).encode()
        with self._changed:
            self._logs[name][-1].lines.append((at or time.time_ns(), text))
            self._changed.notify_all()

    def restart(self, name: str) -> None:
        """The container ends, and another one takes its place."""
        with self._changed:
            self._logs[name][-1].ended = True
            self._logs[name].append(Instance())
        pod = self._pods[name]
        statuses = [self._container(len(self._logs[name]) - 1)]
        self._change("MODIFIED", {**pod, "status": {**pod["status"], "containerStatuses": statuses}})

    def rotate(self, name: str) -> None:
        """The log's file is replaced; a reader of the old one reaches its end."""
        with self._changed:
            self._logs[name][-1].ended = True
            self._logs[name][-1] = Instance()
            self._changed.notify_all()

    def end(self, name: str, phase: str = "Failed") -> None:
        """The pod stays, and logs nothing more."""
        pod = self._pods[name]
        with self._changed:
            self._logs[name][-1].ended = True
        self._change("MODIFIED", {**pod, "status": {**pod["status"], "phase": phase}})

    def remove(self, name: str) -> None:
        with self._changed:
            self._logs[name][-1].ended = True
        self._change("DELETED", self._pods[name])

    def compact(self, forgotten: str) -> None:
        """A pod is deleted, and no watch can continue from an older version."""
        with self._changed:
            del self._pods[forgotten]
            self._logs[forgotten][-1].ended = True
            self._version += 1
            self._oldest = self._version
            self._changed.notify_all()

    def cut(self, *, in_a_line: bool = False) -> None:
        """Every stream breaks: at once, or one of them shortly before the end of the next line."""
        with self._changed:
            self._half = in_a_line
            self._connections += not in_a_line
            self._changed.notify_all()

    def streams(self, name: str) -> int:
        """How often its log was requested."""
        return sum(path == f"{PODS}/{name}/log" for path, _ in self.asked)

    @property
    def lists(self) -> int:
        """How often the pods were listed."""
        return sum(path == PODS and "watch" not in asked for path, asked in self.asked)

    def _change(self, kind: str, pod: dict[str, Any]) -> None:
        with self._changed:
            self._version += 1
            meta = {**pod["metadata"], "resourceVersion": str(self._version)}
            made = {**pod, "metadata": meta}
            if kind == "DELETED":
                del self._pods[meta["name"]]
            else:
                self._pods[meta["name"]] = made
            self._events.append((self._version, kind, made))
            self._changed.notify_all()

    @staticmethod
    def _container(restarts: int) -> dict[str, Any]:
        return {"name": CONTAINER, "containerID": f"containerd://{restarts}", "restartCount": restarts}

    @staticmethod
    def _ready(ready: bool) -> list[dict[str, str]]:
        return [{"type": "Ready", "status": str(ready)}]

    # -- what is answered ------------------------------------------------------------------------------

    @contextmanager
    def serving(self) -> Iterator[None]:
        """On the same port every time, so that it can be away for a while."""
        server = http_servers.Server(("127.0.0.1", self.port), _handler(self))
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            self.cut()

    def listed(self) -> bytes:
        with self._changed:
            meta = {"resourceVersion": str(self._version)}
            return json.dumps({"kind": "PodList", "metadata": meta, "items": list(self._pods.values())}).encode()

    def changes(self, since: int) -> Iterator[bytes]:
        with self._changed:
            mine, place = self._connections, 0
            while self._connections == mine:
                if since < self._oldest:
                    gone = {"kind": "Status", "code": 410, "reason": "Expired"}
                    yield json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"
                    return
                for version, kind, pod in self._events[place:]:
                    if version > since:
                        yield json.dumps({"type": kind, "object": pod}).encode() + b"\n"
                place = len(self._events)
                self._changed.wait(0.1)
            raise ConnectionAbortedError

    def said(self, name: str, since: int, *, follow: bool, previous: bool) -> Iterator[bytes] | None:
        """None where there is no such log."""
        instances = self._logs.get(name, [])
        if name not in self._pods or len(instances) < 1 + previous:
            return None
        return self._said(instances[-2 if previous else -1], since, follow=follow)

    def _said(self, log: Instance, since: int, *, follow: bool) -> Iterator[bytes]:
        with self._changed:
            mine, place = self._connections, 0
            while True:
                for at, line in log.lines[place:]:
                    if self._connections != mine:
                        raise ConnectionAbortedError
                    if at >= since * 1_000_000_000:
                        whole = _stamp(at) + b" " + line + b"\n"
                        if self._half:
                            self._half = False
                            yield whole[:-3]
                            raise ConnectionAbortedError
                        yield whole
                    place += 1
                if log.ended or not follow:
                    return
                if self._connections != mine:
                    raise ConnectionAbortedError
                self._changed.wait(0.1)


def _stamp(at: int) -> bytes:
    return f"{datetime.fromtimestamp(at // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{at % 10**9:09}Z".encode()


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(http_servers.Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = dict(parse_qsl(parts.query))
            cluster.asked.append((parts.path, asked))
            what = "log" if parts.path.endswith("/log") else "watch" if asked.get("watch") == "true" else "list"
            if cluster.token and self.headers["Authorization"] != f"Bearer {cluster.token}":
                self.answer(401, b'{"kind":"Status","code":401}')
            elif status := cluster.status.get(what):
                cluster.refusals += 1
                self.answer(status, b'{"kind":"Status","message":"a secret"}')
            elif what == "log":
                self._log(parts.path.split("/")[-2], asked)
            elif parts.path.endswith("/secrets"):
                items = {"items": cluster.secrets}
                self.answer(403 if cluster.secrets is None else 200, json.dumps(items).encode())
            elif asked["labelSelector"] != cluster.selector:
                self.answer(400, b"")
            elif what == "watch":
                self._stream(cluster.changes(int(asked.get("resourceVersion", "0"))))
            else:
                self.answer(200, cluster.listed())

        def _log(self, name: str, asked: dict[str, str]) -> None:
            assert asked["timestamps"] == "true"
            assert asked["container"] == CONTAINER
            if "sinceTime" in asked:
                since = int(datetime.fromisoformat(asked["sinceTime"]).timestamp())
            else:
                since = int(time.time()) - int(asked["sinceSeconds"])
            lines = cluster.said(name, since, follow="follow" in asked, previous="previous" in asked)
            if lines is None:
                self.answer(400, b'{"kind":"Status","code":400}')
            else:
                self._stream(lines)

        def _stream(self, parts: Iterator[bytes]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for part in parts:
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:  # cut, or the client is gone
                self.close_connection = True

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client is gone
                super().handle()

    return Handler
