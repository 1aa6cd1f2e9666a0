"""A stack's state in a bucket of the sandbox's S3 server: what operators reach from the host, and pods from within."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from sandbox.paths import ROOT

_REGION = "us-east-1"
_INSIDE = "10.240.0.1:8333"
"""The server's own address, on the sandbox's node; the host has it on a port of loopback."""


@dataclass(frozen=True)
class Bucket:
    """One bucket with a key pair of its own."""

    name: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """What makes `pulumi` and `runbook` on the host work on it."""
        return {
            "PULUMI_BACKEND_URL": self._url(os.environ["RUNBOOK_S3"]),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    @property
    def state(self) -> dict[str, Any]:
        """`monitoring.rollback.state`."""
        address, port = _INSIDE.split(":")
        return {"url": self._url(f"http://{_INSIDE}"), "egress": [{"cidr": f"{address}/32", "ports": [int(port)]}]}

    def _url(self, endpoint: str) -> str:
        return f"s3://{self.name}?endpoint={endpoint}&region={_REGION}&s3ForcePathStyle=true"

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=os.environ["RUNBOOK_S3"],
            region_name=_REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )


@contextmanager
def bucket(stack: str) -> Iterator[Bucket]:
    """A bucket for the state of this stack alone."""
    issued = subprocess.run(
        [sys.executable, "-m", "sandbox", "s3-key", "issue"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    pair = json.loads(issued)
    made = Bucket(f"state-{stack}", pair["accessKeyId"], pair["secretAccessKey"])
    client = made.client()
    try:
        client.create_bucket(Bucket=made.name)
        _empty(client, made.name)  # of what an interrupted run left
        # This server lists a folder that has become empty as an object, which the engine takes for a lock.
        client.put_object(Bucket=made.name, Key=f".pulumi/locks/organization/runbook/{stack}/never/empty", Body=b"")
        yield made
    finally:
        _empty(client, made.name)
        client.delete_bucket(Bucket=made.name)
        revoke = [sys.executable, "-m", "sandbox", "s3-key", "revoke"]
        subprocess.run(revoke, cwd=ROOT, input=issued, text=True, check=True, capture_output=True)


def _empty(client: Any, name: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for found in page.get("Contents", []):
            client.delete_object(Bucket=name, Key=found["Key"])
