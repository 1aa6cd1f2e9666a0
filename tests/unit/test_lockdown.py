"""Lockdown: what the settings refuse, what the program makes of it, and what the command says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod
from pydantic import ValidationError
from typer.testing import CliRunner

from ops.adapters.cluster import Cluster, Unreachable
from ops.adapters.server_clock import ServerClock
from ops.cli import main
from ops.commands import lockdown as locking
from ops.commands.update import LockPolicy
from ops.decisions.release_state import describe_lockdown, extend_lockdown, find_lockdown
from ops.errors import Refused, Stuck
from ops.stack.history import Entry, History
from ops.stack.stack_context import StackContext
from ops.stack.stack_file import read
from settings import Lockdown, Precautions
from settings.lockdown import GATE, LOCKDOWN
from tests.support.program import RELEASE, Program, run_program, secrets_for, stack_config
from tests.unit.test_settings import edited, refusal

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
GIVEN = {
    "reason": "password guessing",
    "since": "2026-11-22T10:00:00Z",
    "until": "2026-11-22T11:00:00Z",
    "allow": ["203.0.113.0/24"],
    "closedPaths": ["/admin"],
}
TRAEFIK = {"matchLabels": {"kubernetes.io/metadata.name": "traefik"}}


def released(file: str = "Pulumi.sandbox.yaml", **changes: Any) -> Program:
    return run_program(stack_config(file, release=RELEASE, **changes))


@pytest.fixture(scope="module")
def open_(sandbox: Program) -> Program:
    return sandbox


@pytest.fixture(scope="module")
def locked() -> Program:
    return released(lockdown=GIVEN)


# -- settings ------------------------------------------------------------------------------------------


def test_a_lockdown_combines_the_settings_and_the_options() -> None:
    made = Precautions(allow=("10.1.2.3",), closed_paths=("/admin", "/api/admin")).lockdown(
        "x", NOW + timedelta(microseconds=7), allow=["203.0.113.9/24"]
    )
    assert made.allow == ("10.1.2.3/32", "203.0.113.0/24")
    assert made.closed_paths == ("/admin", "/api/admin")
    assert (made.since, made.until) == (NOW, NOW + timedelta(hours=1))
    assert Lockdown.model_validate(json.loads(json.dumps(made.to_config()))) == made


def test_it_is_over_at_its_end_and_not_before() -> None:
    made = Precautions().lockdown("x", NOW, seconds=60)
    assert not made.over(NOW + timedelta(seconds=59.9))
    assert made.over(NOW + timedelta(seconds=60))
    assert describe_lockdown(made, NOW + timedelta(seconds=59))["state"] == "on"
    assert describe_lockdown(made, NOW + timedelta(seconds=59))["secondsLeft"] == 1
    assert describe_lockdown(made, NOW + timedelta(seconds=60))["state"] == "over"
    assert describe_lockdown(None, NOW)["state"] == "off"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"until": "2026-11-22T10:00:00Z"}, ()),
        ({"until": "2026-11-30T10:00:00Z"}, ()),
        ({"until": "2026-11-22T11:00:00"}, ("until",)),
        ({"reason": ""}, ("reason",)),
        ({"allow": ["the office"]}, ("allow", 0)),
        ({"closedPaths": ["/admin\n    server x"]}, ("closedPaths", 0)),
        ({"closedPaths": ["/a'dmin"]}, ("closedPaths", 0)),
        ({"closedPaths": ["/%61dmin"]}, ("closedPaths", 0)),
        ({"closedPaths": ["/"]}, ("closedPaths", 0)),
        ({"closedPaths": ["/a/../b/"]}, ("closedPaths", 0)),
    ],
)
def test_what_is_no_lockdown_is_refused(change: dict[str, Any], where: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as raised:
        Lockdown.model_validate({**GIVEN, **change})
    assert [error["loc"] for error in raised.value.errors()] == [where]


# -- what the program makes of it ----------------------------------------------------------------------


def into(program: Program, name: str = "allow-clients-into-services-3000") -> list[Any]:
    (rule,) = program.one("NetworkPolicy", name).inputs["spec"]["ingress"]
    return rule["from"]


def test_the_ingress_routes_to_the_gate_and_the_services_stay(open_: Program, locked: Program) -> None:
    (path,) = locked.one("Ingress", "ingress").inputs["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"] == {"service": {"name": "lockdown", "port": {"number": 8080}}}
    gate = locked.one("Deployment", "lockdown")
    assert locked.waits_for(locked.one("Ingress", "ingress"), gate)
    assert locked.one("Deployment", "backend").inputs == open_.one("Deployment", "backend").inputs
    assert gate.containers[0]["image"] == stack_config("Pulumi.sandbox.yaml")["runbook:image"]
    (config,) = [made for made in locked.all("ConfigMap") if made.object_name.startswith("lockdown-gate-")]
    assert GIVEN["reason"] not in str(config.inputs)
    assert gate.pod
    assert gate.pod["volumes"][-1]["configMap"]["name"] == config.object_name
    assert not [made for made in open_.objects if "lockdown" in made.object_name]


def test_the_services_stay_open_until_the_ingress_routes_to_the_gate(open_: Program, locked: Program) -> None:
    for program, first, then in ((locked, "Ingress", "NetworkPolicy"), (open_, "NetworkPolicy", "Ingress")):
        names = {"Ingress": "ingress", "NetworkPolicy": "allow-clients-into-services-3000"}
        assert program.waits_for(program.one(then, names[then]), program.one(first, names[first]))


def test_only_the_gate_may_connect_to_the_services(open_: Program, locked: Program) -> None:
    assert TRAEFIK in [peer.get("namespaceSelector") for peer in into(open_)]
    assert all("namespaceSelector" not in peer for peer in into(locked))
    (gate,) = into(locked, "allow-lockdown-into-services-3000")
    wanted = gate["podSelector"]["matchLabels"]
    assert wanted.items() <= (locked.one("Deployment", "lockdown").template or {})["metadata"]["labels"].items()
    (controller,) = into(locked, "allow-into-lockdown")
    assert controller["namespaceSelector"] == TRAEFIK
    (out,) = locked.one("NetworkPolicy", "allow-lockdown-to-services-3000").inputs["spec"]["egress"]
    assert out["ports"] == [{"port": 3000, "protocol": "TCP"}]
    for opening in ("allow-into-lockdown", "allow-lockdown-to-services-3000", "allow-lockdown-into-services-3000"):
        assert locked.waits_for(locked.one("Deployment", "lockdown"), locked.one("NetworkPolicy", opening))


def test_cronjobs_are_suspended(open_: Program, locked: Program) -> None:
    assert any(not made.inputs["spec"]["suspend"] for made in open_.all("CronJob"))
    assert all(made.inputs["spec"]["suspend"] for made in locked.all("CronJob"))


def test_an_automatic_lockdown_suspends_no_backup_and_no_restore_test(open_: Program) -> None:
    """Otherwise a client that provokes it closes the gate for migrations for want of a proof."""
    automatic = released(lockdown={**GIVEN, "automatic": True})

    def suspended(program: Program) -> dict[str, bool]:
        return {made.object_name: made.inputs["spec"]["suspend"] for made in program.all("CronJob")}

    assert suspended(automatic) == suspended(open_)
    assert not suspended(automatic)["backup"]
    assert not suspended(automatic)["restore-test"]
    assert automatic.one("Deployment", "lockdown")


def test_the_pods_of_the_gate_are_restricted_as_all_others(locked: Program) -> None:
    gate = locked.one("Deployment", "lockdown")
    (container,) = gate.containers
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert gate.pod
    assert gate.pod["automountServiceAccountToken"] is False
    assert gate.pod["securityContext"]["runAsNonRoot"] is True
    for side in ("requests", "limits"):
        assert set(container["resources"][side]) == {"cpu", "memory", "ephemeral-storage"}
    assert container["livenessProbe"] != container["readinessProbe"]
    # Without its signal it would wait for the end of the whole grace period, and `unlock` with it.
    assert container["lifecycle"]["preStop"]["exec"]["command"][-1].endswith("kill -USR1 1")
    assert locked.one("PodDisruptionBudget", "lockdown-budget").inputs["spec"]["maxUnavailable"] == 1


def test_the_quota_has_room_for_the_gate_in_advance() -> None:
    config = edited(stack_config("Pulumi.sandbox.yaml", release=RELEASE), "guards.quota.limitsCpu", "18")
    assert "limits.cpu" in str(refusal(config))
    assert "limitsCpu: '20'" in str(refusal(config))


def test_each_service_has_a_port_of_its_own_so_that_paths_stay_the_ingress_controllers_business() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, lockdown=GIVEN)
    config["runbook:guards"]["quota"] |= {"cpu": "8", "memory": "16Gi", "limitsCpu": "32", "limitsMemory": "32Gi"}
    services = config["runbook:application"]["services"]
    worker = {key: value for key, value in services[0].items() if key not in ("port", "paths", "probes")}
    worker |= {"name": "worker", "probes": {kind: {"command": kind} for kind in ("startup", "readiness", "liveness")}}
    services += [worker, {**services[0], "name": "api", "port": 4000, "paths": ["/api"]}]
    program = run_program(config)
    paths = program.one("Ingress", "ingress").inputs["spec"]["rules"][0]["http"]["paths"]
    ports = {path["path"]: path["backend"]["service"]["port"]["number"] for path in paths}
    assert ports == {"/": 8080, "/api": 8081}
    (config_map,) = [made for made in program.all("ConfigMap") if made.object_name.startswith("lockdown-gate-")]
    text = config_map.inputs["data"]["haproxy.cfg"]
    assert "backend 8081\n    server api api:4000" in text


def test_maintenance_precedes_the_gate_and_the_policies_stay_closed() -> None:
    program = released(lockdown=GIVEN, maintenance={"reason": "moving the database"})
    (path,) = program.one("Ingress", "ingress").inputs["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"] == {"service": {"name": "maintenance", "port": {"name": "http"}}}
    assert all("namespaceSelector" not in peer for peer in into(program))


def test_another_end_is_another_configuration(locked: Program) -> None:
    longer = released(lockdown={**GIVEN, "until": "2026-11-22T12:00:00Z"})
    names = [
        [made.object_name for made in program.all("ConfigMap") if made.object_name.startswith("lockdown-gate-")]
        for program in (locked, longer)
    ]
    assert names[0] != names[1]


def test_an_automatic_lockdown_that_is_extended_suspends_no_backup() -> None:
    """Also where only the last update, which the controller made, knows of it."""
    automatic = Precautions().lockdown("alert SqlInjection", NOW, automatic=True)
    made = Entry("update", "succeeded", NOW, NOW, "lockdown on", {}, {LOCKDOWN: automatic.to_config()}, {})
    later = NOW + timedelta(minutes=5)
    wanted = Precautions().lockdown("more of it", later, seconds=7200)
    assert wanted.suspends
    for config, newest in (({LOCKDOWN: automatic.to_config()}, None), ({}, made), (made.config, made)):
        longer = extend_lockdown(wanted, find_lockdown(config, newest, later))
        assert (longer.suspends, longer.until, longer.reason) == (False, wanted.until, "more of it")
    over = automatic.until
    assert extend_lockdown(wanted, find_lockdown({}, made, over)).suspends, "one that is over is not extended"
    manual = Precautions().lockdown("a drill", later).to_config()
    assert extend_lockdown(wanted, find_lockdown({LOCKDOWN: manual}, made, later)).suspends, "the newer one stands"


# -- the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "stays"), [(3600, True), (0, False)])
def test_a_lockdown_that_is_over_is_removed_by_the_next_change(tmp_path: Path, left: int, stays: bool) -> None:
    file = tmp_path / "Pulumi.test.yaml"
    config = stack_config("Pulumi.sandbox.yaml")
    sealed = {f"secrets:{name}": {"secure": "v1:made:up"} for name in secrets_for(config)}
    until = datetime.now(UTC) + timedelta(seconds=left)
    lockdown = Lockdown(reason="x", since=until - timedelta(hours=1), until=until)
    file.write_text(yaml.safe_dump({"config": {**config, **sealed, LOCKDOWN: lockdown.to_config()}}))
    facts = _facts(read(file), lockdown)
    assert (LOCKDOWN in facts.checked({}).config) is stays
    new = Precautions().lockdown("again", datetime.now(UTC)).to_config()
    assert facts.checked({LOCKDOWN: new}).config[LOCKDOWN] == new, "unless it is what changes"


def clock(now: datetime) -> ServerClock:
    return ServerClock(now, time.monotonic())


def _facts(text: Any, lockdown: Lockdown) -> StackContext:
    class _Settings:
        pass

    settings: Any = _Settings()
    settings.lockdown = lockdown
    nothing: Any = None
    return StackContext(text, settings, nothing, nothing, [], nothing, nothing, clock(datetime.now(UTC)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--for", "1"], "30m, 2h or 1d"),
        (["--for", "0m"], "30m, 2h or 1d"),
        (["--for", "8d"], "--for"),
        (["--allow", "the office"], "--allow"),
        ([], "--yes"),
    ],
)
def test_a_lockdown_that_is_not_clear_changes_nothing(given: list[str], said: str, monkeypatch: Any) -> None:
    file = Path(__file__).parents[2] / "Pulumi.sandbox.yaml"
    before = file.read_bytes()
    monkeypatch.setattr("ops.stack.session.open_session", lambda *_: _Session(file))
    monkeypatch.setattr("ops.stack.stack_context.load_settings", lambda _: _WithPrecautions())
    shown = CliRunner().invoke(main.app, ["security", "lockdown", "--reason", "x", *given])
    assert shown.exit_code == Refused.exit_code, shown.output
    assert said in shown.stderr
    assert file.read_bytes() == before


class _Session:
    def __init__(self, file: Path) -> None:
        self.file = file

    def history(self) -> History:
        return History(lambda *_: [])


class _WithPrecautions:
    security = Precautions()


@pytest.mark.parametrize(
    ("lists", "left"),
    [
        ([[]], []),
        ([["old-1", "old-2"], ["old-2"], []], []),
        ([["old-1"], ["old-1"], ["old-1"]], ["old-1"]),
    ],
)
def test_new_rules_are_in_force_when_no_gate_is_terminating(lists: list[list[str]], left: list[str]) -> None:
    """`lists`: the terminating pods at first and after each change."""

    class Terminating(Cluster):
        def __init__(self) -> None:
            self.namespace = "shop"
            self.found = iter(lists)

        def _list_pods(self, service: str) -> list[Pod]:
            assert service == GATE
            gone = [ObjectMeta(name=name, deletionTimestamp=datetime.now(UTC)) for name in next(self.found)]
            return [Pod(metadata=meta) for meta in (*gone, ObjectMeta(name="new-1"))]

        def watch_changes(self, path: str, seconds: float, **selection: str) -> Iterator[tuple[str, dict[str, Any]]]:
            yield from [("MODIFIED", {})] * (len(lists) - 1)

    cluster = Terminating()
    assert cluster.await_terminated(GATE, 1) == left
    assert next(cluster.found, None) is None, "listed again after each change, and no longer than needed"


# -- clocks --------------------------------------------------------------------------------------------


class World:
    """A stack that is not locked down, in a cluster with its own time and its gate's answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ahead: timedelta, answer: Any = None) -> None:
        self.now = datetime.now(UTC) + ahead
        self.answer, self.asked, self.written = answer, 0, {}
        release = SimpleNamespace(release=object())
        cluster = SimpleNamespace(run_in_pods=self._ask)
        self.facts = SimpleNamespace(
            now=release, settings=SimpleNamespace(lockdown=None, status_page=None), cluster=cluster,
            clock=clock(self.now),
            text=SimpleNamespace(config={}), checked=self.written.update,
            history=(),
        )  # fmt: skip
        self.session = SimpleNamespace(seconds=1.0, stack="shop")
        succeeded = SimpleNamespace(succeeded=True, outputs={})
        for name, value in {
            "StackLock": lambda *_: nullcontext(),
            "require_application": lambda *_: None,
            "gather_context": lambda *_, **__: self.facts,
            "prepare_update": lambda *_: None,
            "apply": lambda *_: succeeded,
            "_open_record": lambda *_: "incident-1",
            "_add_to_record": lambda *_: None,
        }.items():
            monkeypatch.setattr(locking, name, value)

    def _ask(self, deployment: str, _argv: list[str], _seconds: int) -> dict[str, str]:
        assert deployment == GATE
        self.asked += 1
        return self.answer(self.written[LOCKDOWN]["until"]) if self.answer else {"a": refusal_of(self.until)}

    @property
    def until(self) -> datetime:
        return datetime.fromisoformat(self.written[LOCKDOWN]["until"])

    def lock_down(self, seconds: int = 3600) -> dict[str, Any]:
        wanted = Precautions().lockdown("x", datetime.now(UTC), seconds=seconds)
        session: Any = self.session
        return locking.switch_lockdown(session, LockPolicy(break_it=False, confirm=lambda _: False), wanted)


