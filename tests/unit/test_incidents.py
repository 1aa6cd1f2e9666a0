"""Incident records: which are deleted when another one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lightkube import ApiError
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Event

from ops.stack import incidents

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


class Namespace:
    """ConfigMaps as an API server keeps them, which times them by its own clock."""

    namespace = "shop"

    def __init__(self, kind: str = "alert", /, **records: tuple[timedelta, bool]) -> None:
        """Of each record its age, and whether it is closed."""
        self.left = {
            name: ConfigMap(
                metadata=ObjectMeta(name=name, creationTimestamp=NOW - age, labels={incidents.LABEL: kind}),
                data={"record.json": '{"closedAt": "then"}' if closed else "{}"},
            )
            for name, (age, closed) in records.items()
        }
        self.may_delete = True

    @contextmanager
    def patient(self) -> Iterator[Namespace]:
        yield self

    def create(self, made: Any) -> Any:
        if isinstance(made, Event):
            return made
        made.metadata.creationTimestamp = NOW
        self.left[made.metadata.name] = made
        return made

    def list(self, kind: Any, labels: dict[str, Any]) -> list[ConfigMap]:
        assert kind is ConfigMap
        assert list(labels) == [incidents.LABEL]
        return list(self.left.values())

    def delete(self, _kind: Any, name: str) -> None:
        if not self.may_delete:
            raise ApiError(request=None, response=_Refusal())  # type: ignore[arg-type]
        del self.left[name]


class _Refusal:
    status_code = 403

    def json(self) -> dict[str, Any]:
        return {"code": 403, "reason": "Forbidden", "message": "no"}


def opened(namespace: Namespace) -> set[str]:
    cluster: Any = namespace
    name = incidents.open_incident(cluster, "lockdown", {"reason": "x"})
    assert name in namespace.left
    return set(namespace.left) - {name}


def test_records_older_than_their_retention_are_deleted() -> None:
    kept = timedelta(days=incidents.KEPT_DAYS)
    second = timedelta(seconds=1)
    found = Namespace(
        old=(kept + second, True), open_old=(kept + second, False), young=(kept - second, True), new=(second, False)
    )
    assert opened(found) == {"young", "new"}


def test_of_too_many_the_oldest_closed_ones_are_deleted() -> None:
    minutes = {f"r{n:03}": (timedelta(minutes=n + 1), n != 250) for n in range(260)}
    left = opened(Namespace(**minutes))
    assert left == {f"r{n:03}" for n in range(199)} | {"r250"}, "an open one stays"


@pytest.mark.parametrize("kind", ["reported", "rollback", "lockdown"])
def test_what_the_status_page_counts_is_kept_however_many_there_are(kind: str) -> None:
    minutes = {f"r{n:03}": (timedelta(minutes=n + 1), True) for n in range(260)}
    assert len(opened(Namespace(kind, **minutes))) == 260


def test_who_may_not_delete_still_opens_one() -> None:
    found = Namespace(old=(timedelta(days=999), True))
    found.may_delete = False
    assert opened(found) == {"old"}
