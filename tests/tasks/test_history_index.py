"""The index of a history in a bucket of a real S3 server: the same list as without it, whatever is wrong with it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest

from ops.commands.deploy import Wish, deploy
from ops.commands.state import copy_state, list_saved, restore_saved
from ops.errors import Refused
from ops.stack import history_index
from ops.stack.history import history_row
from ops.stack.pulumi_cli import PulumiCli
from ops.stack.session import Session, open_session
from ops.stack.state_bucket import prepare_bucket
from ops.stack.state_files import BucketFiles, StateFiles
from tests.support import proxy
from tests.support.image_registry import serve_images
from tests.support.servers import S3
from tests.support.stack_session import POLICY, FakeCluster, create_session, needs_engine, pulumi

PLACE = "kept/dev"
FOLDER = f".pulumi/history/{PLACE}"
INDEX = f"{FOLDER}/{history_index.NAME}"
CANARY = "v1:CANARY:ciphertext"


class Bucket:
    """A bucket with the history of a stack; counts the files that its server is asked for."""

    def __init__(self, s3: S3, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client: Any = s3.client()
        self.name, self._s3, self._folder, self._monkeypatch = name, s3, folder, monkeypatch
        (folder / "Pulumi.yaml").write_text("name: kept\nruntime: python\n")
        self.sign_in(s3.access_key, s3.secret_key)
        monkeypatch.setenv("PULUMI_BACKEND_URL", self.address())

    def address(self) -> str:
        return f"s3://{self.name}?endpoint={quote(self._s3.endpoint)}&region=us-east-1&s3ForcePathStyle=true"

    def sign_in(self, key: str, secret: str) -> None:
        self._monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        self._monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    def add(self, revision: int, **changes: Any) -> str:
        """An update with its state; the name of its file."""
        release = {"revision": revision, "image": f"r/shop@sha256:{revision:064x}", "git": f"{revision:07x}"}
        update = {
            "kind": "update",
            "result": "succeeded",
            "startTime": 1_795_000_000 + revision,
            "endTime": 1_795_000_009 + revision,
            "message": f"revision {revision}: deploy by alice",
            "environment": {"ci.system": "github"},
            "config": {"runbook:release": release, "secrets:API_KEY": {"secure": CANARY}, "runbook:namespace": "shop"},
            "resourceChanges": {"same": 3, "update": 1},
            **changes,
        }
        name = f"dev-{1_795_000_000_000_000_000 + revision}"
        self.put(f"{FOLDER}/{name}.history.json", json.dumps(update).encode())
        self.put(f"{FOLDER}/{name}.checkpoint.json", b"{}")
        return f"{name}.history.json"

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def list_keys(self) -> set[str]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {entry["Key"] for entry in found}

    def open(self) -> PulumiCli:
        """As a command of its own."""
        return PulumiCli(self._folder, "dev")

    def revisions(self, size: int = 50, page: int = 1) -> list[Any]:
        return [row["revision"] for row in self.open().list_history(size, page)]

    def count_reads(self) -> list[str]:
        """The updates that are read from now on."""
        read: list[str] = []
        get = BucketFiles._get

        def counted(files: BucketFiles, key: str) -> Any:
            if key != INDEX:
                read.append(key.rsplit("/", 1)[1])
            return get(files, key)

        self._monkeypatch.setattr(BucketFiles, "_get", counted)
        return read


@pytest.fixture
def history(s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket(s3, bucket, tmp_path, monkeypatch)
    for revision in (1, 2, 3):
        made.add(revision)
    return made


def test_a_list_reads_only_updates_that_the_index_lacks(history: Bucket) -> None:
    without = history.open().list_history(50, 1)
    assert without == [history_row(entry) for entry in history.open().read_history(50, 1)]
    assert INDEX not in history.list_keys(), "a list writes nothing"
    history.open().index_history()
    read = history.count_reads()
    assert history.open().list_history(50, 1) == without
    assert read == []
    fourth = history.add(4)
    assert history.revisions() == [4, 3, 2, 1]
    assert read == [fourth]
    assert [history.revisions(3, page) for page in (1, 2, 3)] == [[4, 3, 2], [1], []]


def test_an_update_that_was_replaced_or_deleted_is_not_listed_from_the_index(history: Bucket) -> None:
    history.open().index_history()
    history.add(2, result="failed")
    assert [row["result"] for row in history.open().list_history(50, 1)] == ["succeeded", "failed", "succeeded"]
    for name in history_index._read(opened(history), f"history/{PLACE}")[1].rows:
        history.client.delete_object(Bucket=history.name, Key=f"{FOLDER}/{name}")
        break
    assert history.revisions() == [3, 2]
    history.open().index_history()
    read = history.count_reads()
    assert [row["result"] for row in history.open().list_history(50, 1)] == ["succeeded", "failed"]
    assert read == []


def opened(history: Bucket) -> BucketFiles:
    files: StateFiles | None = history.open().files
    assert isinstance(files, BucketFiles)
    return files


def unpacked(history: Bucket) -> dict[str, Any]:
    return json.loads(gzip.decompress(history.get(INDEX)))


def repacked(document: Any) -> bytes:
    return gzip.compress(json.dumps(document).encode())


@pytest.mark.parametrize("damage", ["text", "cut", "bit", "list", "format", "columns", "short row", "empty"])
def test_a_damaged_index_is_ignored_and_replaced(history: Bucket, damage: str) -> None:
    history.open().index_history()
    good, document = history.get(INDEX), unpacked(history)
    row = next(iter(document["rows"].values()))
    bad = {
        "text": lambda: b"not an index",
        "cut": lambda: good[: len(good) // 2],
        "bit": lambda: good[:60] + bytes([good[60] ^ 1]) + good[61:],
        "list": lambda: repacked([1]),
        "format": lambda: repacked({**document, "format": 0}),
        "columns": lambda: repacked({**document, "columns": document["columns"][::-1]}),
        "short row": lambda: repacked({**document, "rows": {**document["rows"], "x": row[:3]}}),
        "empty": lambda: b"",
    }[damage]()
    history.put(INDEX, bad)
    read = history.count_reads()
    assert history.revisions() == [3, 2, 1]
    assert len(read) == 3
    history.open().index_history()
    assert unpacked(history) == document


def test_two_writers_lose_nothing(history: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command writes the index between this one's reading and its writing."""
    history.open().index_history()
    history.add(4)
    replace, tried = BucketFiles.replace, []

    def interrupted(files: BucketFiles, folder: str, name: str, content: bytes, tag: str | None) -> bool:
        tried.append(tag)
        if len(tried) == 1:
            history.add(5)
            monkeypatch.setattr(BucketFiles, "replace", replace)
            history.open().index_history()
            monkeypatch.setattr(BucketFiles, "replace", interrupted)
            assert not replace(files, folder, name, content, tag), "the older index did not replace the newer one"
            return False
        return replace(files, folder, name, content, tag)

    monkeypatch.setattr(BucketFiles, "replace", interrupted)
    history.open().index_history()
    assert len(unpacked(history)["rows"]) == 5