def refusal_of(until: datetime, status: int = 503) -> str:
    body = {"status": "lockdown", "refused": "source", "from": "", "until": f"{until:%Y-%m-%dT%H:%M:%S}Z"}
    return json.dumps([status, json.dumps(body)])


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(hours=-2), timedelta(0)])
def test_it_lasts_from_the_time_in_the_cluster_on(monkeypatch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    """With an operator's clock two hours slow, the end of an hour would be over for the gate."""
    world = World(monkeypatch, ahead)
    done = world.lock_down(seconds=3600)
    assert abs(world.until - (world.now + timedelta(hours=1))) < timedelta(seconds=5)
    assert datetime.fromisoformat(done["lockdown"]["until"]) == world.until
    assert world.asked == 1


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"a": json.dumps([200, "<html>the shop</html>"])}, "a still forwards requests"),
        ({"a": json.dumps([503, "no server is available"])}, "a still forwards requests"),
        ({"a": json.dumps([503, "[]"])}, "a still forwards requests"),
        ({"a": refusal_of(NOW)}, "a still forwards requests"),  # by earlier rules, which end earlier
        ({}, "no pod of Deployment lockdown is ready"),
    ],
)
def test_a_gate_that_does_not_refuse_is_no_lockdown(
    answers: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stuck, match=said):
        World(monkeypatch, timedelta(0), lambda _until: answers).lock_down()


