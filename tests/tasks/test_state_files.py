"""The state's files in a folder and in a bucket: the same names, the same contents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ops.errors import Refused
from ops.stack.state_files import StateFiles, open_state_files
from sandbox.stack import remove_old_versions
from tests.support.servers import S3

FOLDER = "history/shop/prod"
CONTENT = {"prod-1.history.json": b"{}", "prod-2.history.json": b"[]"}


def address(s3: S3, bucket: str) -> str:
    return f"s3://{bucket}?endpoint={quote(s3.endpoint)}&region=us-east-1&s3ForcePathStyle=true"


def keys(monkeypatch: pytest.MonkeyPatch, s3: S3) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)


@pytest.fixture(params=["folder", "bucket", "prefix"])
def files(
    request: pytest.FixtureRequest, s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StateFiles:
    keys(monkeypatch, s3)
    if request.param == "folder":
        where = f"file://{tmp_path}"
        (tmp_path / ".pulumi" / FOLDER).mkdir(parents=True)
        for name, content in CONTENT.items():
            (tmp_path / ".pulumi" / FOLDER / name).write_bytes(content)
    else:
        prefix = "teams/shop" if request.param == "prefix" else ""
        where = address(s3, f"{bucket}/{prefix}".rstrip("/"))
        for name, content in CONTENT.items():
            key = f"{prefix}/.pulumi/{FOLDER}/{name}".lstrip("/")
            s3.client().put_object(Bucket=bucket, Key=key, Body=content)
    found = open_state_files(where)
    assert found is not None
    return found


def test_names_are_sorted_and_a_missing_folder_is_empty(files: StateFiles) -> None:
    assert files.names(FOLDER) == sorted(CONTENT)
    assert files.names("history/shop") == []
    assert files.names("locks/organization/shop/prod") == []


def test_contents_come_in_order_without_what_was_deleted(files: StateFiles) -> None:
    asked = ["prod-2.history.json", "deleted.json", "prod-1.history.json"]
    assert files.read(FOLDER, asked) == [b"[]", b"{}"]


def test_wrong_keys_are_refused_without_showing_them(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, s3)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-key")
    found = open_state_files(address(s3, bucket))
    assert found is not None
    with pytest.raises(Refused, match=f"s3://{bucket} cannot be reached.*PULUMI_BACKEND_URL") as caught:
        found.names(FOLDER)
    assert "not-the-secret-key" not in str(caught.value)


def test_replaced_versions_of_the_sandboxs_state_are_removed_and_nothing_else(s3: S3, bucket: str) -> None:
    client: Any = s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    state, lock, entry = ".pulumi/stacks/shop/prod.json", ".pulumi/locks/shop/prod/1.json", f".pulumi/{FOLDER}/1.json"
    for number in range(3):
        client.put_object(Bucket=bucket, Key=state, Body=f"{number}".encode())
    for key in (lock, entry):
        client.put_object(Bucket=bucket, Key=key, Body=b"{}")
    client.delete_object(Bucket=bucket, Key=lock)

    def versions() -> list[str]:
        return [version["Key"] for version in client.list_object_versions(Bucket=bucket).get("Versions", [])]

    now = datetime.now(UTC)
    assert remove_old_versions(client, bucket, now - timedelta(hours=1)) == 0
    assert len(versions()) == 5
    assert remove_old_versions(client, bucket, now + timedelta(hours=1)) == 3
    assert sorted(versions()) == sorted([state, entry])
    assert client.get_object(Bucket=bucket, Key=state)["Body"].read() == b"2"
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert sorted(found["Key"] for found in listed) == sorted([state, entry]), "no empty folder counts as a lock"


def test_other_backends_are_left_to_the_engine() -> None:
    assert open_state_files("https://api.pulumi.com") is None
    assert open_state_files("azblob://state") is None
