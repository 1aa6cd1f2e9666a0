"""A stack whose database is a SQLite file on a volume: backups, restore tests, migrations, restores in place."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightkube.models.core_v1 import PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod

from ops.adapters.cluster import Cluster
from ops.commands import restore
from ops.errors import Stuck
from settings import SettingsError, StackFile, parse
from settings.sqlite import BESIDE
from tasks.backup.create import skip_reason
from tasks.backup.sqlite_source import SqliteSource
from tasks.environment import Environment
from tasks.errors import TaskError
from tests.support.monitored_config import PLAIN, watched
from tests.support.program import RELEASE, Program, Registered, run_program, secrets_for, stack_config

FOLDER = "/app/data"
URL = f"sqlite:///{FOLDER}/shop.db"
DATA = {
    "sqlite": {"volume": "database", "file": "shop.db"},
    "volumes": {"database": {"size": "5Gi", "accessMode": "ReadWriteOnce"}},
}


def sqlite_config(**changes: Any) -> dict[str, Any]:
    """The committed file with SQLite; `changes` of `runbook:` keys."""
    config = stack_config("Pulumi.prod.yaml", release=RELEASE)
    config.pop("runbook:performance", None)
    config["runbook:data"] = DATA
    config["runbook:backup"].get("restoreTest", {}).pop("postgresImage", None)
    config["runbook:backup"].get("restoreTest", {}).pop("redisImage", None)
    service = config["runbook:application"]["services"][0]
    service.pop("autoscaler", None)
    service["replicas"] = 2
    service["pod"] = {
        "uid": 1000,
        "volumes": [{"name": "database", "path": FOLDER}],
    }
    return {**config, **{f"runbook:{key}": value for key, value in changes.items()}}


@pytest.fixture(scope="module")
def program() -> Program:
    return run_program(sqlite_config())


def claims(made: Registered) -> set[str]:
    volumes = (made.pod or {})["volumes"]
    return {one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one}


def env_of(container: Mapping[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in container.get("env", [])}


def container_of(made: Registered, name: str) -> Mapping[str, Any]:
    return next(one for one in made.containers if one["name"] == name)


def mounted(container: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in container["volumeMounts"]}


def the_job(program: Program, name: str) -> Registered:
    return next(made for made in program.all("Job") if made.object_name.rsplit("-", 1)[0] == name)


def openers(program: Program) -> dict[str, Registered]:
    """Everything that has the live file open."""
    found = {name: the_job(program, name) for name in ("pre-release", "migrate", "rehearsal", "smoke")}
    found |= {name: program.one("CronJob", name) for name in ("backup", "restore")}
    return {**found, "backend": program.one("Deployment", "backend")}


def test_there_is_no_server_and_the_services_get_the_file(program: Program) -> None:
    assert not program.all("StatefulSet")
    secret = program.one("Secret", "database").inputs["stringData"]
    assert secret == {"DATABASE_URL": URL}
    assert "DATABASE_URL" in next(
        made.inputs["stringData"] for made in program.all("Secret") if made.object_name.startswith("app-secrets-")
    )
    assert not [made for made in program.all("NetworkPolicy") if "postgres" in made.object_name]


def test_what_opens_the_file_runs_on_its_node_as_its_owner(program: Program) -> None:
    for name, made in openers(program).items():
        assert made.template is not None
        assert made.pod is not None
        assert made.template["metadata"]["labels"][BESIDE] == "database", name
        [term] = made.pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term == {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {BESIDE: "database"}},
        }, name
        assert made.pod["securityContext"]["runAsUser"] == 1000, name
        assert "database" in claims(made), name


def test_a_backup_copies_the_file_where_the_service_has_it(program: Program) -> None:
    made = program.one("CronJob", "backup")
    create = container_of(made, "create")
    assert FOLDER in mounted(create)
    assert mounted(create)[FOLDER].get("readOnly") is not True  # it writes its sentinel
    assert env_of(create)["SCRATCH"]["value"] in mounted(create)
    assert FOLDER not in mounted(container_of(made, "cleanup"))


def test_a_migration_needs_no_guard_and_has_the_file(program: Program) -> None:
    made = the_job(program, "migrate")
    assert [one["name"] for one in made.containers] == ["migrate"]
    assert FOLDER in mounted(made.containers[0])


def test_a_restore_test_has_the_same_place_and_not_the_live_volume(program: Program) -> None:
    made = program.one("CronJob", "restore-test")
    assert made.pod is not None
    assert made.template is not None
    assert "database" not in claims(made)
    assert BESIDE not in made.template["metadata"]["labels"]
    assert made.pod["securityContext"]["runAsUser"] == 1000
    steps = [one["name"] for one in made.containers]
    assert steps[0] == "wipe"
    assert "postgres" not in steps
    volumes = {volume["name"] for volume in made.pod["volumes"]}
    for name in ("wipe", "begin", "migrate", "backend", "smoke", "conclude"):
        at = mounted(container_of(made, name))[FOLDER]
        assert (at["name"], at["subPath"]) == ("scratch", "database"), name
        assert {mount["name"] for mount in container_of(made, name)["volumeMounts"]} <= volumes, name
    assert program.one("Secret", "restore-test").inputs["stringData"]["DATABASE_URL"] == URL
    assert "DATABASE_URL" not in env_of(container_of(made, "begin"))


def test_what_was_restored_is_deleted_at_the_end_of_a_test(program: Program, tmp_path: Path) -> None:
    wipe = container_of(program.one("CronJob", "restore-test"), "wipe")
    assert wipe["restartPolicy"] == "Always"
    _, flag, code, folder = wipe["command"]
    assert (flag, folder) == ("-c", FOLDER)
    (tmp_path / "shop.db").write_text("customers")
    (tmp_path / "more").mkdir()
    # Blocked from its start, the signal waits for the program.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not list(tmp_path.iterdir())


def test_prisma_gets_a_url_of_its_own_form() -> None:
    data = {**DATA, "sqlite": {**DATA["sqlite"], "scheme": "file"}}
    secret = run_program(sqlite_config(data=data)).one("Secret", "database").inputs["stringData"]
    assert secret["DATABASE_URL"] == f"file:{FOLDER}/shop.db"


def test_pods_that_have_the_file_open_are_stopped_for_a_restore() -> None:
    held = {"reason": "restore", "stopsWriters": True}
    stopped = run_program(sqlite_config(maintenance=held)).one("Deployment", "backend")
    assert stopped.inputs["spec"]["replicas"] == 0
    assert stopped.inputs["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"
    serving = run_program(sqlite_config(maintenance={"reason": "restore"})).one("Deployment", "backend")
    assert serving.inputs["spec"]["replicas"] > 0
    assert "pulumi.com/skipAwait" not in serving.inputs["metadata"]["annotations"]


def test_with_a_server_no_pod_is_stopped(prod: Program) -> None:
    config = stack_config("Pulumi.prod.yaml", release=RELEASE, maintenance={"reason": "x", "stopsWriters": True})
    stopped = run_program(config).one("Deployment", "backend")
    assert stopped.inputs["spec"].get("replicas") == prod.one("Deployment", "backend").inputs["spec"].get("replicas")


# -- settings ---------------------------------------------------------------------------------------------


def refusal(config: dict[str, Any]) -> str:
    values = {key: value for key, value in config.items() if key.startswith(("runbook:", "kubernetes:"))}
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    with pytest.raises(SettingsError) as raised:
        parse(StackFile("Pulumi.prod.yaml", values, sealed))
    return str(raised.value)


def in_pod(**pod: Any) -> dict[str, Any]:
    config = sqlite_config()
    config["runbook:application"]["services"][0]["pod"].update(pod)
    return config


def with_backup(**change: Any) -> dict[str, Any]:
    config = sqlite_config()
    config["runbook:backup"].update(change)
    return config


API = [{"cidr": "10.40.0.0/28", "ports": [443]}]
POSTGRES = {"mode": "external", "egress": [{"cidr": "10.0.5.0/24", "ports": [5432]}]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (sqlite_config(data={"volumes": DATA["volumes"]}), "name a PostgreSQL, or a file in sqlite"),
        (sqlite_config(data={**DATA, "postgres": POSTGRES}), "an application has one database"),
        (sqlite_config(data={**DATA, "volumes": {}}), "no such volume; runbook:data.volumes has: none"),
        (in_pod(volumes=[]), "does not mount database, which has the database"),
        (in_pod(volumes=[{"name": "database", "path": FOLDER, "readOnly": True}]), "which is written to"),
        (in_pod(affinity={"nodeAffinity": {}}), "have to run on the node with the file"),
        (in_pod(spread="required"), "run on one node"),
        (with_backup(ownLogin=True), "SQLite has no logins"),
        (sqlite_config(data={**DATA, "sqlite": {"volume": "database", "file": "../x"}}), "pattern"),
    ],
)
def test_what_does_not_go_with_a_file_is_refused(config: dict[str, Any], words: str) -> None:
    assert words in refusal(config)


@pytest.fixture(scope="module")
def upkept() -> Program:
    """With monitoring and maintenance."""
    monitoring = {**PLAIN, "frontDoor": {"address": "https://shop.example.com"}}
    guards = watched("Pulumi.prod.yaml")["runbook:guards"]
    return run_program(sqlite_config(monitoring=monitoring, maintenanceTasks={"apiServer": API}, guards=guards))


def test_monitoring_asks_no_server_and_no_trigger_waits_for_one(upkept: Program) -> None:
    deployed = {made.object_name for made in upkept.all("Deployment")}
    assert {"blackbox", "backup-exporter"} <= deployed
    assert not {"postgres-exporter", "redis-exporter"} & deployed
    [rules] = [made.inputs["data"] for made in upkept.all("ConfigMap") if made.object_name.startswith("prometheus-")]
    text = json.dumps(rules)
    assert "pg_" not in text
    assert "redis" not in text
    for name in ("RollbackErrorRate", "RollbackHealth", "BackupNeverRan", "BackupMissed", "BackupShrank"):
        assert name in text
    for name in ("RestoreTestFailed", "MaintenanceNeverRan", "MaintenanceFailed"):
        assert name in text
    assert "triggers:data:away" not in text, "there is no server that could be away"


def test_maintenance_has_the_file_where_the_service_has_it(upkept: Program) -> None:
    for schedule in ("daily", "weekly", "monthly"):
        made = upkept.one("CronJob", f"maintenance-{schedule}")
        assert made.pod
        assert made.template
        runner = container_of(made, "runner")
        assert FOLDER in mounted(runner)
        assert mounted(runner)[FOLDER].get("readOnly") is not True
        assert made.template["metadata"]["labels"][BESIDE] == "database"
        assert made.pod["securityContext"]["runAsUser"] == 1000
        assert "database" in claims(made)


# -- tasks and commands ---------------------------------------------------------------------------------------


def test_a_first_release_finds_no_file_yet_and_needs_no_backup(tmp_path: Path) -> None:
    environment = Environment({"DATABASE_URL": f"sqlite:///{tmp_path}/shop.db", "SCHEMA_LEVEL_QUERY": "SELECT 1"})
    assert skip_reason(environment, 3) == f"there is no database {tmp_path}/shop.db yet"
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    assert skip_reason(environment, 3) is None
    away = Environment({"DATABASE_URL": f"sqlite:///{tmp_path}/away/shop.db"})
    with pytest.raises(TaskError, match="is the volume mounted"):
        SqliteSource.from_environment(f"sqlite:///{tmp_path}/away/shop.db", away).exists()


class Shop:
    """What a restore in place does to a stack, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False, left: list[str] | None = None) -> None:
        self.did: list[str] = []
        self.fails, self.left = fails, left or []
        values = {key: value for key, value in sqlite_config().items() if key.startswith(("runbook:", "kubernetes:"))}
        sealed = frozenset(f"secrets:{name}" for name in secrets_for(sqlite_config()))
        settings = parse(StackFile("Pulumi.prod.yaml", values, sealed))
        cluster = SimpleNamespace(await_no_pods=self.await_no_pods)
        self.text = SimpleNamespace(config={"runbook:release": RELEASE})
        self.facts: Any = SimpleNamespace(settings=settings, cluster=cluster, text=self.text, checked=lambda made: made)
        self.session: Any = SimpleNamespace(say=lambda *_: None, file=None)
        monkeypatch.setattr(restore, "apply", self.apply)
        monkeypatch.setattr("ops.commands.maintenance.apply", self.apply)
        monkeypatch.setattr(restore.stack_file, "read", lambda _: self.text)

    def await_no_pods(self, deployment: str, seconds: float) -> list[str]:
        assert seconds > 60
        self.did.append(f"await {deployment}")
        return self.left

    def apply(self, _session: Any, _before: Any, after: Mapping[str, Any], *_: Any) -> Any:
        held = after.get("runbook:maintenance")
        word = "open" if held is None else "stopped" if held.get("stopsWriters") else "closed"
        self.did.append(word)
        fails = self.fails and word == "closed" and self.did.count("closed") == 1
        return SimpleNamespace(succeeded=not fails, why="smoke failed", causes=[], outputs={})

    def run(self, _group: str, verb: str, *_: str) -> dict[str, Any]:
        if verb != "state":
            self.did.append(verb)
        return {"phase": "idle", "safety": "safety-1"}

    def restore(self) -> Any:
        after = {"runbook:release": RELEASE}
        policy: Any = None
        tasks: Any = self
        return restore.swap_databases(self.session, self.facts, tasks, {"id": "b"}, after, "restore b", policy)


