"""The sandbox's own stack: created in its backend, its file rendered from the committed template."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from ops.stack import stack_file
from sandbox import ui
from sandbox.cluster import Cluster, ObjectStore, layout, s3_server, slack
from sandbox.cluster.s3keys import KeyPair, connect
from sandbox.env import PASSPHRASE, STACK, STACK_FILE, STATE_BUCKET
from sandbox.paths import LOGS, ROOT, STATE
from settings.backup import S3_ACCESS_KEY, S3_SECRET_KEY
from settings.monitoring import (
    CHANNELS,
    DEAD_MANS_SWITCH,
    SLACK_SECRET,
    STATE_ACCESS_KEY,
    STATE_PASSPHRASE,
    STATE_SECRET_KEY,
)

_TEMPLATE = ROOT / f"Pulumi.{STACK}.yaml"
_PROJECT = STATE / "project"
_LOG = LOGS / "stack.log"
_IMAGE = re.compile(r"^[^/\s]+/(?P<name>[a-z0-9._-]+)@sha256:[0-9a-f]{64}$")
_S3_KEY = "python -m sandbox s3-key"
_BACKUP_S3 = {"issue": f"{_S3_KEY} issue", "revoke": f"{_S3_KEY} revoke"}
"""The sandbox's own S3 server issues the key pairs."""
_VERSIONS_KEPT = timedelta(days=1)
"""How long the state's bucket keeps what was replaced or deleted."""
_NEED_S3 = ("runbook:backup", "runbook:maintenanceTasks", "runbook:monitoring")
"""What the template has on the sandbox's own node: backups with reports of maintenance, and a rollback controller that
reads the engine's state."""
_PREFIXES = {
    "STRIPE_SECRET_KEY": "sk_test_",
    "STRIPE_WEBHOOK_SECRET": "whsec_",
    "STRIPE_IDENTITY_WEBHOOK_SECRET": "whsec_",
}


def ensure(cluster: Cluster, images: Mapping[str, str], environment: Mapping[str, str]) -> bool:
    """Create the stack and its file if they are missing; update the images in the file.

    Returns whether it has to be released again.
    """
    if not STACK_FILE.exists():
        shutil.copyfile(_TEMPLATE, STACK_FILE)
    if cluster.s3:
        _keep_versions(cluster.s3)
    _init(environment)
    file = stack_file.read(STACK_FILE)
    here = _Here(cluster, images, _api_server(environment) if cluster.s3 else [])
    changes = {
        key: replaced
        for key, value in file.config.items()
        # What is released is decided by `runbook deploy`, not here.
        if key not in ("runbook:release", "runbook:quarantine") and (replaced := here.fill(value)) != value
    }
    if cluster.s3 is None and (left_out := [key for key in _NEED_S3 if key in file.config]):
        ui.note(
            f"without {', '.join(left_out)}: the sandbox starts no S3 server for your own cluster; "
            "to enable them, name a bucket in the stack file"
        )
        changes |= dict.fromkeys(left_out)
    if changes:
        file.edited(changes).save()
    _invent_secrets(cluster, environment)
    return bool(changes)


def measures_pages() -> bool:
    """Whether the stack file asks for Lighthouse, whose image is not built otherwise."""
    return "runbook:performance" in stack_file.read(STACK_FILE if STACK_FILE.exists() else _TEMPLATE).config


def released_image() -> str | None:
    """The image that the stack file says is released."""
    release = stack_file.read(STACK_FILE).config.get("runbook:release")
    return release["image"] if release else None


def public_url() -> str:
    """Where customers reach the shop."""
    if not STACK_FILE.exists():
        raise ui.SandboxError(f"{STACK_FILE} does not exist yet: run `make up` first")
    return stack_file.read(STACK_FILE).config["runbook:ingress"]["publicUrl"]


def image_to_release(images: Mapping[str, str]) -> str:
    """The version that is released as it is built now; the first one where there is none."""
    release = stack_file.read(STACK_FILE).config.get("runbook:release")
    return images.get(f"shop:v{release['version']}", release["image"]) if release else images["shop:v1"]


def _init(environment: Mapping[str, str]) -> None:
    """Make and select the stack.

    `stack init` writes the encryption salt beside the Pulumi.yaml it finds: let it, in a
    folder of its own, and carry the salt over. Each step is skipped if it was done before,
    so that an interrupted run goes on where it stopped.
    """
    listed = json.loads(_pulumi(environment, "stack", "ls", "--all", "--json"))
    salt = yaml.safe_load(STACK_FILE.read_text()).get("encryptionsalt")
    scratch = _PROJECT / STACK_FILE.name
    if STACK not in {stack["name"] for stack in listed}:
        shutil.rmtree(_PROJECT, ignore_errors=True)
        _PROJECT.mkdir(parents=True)
        shutil.copyfile(ROOT / "Pulumi.yaml", _PROJECT / "Pulumi.yaml")
        if salt:
            scratch.write_text(f"encryptionsalt: {salt}\n")
        outside = {key: value for key, value in environment.items() if key != "PULUMI_OPTION_CONFIG_FILE"}
        ui.run(["pulumi", "stack", "init", STACK, "--non-interactive"], cwd=_PROJECT, env=outside, log=_LOG)
    if not salt:
        with STACK_FILE.open("a") as sink:
            sink.write(f"encryptionsalt: {yaml.safe_load(scratch.read_text())['encryptionsalt']}\n")
    _pulumi(environment, "stack", "select", STACK)


