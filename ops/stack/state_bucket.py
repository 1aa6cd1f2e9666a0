"""A bucket for the engine's state: private, versioned, encrypted; only versions that were replaced expire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ops.errors import Refused
from ops.stack.state_files import connect_bucket

KEPT_DAYS = 90
"""Days that an earlier version of a file stays after it was replaced or deleted."""
KEPT_VERSIONS = 100
"""Earlier versions of a file that stay however old they are (S3's own limit)."""
_NOT_THERE = {"404", "NoSuchBucket", "NotFound"}
_NOT_KNOWN = {"NotImplemented", "MethodNotAllowed", "405", "501", "XNotImplemented", "InvalidRequest", "MalformedXML"}


@dataclass(frozen=True)
class Measure:
    """One property of the bucket."""

    name: str
    state: str
    """`set`, or `unsupported` where the server does not know it."""


def prepare_bucket(backend: str) -> tuple[bool, list[Measure]]:
    """Make the bucket of a backend's address if it is missing, and set its properties again. (Made, properties.)

    Running it again changes nothing. Files that exist are left alone: the lifecycle removes only versions that were
    replaced or deleted, and the engine never replaces an update of the history.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    url = urlsplit(backend)
    if url.scheme != "s3" or not url.netloc:
        raise Refused(f"{backend!r} is no address of a bucket: write s3://NAME?region=REGION.")
    client = connect_bucket(url)
    try:
        made = _create(client, url.netloc, dict(parse_qsl(url.query)).get("region"))
        measures = [_apply(name, lambda act=act: act(client, url.netloc)) for name, act in _MEASURES.items()]
    except (BotoCoreError, ClientError) as error:
        raise Refused(f"s3://{url.netloc} cannot be prepared: {error}") from None
    if measures[0].state != "set":
        raise Refused(
            f"s3://{url.netloc}: the server keeps no versions, without which a damaged state cannot be restored. "
            "Use a store with versioning."
        )
    return made, measures


def _create(client: Any, bucket: str, region: str | None) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
        return False
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_THERE:
            raise
    place = {} if region in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    client.create_bucket(Bucket=bucket, **place)
    client.get_waiter("bucket_exists").wait(Bucket=bucket)
    return True


def _apply(name: str, act: Callable[[], object]) -> Measure:
    from botocore.exceptions import ClientError

    try:
        act()
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_KNOWN:
            raise
        return Measure(name, "unsupported")
    return Measure(name, "set")


def _keep_versions(client: Any, bucket: str) -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def _close(client: Any, bucket: str) -> None:
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(names, True))


def _encrypt(client: Any, bucket: str) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})


def _expire_replaced(client: Any, bucket: str) -> None:
    rule = {
        "ID": "runbook-replaced-versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": KEPT_DAYS, "NewerNoncurrentVersions": KEPT_VERSIONS},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    others = [one for one in _lifecycle(client, bucket) if one.get("ID") != rule["ID"]]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [*others, rule]})


def _lifecycle(client: Any, bucket: str) -> list[dict[str, Any]]:
    from botocore.exceptions import ClientError

    try:
        return client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchLifecycleConfiguration":
            return []
        raise


_MEASURES: dict[str, Callable[[Any, str], None]] = {
    "versions kept": _keep_versions,
    "no public access": _close,
    "encrypted at rest": _encrypt,
    f"replaced versions expire after {KEPT_DAYS} days": _expire_replaced,
}
