"""What every store promises, on a real S3 server and in a folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.store import Missing, Store, open_store
from tasks.store.base import Exists
from tests.support.servers import S3
from tests.support.task_processes import ROOT

MIB = 1 << 20


@pytest.fixture(params=["s3", "folder"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "folder":
        return {"BACKUP_STORE": f"file://{tmp_path}/backups"}
    server: S3 = request.getfixturevalue("s3")
    return server.environment(request.getfixturevalue("bucket"))


@pytest.fixture
def store(settings: dict[str, str]) -> Store:
    made = open_store(Environment(settings))
    made.prepare()
    return made


def test_objects_come_and_go(store: Store) -> None:
    store.put("a/one", b"1")
    store.put("a/two", b"22")
    store.put("b/one", b"")
    assert [(entry.key, entry.size) for entry in store.entries("a/")] == [("a/one", 1), ("a/two", 2)]
    assert [entry.key for entry in store.entries()] == ["a/one", "a/two", "b/one"]
    assert store.get("a/two") == b"22"
    assert store.get("b/one") == b""

    store.delete(["a/one", "never/was"])
    assert [entry.key for entry in store.entries()] == ["a/two", "b/one"]
    with pytest.raises(Missing, match="a/one"):
        store.get("a/one")
    with pytest.raises(Missing), store.open("a/one"):
        pass


def test_an_object_is_replaced_unless_it_must_be_new(store: Store) -> None:
    store.put("evidence/1", b"first", new=True)
    with pytest.raises(Exists, match="evidence/1"):
        store.put("evidence/1", b"second", new=True)
    assert store.get("evidence/1") == b"first"
    store.put("evidence/1", b"third")
    assert store.get("evidence/1") == b"third"


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 25 * MIB])
def test_a_stream_becomes_an_object_byte_for_byte(store: Store, size: int) -> None:
    content = os.urandom(size)
    with store.upload("stream") as sink:
        view = memoryview(content)
        for start in range(0, size, 777_777):
            assert sink.write(view[start : start + 777_777]) == len(view[start : start + 777_777])
        assert list(store.entries()) == [], "nothing is there before all of it is"
    with store.open("stream") as stream:
        digest = hashlib.sha256()
        while piece := stream.read(100_000):
            digest.update(piece)
    assert digest.digest() == hashlib.sha256(content).digest()
    assert [(entry.key, entry.size) for entry in store.entries()] == [("stream", size)]


@pytest.mark.parametrize("written", [1, 20 * MIB])
def test_an_upload_that_fails_leaves_nothing(store: Store, written: int) -> None:
    with pytest.raises(ZeroDivisionError), store.upload("stream") as sink:  # noqa: PT012
        sink.write(bytes(written))
        raise ZeroDivisionError
    assert list(store.entries()) == []
    assert store.clear_unfinished() == 0


def test_memory_stays_flat(settings: dict[str, str]) -> None:
    """Six times the bytes, the same peak: within the noise of one piece."""
    program = (
        "import os, resource, sys\n"
        "from tasks.environment import Environment\n"
        "from tasks.store import open_store\n"
        "store = open_store(Environment(dict(os.environ)))\n"
        "store.prepare()\n"
        "with store.upload('stream') as sink:\n"
        "    for _ in range(int(sys.argv[1])):\n"
        "        sink.write(bytes(1 << 20))\n"
        "with store.open('stream') as stream:\n"
        "    while stream.read(1 << 20):\n"
        "        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak(mebibytes: int) -> int:
        command = [sys.executable, "-c", program, str(mebibytes)]
        done = subprocess.run(
            command, cwd=ROOT, env=settings | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
        )
        return int(done.stdout) >> 10

    small, large = peak(25), peak(150)
    assert large < small + 12, f"{small} MiB for 25 MiB, {large} MiB for 150 MiB"


def test_a_folder_that_is_not_mounted(tmp_path: Path) -> None:
    store = open_store(Environment({"BACKUP_STORE": f"file://{tmp_path}/volume/backups"}))
    for use in (store.prepare, lambda: list(store.entries())):
        with pytest.raises(TaskError, match="mounted") as caught:
            use()
        assert caught.value.code == "store_unreachable"


def test_a_folder_keeps_backups_private(tmp_path: Path) -> None:
    store = open_store(Environment({"BACKUP_STORE": f"file://{tmp_path}/backups"}))
    store.prepare()
    store.put("a/b", b"secret")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "backups").rglob("*")}
    assert modes <= {0o600, 0o700}


def test_a_killed_writer_leaves_nothing_that_is_listed(tmp_path: Path) -> None:
    environment = {"BACKUP_STORE": f"file://{tmp_path}/backups"}
    program = (
        "import os, signal\n"
        "from tasks.environment import Environment\n"
        "from tasks.store import open_store\n"
        "store = open_store(Environment(dict(os.environ)))\n"
        "store.prepare()\n"
        "with store.upload('a/stream') as sink:\n"
        "    sink.write(bytes(1000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment)
    assert done.returncode < 0
    store = open_store(Environment(environment))
    assert list(store.entries()) == []
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1
    assert store.clear_unfinished() == 1
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    "url", ["", "s3://", "s3:///prefix", "s3://key:secret@bucket/x", "file://", "/var/backups", "gs://b"]
)
def test_a_store_that_cannot_be_one(url: str) -> None:
    with pytest.raises(Refused, match="BACKUP_STORE"):
        open_store(Environment({"BACKUP_STORE": url}))
