"""Lists the pods, then watches for changes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from tasks.logs.api import Api, Quiet, Unavailable
from tasks.logs.backoff import Backoff
from tasks.logs.counts import Counts
from tasks.logs.follow import Follower, Pod
from tasks.progress import say

_WATCH_SECONDS = 45
"""Shorter than a stream may be silent: the server ends a watch before it counts as broken."""
_LONGEST = 32 * 1024 * 1024
_EXPIRED = 410
_OVER = ("Succeeded", "Failed")

Follow = Callable[[Follower], None]


class Pods:
    """Keeps a follower for each container of each pod."""

    def __init__(self, api: Api, namespace: str, selector: str, counts: Counts, follow: Follow) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._counts = counts
        self._follow = follow
        self._began = time.time_ns()
        """Lines from before are not counted: after a restart they would count twice."""
        self._known: dict[str, Pod] = {}
        self._following: set[tuple[str, str]] = set()

    async def watch(self) -> None:
        """Until it is cancelled."""
        pause, warned = Backoff(), ""
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._changes(version, pause)
                    warned = ""
            except Quiet:
                continue
            except Unavailable as why:
                if why.status != _EXPIRED:
                    self._counts.set_watching(False)
                    if warned != str(why):
                        say(f"warning: the list of pods cannot be read; retrying: {why}")
                    warned = str(why)
            await pause.wait()

    async def _list(self) -> str:
        found = _parse(await self._api.read(self._path, {"labelSelector": self._selector}))
        items = found.get("items") or []
        for uid in self._known.keys() - {item["metadata"]["uid"] for item in items}:
            self._remove(uid)
        for item in items:
            self._update(item)
        return found["metadata"]["resourceVersion"]

    async def _changes(self, version: str, pause: Backoff) -> str:
        """The version after the last change."""
        parameters = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
        parameters |= {"labelSelector": self._selector, "resourceVersion": version}
        began = time.monotonic()
        async with self._api.opened(self._path, parameters, _LONGEST) as lines:
            self._counts.set_watching(True)
            async for line, _ in lines:
                change = _parse(line)
                if change["type"] == "ERROR":
                    status = change["object"].get("code", 0)
                    raise Unavailable(status, f"it ended the watch with {status}")
                version = change["object"]["metadata"]["resourceVersion"]
                if change["type"] == "DELETED":
                    self._remove(change["object"]["metadata"]["uid"])
                elif change["type"] != "BOOKMARK":
                    self._update(change["object"])
                pause.reset()
        if time.monotonic() - began < 1:
            # A proxy on the route ends watches early.
            await pause.wait()
        return version

    def _update(self, item: Mapping[str, Any]) -> None:
        meta, status = item["metadata"], item.get("status") or {}
        pod = self._known.setdefault(meta["uid"], Pod(meta["name"], f"{self._path}/{meta['name']}"))
        if status.get("phase") in _OVER:
            pod.gone = True
        if pod.gone:
            self._counts.remove(pod.name)
        else:
            self._counts.add(pod.name, ready=_serves(meta, status))
        pod.begun |= {one["name"] for one in status.get("containerStatuses") or [] if one.get("containerID")}
        pod.changed.set()
        for container in item["spec"]["containers"]:
            key = meta["uid"], container["name"]
            if key not in self._following:
                self._following.add(key)
                self._follow(Follower(self._api, pod, container["name"], self._counts, self._began))

    def _remove(self, uid: str) -> None:
        if pod := self._known.pop(uid, None):
            pod.gone = True
            pod.changed.set()
            self._counts.remove(pod.name)
            self._following = {key for key in self._following if key[0] != uid}


def _serves(meta: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in meta


def _parse(text: bytes) -> Mapping[str, Any]:
    try:
        return json.loads(text)
    except ValueError:
        raise Unavailable(0, "its answer is not JSON, or too long") from None


async def count_pods(api: Api, namespace: str, selector: str, counts: Counts) -> None:
    """Counts until it is cancelled. A defect in one follower ends all: no pod may go unread without notice."""
    try:
        async with asyncio.TaskGroup() as group:
            await Pods(api, namespace, selector, counts, lambda each: _start(group, each)).watch()
    finally:
        await api.close()


def _start(group: asyncio.TaskGroup, follower: Follower) -> None:
    group.create_task(follower.run())
