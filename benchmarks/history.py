"""`runbook history` and `pulumi stack history` over a stack with 1,000 revisions."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import boto3

from benchmarks.timing import in_turn, run
from sandbox.cluster.s3keys import REGION
from sandbox.env import BACKEND, STATE_BUCKET

REVISIONS = 1000
SECOND = 10**9


def multiply(backend: Path, stack: str) -> None:
    """A history of 1,000 updates out of the stack's newest one: same content, own time and revision each."""
    folder = next(backend.rglob(f"history/**/{stack}"))
    newest = max(folder.glob("*.history.json"))
    update = json.loads(newest.read_text())
    first = int(newest.name.removesuffix(".history.json").rsplit("-", 1)[1])
    for entry in folder.iterdir():
        entry.unlink()
    release = update["config"]["runbook:release"]
    for revision in range(1, REVISIONS + 1):
        release["revision"] = revision
        update["startTime"] = update["endTime"] = first // SECOND + revision
        update["message"] = f"revision {revision}: deploy {release['image']} (git {release['git']})"
        (folder / f"{stack}-{first + revision * SECOND}.history.json").write_text(json.dumps(update))


def copy_state(target: Path) -> None:
    """The sandbox's state as a backend of files, wherever the sandbox keeps it."""
    if "RUNBOOK_S3" not in os.environ:
        shutil.copytree(BACKEND, target)
        return
    store = boto3.client("s3", endpoint_url=os.environ["RUNBOOK_S3"], region_name=REGION)
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=STATE_BUCKET, Prefix=".pulumi/"):
        for entry in page["Contents"]:
            file = target / entry["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            store.download_file(STATE_BUCKET, entry["Key"], str(file))


def measure(runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        backend = Path(folder) / "backend"
        copy_state(backend)
        multiply(backend, "sandbox")
        environment = {"PULUMI_BACKEND_URL": f"file://{backend}"}
        listed = json.loads(run(["runbook", "history", "--json", "--limit", str(REVISIONS)], environment))
        if len(listed) != REVISIONS:
            raise SystemExit(f"runbook history shows {len(listed)} of {REVISIONS} revisions")
        taken = in_turn(
            {
                "runbook history, all": lambda _turn: run(
                    ["runbook", "history", "--json", "--limit", str(REVISIONS)], environment
                ),
                "runbook history, first page": lambda _turn: run(["runbook", "history"], environment),
                "pulumi stack history": lambda _turn: run(
                    ["pulumi", "stack", "history", "--stack", "sandbox", "--json", "--page-size", str(REVISIONS)],
                    environment,
                ),
            },
            runs,
        )
    return {
        "history_1000": {
            "what": f"listing {REVISIONS} revisions on a file backend; wall time of the whole command",
            "seconds": {name: series.to_json() for name, series in taken.items()},
        }
    }
