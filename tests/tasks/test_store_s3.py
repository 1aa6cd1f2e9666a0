"""Faults of S3: network, credentials, bucket."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.store import Store, open_store
from tasks.store.s3 import CHECKSUM
from tests.support.proxy import After, Flip, cut, proxy
from tests.support.servers import S3

MIB = 1 << 20
MARKER = b"the byte after this is flipped:"
BODY = os.urandom(1000) + MARKER + os.urandom(1000)


def opened(server: S3, bucket: str, **changed: str) -> Store:
    return open_store(Environment(server.environment(bucket) | changed))


class _Unsigned(S3SigV4Auth):
    """The body is no part of the signature: what is refused is refused for its checksum."""

    def payload(self, request: Any) -> str:
        return "UNSIGNED-PAYLOAD"


def put(server: S3, port: int, path: str, headers: dict[str, str]) -> tuple[int, str]:
    request = AWSRequest("PUT", f"http://127.0.0.1:{port}/{path}", data=BODY, headers=headers)
    _Unsigned(Credentials(server.access_key, server.secret_key), "s3", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{path}", body=BODY, headers=dict(request.headers.items()))
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


MECHANISMS = {
    "CRC32": {"x-amz-checksum-crc32": base64_of(zlib.crc32(BODY).to_bytes(4, "big"))},
    "SHA256": {"x-amz-checksum-sha256": base64_of(hashlib.sha256(BODY).digest())},
    "MD5": {"Content-MD5": base64_of(hashlib.md5(BODY).digest())},  # noqa: S324 - S3's own choice
}


@pytest.mark.parametrize("multipart", [False, True], ids=["object", "part"])
@pytest.mark.parametrize("mechanism", [None, *MECHANISMS])
def test_which_checksums_the_server_verifies(s3: S3, bucket: str, mechanism: str | None, multipart: bool) -> None:
    """Without a checksum the server accepts the flipped byte."""
    path = f"{bucket}/it"
    if multipart:
        upload = s3.client().create_multipart_upload(Bucket=bucket, Key="it")["UploadId"]
        path += f"?partNumber=1&uploadId={upload}"
    headers = MECHANISMS[mechanism] if mechanism else {}
    flip = Flip(MARKER)
    with proxy(s3.port, flip) as wire:
        status, answer = put(s3, wire.port, path, headers)
    assert flip.done
    assert (status, "BadDigest" in answer) == ((400, True) if mechanism else (200, False))
    assert put(s3, s3.port, path, headers)[0] == 200, "and takes what is right"
    assert CHECKSUM in MECHANISMS


@pytest.mark.parametrize("size", [MIB, 20 * MIB], ids=["object", "multipart"])
def test_a_byte_flipped_on_the_wire_is_refused(s3: S3, bucket: str, size: int) -> None:
    with proxy(s3.port, Flip(MARKER)) as wire:
        store = opened(s3, bucket, S3_ENDPOINT_URL=wire.endpoint)
        with pytest.raises(TaskError) as caught, store.upload("dump") as sink:
            sink.write(os.urandom(size // 2) + BODY + os.urandom(size // 2))
        assert isinstance(wire.up, Flip)
        assert wire.up.done
    assert caught.value.code == "checksum_mismatch"
    store = opened(s3, bucket)
    assert list(store.entries()) == []
    assert store.clear_unfinished() == 0


def test_a_byte_flipped_in_a_small_object_is_refused(s3: S3, bucket: str) -> None:
    with proxy(s3.port, Flip(MARKER)) as wire, pytest.raises(TaskError) as caught:
        opened(s3, bucket, S3_ENDPOINT_URL=wire.endpoint).put("manifest.json", BODY)
    assert caught.value.code == "checksum_mismatch"
    assert list(opened(s3, bucket).entries()) == []


@pytest.mark.parametrize("at", [0, 100_000, 9 * MIB, 16 * MIB + 5000], ids=["first", "part 1", "part 2", "last"])
def test_a_connection_cut_in_mid_upload(s3: S3, bucket: str, at: int) -> None:
    """The server stays unreachable, so the upload cannot be aborted: the next run aborts it."""
    with proxy(s3.port) as wire:
        store = opened(s3, bucket, S3_ENDPOINT_URL=wire.endpoint)
        store.prepare()

        def away(_: bytes) -> bytes:
            wire.down_for_good = True
            return cut(_)

        wire.up = After(at, away)
        with pytest.raises(TaskError) as caught, store.upload("backups/x/dump") as sink:  # noqa: PT012
            for _ in range(20):
                sink.write(os.urandom(MIB))
    assert caught.value.code == "upload_interrupted"
    left = opened(s3, bucket)
    assert list(left.entries()) == []
    assert left.clear_unfinished("backups/") == (1 if at else 0)
    assert left.clear_unfinished("backups/") == 0


def test_one_lost_connection_is_made_good(s3: S3, bucket: str) -> None:
    content = os.urandom(20 * MIB)
    with proxy(s3.port, After(9 * MIB, _once(cut))) as wire:
        store = opened(s3, bucket, S3_ENDPOINT_URL=wire.endpoint)
        with store.upload("dump") as sink:
            sink.write(content)
    assert wire.resets
    assert opened(s3, bucket).get("dump") == content


def test_a_download_goes_on_where_it_broke(s3: S3, bucket: str) -> None:
    content = os.urandom(5 * MIB)
    opened(s3, bucket).put("dump", content)
    with proxy(s3.port, down=After(2 * MIB, _once(cut))) as wire:
        assert opened(s3, bucket, S3_ENDPOINT_URL=wire.endpoint).get("dump") == content
    assert wire.resets


def test_a_download_that_keeps_breaking_ends(s3: S3, bucket: str) -> None:
    opened(s3, bucket).put("dump", os.urandom(MIB))
    with proxy(s3.port, down=After(MIB // 2, cut)) as wire, pytest.raises(TaskError) as caught:
        opened(s3, bucket, S3_ENDPOINT_URL=wire.endpoint).get("dump")
    assert caught.value.code == "store_unreachable"


def _once(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    left = [change]
    return lambda data: left.pop()(data) if left else data


def test_the_server_does_not_answer(s3: S3, bucket: str) -> None:
    with proxy(s3.port) as gone:
        pass
    store = opened(s3, bucket, S3_ENDPOINT_URL=gone.endpoint)
    uses: list[Callable[[], object]] = [
        store.prepare,
        lambda: list(store.entries()),
        lambda: store.get("x"),
        store.clock,
    ]
    for use in uses:
        with pytest.raises(TaskError) as caught:
            use()
        assert caught.value.code == "store_unreachable"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "store_denied"),
        ({"AWS_ACCESS_KEY_ID": "unknown"}, "store_denied"),
        ({"BACKUP_STORE": "s3://no-such-bucket/shop"}, "bucket_missing"),
        ({"S3_OBJECT_LOCK_DAYS": "1"}, "object_lock_missing"),
    ],
)
def test_refused_before_anything_is_dumped(s3: S3, bucket: str, changed: dict[str, str], code: str) -> None:
    with pytest.raises(TaskError) as caught:
        opened(s3, bucket, **changed).prepare()
    assert caught.value.code == code
    assert "wrong" not in str(caught.value)


def test_a_credential_that_may_only_read(s3: S3, bucket: str) -> None:
    opened(s3, bucket).put("there", b"1")
    key, secret = s3.reader
    store = opened(s3, bucket, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    assert store.get("there") == b"1"
    for use in (lambda: store.put("new", b"2"), lambda: store.delete(["there"])):
        with pytest.raises(TaskError) as caught:
            use()
        assert caught.value.code == "store_denied"
    assert [entry.key for entry in opened(s3, bucket).entries()] == ["there"]


def test_no_credentials_at_all(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(TaskError, match="AWS_ACCESS_KEY_ID") as caught:
        opened(s3, bucket, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="").prepare()
    assert caught.value.code == "store_denied"


def test_a_new_bucket_is_versioned_encrypted_and_locked(s3: S3) -> None:
    store = opened(s3, "made-by-us", S3_CREATE_BUCKET="true", S3_OBJECT_LOCK_DAYS="2")
    store.prepare()
    store.prepare()
    client = s3.client()
    assert client.get_bucket_versioning(Bucket="made-by-us")["Status"] == "Enabled"
    rule = client.get_bucket_encryption(Bucket="made-by-us")["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    lifecycle = client.get_bucket_lifecycle_configuration(Bucket="made-by-us")["Rules"][0]
    assert lifecycle["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7

    store.put("small", b"1")
    with store.upload("large") as sink:
        sink.write(os.urandom(9 * MIB))
    for key in ("shop/small", "shop/large"):
        about = client.head_object(Bucket="made-by-us", Key=key)
        assert about["ObjectLockMode"] == "GOVERNANCE"
        assert about["ServerSideEncryption"] == "AES256"
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.delete_object(Bucket="made-by-us", Key=key, VersionId=about["VersionId"])
    # What cleanup does only hides it: the version stays until its lock ends.
    store.delete(["small"])
    assert [entry.key for entry in store.entries()] == ["large"]


def test_an_anonymous_visitor_sees_nothing(s3: S3, bucket: str) -> None:
    opened(s3, bucket).put("secret", b"1")
    for path in (f"/{bucket}/shop/secret", f"/{bucket}"):
        connection = http.client.HTTPConnection("127.0.0.1", s3.port)
        connection.request("GET", path)
        assert connection.getresponse().status == 403


@pytest.mark.parametrize(
    ("name", "value"), [("S3_ENDPOINT_URL", "minio:9000"), ("S3_PATH_STYLE", "yes"), ("S3_OBJECT_LOCK_DAYS", "0")]
)
def test_settings_that_cannot_be(s3: S3, bucket: str, name: str, value: str) -> None:
    with pytest.raises(Refused, match=name):
        opened(s3, bucket, **{name: value})