def test_a_file_is_exchanged_while_no_pod_has_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch)
    shop.restore()
    assert shop.did == ["stopped", "await backend", "prepare", "swap", "closed", "finish", "open"]


def test_the_old_file_comes_back_while_no_pod_has_the_restored_one_open(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, fails=True)
    with pytest.raises(restore.RolledBack) as raised:
        shop.restore()
    assert "the old database is restored" in str(raised.value)
    exchanged = ["stopped", "await backend", "prepare", "swap", "closed"]
    assert shop.did == [*exchanged, "stopped", "await backend", "undo", "closed", "open"]


def test_a_pod_that_does_not_end_keeps_the_file_from_being_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, left=["backend-1-x"])
    with pytest.raises(Stuck) as raised:
        shop.restore()
    assert "backend-1-x" in str(raised.value)
    assert shop.did == ["stopped", "await backend"]


@pytest.mark.parametrize(
    ("lists", "left"),
    [([[]], []), ([["a-1", "a-2"], ["a-2"], []], []), ([["a-1"], ["a-1"]], ["a-1"])],
)
def test_a_command_waits_for_the_last_pod_that_has_not_ended(lists: list[list[str]], left: list[str]) -> None:
    """`lists`: the pods that run at first and after each change."""

    class Ending(Cluster):
        def __init__(self) -> None:
            self.namespace = "shop"
            self.found = iter(lists)

        def _list_pods(self, service: str) -> list[Pod]:
            ended = Pod(metadata=ObjectMeta(name="ended"), status=PodStatus(phase="Failed"))
            return [ended, *(Pod(metadata=ObjectMeta(name=name)) for name in next(self.found))]

        def watch_changes(self, path: str, seconds: float, **selection: str) -> Iterator[tuple[str, dict[str, Any]]]:
            yield from [("MODIFIED", {})] * (len(lists) - 1)

    assert Ending().await_no_pods("backend", 1) == left
