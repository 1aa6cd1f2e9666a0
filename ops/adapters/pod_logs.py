"""Logs of all pods of the services, those of a rollout that comes later too, with every secret masked."""

from __future__ import annotations

import heapq
import json
import queue
import re
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from ops.adapters.cluster import Cluster, Unreachable
from ops.causes.api import Api
from ops.causes.text import Masker
from ops.decisions.log_lines import Line, parse_line
from ops.errors import OpsError, Refused

_LONGEST = 256 * 1024
"""Bytes of a line that are shown."""
_AT_ONCE = 8
_NOT_FOUND = 404
_MOST_CONTAINERS = 80
"""Followed at a time: each has a connection to the API server."""
_WATCH_SECONDS = 300
_AGAIN_SECONDS = 1
_SECRET_SECONDS = 10
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_COMPONENT = "app.kubernetes.io/component=service"


class _Gone(Exception):
    """The pod was deleted."""


@dataclass
class _Container:
    """A container whose log is followed."""

    pod: str
    name: str
    last: str
    """Time of its newest line that was read."""
    changed: threading.Event = field(default_factory=threading.Event)
    gone: bool = False


class PodLogs:
    """Reads with the operator's own rights: pods, their logs, and Secrets, whose values are masked."""

    def __init__(self, cluster: Cluster, services: tuple[str, ...] = ()) -> None:
        """`services`: none means all of the stack."""
        names = f",app.kubernetes.io/name in ({','.join(services)})" if services else ""
        self._cluster, self._selector = cluster, f"{_COMPONENT}{names}"
        self._masker = Masker()
        self._path = f"/api/v1/namespaces/{cluster.namespace}/pods"

    def read(self, since_seconds: int) -> Iterator[Line]:
        """Every line of that time that the nodes still have, of restarted containers too, in the order of time."""
        with self._cluster.http() as http:
            self._learn_secrets(http)
            wanted = [
                (pod, container, previous)
                for pod in self._list(http)
                for container, restarted in _containers(pod)
                for previous in ((True, False) if restarted else (False,))
            ]
            with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
                logs = pool.map(lambda each: list(self._lines(http, since_seconds, *each)), wanted)
                yield from heapq.merge(*logs, key=lambda line: line.time)

    def follow(self, since_seconds: int) -> Generator[Line, None, None]:
        """Lines as they are written, until the caller stops; pods that start later are followed as well."""
        lines: queue.Queue[Line | OpsError] = queue.Queue(maxsize=10_000)
        stop = threading.Event()
        with self._cluster.http() as http:
            self._learn_secrets(http)
            start = datetime.fromtimestamp(time.time() - since_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
            watching = threading.Thread(target=self._watch, args=(http, start, lines, stop), daemon=True)
            watching.start()
            try:
                while True:
                    # A time limit, so that Ctrl-C is noticed.
                    try:
                        found = lines.get(timeout=_AGAIN_SECONDS)
                    except queue.Empty:
                        continue
                    if isinstance(found, OpsError):
                        raise found
                    yield found
            finally:
                stop.set()

    # -- following -------------------------------------------------------------------------------

    def _watch(self, http: httpx.Client, start: str, lines: queue.Queue[Any], stop: threading.Event) -> None:
        followed: dict[tuple[str, str], _Container] = {}
        while not stop.is_set():
            try:
                for kind, pod in self._cluster.watch_changes(self._path, _WATCH_SECONDS, labelSelector=self._selector):
                    if stop.is_set():
                        return
                    self._update(http, kind, pod, start, followed, lines, stop)
            except (Unreachable, httpx.HTTPError):
                stop.wait(_AGAIN_SECONDS)
            except OpsError as error:
                lines.put(error)
                return

    def _update(
        self,
        http: httpx.Client,
        kind: str,
        pod: Mapping[str, Any],
        start: str,
        followed: dict[tuple[str, str], _Container],
        lines: queue.Queue[Any],
        stop: threading.Event,
    ) -> None:
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        over = kind == "DELETED" or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        for container, _ in _containers(pod):
            known = followed.get((uid, container))
            if known is None and not over:
                if len(followed) >= _MOST_CONTAINERS:
                    raise Refused(f"More than {_MOST_CONTAINERS} containers: name services with --service.")
                # A rollout may have brought new secrets, which its first lines may contain.
                self._learn_secrets(http)
                known = followed[uid, container] = _Container(name, container, start)
                threading.Thread(target=self._follow, args=(http, known, lines, stop), daemon=True).start()
            if known:
                known.gone = known.gone or over
                known.changed.set()

    def _follow(
        self, http: httpx.Client, container: _Container, lines: queue.Queue[Any], stop: threading.Event
    ) -> None:
        level: int | None = None
        while not stop.is_set():
            container.changed.clear()
            parameters = {
                "container": container.name,
                "timestamps": "true",
                "follow": "true",
                "sinceTime": f"{container.last[:19]}Z",
            }
            try:
                for stamp, text in self._stream(http, container.pod, parameters, timeout=None):
                    if stop.is_set():
                        return
                    if stamp > container.last:
                        container.last = stamp
                        line = parse_line(stamp, container.pod, container.name, text, level, self._masker.text)
                        level = line.level
                        lines.put(line)
            except _Gone:
                return
            except httpx.HTTPError:
                pass  # the connection was lost: it is opened again
            except RuntimeError:
                if not stop.is_set():  # else the client was closed meanwhile
                    raise
            if container.gone:
                return
            container.changed.wait(_AGAIN_SECONDS)

    # -- reading ---------------------------------------------------------------------------------

    def _list(self, http: httpx.Client) -> list[Mapping[str, Any]]:
        answer = http.get(self._path, params={"labelSelector": self._selector})
        if answer.is_error:
            raise Refused(f"The API server refused the list of pods ({answer.status_code}): {answer.text[:200]}")
        return list(answer.json()["items"])

    def _lines(
        self, http: httpx.Client, since_seconds: int, pod: Mapping[str, Any], container: str, previous: bool
    ) -> Iterator[Line]:
        name = pod["metadata"]["name"]
        parameters = {"container": container, "timestamps": "true", "sinceSeconds": str(since_seconds)}
        if previous:
            parameters["previous"] = "true"
        level: int | None = None
        with suppress(_Gone):  # deleted since the pods were listed
            for stamp, text in self._stream(http, name, parameters, timeout=60):
                line = parse_line(stamp, name, container, text, level, self._masker.text)
                level = line.level
                yield line

    def _stream(
        self, http: httpx.Client, pod: str, parameters: Mapping[str, str], timeout: float | None
    ) -> Iterator[tuple[str, str]]:
        """(time, masked text) of each line; none where there is no log yet."""
        limit = httpx.Timeout(10, read=timeout)
        with http.stream("GET", f"{self._path}/{pod}/log", params=dict(parameters), timeout=limit) as answer:
            if answer.status_code == _NOT_FOUND:
                raise _Gone
            if answer.is_error:
                return
            for raw in answer.iter_lines():
                stamp, _, text = raw.partition(" ")
                if at := _padded(stamp):
                    cut = len(text) > _LONGEST
                    yield at, self._masker.text(text[:_LONGEST], cut_end=cut)

    def _learn_secrets(self, http: httpx.Client) -> None:
        api = Api(http, self._masker, _SECRET_SECONDS)
        api.learn_secrets(self._cluster.namespace)
        if self._masker.blind:
            where = self._cluster.namespace
            raise Refused(
                f"This identity may not read the Secrets of namespace {where}, whose values have to be masked in logs. "
                "Grant it list on secrets, or read them unmasked: "
                f"`kubectl -n {where} logs -l {_COMPONENT} --all-containers --prefix --since 1h`."
            )


def _containers(pod: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Containers that have started, and whether they were restarted."""
    status = pod.get("status") or {}
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [(item["name"], bool(item.get("restartCount"))) for item in found if item.get("containerID")]


def _padded(stamp: str) -> str | None:
    """The kubelet's time in UTC with nine digits after the second, so that times compare as texts; None where the line
    begins with no time: it is a message of the kubelet."""
    found = _STAMP.fullmatch(stamp)
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    if zone != "Z":
        whole = datetime.fromisoformat(whole + zone).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{(fraction or '').ljust(9, '0')}Z"


def to_json(line: Line) -> str:
    return json.dumps(line.to_json(), ensure_ascii=False)
