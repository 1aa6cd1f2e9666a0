"""Key pairs of the sandbox's S3 server, issued and revoked while it runs."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.cluster.node import Node
from sandbox.cluster.programs import find_beside_python
from sandbox.ui import SandboxError

REGION = "us-east-1"
"""The server ignores it; clients and signatures need one."""
_ACTIONS = "Admin,Read,Write,List,Tagging"
"""What a backup store's owner does: buckets and their rules, objects and their tags."""
_REFUSALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch"}
_SHELL_SECONDS = 30
_KNOWN_SECONDS = 10
_RETRY = 0.05


@dataclass(frozen=True)
class KeyPair:
    """What a client signs its requests with."""

    access_key: str
    secret_key: str

    def to_json(self) -> str:
        """As `rotation.secrets.BACKUP_S3.issue` has to print it."""
        return json.dumps({"accessKeyId": self.access_key, "secretAccessKey": self.secret_key})

    @staticmethod
    def from_json(text: str) -> KeyPair:
        """What `to_json` wrote; an error never repeats it."""
        try:
            found = json.loads(text)
            pair = KeyPair(found["accessKeyId"], found["secretAccessKey"])
        except (ValueError, KeyError, TypeError):
            pair = KeyPair("", "")
        # It becomes a word of a command for the server's shell.
        if not isinstance(pair.access_key, str) or not re.fullmatch(r"\w+", pair.access_key, re.ASCII):
            raise SandboxError('expected a key pair: {"accessKeyId": "…", "secretAccessKey": "…"}')
        return pair


def connect(url: str, pair: KeyPair) -> Any:
    """An S3 client."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=pair.access_key,
        aws_secret_access_key=pair.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )


@dataclass(frozen=True)
class Server:
    """The S3 server, by its node and the URL that reaches it from here."""

    node: Node
    url: str

    def issue(self) -> KeyPair:
        """A key pair that is accepted by the time this returns. Each is a user of its own."""
        pair = KeyPair(secrets.token_hex(10), secrets.token_hex(20))
        self._shell(
            f"s3.configure -user={pair.access_key} -actions={_ACTIONS} "
            f"-access_key={pair.access_key} -secret_key={pair.secret_key} -apply"
        )
        self._until(pair, accepted=True)
        return pair

    def revoke(self, pair: KeyPair) -> None:
        """End a key pair: it is refused by the time this returns. One that is not there has ended already."""
        users = json.loads(self._shell("s3.user.list"))
        if pair.access_key in {user["name"] for user in users}:
            self._shell(f"s3.user.delete -name={pair.access_key}")
        self._until(pair, accepted=False)

    def _shell(self, command: str) -> str:
        """Run one command of the server's shell; on its standard input, because it may carry a secret."""
        shell = (
            find_beside_python("weed"),
            "-logtostderr=true",
            "shell",
            "-master=127.0.0.1:9333",
            "-filer=127.0.0.1:8888",
        )
        verb = command.split()[0]
        try:
            done = subprocess.run(
                self.node.command(*shell),
                input=f"{command}\nexit\n",
                capture_output=True,
                text=True,
                check=False,
                timeout=_SHELL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise SandboxError(f"the S3 server did not finish `{verb}` within {_SHELL_SECONDS} s") from None
        if done.returncode != 0:
            why = [line for line in done.stderr.splitlines() if line.startswith("error")]
            raise SandboxError(f"`{verb}` failed on the S3 server: {'; '.join(why) or 'no reason given'}")
        return done.stdout

    def _until(self, pair: KeyPair, *, accepted: bool) -> None:
        """The gateway reads a change from its store a moment later and does not report it: poll."""
        client = connect(self.url, pair)
        deadline = time.monotonic() + _KNOWN_SECONDS
        while _is_accepted(client.list_buckets) != accepted:
            if time.monotonic() > deadline:
                wrong = "refuses a key that was issued" if accepted else "accepts a key that was revoked"
                raise SandboxError(f"the S3 server still {wrong} {_KNOWN_SECONDS} s ago ({pair.access_key})")
            time.sleep(_RETRY)


def _is_accepted(request: Callable[[], object]) -> bool:
    try:
        request()
    except ClientError as error:
        if error.response["Error"]["Code"] not in _REFUSALS:
            raise
        return False
    return True
