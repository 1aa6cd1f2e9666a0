"""Bad input: one clear message, an exit code that is not 0, and nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from sandbox.cluster.s3keys import REGION
from sandbox.env import BACKEND, STACK, STACK_FILE, STATE_BUCKET
from sandbox.paths import ROOT
from tests.support.cluster_stack import Checked, Stack
from tests.support.monitored_stack import eventually

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ONE_MESSAGE_LINES = {"runbook": 20, "pulumi": 45}
"""The engine sets a frame of its own around the program's message."""


@pytest.fixture(scope="module")
def stack(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The one that `make up` released, by copies of its stack file, state and history: what is refused changes nothing
    in the cluster, but the engine enters a refused `pulumi up` into the history as failed."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "project").mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", folder / "project")
    _copy_state(folder / "backend")
    return Stack(STACK, Path(shutil.copy(STACK_FILE, folder)), backend=f"file://{folder / 'backend'}")


def _copy_state(folder: Path) -> None:
    """State and history of the stack, as a backend of files keeps them."""
    ours = (".pulumi/meta.yaml", f".pulumi/history/runbook/{STACK}/", f".pulumi/stacks/runbook/{STACK}.json")
    if "RUNBOOK_S3" not in os.environ:
        shutil.copytree(BACKEND, folder)
        return
    client = boto3.client("s3", endpoint_url=os.environ["RUNBOOK_S3"], region_name=REGION)
    for prefix in ours:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=STATE_BUCKET, Prefix=prefix):
            for item in page.get("Contents", []):
                file = folder / item["Key"]
                file.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(STATE_BUCKET, item["Key"], str(file))


def state_of(stack: Stack) -> str:
    """The resources of the state, without ciphertext, which each write makes anew, and without places in the source:
    what `make up` released may be older than this checkout."""
    exported = json.loads(stack.run("pulumi", "stack", "export", "--stack", stack.name, config_file=False).check().out)
    places = ("sourcePosition", "stackTrace")
    resources = [
        {key: value for key, value in resource.items() if key not in places}
        for resource in exported["deployment"]["resources"]
    ]
    return re.sub(r'"ciphertext": "[^"]*"', "", json.dumps(resources, sort_keys=True))


def refused(done: Checked, *words: str, command: str = "runbook") -> None:
    assert done.code != 0, done.text
    assert "Traceback" not in done.text
    assert len(done.text.strip().splitlines()) <= ONE_MESSAGE_LINES[command], done.text
    flat = re.sub(r"\s+", " ", done.text)
    for word in words:
        assert word in flat, f"{word!r} is not in:\n{done.text}"


def unknown_key(config: dict[str, Any]) -> None:
    config["runbook:application"]["servces"] = []


def missing_secret(config: dict[str, Any]) -> None:
    config["runbook:application"]["secrets"].append("PAYPAL_SECRET")


def image_without_digest(config: dict[str, Any]) -> None:
    config["runbook:data"]["postgres"]["image"] = "localhost:15000/postgres:15"


def no_replicas_in_production(config: dict[str, Any]) -> None:
    config["runbook:environment"] = "production"
    config["runbook:application"]["services"][0]["replicas"] = 0
    if "runbook:backup" not in config:  # beside a cluster that is not the sandbox's; that would be refused as well
        config["runbook:backup"] = {
            "destination": {"mode": "volume", "size": "1Gi"},
            "scratch": "1Gi",
            "resources": dict(config["runbook:application"]["jobResources"]),
        }


def plain_secret(config: dict[str, Any]) -> None:
    config["secrets:STRIPE_SECRET_KEY"] = "sk_test_in_the_clear"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unknown_key, ("servces", "services")),
        (missing_secret, ("PAYPAL_SECRET", "config set --secret")),
        (image_without_digest, ("digest", "image")),
        (no_replicas_in_production, ("replicas",)),
        (plain_secret, ("STRIPE_SECRET_KEY", "--secret")),
    ],
)
@pytest.mark.parametrize("command", ["runbook", "pulumi"])
def test_a_bad_stack_file_is_refused_before_anything_changes(
    stack: Stack,
    images: dict[str, str],
    change: Callable[[dict[str, Any]], None],
    words: tuple[str, ...],
    command: str,
) -> None:
    good = stack.file.read_bytes()
    state = state_of(stack)
    stack.edit(change)
    bad = stack.file.read_bytes()
    try:
        if command == "runbook":
            done = stack.runbook("deploy", images["shop:v2"], "--yes")
        else:
            done = stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--skip-preview", "--non-interactive")
        refused(done, *words, command=command)
        assert "sk_test_in_the_clear" not in done.text
        assert stack.file.read_bytes() == bad, "a refused deploy leaves the stack file alone"
        assert state_of(stack) == state
    finally:
        stack.file.write_bytes(good)


