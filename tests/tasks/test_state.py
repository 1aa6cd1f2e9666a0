"""`runbook state` with a real engine, in a folder and in a bucket of a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ops.commands.state import copy_state, list_saved, restore_saved
from ops.errors import Refused
from ops.stack.session import Session, open_session
from ops.stack.state_bucket import prepare_bucket
from tests.support import servers
from tests.support.stack_session import needs_engine, pulumi

pytestmark = needs_engine
PROGRAM = """
import pulumi, pulumi_random as random
for index in range(int(pulumi.Config().require("count"))):
    random.RandomId(f"made-{index}", byte_length=4)
"""


@pytest.fixture
def backend(s3: servers.S3, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The address of a bucket that does not exist yet."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    name = f"state-{abs(hash(request.node.name)) % 10**8}"
    return f"s3://{name}?endpoint={quote(s3.endpoint)}&region=us-east-1&s3ForcePathStyle=true"


def make_stack(folder: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A stack with two updates: one resource, then two."""
    monkeypatch.setenv("PULUMI_BACKEND_URL", backend)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "right")
    for name in ("PULUMI_OPTION_CONFIG_FILE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_STACK"):
        monkeypatch.delenv(name, raising=False)
    (folder / "Pulumi.yaml").write_text("name: kept\nruntime: python\n")
    (folder / "__main__.py").write_text(PROGRAM)
    pulumi(folder, "stack", "init", "dev")
    update(folder, 1)
    update(folder, 2)
    return open_session(folder, "dev")


def update(folder: Path, count: int) -> None:
    pulumi(folder, "config", "set", "count", str(count), "--stack", "dev")
    pulumi(folder, "up", "--yes", "--skip-preview", "--stack", "dev")


def count_resources(folder: Path) -> int:
    deployment = json.loads(pulumi(folder, "stack", "export", "--stack", "dev"))["deployment"]
    return sum(item["type"].startswith("random:") for item in deployment.get("resources", []))


def test_a_bucket_is_made_once_and_keeps_what_was_set(s3: servers.S3, backend: str) -> None:
    made, measures = prepare_bucket(backend)
    assert made
    assert measures[0].name == "versions kept"
    assert not prepare_bucket(backend)[0]
    client, name = s3.client(), backend.removeprefix("s3://").split("?")[0]
    assert client.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    if {measure.name: measure.state for measure in measures}["replaced versions expire after 90 days"] == "set":
        [rule] = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        assert "Expiration" not in rule, "an update of the history would expire"


@pytest.mark.parametrize("address", ["s3://", "file:///tmp/x", "bucket"])
def test_what_is_no_bucket_is_refused(address: str) -> None:
    with pytest.raises(Refused, match="s3://NAME"):
        prepare_bucket(address)


def test_a_damaged_state_is_restored_from_a_version_of_the_bucket(
    tmp_path: Path, s3: servers.S3, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_bucket(backend)
    session = make_stack(tmp_path, backend, monkeypatch)
    name = backend.removeprefix("s3://").split("?")[0]
    damaged: dict[str, Any] = {"Bucket": name, "Key": ".pulumi/stacks/kept/dev.json", "Body": b'{"version": 3, "chec'}
    s3.client().put_object(**damaged)
    with pytest.raises(Exception, match="exit status"):
        count_resources(tmp_path)

    saved = list_saved(session, 20)
    versions = [one for one in saved if one.identity.startswith("version:")]
    assert versions[0].resources == 4, "the stack, its provider, two resources"
    assert [one.resources for one in saved if one.identity.startswith("update:")] == [4, 3]
    done = restore_saved(session, versions[0].identity)
    assert count_resources(tmp_path) == 2
    kept = s3.client().get_object(Bucket=name, Key=f".pulumi/backups/kept/dev/{done['kept']}")
    assert kept["Body"].read() == damaged["Body"]
    update(tmp_path, 3)
    assert count_resources(tmp_path) == 3


def test_a_damaged_state_in_a_folder_is_restored_from_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backend").mkdir()
    session = make_stack(tmp_path, f"file://{tmp_path}/backend", monkeypatch)
    checkpoint = tmp_path / "backend/.pulumi/stacks/kept/dev.json"
    checkpoint.write_text("")
    first, second = list_saved(session, 20)[::-1]
    assert (first.resources, second.resources) == (3, 4)
    with pytest.raises(Refused, match="no saved state 'update:1'"):
        restore_saved(session, "update:1")
    assert checkpoint.read_text() == ""
    restore_saved(session, second.identity)
    assert count_resources(tmp_path) == 2


def test_nothing_is_restored_or_copied_while_an_update_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backend").mkdir()
    session = make_stack(tmp_path, f"file://{tmp_path}/backend", monkeypatch)
    [second, _] = list_saved(session, 20)
    locks = tmp_path / "backend/.pulumi/locks/organization/kept/dev"
    locks.mkdir(parents=True, exist_ok=True)
    lock = {"pid": 1, "username": "bob", "hostname": "laptop", "timestamp": "2026-11-29T09:00:00.0Z"}
    (locks / "one.json").write_text(json.dumps(lock))
    for act in (lambda: restore_saved(session, second.identity), lambda: copy_state(session, f"file://{tmp_path}/b")):
        with pytest.raises(Refused, match="locked by bob@laptop"):
            act()


def test_a_stack_moves_to_a_bucket_with_its_history_and_back(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backend").mkdir()
    session = make_stack(tmp_path, f"file://{tmp_path}/backend", monkeypatch)
    before = session.reader.read_history(50, 1)
    prepare_bucket(backend)
    done = copy_state(session, backend)
    assert done["copied"] == done["files"] > 5
    assert copy_state(session, backend)["copied"] == 0, "run again, it has nothing to do"

    monkeypatch.setenv("PULUMI_BACKEND_URL", backend)
    there = open_session(tmp_path, "dev")
    assert there.reader.read_history(50, 1) == before
    update(tmp_path, 3)
    assert count_resources(tmp_path) == 3

    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/backend")
    with pytest.raises(Refused, match="updates of its own"):
        copy_state(session, backend)
    monkeypatch.setenv("PULUMI_BACKEND_URL", backend)
    copy_state(open_session(tmp_path, "dev"), f"file://{tmp_path}/kept")
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/kept")
    assert count_resources(tmp_path) == 3
