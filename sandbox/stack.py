"""The sandbox's own stack: made in the local backend, its file filled in from the committed template."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

import yaml

from ops import stackfile
from sandbox import ui
from sandbox.cluster import Cluster, s3_server
from sandbox.env import STACK, STACK_FILE
from sandbox.paths import LOGS, ROOT, STATE
from settings.backup import S3_ACCESS_KEY, S3_SECRET_KEY

_TEMPLATE = ROOT / f"Pulumi.{STACK}.yaml"
_PROJECT = STATE / "project"
_LOG = LOGS / "stack.log"
_IMAGE = re.compile(r"^[^/\s]+/(?P<name>[a-z0-9._-]+)@sha256:[0-9a-f]{64}$")
_S3_KEY = "python -m sandbox s3-key"
_ROTATION = {"secrets": {"BACKUP_S3": {"issue": f"{_S3_KEY} issue", "revoke": f"{_S3_KEY} revoke"}}}
"""The sandbox's own S3 server makes key pairs; nobody has to bring any."""
_PREFIXES = {
    "STRIPE_SECRET_KEY": "sk_test_",
    "STRIPE_WEBHOOK_SECRET": "whsec_",
    "STRIPE_IDENTITY_WEBHOOK_SECRET": "whsec_",
}


def ensure(cluster: Cluster, images: Mapping[str, str], environment: Mapping[str, str]) -> bool:
    """Make the stack and its file where they are missing; bring the images in the file up to date.

    Returns whether it has to be released again.
    """
    if not STACK_FILE.exists():
        shutil.copyfile(_TEMPLATE, STACK_FILE)
    _init(environment)
    file = stackfile.read(STACK_FILE)
    changes = {
        key: replaced
        for key, value in file.config.items()
        # What is released is decided by `runbook deploy`, not here.
        if key not in ("runbook:release", "runbook:quarantine")
        and (replaced := _with_this_sandbox(value, cluster, images)) != value
    }
    if cluster.s3 is None and "runbook:backup" in file.config:
        ui.note("no backups: the sandbox starts no S3 server beside your own cluster; set runbook:backup to have them")
        changes["runbook:backup"] = None
    if changes:
        file.edited(changes).save()
    _invent_secrets(cluster, environment)
    return bool(changes)


def released_image() -> str | None:
    """The image that the stack file says is released."""
    release = stackfile.read(STACK_FILE).config.get("runbook:release")
    return release["image"] if release else None


def image_to_release(images: Mapping[str, str]) -> str:
    """The version that is released as it is built now; the first one where there is none."""
    release = stackfile.read(STACK_FILE).config.get("runbook:release")
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


def _with_this_sandbox(value: Any, cluster: Cluster, images: Mapping[str, str]) -> Any:
    """A config value with the images built here, and the address at which the ingress answers."""
    if isinstance(value, dict):
        return {key: _with_this_sandbox(item, cluster, images) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_this_sandbox(item, cluster, images) for item in value]
    if not isinstance(value, str):
        return value
    if match := _IMAGE.match(value):
        return images.get(match["name"], value)
    if re.fullmatch(r"https?://localhost:\d+", value):
        return cluster.https if value.startswith("https:") else cluster.http
    return value


def _invent_secrets(cluster: Cluster, environment: Mapping[str, str]) -> None:
    """Secrets that come from outside in a real stack: nobody knows the sandbox's, so any value does."""
    config = stackfile.read(STACK_FILE).config
    wanted = {
        name: _PREFIXES.get(name, "") + secrets.token_hex(24)
        for name in config["runbook:application"].get("secrets", ())
        if f"secrets:{name}" not in config
    }
    if cluster.s3 and "runbook:backup" in config and f"secrets:{S3_SECRET_KEY}" not in config:
        # Not the server's own, which cannot be revoked. The part that is looked for is written last.
        stackfile.read(STACK_FILE).edited({"runbook:rotation": _ROTATION}).save()
        pair = s3_server().issue()
        wanted |= {S3_ACCESS_KEY: pair.access_key, S3_SECRET_KEY: pair.secret_key}
    for name, value in wanted.items():
        _pulumi(environment, "config", "set", "--secret", f"secrets:{name}", stdin=value)


def _pulumi(environment: Mapping[str, str], *arguments: str, stdin: str | None = None) -> str:
    command = ["pulumi", *arguments, "--non-interactive"]
    return ui.run(command, cwd=ROOT, env=environment, log=_LOG, stdin=stdin)
