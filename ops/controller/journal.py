"""The rollback in progress and the alerts handled, in a ConfigMap: written before a rollback begins, read by the next
controller."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap
from lightkube.types import PatchType

from ops.controller.workspace import NAME

_REMEMBERED = 200
"""Handled alerts that are remembered. Alertmanager forgets resolved ones after minutes."""


@dataclass(frozen=True)
class Doing:
    """A rollback in progress."""

    alert: Mapping[str, Any]
    leaving: int
    """The revision that is rolled back."""
    target: int
    incident: str


class Journal:
    """Written by the holder of the lease only; any thread may read."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._handled: dict[str, str] = {}
        self.doing: Doing | None = None

    def load(self) -> None:
        try:
            found = self._client.get(ConfigMap, NAME).data or {}
        except ApiError as error:
            if error.status.code != 404:
                raise
            self._client.create(ConfigMap(metadata=ObjectMeta(name=NAME), data={}))
            found = {}
        doing = json.loads(found.get("doing", "null"))
        with self._lock:
            self._handled = json.loads(found.get("handled", "{}"))
            self.doing = Doing(**doing) if doing else None

    def handled(self, key: str) -> bool:
        with self._lock:
            return key in self._handled

    def rolled_back(self) -> list[str]:
        """Keys of the alerts for which a release was rolled back."""
        with self._lock:
            return [key for key, outcome in self._handled.items() if outcome == "rollback"]

    def forget(self, keys: Collection[str]) -> None:
        """Judge these alerts again when they fire still."""
        self._write(self.doing, {key: outcome for key, outcome in self._handled.items() if key not in keys})

    def begin(self, doing: Doing) -> None:
        self._write(doing, self._handled)

    def give_up(self) -> None:
        """Forget the rollback: it changed nothing."""
        self._write(None, self._handled)

    def end(self, key: str, outcome: str) -> None:
        """Mark this firing as handled: repeated notifications are ignored."""
        self._write(None, dict([*self._handled.items(), (key, outcome)][-_REMEMBERED:]))

    def _write(self, doing: Doing | None, handled: dict[str, str]) -> None:
        data = {"doing": json.dumps(asdict(doing) if doing else None), "handled": json.dumps(handled)}
        self._client.patch(ConfigMap, NAME, {"data": data}, patch_type=PatchType.MERGE)
        with self._lock:
            self.doing, self._handled = doing, handled
