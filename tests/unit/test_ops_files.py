"""Edits of the stack file, the locks, and what is read from a registry."""

from __future__ import annotations

import base64
import getpass
import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ops.adapters import registry
from ops.adapters.registry import Image
from ops.errors import Refused
from ops.stack import locks
from ops.stack.pulumi_cli import PulumiCli
from ops.stack.stack_file import StackText, read

TEXT = """\
# head
encryptionsalt: v1:abc
config:
  # the namespace
  runbook:namespace: shop   # inline

  # about the release
  runbook:release:
    revision: 1
    image: a@sha256:b   # why
    schema: {min: 1, max: 2, level: 1}
  # about the application

  runbook:application:
    services:
      - name: backend
        port: 3000
    secrets:
    - A
  secrets:A:
    secure: v1:xx
  runbook:text: |
    block
    text

  # the end
"""


def edited(changes: dict[str, Any], text: str = TEXT) -> str:
    return StackText(Path("Pulumi.x.yaml"), text).edited(changes).text


def test_only_the_lines_of_the_key_change() -> None:
    after = edited({"runbook:release": {"revision": 2, "image": "z"}})
    kept = [line for line in TEXT.splitlines() if line not in after.splitlines()]
    assert kept == [
        "    revision: 1",
        "    image: a@sha256:b   # why",
        "    schema: {min: 1, max: 2, level: 1}",
    ]
    assert "  runbook:release:\n    revision: 2\n    image: z\n  # about the application\n" in after


@pytest.mark.parametrize(
    "key", ["runbook:release", "runbook:application", "secrets:A", "runbook:text", "runbook:namespace"]
)
def test_every_key_can_be_removed_and_put_back(key: str) -> None:
    without = edited({key: None})
    config = yaml.safe_load(without)["config"]
    assert key not in config
    assert config == {name: value for name, value in yaml.safe_load(TEXT)["config"].items() if name != key}
    assert yaml.safe_load(edited({key: {"a": [1]}}, without))["config"][key] == {"a": [1]}


def test_an_equal_value_changes_not_one_byte() -> None:
    assert edited({"runbook:release": yaml.safe_load(TEXT)["config"]["runbook:release"]}) == TEXT


@pytest.mark.parametrize("value", ["12e4567", "1234567", "0x1f", "yes", "null", "1:30", "", "a: b", "two\nlines", "ü"])
def test_text_stays_text(value: str) -> None:
    after = edited({"runbook:release": {"git": value}})
    assert yaml.safe_load(after)["config"]["runbook:release"]["git"] == value
    if value[:1].isdigit():
        assert f'git: "{value}"' in after, "the engine's YAML knows more numbers than Python's"


def test_a_file_without_settings_gets_them() -> None:
    assert edited({"a:b": {"c": 1}}, "encryptionsalt: x") == "encryptionsalt: x\nconfig:\n  a:b:\n    c: 1\n"
    with pytest.raises(Refused, match="one key per line"):
        edited({"a:b": 1}, "config: {c:d: 1}\n")


def test_saving_replaces_the_file_in_one_step_and_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text(TEXT)
    file.chmod(0o640)
    read(file).edited({"runbook:namespace": "other"}).save()
    assert read(file).config["runbook:namespace"] == "other"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [item.name for item in tmp_path.iterdir()] == [file.name], "no scratch file is left"


def test_a_missing_or_broken_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not exist"):
        read(tmp_path / "Pulumi.no.yaml")
    broken = tmp_path / "Pulumi.x.yaml"
    broken.write_text("config: [")
    with pytest.raises(Refused, match="is not a stack file"):
        read(broken)


# -- locks ---------------------------------------------------------------------------------------------

LOCK_ERROR = """error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end
  file:///b/.pulumi/locks/x/1.json: created by bob@ci-7 (pid 812) at 2026-01-02T03:04:05Z"""


def test_lock_owners_are_parsed_from_the_engines_error() -> None:
    (lock,) = locks.parse_lock_owners(LOCK_ERROR)
    assert str(lock) == "bob@ci-7 (pid 812) since 2026-01-02T03:04:05Z"
    assert lock.file == "1.json"


def make_lock(pid: int, since: datetime | None = None) -> locks.EngineLock:
    at = since or datetime.now(UTC)
    return locks.EngineLock(getpass.getuser(), socket.gethostname(), pid, f"{at:%Y-%m-%dT%H:%M:%S}", "1.json")


