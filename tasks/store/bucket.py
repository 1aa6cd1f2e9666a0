"""The bucket itself: is it there, and what a new one gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tasks.errors import Refused, TaskError
from tasks.progress import say
from tasks.store.errors import reason

_NO_LOCK = {"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"}
_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "501", "405"}
_VERSIONS_KEPT_DAYS = 30


def exists(client: Any, name: str) -> bool:
    try:
        # Not HEAD: its answer has no body, so no reason.
        client.list_objects_v2(Bucket=name, MaxKeys=1)
    except ClientError as error:
        if reason(error) in ("404", "NoSuchBucket"):
            return False
        raise
    return True


def missing_bucket_error(url: str) -> TaskError:
    return TaskError("bucket_missing", f"{url}: there is no such bucket; make it, or set S3_CREATE_BUCKET=true")


def create(client: Any, name: str, *, with_lock: bool) -> None:
    """A private, versioned, encrypted bucket that ends unfinished uploads and expires deleted versions."""
    region = client.meta.region_name
    # The one region that must not be named.
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=with_lock, **place)
    except ClientError as error:
        if reason(error) != "BucketAlreadyOwnedByYou":  # another run created it first
            raise
    say(f"made the bucket {name}")
    _if_supported(
        "blocking of public access",
        lambda: client.put_public_access_block(
            Bucket=name,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        ),
    )
    _if_supported(
        "versioning",
        lambda: client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"}),
    )
    _if_supported(
        "encryption at rest",
        lambda: client.put_bucket_encryption(
            Bucket=name,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        ),
    )
    _if_supported(
        "lifecycle rules",
        lambda: client.put_bucket_lifecycle_configuration(
            Bucket=name,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "what-backups-leave",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "NoncurrentVersionExpiration": {"NoncurrentDays": _VERSIONS_KEPT_DAYS},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                    }
                ]
            },
        ),
    )


def require_object_lock(client: Any, name: str, url: str) -> None:
    """Refuse before anything is dumped when objects cannot be locked there."""
    try:
        found = client.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]
        if found.get("ObjectLockEnabled") == "Enabled":
            return
    except ClientError as error:
        if reason(error) not in _NO_LOCK | _UNSUPPORTED:
            raise
    raise Refused(
        "object_lock_missing",
        f"{url}: S3_OBJECT_LOCK_DAYS is set, but object lock is not enabled on this bucket; "
        "it can be enabled when a bucket is made (S3_CREATE_BUCKET=true does), or leave the variable out",
    )


def _if_supported(what: str, do: Callable[[], object]) -> None:
    try:
        do()
    except ClientError as error:
        if reason(error) not in _UNSUPPORTED:
            raise
        say(f"warning: the S3 server has no {what}: set it up by other means")