def test_every_pod_of_the_gate_must_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of one node is ahead."""
    world = World(monkeypatch, timedelta(0))
    world.answer = lambda _: {"a": refusal_of(world.until), "b": json.dumps([200, "{}"])}
    with pytest.raises(Stuck, match=r"but b still forwards"):
        world.lock_down()


@pytest.mark.parametrize(("broken", "said"), [(1, None), (2, "was written, but whether its gate refuses is unknown")])
def test_a_connection_that_breaks_after_the_lockdown_does_not_make_it_refused(
    broken: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 would say that nothing was changed."""
    world = World(monkeypatch, timedelta(0))

    def answer(_until: str) -> dict[str, str]:
        if world.asked <= broken:
            raise Unreachable("The cluster cannot be reached")
        return {"a": refusal_of(world.until)}

    world.answer = answer
    with pytest.raises(Stuck, match=said) if said else nullcontext():
        world.lock_down()
    assert world.asked == 2


def test_the_servers_time_is_read_from_its_answer() -> None:
    read = ServerClock.of_answer({"date": "Sun, 22 Nov 2026 10:00:00 GMT"})
    assert NOW <= read.now() < NOW + timedelta(seconds=5)


@pytest.mark.parametrize("headers", [{}, {"date": "soon"}])
def test_an_answer_without_a_time_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match=r"Date|date 'soon'"):
        ServerClock.of_answer(headers)
