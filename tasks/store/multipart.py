"""One streamed upload: pieces go out as they fill, a few at a time, so that memory stays flat."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.errors import TaskError
from tasks.progress import say
from tasks.store.errors import reason, translate_errors

PARALLEL = 2
_SMALLEST_PART = 8 << 20
_MOST_PARTS = 10_000


def part_size(expected: int) -> int:
    """Every part but the last has this size (some servers insist); twice what is expected still fits."""
    return max(_SMALLEST_PART, math.ceil(2 * expected / _MOST_PARTS / (1 << 20)) << 20)


class Upload:
    """A sink. Less than one part becomes a plain object; more becomes a multipart upload."""

    def __init__(
        self, client: Any, store: str, target: dict[str, str], options: dict[str, Any], checksum: str, expected: int
    ) -> None:
        self._client = client
        self._store = store
        self._target = target
        self._options = options
        self._checksum = checksum
        self._part_size = part_size(expected)
        self._buffer = bytearray()
        self._id: str | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._going: deque[Future[dict[str, Any]]] = deque()
        self._parts: list[dict[str, Any]] = []
        self._sent = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        rest = memoryview(data)
        while rest:
            room = self._part_size - len(self._buffer)
            self._buffer += rest[:room]
            rest = rest[room:]
            if len(self._buffer) == self._part_size:
                self._send()
        return len(data)

    def finish(self) -> None:
        """Make the object. Until this has returned there is none."""
        if self._id is None:
            with self._doing():
                self._client.put_object(
                    **self._target, Body=self._buffer, ChecksumAlgorithm=self._checksum, **self._options
                )
            return
        if self._buffer:
            self._send()
        while self._going:
            self._parts.append(self._going.popleft().result())
        with self._doing():
            self._complete(self._id)
            there = self._client.head_object(**self._target)["ContentLength"]
        self._end_pool()
        if there != self._sent:
            self._client.delete_object(**self._target)
            raise TaskError("truncated", f"{self._name}: {self._sent} bytes were sent, the server has {there}")

    def abort(self) -> None:
        """Leave nothing behind, as far as the server can be reached; the next run looks again."""
        for future in self._going:
            future.cancel()
        self._end_pool()
        if self._id is None:
            return
        try:
            self._client.abort_multipart_upload(**self._target, UploadId=self._id)
        except (ClientError, BotoCoreError, OSError) as error:
            if not (isinstance(error, ClientError) and reason(error) == "NoSuchUpload"):
                say(f"warning: {self._name}: the unfinished upload stays until the next run: {error}")

    def _send(self) -> None:
        if self._id is None:
            with self._doing():
                self._id = self._client.create_multipart_upload(
                    **self._target, ChecksumAlgorithm=self._checksum, **self._options
                )["UploadId"]
            self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="part")
        number = len(self._parts) + len(self._going) + 1
        if number > _MOST_PARTS:
            raise TaskError(
                "store_failed",
                f"{self._name}: more than {_MOST_PARTS} parts of {self._part_size} bytes; S3 takes no more",
            )
        if len(self._going) == PARALLEL:
            self._parts.append(self._going.popleft().result())
        body, self._buffer = self._buffer, bytearray()
        self._sent += len(body)
        assert self._pool is not None
        self._going.append(self._pool.submit(self._part, number, body))

    def _part(self, number: int, body: bytearray) -> dict[str, Any]:
        with self._doing():
            answer = self._client.upload_part(
                **self._target,
                UploadId=self._id,
                PartNumber=number,
                Body=body,
                ChecksumAlgorithm=self._checksum,
            )
        field = f"Checksum{self._checksum}"
        return {"PartNumber": number, "ETag": answer["ETag"]} | ({field: answer[field]} if field in answer else {})

    def _complete(self, upload_id: str) -> None:
        try:
            self._client.complete_multipart_upload(
                **self._target, UploadId=upload_id, MultipartUpload={"Parts": self._parts}
            )
        except ClientError as error:
            # The answer to a first try may have been lost: then the object is there, as the caller sees next.
            if reason(error) != "NoSuchUpload":
                raise

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _name(self) -> str:
        return f"{self._store}: {self._target['Key'].rpartition('/')[2]}"

    def _doing(self) -> Any:
        return translate_errors(self._store, f"take {self._target['Key'].rpartition('/')[2]}", uploading=True)