@pytest.fixture
def engine() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def record(file: Path, pid: int, **changes: str) -> None:
    """A command starts an engine, and is killed."""
    with locks.exclusive(file, "deploy x") as lock:
        lock.add_engine(pid)
    content = json.loads((file.parent / f"{file.name}.lock").read_text())
    content["engines"] = [engine | changes for engine in content["engines"]]
    (file.parent / f"{file.name}.lock").write_text(json.dumps(content))


def test_a_lock_is_abandoned_only_when_its_recorded_engine_has_ended(
    tmp_path: Path, engine: subprocess.Popen[bytes]
) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    lock = make_lock(engine.pid)
    assert not locks.all_abandoned([lock], file), "no record at all"
    record(file, engine.pid)
    assert not locks.all_abandoned([lock], file), "the engine still runs"
    engine.kill()
    engine.wait()
    assert locks.all_abandoned([lock], file)
    with locks.exclusive(file, "status of the next command"):
        assert locks.all_abandoned([lock], file), "the next command keeps the record"
    assert not locks.all_abandoned([lock, make_lock(1)], file), "one of two is unknown"
    assert not locks.all_abandoned([], file)


@pytest.mark.parametrize(
    "changes",
    [
        {"pidNamespace": "pid:[1]"},  # a container with the host's network, and so with its host name
        {"boot": "00000000-0000-0000-0000-000000000000"},  # another machine with this host name
    ],
)
def test_a_process_of_another_container_or_machine_is_never_known_to_have_ended(
    tmp_path: Path, engine: subprocess.Popen[bytes], changes: Mapping[str, str]
) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    record(file, engine.pid, **changes)
    engine.kill()
    engine.wait()
    assert not locks.all_abandoned([make_lock(engine.pid)], file)


def test_a_later_lock_with_the_process_id_of_a_killed_engine_is_not_its(
    tmp_path: Path, engine: subprocess.Popen[bytes]
) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    record(file, engine.pid)
    engine.kill()
    engine.wait()
    assert not locks.all_abandoned([make_lock(engine.pid, datetime.now(UTC) + timedelta(hours=1))], file)


def test_an_engine_that_ended_in_order_is_no_longer_recorded(tmp_path: Path, engine: subprocess.Popen[bytes]) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    with locks.exclusive(file, "deploy x") as lock:
        lock.add_engine(engine.pid)
        lock.remove_engine(engine.pid)
    engine.kill()
    engine.wait()
    assert not locks.all_abandoned([make_lock(engine.pid)], file)


def test_only_the_judged_lock_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: runbook\nruntime: python\n")
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}")
    cli = PulumiCli(tmp_path, "organization/runbook/dev")
    folder = tmp_path / ".pulumi" / "locks" / "organization" / "runbook" / "dev"
    folder.mkdir(parents=True)
    owner = {"pid": 1, "username": "bob", "hostname": "ci-7", "timestamp": "2026-01-02T03:04:05.123Z"}
    (folder / "1.json").write_text(json.dumps(owner))
    judged = cli.read_locks() or []
    # Another person saw the same lock, removed it, and updates the stack now.
    (folder / "1.json").unlink()
    (folder / "2.json").write_text(json.dumps(owner | {"pid": 2}))
    cli.remove_locks(judged)
    assert [lock.pid for lock in cli.read_locks() or ()] == [2]


def test_a_backend_of_files_shows_its_locks_and_its_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: runbook\nruntime: python\n")
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}")
    cli = PulumiCli(tmp_path, "organization/runbook/dev")
    assert cli.read_locks() == []
    folder = tmp_path / ".pulumi" / "locks" / "organization" / "runbook" / "dev"
    folder.mkdir(parents=True)
    owner = {"pid": 1, "username": "bob", "hostname": "ci-7", "timestamp": "2026-01-02T03:04:05.123Z"}
    (folder / "1.json").write_text(json.dumps(owner))
    assert [str(lock) for lock in cli.read_locks() or ()] == ["bob@ci-7 (pid 1) since 2026-01-02T03:04:05"]

    history = tmp_path / ".pulumi" / "history" / "runbook" / "dev"
    history.mkdir(parents=True)
    for second in range(5):
        config = {"runbook:namespace": f"n{second}", "secrets:API_KEY": {"secure": "v1:abc"}}
        update = {"kind": "update", "startTime": second, "message": "", "environment": {}, "config": config}
        content = json.dumps({**update, "endTime": second + 2, "result": "succeeded"}).encode()
        name = f"dev-{1700000000 + second}000000000"
        for beside in (f"{name}.checkpoint.json", f"{name}.history.json.attrs"):
            (history / beside).write_text("{}")
        if second % 2:
            (history / f"{name}.history.json").write_bytes(content)
        else:
            (history / f"{name}.history.json.gz").write_bytes(gzip.compress(content))
    pages = [[entry.config for entry in cli.read_history(2, page)] for page in (1, 2, 3, 4)]
    assert pages == [
        [{"runbook:namespace": "n4"}, {"runbook:namespace": "n3"}],
        [{"runbook:namespace": "n2"}, {"runbook:namespace": "n1"}],
        [{"runbook:namespace": "n0"}],
        [],
    ]

    monkeypatch.setenv("PULUMI_BACKEND_URL", "https://api.pulumi.com")
    assert PulumiCli(tmp_path, "dev").files is None


