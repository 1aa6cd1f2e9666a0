"""`runbook doctor` with a real engine, a real PostgreSQL, and each fault by its cause: one line fails, and it names
what mends it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ops.adapters.doctor import ask_database
from ops.cli.main import app
from ops.decisions.doctor import Fault, judge_database
from ops.errors import NotMeasured
from ops.stack.session import Session
from tests.support import servers
from tests.support.doctor_world import LABELS, Api, registry, write_kubeconfig
from tests.support.postgres_majors import postgres_of
from tests.support.stack_session import create_session

PROGRAM = "import pulumi\n"
NAMESPACE = "/api/v1/namespaces/shop"


@dataclass
class World:
    """A stack that was made and never updated, its cluster and its registry."""

    api: Api
    session: Session
    images: dict[str, str]
    kubeconfig: Path

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        document = yaml.safe_load(self.session.file.read_text())
        change(document["config"])
        self.session.file.write_text(yaml.safe_dump(document))

    def examine(self, *words: str, image: str = "shop", stack: str = "dev") -> tuple[int, dict[str, Any]]:
        given = [
            "doctor",
            self.images.get(image, image),
            "--json",
            "--stack",
            stack,
            "--cwd",
            str(self.session.file.parent),
        ]
        done = CliRunner().invoke(app, [*given, *words])
        assert done.stdout, done.exception
        return done.exit_code, json.loads(done.stdout)

    def failures(self, *words: str, image: str = "shop", stack: str = "dev") -> dict[str, str]:
        """What fails: the evidence and the remedy, by line. Nothing of the cluster was changed."""
        code, report = self.examine(*words, image=image, stack=stack)
        found = {
            line["name"]: f"{line['evidence']} {line['remedy']}" for line in report["lines"] if line["result"] == "fail"
        }
        assert code == (2 if found else 0), report
        assert self.api.changed == []
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    wanted = {
        "shop": {"Labels": LABELS, "User": "10001:10001"},
        "bare": {"User": "10001"},
        "other-user": {"Labels": LABELS, "User": "1000"},
        **{name: {} for name in ("tasks", "postgres", "redis")},
    }
    with registry(wanted) as images:
        session = create_session(tmp_path, monkeypatch, PROGRAM)
        made = World(Api(), session, images, tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))

        def name_images(config: dict[str, Any]) -> None:
            config["runbook:image"] = images["tasks"]
            for name in ("postgres", "redis"):
                config["runbook:data"][name]["image"] = images[name]

        made.edit(name_images)
        with made.api.serving(made.kubeconfig):
            yield made


def test_where_nothing_is_wrong_it_says_so_and_changes_nothing(world: World) -> None:
    code, report = world.examine()
    assert code == 0, report
    assert report["result"] == "passed"
    results = {line["name"]: line["result"] for line in report["lines"]}
    assert {name for name, result in results.items() if result != "pass"} == {"metrics", "pull", "database"}
    assert set(results) >= {"machine", "login", "stack", "provider", "file", "access", "admission", "storage", "images"}
    assert world.api.changed == []


# -- this machine ----------------------------------------------------------------------------------------------


def test_no_pulumi_on_path(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pulumi is not on PATH" in world.failures()["machine"]


def test_an_engine_that_is_too_old(world: World) -> None:
    project = world.session.file.parent / "Pulumi.yaml"
    project.write_text(f"{project.read_text()}requiredPulumiVersion: '>=99.0.0'\n")
    assert "Pulumi.yaml wants >=99.0.0" in world.failures()["machine"]


def test_packages_that_were_never_installed(world: World) -> None:
    project = world.session.file.parent / "Pulumi.yaml"
    project.write_text("name: runbook\nruntime: {name: python, options: {virtualenv: .venv}}\n")
    assert "`pulumi install`" in world.failures()["machine"]


def test_a_backend_that_is_not_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///nowhere/at/all")
    assert set(failed := world.failures()) == {"login"}
    assert "pulumi login" in failed["login"]


def test_a_stack_that_was_not_made(world: World) -> None:
    copy = world.session.file.with_name("Pulumi.new.yaml")
    copy.write_text(world.session.file.read_text())
    assert world.failures(stack="new") == {"stack": "the backend has no stack new `pulumi stack init new`"}


def test_a_wrong_passphrase(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "wrong")
    assert set(failed := world.failures()) == {"provider"}
    assert "The passphrase is wrong for this stack; it came from PULUMI_CONFIG_PASSPHRASE" in failed["provider"]


def test_a_secret_that_is_not_set_hides_no_fault_of_the_cluster(world: World) -> None:
    world.edit(lambda config: config.pop("secrets:STRIPE_SECRET_KEY"))
    world.api.version = "v1.29.9"
    failed = world.failures()
    assert set(failed) == {"file", "cluster"}
    assert "pulumi config set --secret secrets:STRIPE_SECRET_KEY" in failed["file"]


def test_a_stack_file_with_a_wrong_key(world: World) -> None:
    world.edit(lambda config: config.update({"runbook:namspace": "shop"}))
    assert "rename it to runbook:namespace" in world.failures()["file"]


# -- the cluster -------------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer(world: World) -> None:
    (port,) = servers.free_ports(1)
    write_kubeconfig(world.kubeconfig, port)
    assert "cannot be reached" in world.failures()["cluster"]


def _without_default(world: World) -> None:
    world.api.lists["/apis/storage.k8s.io/v1/storageclasses"] = [{"metadata": {"name": "slow"}}]


def _autoscaled(world: World) -> None:
    def change(config: dict[str, Any]) -> None:
        [service] = config["runbook:application"]["services"]
        del service["replicas"]
        service["autoscaler"] = {"minReplicas": 2, "maxReplicas": 4}

    world.edit(change)


def _pulls_with_a_login(world: World) -> None:
    world.edit(lambda config: config.update({"runbook:registry": {"pullSecrets": ["registry-login"]}}))


def _enforces_nothing(world: World) -> None:
    world.api.refuses_namespace = 'admission webhook "policy.example.com" denied the request: owner is missing'


FAULTS: dict[str, tuple[str, Callable[[World], Any], str]] = {
    "old": ("cluster", lambda world: setattr(world.api, "version", "v1.29.14+k3s1"), "1.30 or later"),
    "rights": (
        "access",
        lambda world: world.api.denied.add(("create", "networkpolicies")),
        "networkpolicies",
    ),
    "exec": ("access", lambda world: world.api.denied.add(("create", "pods/exec")), "create pods/exec"),
    "admission": ("admission", _enforces_nothing, "owner is missing"),
    "nodes": ("nodes", lambda world: world.api.lists["/api/v1/nodes"].clear(), "none of 0 nodes is ready"),
    "storage": ("storage", _without_default, "kubectl annotate storageclass slow"),
    "ingress": (
        "ingress",
        lambda world: world.api.lists.update(
            {"/apis/networking.k8s.io/v1/ingressclasses": [{"metadata": {"name": "nginx"}}]}
        ),
        "className: nginx",
    ),
    "metrics": ("metrics", _autoscaled, "install metrics-server"),
    "clock": ("clock", lambda world: setattr(world.api, "ahead", timedelta(minutes=-5)), "timedatectl"),
    "pull": ("pull", _pulls_with_a_login, "kubectl create secret docker-registry registry-login"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_the_cluster_is_one_line_with_its_remedy(world: World, name: str) -> None:
    line, cause, words = FAULTS[name]
    cause(world)
    failed = world.failures()
    assert set(failed) == {line}
    assert words in failed[line]
    assert world.failures("--without", f"{line}=known") == {}


def test_what_would_mend_it_mends_it(world: World) -> None:
    _autoscaled(world)
    available = {"status": {"conditions": [{"type": "Available", "status": "True"}]}}
    world.api.objects["/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"] = available
    _pulls_with_a_login(world)
    world.api.objects[f"{NAMESPACE}/secrets/registry-login"] = {"metadata": {"name": "registry-login"}}
    world.api.lists["/apis/storage.k8s.io/v1/storageclasses"] = [{"metadata": {"name": "slow"}}]
    for name in ("postgres", "redis"):
        world.edit(lambda config, name=name: config["runbook:data"][name].update({"storageClass": "slow"}))
    assert world.failures() == {}


def test_a_namespace_that_is_there_has_to_refuse_what_its_labels_say(world: World) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    world.api.objects[NAMESPACE] = {"metadata": {"name": "shop", "labels": labels}}
    assert world.failures() == {}


# -- images and data ---------------------------------------------------------------------------------------------


def test_an_image_that_was_never_pushed(world: World) -> None:
    world.edit(lambda config: config.update({"runbook:image": world.images["tasks"][:-4] + "0000"}))
    assert "runbook:image: " in world.failures()["images"]


def test_an_image_without_labels_or_of_another_user(world: World) -> None:
    bare = world.failures(image="bare")
    assert set(bare) == {"release"}
    assert "runbook.schema.min" in bare["release"]
    other = world.failures(image="other-user")["release"]
    assert "built for user 1000, and its pods run as 10001" in other
    assert "`pod: {uid: 1000}`" in other


@contextmanager
def _role(server: servers.Postgres, database: str) -> Iterator[str]:
    with server.role(database) as name:
        yield server.url(database, name, f"{name}-pw")


def test_rights_and_version_of_a_real_database() -> None:
    with postgres_of(16) as server, server.database() as database, _role(server, database) as url:
        lacking = judge_database(ask_database(url))
        assert isinstance(lacking, Fault)
        assert f'GRANT CREATE ON DATABASE "{database}"' in lacking.remedy
        server.execute(f"GRANT CREATE ON DATABASE {database} TO PUBLIC")
        assert str(judge_database(ask_database(url))).startswith("PostgreSQL 16, role role_")
        admin = ask_database(url)["creates_roles"]
        assert isinstance(judge_database({**ask_database(url), "admin_creates": admin}), Fault)
        with pytest.raises(NotMeasured, match="password authentication failed") as wrong:
            ask_database(url.replace("-pw@", "-no@"))
        assert wrong.value.fails
        assert "-no" not in wrong.value.why
    assert isinstance(judge_database({"version": 130011, "user": "a", "database": "b", "create": True}), Fault)


def test_a_database_that_does_not_answer(world: World) -> None:
    (port,) = servers.free_ports(1)
    with pytest.raises(NotMeasured, match="Connection refused"):
        ask_database(f"postgresql://shop:secret@127.0.0.1:{port}/shop")
