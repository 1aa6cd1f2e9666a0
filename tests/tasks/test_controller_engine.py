"""The rollback controller's worker with a real engine: which release it takes back while others deploy.

Alertmanager, Slack and the application's health answer are HTTP servers of this test; the cluster is a double.
"""

from __future__ import annotations

import errno
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube import Client
from lightkube.core.exceptions import ApiError

from ops.controller import guard, rollback_run, worker
from ops.controller.alerts import Alert, Alertmanager, Hint
from ops.controller.journal import Journal
from ops.controller.metrics import Metrics
from ops.controller.notify import Slack
from ops.controller.reporter import Reporter
from ops.controller.worker import Worker
from ops.stack.session import Session
from tests.support import http_servers
from tests.support.stack_session import ROOT, FakeCluster, create_session, needs_engine
from tests.unit.test_controller_keeping import Api
from tests.unit.test_health_checks import BROKEN, FINE, NO_PAYMENTS

pytestmark = [
    needs_engine,
    pytest.mark.filterwarnings("ignore:Error in event stream"),
]
PORT = 3000
"""The backend's port in the sandbox's settings: each pod has an address of its own instead."""
PROGRAM = """
import pathlib, time
import pulumi
import pulumi_random as random

release = pulumi.Config("runbook").get_object("release") or {}
made = random.RandomId("release", byte_length=4, keepers={"image": release.get("image", "")})

def hold(_):
    while pathlib.Path("hold").exists():
        time.sleep(0.05)

made.hex.apply(hold)
"""
MONITORING = {
    "image": f"registry.example.com/monitoring@sha256:{'d' * 64}",
    "infrastructure": {"nodes": False, "kubeState": False, "kubelet": False},
    "slack": {"egress": [{"cidr": "192.0.2.9/32", "ports": [443]}]},
    "deadMansSwitch": False,
}
CHANNELS = ("CRITICAL", "ALERTS", "SECURITY", "BUSINESS", "PERFORMANCE")
SLACK = {f"SLACK_WEBHOOK_{channel}": "http://slack" for channel in CHANNELS}
GOOD, BAD, FIX = ("aaaaaaa1", "a"), ("bbbbbbb2", "b"), ("ccccccc3", "c")