def test_an_image_that_is_not_there(stack: Stack, images: dict[str, str]) -> None:
    before = stack.file.read_bytes()
    repository = images["shop:v1"].split("@")[0]
    refused(stack.runbook("deploy", f"{repository}:v99", "--yes"), "v99")
    assert stack.file.read_bytes() == before


def push_unknown(image: str) -> str:
    """The same image under a digest that no node has seen."""
    registry, _, rest = image.partition("/")
    repository, _, digest = rest.partition("@")
    manifests = f"http://{registry}/v2/{repository}/manifests"
    found = httpx.get(f"{manifests}/{digest}", headers={"Accept": MANIFEST}).raise_for_status().json()
    made = json.dumps({**found, "annotations": {"example.com/token": secrets.token_hex(8)}}).encode()
    name = f"sha256:{hashlib.sha256(made).hexdigest()}"
    httpx.put(f"{manifests}/{name}", content=made, headers={"Content-Type": MANIFEST}).raise_for_status()
    return f"{registry}/{repository}@{name}"


def test_a_node_that_lacks_the_image_pulls_it_on_request(stack: Stack, images: dict[str, str]) -> None:
    image = push_unknown(images["shop:v1"])

    def ask(*options: str) -> dict[str, Any]:
        report = stack.runbook("check", image, "--json", *options).json()
        (line,) = [line for line in report["lines"] if line["name"] == "pull"]
        return line

    assert "0 nodes have it, 0 pulled it; not tried on" in ask()["evidence"]
    pulled = ask("--pull")
    assert (pulled["result"], pulled["evidence"]) == ("pass", "0 nodes have it, 1 pulled it")
    # The kubelet looks for its images every half minute, and reports them afterwards.
    eventually(lambda: ask()["evidence"] == "1 nodes have it, 0 pulled it", 90, ask)
    assert "pull-" not in stack.kubectl("get", "pods", "--output=name"), "the pod that pulled it is gone"


def test_a_schema_range_that_excludes_the_database(stack: Stack, images: dict[str, str]) -> None:
    before = stack.file.read_bytes()
    done = stack.runbook(
        "deploy", images["shop:v2"], "--yes", "--schema-min", "0", "--schema-max", "0", "--schema-level", "0"
    )
    refused(done, "schema")
    assert stack.file.read_bytes() == before


def test_a_revision_that_does_not_exist(stack: Stack) -> None:
    before = stack.file.read_bytes()
    refused(stack.runbook("rollback", "--to", "999", "--yes"), "999", "history")
    refused(stack.runbook("diff", "999"), "999")
    assert stack.file.read_bytes() == before


def test_a_stack_that_was_never_deployed(stack: Stack) -> None:
    stack.run(
        "pulumi",
        "stack",
        "init",
        "neverdeployed",
        "--cwd",
        str(stack.file.parent / "project"),
        config_file=False,
    ).check()
    try:
        done = stack.runbook("rollback", "--stack", "neverdeployed", "--yes")
        refused(done, "neverdeployed", "deploy")
    finally:
        stack.run(
            "pulumi",
            "stack",
            "rm",
            "neverdeployed",
            "--yes",
            "--cwd",
            str(stack.file.parent / "project"),
            config_file=False,
        )


def test_a_cluster_that_does_not_answer(stack: Stack, images: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = stack.file.parent / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "gone",
                "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "stranger"}}],
                "clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:9"}}],
                "users": [{"name": "stranger", "user": {"token": "none"}}],
            }
        )
    )
    before = stack.file.read_bytes()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    refused(stack.runbook("deploy", images["shop:v2"], "--yes"), "127.0.0.1:9")
    assert stack.file.read_bytes() == before


def test_a_wrong_passphrase(stack: Stack, images: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = stack.file.read_bytes()
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "not the one")
    refused(stack.runbook("deploy", images["shop:v2"], "--yes"), "passphrase")
    assert stack.file.read_bytes() == before
