"""`runbook history` over 1,000 revisions in a bucket of a real S3 server, near and with 80 ms per request.

With the index of the history, as each command that updates the stack leaves it, and without: the first list of a stack
that only plain `pulumi up` has updated.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import boto3
import yaml
from botocore.config import Config

from benchmarks.history import REVISIONS, SECOND
from benchmarks.timing import in_turn, run
from ops.stack import history_index
from ops.stack.state_files import BucketFiles
from sandbox.cluster.s3keys import REGION
from sandbox.paths import ROOT
from tests.support import proxy, servers

LATENCY_SECONDS = 0.08
BUCKET, WITHOUT_INDEX, STACK = "state", "without-index", "sandbox"
HISTORY = f"history/runbook/{STACK}"
FOLDER = f".pulumi/{HISTORY}"
_FIRST = 1_795_000_000


def fill(store: servers.S3, bucket: str) -> None:
    """A history of 1,000 updates with the configuration of the sandbox's stack, each with a state of its own."""
    config = {
        key: value
        for key, value in yaml.safe_load((ROOT / f"Pulumi.{STACK}.yaml").read_text())["config"].items()
        if key.startswith("runbook:")
    }
    client = boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        region_name=REGION,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=16),
    )
    client.create_bucket(Bucket=bucket)

    def put(revision: int) -> None:
        release = {"revision": revision, "image": f"r/shop@sha256:{revision:064x}", "git": f"{revision:07x}"}
        release["schema"] = {"min": 1, "max": 1, "level": 1}
        update = {
            "kind": "update",
            "result": "succeeded",
            "startTime": _FIRST + revision,
            "endTime": _FIRST + revision,
            "message": f"revision {revision}: deploy",
            "environment": {},
            "config": {**config, "runbook:release": release},
        }
        name = f"{FOLDER}/{STACK}-{(_FIRST + revision) * SECOND}"
        client.put_object(Bucket=bucket, Key=f"{name}.history.json", Body=json.dumps(update).encode())
        client.put_object(Bucket=bucket, Key=f"{name}.checkpoint.json", Body=b"{}")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(1, REVISIONS + 1)))


def address(endpoint: str, bucket: str) -> str:
    """As `PULUMI_BACKEND_URL`."""
    return f"s3://{bucket}?endpoint={quote(endpoint)}&region={REGION}&s3ForcePathStyle=true"


def delay(data: bytes) -> bytes:
    """A request is one piece: a list or a get has no body."""
    time.sleep(LATENCY_SECONDS)
    return data


def measure(runs: int) -> dict[str, Any]:
    with servers.s3() as store, proxy.proxy(store.port, up=delay) as far, tempfile.TemporaryDirectory() as folder:
        keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
        for bucket in (BUCKET, WITHOUT_INDEX):
            fill(store, bucket)
        with patch.dict(os.environ, keys):
            history_index.update(BucketFiles(urlsplit(address(store.endpoint, BUCKET))), HISTORY)
        file = Path(folder) / "Pulumi.sandbox.yaml"
        file.write_text((ROOT / "Pulumi.sandbox.yaml").read_text())
        command = ["runbook", "history", "--json", "--limit", str(REVISIONS), "--stack", STACK]

        def list_all(endpoint: str, bucket: str) -> None:
            place = {"PULUMI_BACKEND_URL": address(endpoint, bucket), "PULUMI_OPTION_CONFIG_FILE": str(file)}
            shown = run(command, {**keys, **place})
            if len(json.loads(shown)) != REVISIONS:
                raise SystemExit(f"runbook history shows {len(json.loads(shown))} of {REVISIONS} revisions")

        taken = in_turn(
            {
                "bucket on this machine": lambda _turn: list_all(store.endpoint, BUCKET),
                "80 ms per request": lambda _turn: list_all(far.endpoint, BUCKET),
                "bucket on this machine, without the index": lambda _turn: list_all(store.endpoint, WITHOUT_INDEX),
                "80 ms per request, without the index": lambda _turn: list_all(far.endpoint, WITHOUT_INDEX),
            },
            runs,
        )
    return {
        "history_1000_bucket": {
            "what": f"`runbook history`, all {REVISIONS} revisions, in a bucket; wall time of the whole command",
            "seconds": {name: series.to_json() for name, series in taken.items()},
        }
    }