def test_a_process_is_the_engine_only_by_its_name() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert locks.engine_alive(other.pid) is not Path("/proc").is_dir()
    finally:
        other.kill()
        other.wait()
    assert not locks.engine_alive(other.pid)


def test_one_command_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    with locks.exclusive(file, "deploy one"):
        second = locks.exclusive(file, "deploy two")
        with pytest.raises(Refused, match=rf"deploy one by .* \(pid {os.getpid()}\)"):
            second.__enter__()
    with locks.exclusive(file, "deploy three"):
        pass


# -- the registry --------------------------------------------------------------------------------------


def test_labels_give_the_schema_and_flags_win() -> None:
    labels = {"runbook.schema.min": "2", "runbook.schema.max": "3", "runbook.schema.level": "3"}
    made = Image("r.example.com/shop@sha256:x", labels)
    assert made.schema({}).to_config() == {"min": 2, "max": 3, "level": 3}
    assert made.schema({"min": 1, "max": None}).to_config() == {"min": 1, "max": 3, "level": 3}
    with pytest.raises(Refused, match=r"labels runbook\.schema\.max.*--schema-max N"):
        Image("i", {"runbook.schema.min": "1", "runbook.schema.level": "1"}).schema({})
    with pytest.raises(Refused, match="'two', not a whole number"):
        Image("i", {**labels, "runbook.schema.min": "two"}).schema({})


@pytest.mark.parametrize(
    "reference", ["shop", "shop:1", "library/shop:1", "R.example.com/UPPER:1", "r.example.com/shop@sha256:1"]
)
def test_a_reference_names_its_registry(reference: str) -> None:
    with pytest.raises(Refused, match="not a full image reference"):
        registry.resolve(reference)


def test_a_private_registry_by_token_and_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    auth = base64.b64encode(b"robot:hunter2").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example.com": {"auth": auth}}}))
    config = {"config": {"Labels": {"org.opencontainers.image.revision": "1a2b3c4"}}}
    index = {
        "manifests": [
            {"digest": "sha256:att", "platform": {"os": "unknown"}},
            {"digest": "sha256:man", "platform": {"os": "linux"}},
        ]
    }
    answers: dict[str, Any] = {
        "/v2/team/shop/manifests/2.4.0": index,
        "/v2/team/shop/manifests/sha256:man": {"config": {"digest": "sha256:cfg"}},
        "/v2/team/shop/blobs/sha256:cfg": config,
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            if request.headers.get("authorization") != f"Basic {auth}":
                return httpx.Response(401)
            assert dict(request.url.params) == {"service": "r", "scope": "repository:team/shop:pull"}
            return httpx.Response(200, json={"token": "t0"})
        if request.headers.get("authorization") != "Bearer t0":
            challenge = 'Bearer realm="https://auth.example.com/token",service="r",scope="repository:team/shop:pull"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        body = answers.get(request.url.path)
        return httpx.Response(200, json=body) if body else httpx.Response(404)

    client = httpx.Client
    monkeypatch.setattr(registry.httpx, "Client", lambda **more: client(transport=httpx.MockTransport(answer), **more))
    found = registry.resolve("r.example.com/team/shop:2.4.0")
    assert found.reference.startswith("r.example.com/team/shop@sha256:")
    assert found.git == "1a2b3c4"
    with pytest.raises(Refused, match="has no 9: is it pushed"):
        registry.resolve("r.example.com/team/shop:9")

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Refused, match=r"docker login r\.example\.com") as refused:
        registry.resolve("r.example.com/team/shop:2.4.0")
    assert "hunter2" not in str(refused.value)