def test_a_file_is_replaced_only_as_it_was_read(history: Bucket) -> None:
    files, folder = opened(history), f"history/{PLACE}"
    assert files.replace(folder, "x", b"1", None)
    assert not files.replace(folder, "x", b"2", None), "it exists"
    tag, content = files.read_tagged(folder, ["x"])["x"]
    assert content == b"1"
    assert files.list_tags(folder)["x"] == tag
    assert files.replace(folder, "x", b"3", tag)
    assert not files.replace(folder, "x", b"4", tag)
    files.delete(folder, "x")
    assert not files.replace(folder, "x", b"5", tag), "it was deleted"
    assert "x" not in files.names(folder)


def test_an_identity_that_may_only_read_lists_and_its_index_is_refused(history: Bucket, s3: S3) -> None:
    history.sign_in(*s3.reader)
    assert history.revisions() == [3, 2, 1]
    with pytest.raises(Refused, match=f"s3://{history.name}"):
        history.open().index_history()
    assert INDEX not in history.list_keys()


def test_the_index_has_no_configuration_no_message_and_no_encrypted_value(history: Bucket) -> None:
    sealed = {"revision": 4, "image": {"secure": CANARY}, "git": "abc", "schema": {"min": {"secure": CANARY}}}
    history.add(4, config={"runbook:release": sealed})
    history.add(5, config={"runbook:release": {"secure": CANARY}})
    history.open().index_history()
    text = gzip.decompress(history.get(INDEX)).decode()
    for absent in (CANARY, "secure", "namespace", "API_KEY", "revision 3: deploy"):
        assert absent not in text
    newest = history.open().list_history(2, 1)
    assert [(row["revision"], row["image"], row["git"], row["schema"]) for row in newest] == [
        (None, None, None, None),
        (4, None, "abc", None),
    ]


def test_a_damaged_update_is_named(history: Bucket) -> None:
    history.put(f"{FOLDER}/dev-1795000000000000009.history.json", b'{"kind": ')
    for act in (history.revisions, history.open().index_history):
        with pytest.raises(Refused, match=r"kept/dev/dev-1795000000000000009\.history\.json is damaged"):
            act()


