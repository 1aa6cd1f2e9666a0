"""Translates exceptions of boto3 into messages with the cause and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from urllib3.exceptions import HTTPError

from tasks.errors import TaskError

_DENIED = {
    "403",
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
_CORRUPT = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
CONNECTION_LOST = (BotoConnectionError, HTTPClientError, IncompleteReadError, HTTPError, OSError)
"""Exceptions of boto3 and urllib3 for a lost network or server."""
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}


def reason(error: ClientError) -> str:
    """The server's own code for what is wrong; HEAD answers have the HTTP status only."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translate_errors(store: str, doing: str, *, uploading: bool = False) -> Iterator[None]:
    """Raise `TaskError` for what goes wrong at the S3 server; `doing` completes "… could not …"."""
    try:
        yield
    except ClientError as error:
        code = reason(error)
        message = f"{store} could not {doing}: {code or 'no reason given'}: {_message(error)}"
        if code == "NoSuchBucket":
            raise TaskError(
                "bucket_missing",
                f"{store}: there is no such bucket; make it, or set S3_CREATE_BUCKET=true",
            ) from error
        if code in _DENIED:
            raise TaskError(
                "store_denied", f"{message}. Check the access key and its policy for this bucket."
            ) from error
        if code in _CORRUPT:
            raise TaskError(
                "checksum_mismatch", f"{message}. The bytes changed during the transfer; nothing was kept."
            ) from error
        if code in _CLOCK:
            raise TaskError("clock_wrong", f"{message}. This machine's clock differs from the server's.") from error
        if uploading and (code in ("NoSuchUpload", "404") or _status(error) >= 500):
            raise TaskError("upload_interrupted", f"{message}. Nothing was kept.") from error
        raise TaskError("store_unreachable" if _status(error) >= 500 else "store_failed", message) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise TaskError(
            "store_denied",
            f"{store}: {error}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod an identity.",
        ) from error
    except CONNECTION_LOST as error:
        if uploading:
            raise TaskError("upload_interrupted", f"{store} could not {doing}: {error}. Nothing was kept.") from error
        raise TaskError("store_unreachable", f"{store} could not {doing}: {error}") from error
    except BotoCoreError as error:
        raise TaskError("store_failed", f"{store} could not {doing}: {error}") from error


def _message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", "")) or f"HTTP status {_status(error)}"


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
