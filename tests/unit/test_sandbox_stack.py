"""The sandbox's own stack: its template, what is filled in, where its state is, and what shows that it runs."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sandbox import env, stack
from sandbox.cluster import Cluster, ObjectStore, layout, slack
from sandbox.toolchain import Toolchain
from sandbox.traffic import Answer, summary
from sandbox.ui import SandboxError
from tests.support import http_servers
from tests.support.program import RELEASE, committed, run_program

TEMPLATE = "Pulumi.sandbox.yaml"
STORE = ObjectStore(url="http://localhost:18400", access_key="the-key", secret_key="the-secret")


def cluster(s3: ObjectStore | None = STORE) -> Cluster:
    return Cluster(
        kubeconfig=Path("/kubeconfig"),
        registry="localhost:15009",
        http="http://localhost:18089",
        https="https://localhost:18449",
        ca=None,
        s3=s3,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    for name in ("ENV_FILE", "PASSPHRASE", "PULUMI_HOME", "BACKEND", "STACK_FILE"):
        monkeypatch.setattr(env, name, tmp_path / getattr(env, name).name)
    return tmp_path


def test_the_template_has_everything_on_that_the_program_can_do() -> None:
    named = {resource.object_name for resource in run_program(committed(TEMPLATE, release=RELEASE)).objects}
    assert {"prometheus", "alertmanager", "blackbox", "log-counter", "rollback-controller"} <= named
    assert {"backup", "restore-test", "backup-exporter", "postgres", "redis", "backend"} <= named


def test_the_template_agrees_with_the_node() -> None:
    config = committed(TEMPLATE)
    monitoring = config["runbook:monitoring"]
    assert config["runbook:namespace"] == layout.NAMESPACE
    assert monitoring["prometheus"]["kubelet"]["addresses"] == [layout.NODE_IP]
    assert monitoring["slack"]["egress"] == [{"cidr": f"{layout.NODE_IP}/32", "ports": [layout.SLACK_PORT]}]
    state = monitoring["rollback"]["state"]
    outside = env.variables(cluster(), Toolchain(bin=Path("/bin"), plugins={}, chosen=""))["PULUMI_BACKEND_URL"]
    assert state["url"] == outside.replace(STORE.url, f"http://{layout.NODE_IP}:{layout.S3_PORT}")
    assert state["egress"] == [{"cidr": f"{layout.NODE_IP}/32", "ports": [layout.S3_PORT]}]


def test_placeholders_get_what_this_sandbox_has() -> None:
    images = {name: f"localhost:15009/{name}@sha256:{'1' * 64}" for name in ("tasks", "monitoring", "controller")}
    server = [{"cidr": "10.9.9.9/32", "ports": [16449]}]
    filled: Any = stack._Here(cluster(), images, server).fill(committed(TEMPLATE))
    monitoring = filled["runbook:monitoring"]
    assert filled["runbook:image"] == images["tasks"]
    assert (monitoring["image"], monitoring["rollback"]["image"]) == (images["monitoring"], images["controller"])
    assert monitoring["logs"]["apiServer"] == monitoring["rollback"]["apiServer"] == server
    assert filled["runbook:ingress"]["publicUrl"] == "http://localhost:18089"
    assert filled["runbook:guards"] == committed(TEMPLATE)["runbook:guards"]


def test_the_environment_reaches_the_state_on_s3_and_only_its_owner_reads_the_keys(folder: Path) -> None:
    values = env.write(cluster(), Toolchain(bin=folder, plugins={}, chosen=""))
    assert values["PULUMI_BACKEND_URL"].startswith(f"s3://state?endpoint={STORE.url}&")
    assert (values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"]) == ("the-key", "the-secret")
    assert "the-secret" in env.ENV_FILE.read_text()
    assert env.ENV_FILE.stat().st_mode & 0o077 == 0
    assert not env.BACKEND.exists()


def test_beside_a_cluster_of_the_users_own_the_state_is_a_folder(folder: Path) -> None:
    values = env.write(cluster(s3=None), Toolchain(bin=folder, plugins={}, chosen=""))
    assert values["PULUMI_BACKEND_URL"] == f"file://{env.BACKEND}"
    assert env.BACKEND.is_dir()
    assert "RUNBOOK_S3" not in env.ENV_FILE.read_text()


def test_a_sandbox_with_its_state_in_a_folder_is_left_alone(folder: Path) -> None:
    kept = env.BACKEND / ".pulumi" / "stacks" / "runbook" / "sandbox.json"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(SandboxError, match="make down && make up"):
        env.write(cluster(), Toolchain(bin=folder, plugins={}, chosen=""))
    assert not env.ENV_FILE.exists()


@pytest.fixture
def receiver() -> Iterator[http.client.HTTPConnection]:
    with (
        http_servers.serve(slack.Receiver) as port,
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
    ):
        yield connection


def test_messages_to_slack_are_written_down(
    receiver: http.client.HTTPConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    attachment = {"pretext": "@devops", "title": ":fire: Errors", "text": "5 %\n\nsince 1 m"}
    receiver.request("POST", "/critical", json.dumps({"text": "", "attachments": [attachment]}))
    assert receiver.getresponse().read() == b"ok"
    assert capsys.readouterr().out.split(" ", 1)[1] == "#critical: @devops\n    :fire: Errors\n    5 %\n    since 1 m\n"


def test_what_is_no_message_is_refused_and_not_shown(
    receiver: http.client.HTTPConnection, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.request("POST", "/critical", "no json")
    assert receiver.getresponse().status == 400
    assert capsys.readouterr().out == ""


def test_a_line_of_traffic_says_what_failed_and_who_answered() -> None:
    answers = [
        Answer(0.0, "/shop", 200),
        Answer(0.1, "/api/health", 200, "1a2b3c"),
        Answer(0.2, "/shop", 500),
        Answer(0.3, "/shop", 500),
        Answer(0.4, "/shop", "ReadTimeout: "),
    ]
    assert summary(answers) == "   5 requests,    3 failed (500 x 2, ReadTimeout:  x 1), answered by release 1a2b3c"
    assert summary([]) == "   0 requests,    0 failed, answered by release -"


def test_the_image_of_lighthouse_is_built_when_the_stack_file_asks_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "Pulumi.sandbox.yaml"
    monkeypatch.setattr(stack, "STACK_FILE", file)
    assert not stack.measures_pages()
    file.write_text("config:\n  runbook:performance: {image: localhost:15000/lighthouse@sha256:0}\n")
    assert stack.measures_pages()
