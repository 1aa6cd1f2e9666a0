"""How a bundled Redis starts, run as its pod runs it, with the real server behind it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.redis_server import HEALTHY, start_command
from tests.support.servers import free_ports, running

SHOP = "~* &* +@all -@admin -@dangerous +info"


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


class Server:
    """What clients of the running server may do."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, user: str, password: str, *command: str) -> str:
        client = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), "--user", user, *command]
        done = subprocess.run(
            client, env={**os.environ, "REDISCLI_AUTH": password}, capture_output=True, text=True, check=False
        )
        return (done.stderr + done.stdout).strip()


@pytest.fixture
def mounted(tmp_path: Path) -> dict[str, Path]:
    """The files that the pod's Secret holds."""
    files = {"REDIS_PASSWORD_FILE": tmp_path / "password", "REDIS_USERS_FILE": tmp_path / "users"}
    files["REDIS_PASSWORD_FILE"].write_text("admin-password")
    users = ["# the shop's", "", f"user shop-a on #{digest('a-password')} {SHOP}", "user shop-b off", ""]
    files["REDIS_USERS_FILE"].write_text("\n".join(users))
    return files


@pytest.fixture
def server(mounted: dict[str, Path], tmp_path: Path) -> Iterator[Server]:
    [port] = free_ports(1)
    command = start_command("--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path))
    with running(command, "Ready to accept", environment=environment(mounted)):
        yield Server(port)


def environment(mounted: dict[str, Path]) -> dict[str, str]:
    return {**os.environ, **{name: str(path) for name, path in mounted.items()}}


def refused(mounted: dict[str, Path]) -> str:
    done = subprocess.run(
        start_command("--port", "0"), env=environment(mounted), capture_output=True, text=True, check=False
    )
    assert done.returncode == 64, done
    return done.stderr


def test_each_user_may_do_what_it_is_for(server: Server) -> None:
    assert server("default", "admin-password", "acl", "whoami") == "default"
    assert server("shop-a", "a-password", "set", "key", "value", "ex", "60") == "OK"
    assert "used_memory:" in server("shop-a", "a-password", "info", "memory")
    for command in (["keys", "*"], ["config", "get", "*"], ["acl", "list"], ["flushall"]):
        assert "NOPERM" in server("shop-a", "a-password", *command)


def test_wrong_passwords_and_switched_off_users_are_refused(server: Server) -> None:
    for user, password in (("default", "a-password"), ("shop-a", "admin-password"), ("shop-b", ""), ("unknown", "")):
        assert "WRONGPASS" in server(user, password, "ping"), user


def test_the_probe_needs_no_password_and_may_do_nothing_else(server: Server) -> None:
    assert server("health", "", "ping") == "PONG"
    for command in (["get", "key"], ["info"], ["acl", "whoami"], ["publish", "a", "b"]):
        assert "NOPERM" in server("health", "", *command)


def test_no_password_is_in_the_servers_configuration(server: Server) -> None:
    users = server("default", "admin-password", "acl", "list")
    assert digest("a-password") in users
    assert "a-password" not in users
    assert "admin-password" not in users


@pytest.mark.parametrize("file", ["REDIS_PASSWORD_FILE", "REDIS_USERS_FILE"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_file_that_is_missing_or_empty_is_named(mounted: dict[str, Path], file: str, empty: bool) -> None:
    """Without its password the administrator would have the hash of nothing."""
    mounted[file].write_text("") if empty else mounted[file].unlink()
    assert f"{mounted[file]} is missing or empty" in refused(mounted)


def test_the_probe_of_the_pod_passes_while_the_server_answers(server: Server) -> None:
    probe = HEALTHY.replace("redis-cli", f"redis-cli -p {server.port}")
    assert subprocess.run(["sh", "-c", probe], check=False).returncode == 0
    assert subprocess.run(["sh", "-c", HEALTHY.replace("redis-cli", "redis-cli -p 1")], check=False).returncode != 0
