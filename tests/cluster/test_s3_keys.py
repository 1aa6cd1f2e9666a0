"""Key pairs of the sandbox's S3 server come and go while it serves."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox import cluster
from sandbox.cluster import ObjectStore
from sandbox.cluster.s3keys import KeyPair
from sandbox.env import STACK, STATE_BUCKET
from sandbox.paths import ROOT


def s3_key(verb: str, **given: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox", "s3-key", verb]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **given)


def server() -> ObjectStore:
    here = cluster.current()
    assert here is not None
    assert here.s3 is not None
    return here.s3


def client(access_key: str, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server().url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def pair() -> KeyPair:
    """A key pair that was issued for this test."""
    return KeyPair.from_json(s3_key("issue").stdout)


def test_a_key_reads_and_writes_until_it_is_revoked_and_others_are_not_disturbed(pair: KeyPair) -> None:
    store, others = client(pair.access_key, pair.secret_key), client(server().access_key, server().secret_key)
    bucket = f"test-{pair.access_key}"
    store.create_bucket(Bucket=bucket)
    try:
        store.put_object(Bucket=bucket, Key="it", Body=b"is")
        revoked = s3_key("revoke", input=pair.to_json())
        assert revoked.returncode == 0, revoked.stderr
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            store.get_object(Bucket=bucket, Key="it")
        assert others.get_object(Bucket=bucket, Key="it")["Body"].read() == b"is"
    finally:
        others.delete_object(Bucket=bucket, Key="it")
        others.delete_bucket(Bucket=bucket)


def test_a_key_is_revoked_as_the_command_provider_asks_for_it_and_once_more(pair: KeyPair) -> None:
    for _ in range(2):
        revoked = s3_key(
            "revoke", env={**os.environ, "PULUMI_COMMAND_STDOUT": pair.to_json()}, stdin=subprocess.DEVNULL
        )
        assert revoked.returncode == 0, revoked.stderr
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client(pair.access_key, pair.secret_key).list_buckets()


def test_a_key_that_goes_on_being_accepted_is_not_called_revoked() -> None:
    own = KeyPair(server().access_key, server().secret_key)
    refused = s3_key("revoke", input=own.to_json())
    assert refused.returncode == 1
    assert "still accepts a key that was revoked" in refused.stderr
    assert own.secret_key not in refused.stderr


def test_what_is_no_key_pair_is_refused_without_being_repeated() -> None:
    for text in (
        "canary",
        '{"accessKeyId": "canary"}',
        '{"accessKeyId": "a -delete", "secretAccessKey": "canary"}',
        "[]",
    ):
        refused = s3_key("revoke", input=text)
        assert refused.returncode == 1
        assert "expected a key pair" in refused.stderr
        assert "canary" not in refused.stderr


def test_every_version_of_the_stacks_state_is_kept() -> None:
    own = client(server().access_key, server().secret_key)
    kept = own.list_object_versions(Bucket=STATE_BUCKET, Prefix=f".pulumi/stacks/runbook/{STACK}.json")["Versions"]
    assert len({version["VersionId"] for version in kept}) > 1
    oldest = min((version for version in kept if version["Key"].endswith(".json")), key=lambda one: one["LastModified"])
    assert own.get_object(Bucket=STATE_BUCKET, Key=oldest["Key"], VersionId=oldest["VersionId"])["ContentLength"] > 0
