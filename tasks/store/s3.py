"""A store on any S3 server."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, BinaryIO, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, PartialCredentialsError

from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.store import bucket
from tasks.store.base import Entry, Exists, Missing, Sink, Store
from tasks.store.errors import CONNECTION_LOST, reason, translate_errors
from tasks.store.multipart import PARALLEL, Upload

CHECKSUM = "CRC32"
"""Sent with every object and part; the server refuses what does not match it. Python has it without an extension."""

_READ_AHEAD = 1 << 20
_RESUMES = 5


class S3Store(Store):
    def __init__(self, client: Any, bucket_name: str, prefix: str, *, create: bool, lock_days: int | None) -> None:
        self.url = f"s3://{bucket_name}/{prefix}".rstrip("/")
        self._client = client
        self._bucket = bucket_name
        self._prefix = f"{prefix}/" if prefix else ""
        self._create = create
        self._lock_days = lock_days

    @classmethod
    def from_environment(cls, bucket_name: str, prefix: str, environment: Environment) -> S3Store:
        endpoint = environment.text("S3_ENDPOINT_URL")
        if endpoint and not endpoint.startswith(("http://", "https://")):
            environment.refuse("S3_ENDPOINT_URL", "a URL that begins with https:// or http://")
        path_style = environment.flag("S3_PATH_STYLE", default=bool(endpoint))
        try:
            client = boto3.client(
                "s3",
                endpoint_url=endpoint,
                # None lets boto3 look further: a pod's identity, a file.
                aws_access_key_id=environment.text("AWS_ACCESS_KEY_ID"),
                aws_secret_access_key=environment.text("AWS_SECRET_ACCESS_KEY"),
                aws_session_token=environment.text("AWS_SESSION_TOKEN"),
                region_name=environment.text("S3_REGION") or environment.text("AWS_REGION") or "us-east-1",
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "path" if path_style else "virtual"},
                    retries={"mode": "standard", "total_max_attempts": 4},
                    connect_timeout=10,
                    read_timeout=60,
                    tcp_keepalive=True,
                    max_pool_connections=PARALLEL + 8,
                    request_checksum_calculation="when_supported",
                    response_checksum_validation="when_supported",
                ),
            )
        except (ValueError, PartialCredentialsError) as error:
            raise Refused("environment_invalid", f"boto3 refuses the S3_… and AWS_… variables: {error}") from error
        return cls(
            client,
            bucket_name,
            prefix,
            create=environment.flag("S3_CREATE_BUCKET"),
            lock_days=environment.integer("S3_OBJECT_LOCK_DAYS", least=1),
        )

    def prepare(self) -> None:
        with translate_errors(self.url, "be prepared"):
            if not bucket.exists(self._client, self._bucket):
                if not self._create:
                    raise bucket.missing_bucket_error(self.url)
                bucket.create(self._client, self._bucket, with_lock=self._lock_days is not None)
            if self._lock_days is not None:
                bucket.require_object_lock(self._client, self._bucket, self.url)

    @contextmanager
    def upload(self, key: str, expected: int = 0) -> Iterator[Sink]:
        upload = Upload(self._client, self.url, self._target(key), self._write_options(), CHECKSUM, expected)
        try:
            yield upload
            upload.finish()
        except BaseException:
            upload.abort()
            raise

    def put(self, key: str, data: bytes, *, new: bool = False, keep: bool = True) -> None:
        options = (self._write_options() if keep else {}) | ({"IfNoneMatch": "*"} if new else {})
        with translate_errors(self.url, f"take {key}", uploading=True):
            try:
                self._client.put_object(**self._target(key), Body=data, ChecksumAlgorithm=CHECKSUM, **options)
            except ClientError as error:
                if new and reason(error) in ("PreconditionFailed", "ConditionalRequestConflict"):
                    raise Exists(self.url, key) from None
                raise

    def get(self, key: str) -> bytes:
        with self.open(key) as stream:
            return stream.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with self._reading(key):
            answer = self._client.get_object(**self._target(key))
        raw = _Reader(self, key, answer)
        try:
            yield cast(BinaryIO, io.BufferedReader(raw, _READ_AHEAD))
        finally:
            raw.close()

    def reopened(self, key: str, etag: str, start: int) -> Any:
        """The rest of an object, from `start`, if it is still the same one."""
        with self._reading(key):
            return self._client.get_object(**self._target(key), Range=f"bytes={start}-", IfMatch=etag)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        with translate_errors(self.url, "be listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield Entry(item["Key"].removeprefix(self._prefix), item["Size"], item["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        waiting = iter(keys)
        while batch := [{"Key": self._prefix + key} for key in islice(waiting, 1000)]:
            with translate_errors(self.url, "delete"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
            # The request as a whole succeeds although some of its objects were refused.
            if errors := [item for item in answer.get("Errors", []) if item.get("Code") != "NoSuchKey"]:
                first = errors[0]
                why = f"{first.get('Code')}: {first.get('Message')}"
                code = "store_denied" if first.get("Code") == "AccessDenied" else "store_failed"
                raise TaskError(
                    code, f"{self.url} could not delete {first.get('Key')} and {len(errors) - 1} more: {why}"
                )

    def clear_unfinished(self, prefix: str = "") -> int:
        cleared = 0
        with translate_errors(self.url, "end uploads that were left behind"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for upload in [item for page in pages for item in page.get("Uploads", [])]:
                if not upload["Key"].startswith(self._prefix + prefix):
                    continue  # not every server filters
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                cleared += 1
        return cleared

    def now(self) -> datetime:
        return self.clock() or datetime.now(UTC)

    def clock(self) -> datetime | None:
        with translate_errors(self.url, "read the server's time"):
            answer = self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date) if date else None

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _write_options(self) -> dict[str, Any]:
        if self._lock_days is None:
            return {}
        # Governance: the backup's own credential cannot shorten it, an administrator can undo a mistake.
        until = datetime.now(UTC) + timedelta(days=self._lock_days)
        return {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        with translate_errors(self.url, f"give {key}"):
            try:
                yield
            except ClientError as error:
                if reason(error) in ("NoSuchKey", "404"):
                    raise Missing(self.url, key) from None
                raise


class _Reader(io.RawIOBase):
    """An object's bytes; a connection lost on the way is made again from where it broke."""

    def __init__(self, store: S3Store, key: str, answer: Any) -> None:
        self._store, self._key = store, key
        self._body = answer["Body"]
        self._etag = answer["ETag"]
        self._size = answer["ContentLength"]
        self._at = 0
        self._resumes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while self._at < self._size:
            try:
                data = self._body.read(len(buffer))
                if not data:
                    raise OSError(f"it ended at byte {self._at} of {self._size}")
            except CONNECTION_LOST as error:
                self._resume(error)
                continue
            buffer[: len(data)] = data
            self._at += len(data)
            return len(data)
        return 0

    def _resume(self, error: BaseException) -> None:
        self._resumes += 1
        if self._resumes > _RESUMES:
            raise TaskError(
                "store_unreachable",
                f"{self._store.url} lost the connection repeatedly while sending {self._key}: {error}",
            ) from error
        self._body.close()
        self._body = self._store.reopened(self._key, self._etag, self._at)["Body"]

    def close(self) -> None:
        self._body.close()
        super().close()
