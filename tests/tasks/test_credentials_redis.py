"""Redis only: users that end with the process, their rights, the application's sessions."""

from __future__ import annotations

import socket
from pathlib import Path

from tasks.credentials.redis import RULES
from tests.support.proxy import proxy
from tests.support.rotation_world import Cache
from tests.support.task_processes import task


def test_a_redis_that_starts_again_has_the_users_of_its_file(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.serving():
        cache.done("prepare", 1, 0)
        made = cache.state()
    cache.users = cache.user_line(1, RULES)
    with cache.serving():
        assert cache.state() == made, "what the file says is what the task makes"
        assert cache.done("prepare", 1, 0)["created"] is False
        cache.done("retire", 1, 0)
        assert not cache.accepted(0)
        retired = cache.state()
    cache.admin_password = cache.of_admin(1)
    with cache.serving():
        assert cache.state() == retired
        assert (cache.accepted(0), cache.accepted(1)) == (False, True)
        assert cache.done("retire", 1, 0)["ended_sessions"] == 0
    cache.users = ""
    with cache.serving():
        assert not cache.accepted(1)
        assert cache.done("prepare", 1, 0)["created"] is True, "and without the file the task makes them"


def test_what_the_application_may_do_in_redis(cache: Cache) -> None:
    cache.done("prepare", 1, 0)
    shop = "shop-b", cache.of_period(1)
    assert cache.command(*shop, "set", "k", "v", "ex", "9") == "OK"
    assert "used_memory" in cache.command(*shop, "info", "memory")
    for words in ("acl list", "config get *", "flushall", "client kill user default", "keys *", "monitor"):
        assert "NOPERM" in cache.command(*shop, *words.split()), words


def test_log_out_deletes_every_session(cache: Cache) -> None:
    script = "for i=1,2500 do redis.call('set', KEYS[1]..i, 'x') end return 'OK'"
    for prefix in ("session:", "cart:", "csrf:"):
        assert cache.admin("eval", script, "1", prefix) == "OK"
    environment = cache.environment(1, 0) | {"SESSION_KEYS": "session:* csrf:1?"}
    assert task(environment, "credentials", "log-out").result == {"sessions": 2510}
    assert cache.admin("dbsize") == "4990"
    assert task(environment, "credentials", "log-out").result == {"sessions": 0}
    missing = task(cache.environment(1, 0), "credentials", "log-out")
    assert (missing.exit_code, missing.error) == (2, "environment_invalid")
    assert "SESSION_KEYS" in missing.message


def test_no_command_that_makes_a_user_has_its_password(cache: Cache) -> None:
    """Only the login has it: monitors and the slow log record the commands that make users."""
    sent: list[bytes] = []

    def record(data: bytes) -> bytes:
        sent.append(data)
        return data

    with proxy(cache.port, up=record) as wire:
        for verb in ("prepare", "retire"):
            assert task(cache.environment(1, 0, wire.port), "credentials", verb, "redis").exit_code == 0
    making = [data for data in sent if b"SETUSER" in data]
    assert len(making) == 3, "switch the user off, then on; change the admin"
    assert not [data for data in making for plaintext in cache.plaintexts if plaintext.encode() in data]


def test_what_a_user_of_that_name_was_before_is_gone(cache: Cache) -> None:
    cache.admin("acl", "setuser", "shop-b", "on", f">{cache.password('other')}", "+@all", "~*", "(+@all ~*)")
    cache.done("prepare", 1, 0)
    assert not cache.accepts("shop-b", cache.password("other"))
    assert "NOPERM" in cache.command("shop-b", cache.of_period(1), "acl", "list")


def test_a_client_before_its_login_counts_for_no_user(cache: Cache) -> None:
    """Redis lists a probe as the user `default` until it logs in."""
    cache.done("prepare", 1, 0)
    with socket.create_connection(("127.0.0.1", cache.port)):
        assert cache.run("retire", 1, 0).exit_code == 0
