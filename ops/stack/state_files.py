"""A stack's updates and locks as files, in the folder or bucket where the engine keeps its state.

The engine has no command that lists locks, and reads a history slowly (`history.read_stored` has the figures). Other
backends (Pulumi Cloud, Azure, Google) are read through the engine alone.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ops.errors import Refused

_ROOT = ".pulumi"
_GZIP = b"\x1f\x8b"
_AT_ONCE = 32
"""Requests to a bucket at a time: 1,000 updates are 32 round trips."""
_REPLACED_MEANWHILE = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")
_NOT_CONDITIONAL = ("NotImplemented", "501")
_YES = ("1", "t", "true", "yes")


def unpack(content: bytes) -> bytes:
    """A file's text, whether the engine compressed it or not."""
    return gzip.decompress(content) if content[:2] == _GZIP else content


@dataclass(frozen=True)
class FileVersion:
    """An earlier content of a file."""

    identity: str
    written: datetime
    size: int
    """Bytes."""


class StateFiles(Protocol):
    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder below `.pulumi`, sorted; empty where there is no such folder."""
        ...

    def read(self, folder: str, names: Iterable[str]) -> list[bytes]:
        """Their contents, in this order, without those that were deleted in the meantime."""
        ...

    def write(self, folder: str, name: str, content: bytes) -> None:
        """Write one file, whole or not at all."""
        ...

    def delete(self, folder: str, name: str) -> None:
        """Delete one file; nothing where it does not exist."""
        ...

    def versions(self, folder: str, name: str) -> list[FileVersion]:
        """Earlier contents of one file that the store keeps, newest first; the present one is not among them."""
        ...

    def read_version(self, folder: str, name: str, identity: str) -> bytes:
        """The content of one of them."""
        ...


class FolderFiles:
    def __init__(self, url: SplitResult) -> None:
        self._root = Path(url.netloc + url.path or "~").expanduser() / _ROOT

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._root / folder) if entry.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, folder: str, names: Iterable[str]) -> list[bytes]:
        found: list[bytes] = []
        for name in names:
            try:
                found.append((self._root / folder / name).read_bytes())
            except FileNotFoundError:
                continue
        return found

    def write(self, folder: str, name: str, content: bytes) -> None:
        place = self._root / folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_name(f".{name}.{os.getpid()}")
        scratch.write_bytes(content)
        scratch.replace(place)

    def delete(self, folder: str, name: str) -> None:
        (self._root / folder / name).unlink(missing_ok=True)

    def versions(self, folder: str, name: str) -> list[FileVersion]:  # noqa: ARG002 # a folder keeps none
        return []

    def read_version(self, folder: str, name: str, identity: str) -> bytes:
        raise Refused(f"A folder keeps no earlier versions: there is no {identity} of {folder}/{name}.")


def connect_bucket(url: SplitResult, *, seconds: float = 60) -> Any:
    """A client for S3 from a backend's address, with the parameters that the engine takes.

    `seconds`: how long the server may take to accept a connection, and to answer.
    """
    # Loaded here: a backend of files needs no client. Not boto3, which takes a tenth of a second longer.
    from botocore.config import Config
    from botocore.session import Session

    given = dict(parse_qsl(url.query))
    path_style = given.get("s3ForcePathStyle", given.get("use_path_style", "")).lower() in _YES
    insecure = given.get("disableSSL", given.get("disable_https", "")).lower() in _YES
    endpoint = given.get("endpoint")
    if endpoint and "://" not in endpoint:
        endpoint = f"{'http' if insecure else 'https'}://{endpoint}"
    session = Session(profile=given.get("profile"))
    # A list of 2,000 files has 2,000 times, for which botocore's own parser takes a quarter of a second.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
    return session.create_client(
        "s3",
        region_name=given.get("region"),
        endpoint_url=endpoint,
        use_ssl=not insecure,
        config=Config(
            s3={"addressing_style": "path" if path_style else "auto"},
            max_pool_connections=_AT_ONCE,
            connect_timeout=seconds,
            read_timeout=seconds,
        ),
    )


def _parse_time(value: Any) -> datetime:
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return parse_timestamp(value)


class BucketFiles:
    """S3, and servers with its protocol; the address's parameters are those that the engine takes."""

    def __init__(self, url: SplitResult) -> None:
        self._client: Any = connect_bucket(url)
        self._bucket = url.netloc
        self._prefix = "/".join(part for part in (url.path.strip("/"), _ROOT) if part)

    def names(self, folder: str) -> list[str]:
        return sorted(self.list_tags(folder))

    def list_tags(self, folder: str) -> dict[str, str]:
        """The ETag of each file by its name: another content has another one."""
        prefix = f"{self._prefix}/{folder}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        with self._reaching():
            found = [(entry["Key"], entry["ETag"]) for page in pages for entry in page.get("Contents", [])]
        return {name: tag for key, tag in found if (name := key.removeprefix(prefix))}

    def read(self, folder: str, names: Iterable[str]) -> list[bytes]:
        return [content for _, content in self.read_tagged(folder, names).values()]

    def read_tagged(self, folder: str, names: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """ETag and content of each by its name, in this order, without those that were deleted in the meantime."""
        asked = list(names)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda name: self._get(self._key(folder, name)), asked)
            return {name: item for name, item in zip(asked, found, strict=True) if item is not None}

    def _get(self, key: str) -> tuple[str, bytes] | None:
        with self._reaching():
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=key)
                return found["ETag"], found["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None

    def delete(self, folder: str, name: str) -> None:
        with self._reaching():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(folder, name))

    def write(self, folder: str, name: str, content: bytes) -> None:
        with self._reaching():
            self._client.put_object(Bucket=self._bucket, Key=self._key(folder, name), Body=content)

    def replace(self, folder: str, name: str, content: bytes, tag: str | None) -> bool:
        """Write one file where its ETag is still `tag`, or with None where there is no such file; whether it was.

        A server without conditional writes replaces it in any case.
        """
        from botocore.exceptions import ClientError

        target = {"Bucket": self._bucket, "Key": self._key(folder, name), "Body": content}
        with self._reaching():
            try:
                self._client.put_object(**target, **({"IfMatch": tag} if tag else {"IfNoneMatch": "*"}))
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _REPLACED_MEANWHILE:
                    return False
                if code not in _NOT_CONDITIONAL:
                    raise
                self._client.put_object(**target)
        return True

    def versions(self, folder: str, name: str) -> list[FileVersion]:
        key = self._key(folder, name)
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key)
        with self._reaching():
            found = [item for page in pages for item in page.get("Versions", []) if item["Key"] == key]
        earlier = [
            FileVersion(item["VersionId"], item["LastModified"], item["Size"])
            for item in found
            if not item["IsLatest"] and item["VersionId"] != "null"
        ]
        return sorted(earlier, key=lambda version: version.written, reverse=True)

    def read_version(self, folder: str, name: str, identity: str) -> bytes:
        with self._reaching():
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(folder, name), VersionId=identity)
            return found["Body"].read()

    def _key(self, folder: str, name: str) -> str:
        return "/".join(part for part in (self._prefix, folder, name) if part)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise Refused(
                f"The state in s3://{self._bucket} cannot be reached: {error}. Check PULUMI_BACKEND_URL and the AWS_* "
                "variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE)."
            ) from None


def open_state_files(backend: str) -> StateFiles | None:
    """The files of a backend (`file://…`, `s3://…`); None for other backends."""
    url = urlsplit(backend)
    if url.scheme == "file":
        return FolderFiles(url)
    return BucketFiles(url) if url.scheme == "s3" else None