@dataclass
class World:
    """One stack, what fires, what the application answers, and what Slack received."""

    session: Session
    api: Api
    firing: list[dict[str, Any]] = field(default_factory=list)
    health: Any = field(default_factory=lambda: FINE)
    asked: int = 0
    messages: list[str] = field(default_factory=list)
    worker: Worker | None = None

    # -- other people's updates ------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        return self.session.reader.folder

    def release(self, revision: int, which: tuple[str, str], **more: Any) -> subprocess.Popen[str]:
        """Plain `pulumi up` of another checkout."""
        git, image = which
        release = {
            "revision": revision,
            "image": f"registry.example.com/shop@sha256:{image * 64}",
            "git": git,
            "schema": {"min": 1, "max": 2, "level": 1},
        }
        document = yaml.safe_load(self.session.file.read_text())
        changed = {**document["config"], "runbook:release": release, **more}
        document["config"] = {key: value for key, value in changed.items() if value is not None}
        file = self.folder / f"elsewhere-{revision}.yaml"
        file.write_text(yaml.safe_dump(document))
        words = ("pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", self.session.stack)
        words += ("--config-file", str(file), "--message", f"revision {revision}: deploy (git {git}) by bob@laptop")
        return subprocess.Popen(words, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def released(self, revision: int, which: tuple[str, str], **more: Any) -> None:
        process = self.release(revision, which, **more)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out

    @contextmanager
    def releasing(self, revision: int, which: tuple[str, str]) -> Iterator[Callable[[], None]]:
        """An update that has begun; the callable lets it end, and waits for that."""
        (self.folder / "hold").touch()
        process = self.release(revision, which)
        eventually(lambda: bool(self.session.locks()))

        def finish() -> None:
            (self.folder / "hold").unlink(missing_ok=True)
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0, out

        try:
            yield finish
        finally:
            finish()

    # -- the controller --------------------------------------------------------------------------

    def fresh(self) -> Session:
        """As `Workspace` does: the stack file is that of the last update."""
        options = ("--force", "--stack", self.session.stack, "--config-file", str(self.session.file))
        self.session.reader.run("config", "refresh", *options, config_file=False)
        return self.session

    def fire(self, name: str = "RollbackErrorRate", action: str = "rollback", **labels: str) -> Alert:
        began = datetime.now(UTC)
        began = began.replace(microsecond=began.microsecond // 1000 * 1000)
        labels = {"alertname": name, "action": action, "namespace": "shop", **labels}
        self.firing.append({"fingerprint": name, "startsAt": began.isoformat(), "labels": labels, "annotations": {}})
        return Alert(Hint(name, began), labels, {})

    def create_worker(self) -> Worker:
        """Of a controller that has just started."""
        metrics, url, cluster = Metrics(), f"http://{Cluster.host}:{PORT}", self.session.cluster(None, {})  # pyright: ignore
        journal = Journal(self.api.client())
        journal.load()
        webhook = self.folder / "slack"
        webhook.write_text(f"{url}/slack")
        reporter = Reporter("shop", cluster, journal, Slack(webhook, metrics), metrics)
        stack: Any = self
        return Worker(stack, cluster, journal, reporter, metrics, Alertmanager(url))

    def handle(
        self, alert: Alert, meanwhile: Callable[[], object], until: Callable[[], object], seconds: float = 60
    ) -> None:
        """Let the worker handle an alert, in the main thread as in the pod."""
        made = self.worker = self.create_worker()
        failed: list[BaseException] = []

        def beside() -> None:
            try:
                meanwhile()
                eventually(until, lambda: (self.messages, self.firing), seconds)
            except BaseException as error:
                failed.append(error)
            finally:
                made.stop()

        made.put(alert)
        thread = threading.Thread(target=beside)
        thread.start()
        made.run()
        thread.join()
        if failed:
            raise failed[0]

    def knows(self, alert: Alert) -> bool:
        return bool(self.worker and self.worker.known(alert.hint.key))

    def handled(self) -> dict[str, str]:
        found = self.api.objects["/api/v1/namespaces/shop/configmaps/rollback-controller"]["data"]
        return json.loads(found.get("handled", "{}"))

    def newest(self) -> tuple[int | None, str]:
        entry = next(self.session.history().updates())
        return entry.revision, entry.action


class Cluster(FakeCluster):
    """Objects are in the API double; one pod of the application runs at `host`."""

    api = Api()
    host = ""
    """A loopback address of this test's own: others serve the same port at the same time."""

    def find(self, kind: Any, name: str) -> Any:
        try:
            return self.api.client().get(kind, name, namespace="shop")
        except ApiError:
            return None

    @contextmanager
    def patient(self) -> Iterator[Client]:
        yield self.api.client()

    def pod_addresses(self, _service: str) -> list[str]:
        return [self.host]


def eventually(check: Callable[[], object], seen: Callable[[], object] = lambda: None, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, seen()
        time.sleep(0.05)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    guards = yaml.safe_load((ROOT / "Pulumi.sandbox.yaml").read_text())["config"]["runbook:guards"]
    guards["quota"]["storage"] = "20Gi"
    changes = {"runbook:guards": guards, "runbook:monitoring": MONITORING}
    session = create_session(tmp_path, monkeypatch, PROGRAM, changes, SLACK)
    api = Api()
    monkeypatch.setattr(Cluster, "api", api)
    cluster = Cluster(session.file)
    monkeypatch.setattr(Session, "cluster", lambda *_: cluster)
    monkeypatch.setattr(guard, "AGAIN_SECONDS", 1)
    made = World(session, api)
    with serving(made):
        yield made


def bind_loopback(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server of `PORT` at the first loopback address where nothing listens."""
    for last in range(1, 255):
        try:
            return ThreadingHTTPServer((f"127.77.0.{last}", PORT), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError(f"port {PORT} is in use at every address of 127.77.0.0/24")


@contextmanager
def serving(world: World) -> Iterator[None]:
    class Handler(http_servers.Handler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/v2/alerts"):
                world.asked += 1
                return self.answer_json(200, world.firing)
            well = world.health is FINE
            return self.answer_json(200 if well else 503, world.health)

        def do_POST(self) -> None:
            world.messages.append(json.loads(self.read_body())["text"])
            self.answer_json(200, {})

    server = bind_loopback(Handler)
    Cluster.host = str(server.server_address[0])
    with http_servers.closing_server(server):
        yield


def test_an_alert_from_the_time_of_the_bad_release_s_own_update_takes_it_back_in_the_end(world: World) -> None:
    """Not judged against the release before, and not remembered as done."""
    world.released(1, GOOD)
    with world.releasing(2, BAD) as finish:
        alert = world.fire(git=BAD[0])

        def meanwhile() -> None:
            eventually(lambda: world.asked >= 2, seconds=20)
            assert not world.messages
            finish()

        world.handle(alert, meanwhile, lambda: alert.hint.key in world.handled())
    assert world.handled() == {alert.hint.key: "rollback"}
    assert world.newest() == (3, "rollback")
    assert [text.split(" ")[0] for text in world.messages] == [":rewind:"]


def test_the_fix_is_not_taken_back_for_an_alert_that_waited_while_it_was_deployed(world: World) -> None:
    world.released(1, GOOD)
    world.released(2, BAD)
    with world.releasing(3, FIX) as finish:
        alert = world.fire(git=BAD[0])

        def meanwhile() -> None:
            eventually(lambda: world.asked >= 2, seconds=20)
            finish()

        world.handle(alert, meanwhile, lambda: world.messages)
    assert world.newest() == (3, "deploy")
    (text,) = world.messages
    assert f"it is about revision 2 (git {BAD[0]}), and revision 3 (git {FIX[0]}) runs" in text
    assert world.handled() == {alert.hint.key: "reported"}


def test_an_alert_that_was_resolved_while_it_waited_changes_nothing(world: World) -> None:
    """It names no release: only Alertmanager knows that the fix ended it."""
    world.released(1, GOOD)
    world.released(2, BAD)
    with world.releasing(3, FIX) as finish:
        alert = world.fire("RollbackHealth")

        def meanwhile() -> None:
            eventually(lambda: world.asked >= 2, seconds=20)
            finish()
            world.firing.clear()

        world.handle(alert, meanwhile, lambda: not world.knows(alert))
    assert world.newest() == (3, "deploy")
    assert not world.messages
    assert not world.handled(), "if it fires again, it is judged again"


def test_a_bad_release_that_is_deployed_again_while_its_alert_still_fires_is_judged_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus has one firing for both times, and Alertmanager sends nothing new."""
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 1)
    world.released(1, GOOD)
    world.released(2, BAD)
    alert = world.fire(git=BAD[0])

    def meanwhile() -> None:
        eventually(world.handled)
        asked = world.asked
        assert world.newest() == (3, "rollback")
        world.released(4, BAD, **{"runbook:quarantine": None})
        eventually(lambda: world.asked > asked)

    world.handle(alert, meanwhile, lambda: len(world.messages) > 1)
    assert "it began before revision 4 was deployed, and may be about one before" in world.messages[1]
    assert not world.handled(), "and again when the window of its rule is over"


def test_a_payments_provider_that_stops_after_a_release_is_reported_and_the_release_stays(world: World) -> None:
    """M2. When the release itself turns out to be bad, it is taken back all the same."""
    world.released(1, GOOD)
    world.released(2, BAD)
    world.health = NO_PAYMENTS
    alert = world.fire("RollbackHealth")

    def meanwhile() -> None:
        eventually(lambda: world.messages)
        asked = world.asked
        eventually(lambda: world.asked >= asked + 2, seconds=30)
        assert world.newest() == (2, "deploy")
        assert len(world.messages) == 1, "once"
        assert "only payments fails, which the release before would miss as well" in world.messages[0]
        assert not world.handled()
        world.health = BROKEN

    world.handle(alert, meanwhile, world.handled)
    assert world.newest() == (3, "rollback")


def test_a_lockdown_that_came_after_the_plan_is_not_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.released(1, GOOD)
    world.released(2, BAD)
    alert, plan, lockdown = world.fire(git=BAD[0]), rollback_run.make_plan, _lockdown()

    def plan_and_lock_down(*args: Any) -> Any:
        made = plan(*args)
        monkeypatch.setattr(rollback_run, "make_plan", plan)
        world.released(2, BAD, **{"runbook:lockdown": lockdown})
        return made

    monkeypatch.setattr(rollback_run, "make_plan", plan_and_lock_down)
    locked: list[Any] = []

    def meanwhile() -> None:
        eventually(lambda: world.messages)
        locked.append(next(world.session.history().updates()).config.get("runbook:lockdown"))

    world.handle(alert, meanwhile, world.handled)
    assert "The stack was changed while this command ran: the stack was locked down" in world.messages[0]
    assert "by bob@laptop" in world.messages[0]
    newest = next(world.session.history().updates())
    assert (newest.action, newest.config["runbook:lockdown"]) == ("rollback", lockdown), "judged again, with it"
    results = [
        json.loads(made["data"]["record.json"])["result"]
        for path, made in world.api.objects.items()
        if "/configmaps/incident-rollback-" in path
    ]
    assert results == ["given up", "rollback"]


def test_ten_requests_an_hour_do_not_keep_the_shop_locked_down(world: World) -> None:
    world.released(1, GOOD)
    first = world.fire("SqlInjection", "lockdown")
    world.handle(first, lambda: None, world.handled)
    lockdown = next(world.session.history().updates()).config["runbook:lockdown"]
    assert lockdown["automatic"] is True, "so that no backup is suspended"
    assert world.messages[0].startswith(":lock:")

    world.released(1, GOOD, **{"runbook:lockdown": None})
    world.firing.clear()
    second = world.fire("SqlInjection", "lockdown")
    world.handle(second, lambda: None, lambda: len(world.messages) > 1)
    assert "runbook:lockdown" not in next(world.session.history().updates()).config
    assert "<!channel>" in world.messages[1]
    assert "Decide: `runbook security lockdown`" in world.messages[1]
    assert second.hint.key not in world.handled(), "judged again when the cooldown is over"


def _lockdown() -> Mapping[str, Any]:
    since = datetime.now(UTC).replace(microsecond=0)
    until = since + timedelta(hours=1)
    return {"reason": "attack", "since": since.isoformat(), "until": until.isoformat()}
