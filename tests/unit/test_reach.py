"""A check waits for the network of its own pod."""

from __future__ import annotations

import errno
import http.client
import socket
from collections.abc import Iterator

import psycopg
import pytest

from tasks import reach
from tasks.backup import postgres
from tasks.backup.postgres import Database
from tasks.errors import TaskError
from tasks.reach import NotThere, connect
from tasks.store.window import WindowStore

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
NO_ROUTE = OSError(errno.EHOSTUNREACH, "No route to host")
NO_DNS = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_HOST = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def answers(monkeypatch: pytest.MonkeyPatch, *errors: OSError) -> Iterator[OSError]:
    """The network: one failure after the other, and then a server."""
    left = iter(errors)

    def create_connection(*_: object, **__: object) -> object:
        for error in left:
            raise error
        return socket.socket()

    monkeypatch.setattr(reach.socket, "create_connection", create_connection)
    monkeypatch.setattr(reach, "_RETRY_SECONDS", 0.01)
    return left


@pytest.mark.parametrize("error", [REFUSED, NO_ROUTE, NO_DNS])
def test_it_waits_until_the_policies_of_a_new_pod_are_in_place(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    answers(monkeypatch, error, error, REFUSED)
    assert connect("backend", 3000) == "backend:3000 accepts connections"


def test_the_store_of_a_new_pod_is_asked_again_when_dns_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([NO_DNS, REFUSED])

    def fail(*_: object) -> None:
        for error in left:
            raise error
        raise http.client.HTTPException("reached")

    monkeypatch.setattr(http.client.HTTPConnection, "connect", fail)
    monkeypatch.setattr(reach, "_RETRY_SECONDS", 0.01)
    with pytest.raises(TaskError, match="reached"):
        WindowStore("http://backup-exporter:8080", "token").get("backups/a/manifest.json")


def test_the_database_of_a_new_pod_is_asked_again_when_dns_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    words = 'could not translate host name "postgres" to address: Temporary failure in name resolution'
    left = iter([words, "Connection refused", "FATAL: role does not exist"])

    def fail(*_: object, **__: object) -> None:
        raise psycopg.OperationalError(next(left))

    monkeypatch.setattr(psycopg, "connect", fail)
    monkeypatch.setattr(postgres, "_RETRY_SECONDS", 0.01)
    with pytest.raises(TaskError, match="role does not exist"):
        Database("postgresql://shop@postgres/shop").connect()


def test_a_host_that_does_not_exist_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left = answers(monkeypatch, NO_HOST, REFUSED)
    with pytest.raises(NotThere, match=r"backend:3000 cannot be reached: .*not known"):
        connect("backend", 3000)
    assert next(left, None) is REFUSED, "it was not tried again"


@pytest.mark.parametrize("error", [REFUSED, NO_DNS])
def test_it_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    answers(monkeypatch, *[error] * 1000)
    monkeypatch.setattr(reach, "SECONDS", 0.1)
    with pytest.raises(NotThere, match="backend:3000 cannot be reached"):
        connect("backend", 3000)