@dataclass(frozen=True)
class _Here:
    """Values of the template's placeholders."""

    cluster: Cluster
    images: Mapping[str, str]
    api_server: Sequence[Mapping[str, Any]]

    def fill(self, value: Any) -> Any:
        """A config value with the images built here, and the addresses at which ingress and API server answer."""
        if isinstance(value, dict):
            return {key: self.api_server if key == "apiServer" else self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if not isinstance(value, str):
            return value
        if match := _IMAGE.match(value):
            return self.images.get(match["name"], value)
        if re.fullmatch(r"https?://localhost:\d+", value):
            return self.cluster.https if value.startswith("https:") else self.cluster.http
        return value


def _api_server(environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Addresses of the cluster's API server, for network policies."""
    command = "kubectl get endpointslices --namespace=default --selector=kubernetes.io/service-name=kubernetes -o json"
    found = json.loads(ui.run(command.split(), env=environment))["items"]
    return [
        {"cidr": f"{address}/32", "ports": [port["port"] for port in item["ports"]]}
        for item in found
        for endpoint in item["endpoints"]
        for address in endpoint["addresses"]
    ]


def _keep_versions(store: ObjectStore) -> None:
    """Make the bucket of the engine's state, which keeps each version of it for a day after it was replaced.

    The server also lists a folder that has become empty as an object, which the engine would take for a lock; not in
    a bucket with versions.
    """
    client = connect(store.url, KeyPair(store.access_key, store.secret_key))
    if STATE_BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=STATE_BUCKET)
    client.put_bucket_versioning(Bucket=STATE_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    remove_old_versions(client, STATE_BUCKET, datetime.now(UTC) - _VERSIONS_KEPT)


def remove_old_versions(client: Any, bucket: str, before: datetime) -> int:
    """Delete the replaced versions that are older than `before`: the engine writes the state anew at every step of an
    update. Rollbacks read the history, whose files are objects of their own. Returns how many were deleted.

    The mark of a deletion stays: without it, the server would list the empty folder as an object.
    """
    removed = 0
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        old = [
            {"Key": version["Key"], "VersionId": version["VersionId"]}
            for version in page.get("Versions", ())
            if not version["IsLatest"] and version["LastModified"] < before
        ]
        if old:
            client.delete_objects(Bucket=bucket, Delete={"Objects": old, "Quiet": True})
        removed += len(old)
    return removed


def _invent_secrets(cluster: Cluster, environment: Mapping[str, str]) -> None:
    """Secrets that come from outside in a real stack; the sandbox generates random values."""
    config = stack_file.read(STACK_FILE).config

    def missing(section: str, secret: str) -> bool:
        return section in config and f"secrets:{secret}" not in config

    wanted = {
        name: _PREFIXES.get(name, "") + secrets.token_hex(24)
        for name in config["runbook:application"].get("secrets", ())
        if f"secrets:{name}" not in config
    }
    if cluster.s3 and missing("runbook:backup", S3_SECRET_KEY):
        # Not the server's own, which cannot be revoked.
        rotation = config.get("runbook:rotation") or {}
        policies = {**rotation.get("secrets", {}), "BACKUP_S3": _BACKUP_S3}
        stack_file.read(STACK_FILE).edited({"runbook:rotation": {**rotation, "secrets": policies}}).save()
        pair = s3_server().issue()
        wanted |= {S3_ACCESS_KEY: pair.access_key, S3_SECRET_KEY: pair.secret_key}
    if cluster.s3 and missing("runbook:monitoring", STATE_SECRET_KEY):
        pair, receiver = s3_server().issue(), f"http://{layout.NODE_IP}:{layout.SLACK_PORT}"
        wanted |= {f"{SLACK_SECRET}{channel.upper()}": f"{receiver}/{channel}" for channel in CHANNELS}
        wanted |= {DEAD_MANS_SWITCH: f"{receiver}{slack.SWITCH}", STATE_PASSPHRASE: PASSPHRASE.read_text().strip()}
        wanted |= {STATE_ACCESS_KEY: pair.access_key, STATE_SECRET_KEY: pair.secret_key}
    if wanted:
        values = {f"secrets:{name}": {"value": value, "secret": True} for name, value in wanted.items()}
        # As PULUMI_OPTION_JSON: on the command line, other users and the log would see them.
        _pulumi(dict(environment) | {"PULUMI_OPTION_JSON": json.dumps(values)}, "config", "set-all")


def _pulumi(environment: Mapping[str, str], *arguments: str) -> str:
    command = ["pulumi", *arguments, "--non-interactive"]
    return ui.run(command, cwd=ROOT, env=environment, log=_LOG)