def test_a_list_of_many_updates_is_two_requests(history: Bucket, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for revision in range(4, 40):
        history.add(revision)
    history.open().index_history()
    asked: list[bytes] = []

    def see(data: bytes) -> bytes:
        asked.extend(line for line in data.split(b"\r\n") if line.startswith((b"GET ", b"HEAD ")))
        return data

    with proxy.proxy(s3.port, up=see) as counted:
        monkeypatch.setenv("PULUMI_BACKEND_URL", history.address().replace(str(s3.port), str(counted.port)))
        assert history.revisions() == list(range(39, 0, -1))
    assert len(asked) == 2, "the folder and the index"


@needs_engine
def test_the_engine_does_not_see_the_index(
    s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = Bucket(s3, bucket, tmp_path, monkeypatch)
    prepare_bucket(history.address())
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "right")
    for name in ("PULUMI_OPTION_CONFIG_FILE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_STACK"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "__main__.py").write_text("")
    pulumi(tmp_path, "stack", "init", "dev")
    pulumi(tmp_path, "up", "--yes", "--skip-preview", "--stack", "dev")

    def shown() -> list[str]:
        words = ("stack", "history", "--json", "--stack", "dev"), ("stack", "export", "--stack", "dev")
        return [pulumi(tmp_path, *each) for each in (*words, ("stack", "ls", "--json"))]

    session = open_session(tmp_path, "dev")
    before, saved = shown(), list_saved(session, 20)
    history.open().index_history()
    assert INDEX in history.list_keys()
    assert (shown(), list_saved(session, 20)) == (before, saved)
    pulumi(tmp_path, "up", "--yes", "--skip-preview", "--stack", "dev")
    read = history.count_reads()
    assert [row["action"] for row in history.open().list_history(50, 1)] == ["update", "update"]
    assert len(read) == 1
    history.open().index_history()

    copy_state(session, f"file://{tmp_path}/copy")
    assert history_index.NAME not in {file.name for file in (tmp_path / "copy").rglob("*")}
    versions = history.client.list_object_versions(Bucket=bucket, Prefix=INDEX)["Versions"]
    assert len(versions) == 2
    restore_saved(session, saved[0].identity)
    assert len(history.open().list_history(50, 1)) == 2

    pulumi(tmp_path, "stack", "rename", "prod", "--stack", "dev")
    assert len(PulumiCli(tmp_path, "prod").list_history(50, 1)) == 2, "the index stays behind, and is not missed"
    pulumi(tmp_path, "stack", "rename", "dev", "--stack", "prod")
    history.open().index_history()
    assert len(history.open().list_history(50, 1)) == 2
    pulumi(tmp_path, "stack", "rm", "--yes", "--force", "--stack", "dev")
    assert not [key for key in history.list_keys() if key.startswith(".pulumi/history/")]


PROGRAM = """
import pulumi

from program.start_check import await_start

await_start()
pulumi.export("revision", pulumi.Config("runbook").get_object("release")["revision"])
"""


@needs_engine
def test_a_command_leaves_an_index_or_says_why_not(
    s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Bucket(s3, bucket, tmp_path, monkeypatch)
    prepare_bucket(where.address())
    files = create_session(tmp_path, monkeypatch, PROGRAM)
    monkeypatch.setenv("PULUMI_BACKEND_URL", where.address())
    pulumi(files.reader.folder, "stack", "init", "dev")
    said: list[str] = []
    monkeypatch.setattr(Session, "say", lambda _self, text, *_: said.append(text))

    def release(tag: str) -> int:
        session = open_session(files.reader.folder, "dev")
        return deploy(session, Wish(f"{registry}:{tag}"), POLICY)["revision"]

    def indexed() -> list[int]:
        document = json.loads(gzip.decompress(where.get(f".pulumi/history/runbook/dev/{history_index.NAME}")))
        return sorted(row[1] for row in document["rows"].values())

    def refuse(*_: object) -> NoReturn:
        raise Refused("s3:PutObject is denied")

    with serve_images() as registry:
        release("v1")
        assert indexed() == [1]
        assert not [text for text in said if "index of the history" in text]
        monkeypatch.setattr(FakeCluster, "level", 1)
        monkeypatch.setattr(BucketFiles, "replace", refuse)
        assert release("v2") == 2
    assert indexed() == [1]
    assert [text for text in said if "index of the history" in text and "s3:PutObject is denied" in text]
