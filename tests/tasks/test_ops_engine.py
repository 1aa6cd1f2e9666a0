"""`runbook` against a real engine: locks, history, resuming, rolling back. Only the cluster is a
fake, with a schema level that the test sets; the registry answers over HTTP, the state is in files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from ops.adapters import automation
from ops.adapters.cluster import Unreachable
from ops.commands.deploy import Wish, deploy
from ops.commands.promote import plan_promotion, promote
from ops.commands.rollback import Wish as Back
from ops.commands.rollback import rollback
from ops.commands.update import LockPolicy
from ops.errors import Interrupted, Refused, RolledBack, Stuck
from ops.stack.command_lock import CommandLock
from ops.stack.history import parse
from ops.stack.locks import Locked
from ops.stack.session import Session, open_session
from ops.stack.stack_context import load_settings
from tests.support.image_registry import serve_images
from tests.support.stack_session import (
    CANARY,
    POLICY,
    ROOT,
    FakeCluster,
    change_elsewhere,
    create_session,
    needs_engine,
    places_with,
    preview_changes,
    pulumi,
    read_config,
)

PROGRAM = """
import time
import pulumi
import pulumi_random as random

from program.start_check import await_start

await_start()
release = pulumi.Config("runbook").get_object("release") or {}
keepers = {key: release.get(key, "") for key in ("image", "git")}
made = random.RandomId("release", byte_length=4, keepers=keepers)

def then(_):
    if release.get("git") == "bad":
        raise Exception("the smoke check failed")
    if release.get("git") == "slow":
        time.sleep(60)

made.hex.apply(then)
if release.get("git") in ("leaky", "fine"):
    from components.migration import Migration, MigrationArgs
    from settings import PodShape, config
    from settings.secret import Secret

    settings, _ = config.read()
    Migration("migration", MigrationArgs(
        namespace="shop", release=settings.release, command=settings.commands.migrate,
        amounts=settings.application.job_resources, database_secret_name="unused",
        database_url=Secret(pulumi.Output.secret("postgresql://shop:canary@db/shop"), "one"),
        image="unused", placement_seconds=0, shape=PodShape(),
    ))
if release.get("git") == "unready":
    raise Exception("refused by the program")
pulumi.export("revision", release.get("revision"))
pulumi.export("password", pulumi.Output.secret("canary-in-the-state"))
"""

pytestmark = [
    needs_engine,
    pytest.mark.filterwarnings("ignore:Error in event stream"),
]


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with serve_images() as address:
        yield address


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    return create_session(tmp_path, monkeypatch, PROGRAM)


def go(session: Session, image: str, **wish: Any) -> dict[str, Any]:
    return deploy(session, Wish(image, **wish), POLICY)


def back(session: Session, **wish: Any) -> dict[str, Any]:
    return rollback(session, Back(**{"preview": False, **wish}), POLICY, lambda *_: True)


def test_deploy_upgrade_rollback_and_the_gate(session: Session, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = go(session, f"{registry}:v1")
    assert first["revision"] == 1
    assert read_config(session)["runbook:release"]["image"].startswith(f"{registry}@sha256:")
    assert preview_changes(session) == {}

    monkeypatch.setattr(FakeCluster, "level", 1)
    second = go(session, f"{registry}:v2")
    assert second["revision"] == 2
    assert read_config(session)["runbook:release"]["git"] == "12e4567", "a commit that looks like a number stays text"

    monkeypatch.setattr(FakeCluster, "level", 2)
    with pytest.raises(Refused, match="--allow-downtime"):
        go(session, f"{registry}:v3")

    seen: list[Any] = []
    third = rollback(session, Back(reason="broken"), POLICY, lambda plan, run: bool(seen.append((plan, run))) or True)
    plan, run = seen[0]
    assert ("release.git", "12e4567", "aaaa1111") in plan.differences
    assert run.steps, "the preview names what would change"
    assert (third["revision"], third["target"], third["left"]) == (3, 1, 2)
    assert read_config(session)["runbook:release"]["migrate"] is False
    assert read_config(session)["runbook:quarantine"] == [
        {"digest": second["image"].split("@")[1], "revision": 2, "reason": "broken"}
    ]
    assert preview_changes(session) == {}

    before = session.file.read_bytes()
    with pytest.raises(Refused, match="quarantined since revision 2: broken"):
        go(session, f"{registry}:v2")
    with pytest.raises(Refused, match="no earlier release"):
        back(session)
    with pytest.raises(Refused, match="Revision 99 does not exist in this stack's history: it has 1 to 3"):
        back(session, to=99)
    assert session.file.read_bytes() == before

    assert go(session, f"{registry}:v2", allow_quarantined="not its fault")["revision"] == 4
    assert go(session, f"{registry}:v3", allow_downtime=True)["revision"] == 5
    monkeypatch.setattr(FakeCluster, "level", 3)
    before = session.file.read_bytes()
    with pytest.raises(Refused, match="database is at level 3: migration 3 cannot be undone"):
        back(session, allow_quarantined="x", to=4)
    assert session.file.read_bytes() == before

    printed = pulumi(session.reader.folder, "stack", "history", "--json", "--stack", session.stack)
    assert session.reader.read_history(50, 1) == parse(json.loads(printed)), "the files give what the engine prints"


def test_a_cluster_that_stops_answering_after_the_update_is_no_refusal(
    session: Session, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 promises that nothing was changed."""

    def fail(*_: object) -> NoReturn:
        raise Unreachable("the cluster is gone")

    go(session, f"{registry}:v1")
    monkeypatch.setattr(FakeCluster, "level", 1)
    go(session, f"{registry}:v2")
    monkeypatch.setattr(FakeCluster, "await_settled", fail)
    with pytest.raises(Interrupted, match=r"the cluster is gone\nThe stack was updated before that"):
        back(session)
    done = read_config(session)["runbook:release"]
    assert (done["revision"], done["action"]) == (3, "rollback")
    monkeypatch.setattr(FakeCluster, "schema_level", fail)
    with pytest.raises(Unreachable):
        go(open_session(session.file.parent, "dev"), f"{registry}:v1")
    assert read_config(session)["runbook:release"] == done


def test_a_failing_update_is_rolled_back_and_leaves_nothing_to_do(session: Session, registry: str) -> None:
    go(session, f"{registry}:v1")
    with pytest.raises(RolledBack, match="the smoke check failed"):
        go(session, f"{registry}:bad")
    release = read_config(session)["runbook:release"]
    assert (release["revision"], release["action"], release["rollbackOf"]) == (3, "rollback", 2)
    assert read_config(session)["runbook:quarantine"][0]["reason"] == "the program failed"
    assert preview_changes(session) == {}
    results = [(entry.revision, entry.action, entry.result, entry.who) for entry in session.history()]
    who = results[0][3]
    assert who.startswith("alice@")
    assert results == [
        (3, "rollback", "succeeded", who),
        (2, "deploy", "failed", who),
        (1, "deploy", "succeeded", who),
    ]


def test_what_a_migration_on_this_machine_prints_is_kept_nowhere(
    session: Session, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It has DATABASE_URL, and whatever else the machine has. Neither when it fails nor when it succeeds."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(FakeCluster, "level", 1)
    (session.reader.folder / "key").write_text(f"{CANARY}\n")
    (session.reader.folder / "status").write_text("exit 3")
    document = yaml.safe_load(session.file.read_text())
    loud = "sh -c 'cat key; cat key >&2; echo $DATABASE_URL; . ./status'"
    document["config"]["runbook:commands"]["migrate"] = {"run": loud, "runner": "command", "directory": "."}
    session.file.write_text(yaml.safe_dump(document, sort_keys=False))
    go(session, f"{registry}:v1")
    with pytest.raises(RolledBack, match="the migrate command failed: exit code 3") as failed:
        go(session, f"{registry}:leaky")
    (reason,) = (each["reason"] for each in read_config(session)["runbook:quarantine"])
    assert re.fullmatch(r"Command migrate-\w+ failed", reason)
    (session.reader.folder / "status").write_text("exit 0")
    go(session, f"{registry}:fine")
    assert places_with(CANARY, tmp_path) == ["project/key"]
    assert places_with("shop:canary", tmp_path) == ["project/__main__.py"]
    said = str(failed.value) + "".join(capfd.readouterr())
    assert CANARY not in said
    assert "shop:canary" not in said


def test_a_first_release_that_fails_cannot_be_rolled_back(session: Session, registry: str) -> None:
    with pytest.raises(Stuck, match="it is the first"):
        go(session, f"{registry}:bad")


def test_a_failure_before_any_change_restores_the_stack_file(session: Session, registry: str) -> None:
    go(session, f"{registry}:v1")
    before = session.file.read_bytes()
    session.reader.folder.joinpath("__main__.py").write_text("raise Exception('no')")
    with pytest.raises(Refused, match="could not start"):
        go(session, f"{registry}:v2")
    assert session.file.read_bytes() == before
    session.reader.folder.joinpath("__main__.py").write_text(PROGRAM)
    assert go(session, f"{registry}:v2")["revision"] == 3, "the failed update keeps its number"


def test_a_wrong_passphrase_and_an_image_that_does_not_exist(
    session: Session, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = session.file.read_bytes()
    with pytest.raises(Refused, match="has no v99"):
        go(session, f"{registry}:v99")
    with pytest.raises(Refused, match=r"runbook\.schema\.min"):
        go(session, f"{registry}:bare", git="x")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "wrong")
    with pytest.raises(Refused, match="passphrase is wrong"):
        go(session, f"{registry}:v1")
    assert session.file.read_bytes() == before


def lock_of(session: Session) -> list[Path]:
    backend = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"))
    return list(backend.glob(".pulumi/locks/**/*.json"))


def until_locked(session: Session) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in lock_of(session):
            return json.loads(file.read_text())["pid"]
        time.sleep(0.05)
    raise AssertionError("no engine took the lock")


def test_killed_then_the_same_command_again(session: Session, registry: str) -> None:
    go(session, f"{registry}:v1")
    killed: list[int] = []

    def kill() -> None:
        pid = until_locked(session)
        state = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"), ".pulumi/stacks/runbook/dev.json")
        while '"slow"' not in state.read_text():  # the resource is made, the program waits
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(Interrupted, match="Run the same command again"):
        go(session, f"{registry}:slow")
    thread.join()
    assert killed
    assert lock_of(session), "the killed engine left its lock"
    assert read_config(session)["runbook:release"]["revision"] == 2

    session.reader.folder.joinpath("__main__.py").write_text(PROGRAM.replace("time.sleep(60)", "pass"))
    assert go(session, f"{registry}:slow")["revision"] == 2, "the same revision goes on"
    assert lock_of(session) == []
    assert preview_changes(session) == {}


def test_a_lock_of_another_user_is_respected(session: Session, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go(session, f"{registry}:v1")
    backend = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"))
    folder = backend / ".pulumi/locks/organization/runbook/dev"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "11111111-1111-1111-1111-111111111111.json"
    lock.write_text(
        json.dumps({"pid": 1, "username": "bob", "hostname": "elsewhere", "timestamp": "2026-01-01T00:00:00Z"})
    )
    before = session.file.read_bytes()
    with pytest.raises(Refused, match=r"bob@elsewhere \(pid 1\) since 2026-01-01T00:00:00"):
        go(session, f"{registry}:v2")
    assert session.file.read_bytes() == before
    # As on a backend that shows its lock only when an update asks for it.
    monkeypatch.setattr(Session, "locks", lambda _self: None)
    with pytest.raises(Refused, match="bob@elsewhere"):
        go(session, f"{registry}:v2")
    assert session.file.read_bytes() == before
    yes = LockPolicy(break_it=True, confirm=lambda _: True)
    assert deploy(session, Wish(f"{registry}:v2"), yes)["revision"] == 2


def test_two_at_once_on_one_checkout(session: Session, registry: str) -> None:
    go(session, f"{registry}:v1")
    script = (
        "import sys, time; from pathlib import Path; from ops.stack.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'deploy x'): print('held', flush=True); time.sleep(30)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(session.file)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        before = session.file.read_bytes()
        with pytest.raises(Refused, match=rf"deploy x by alice@.* \(pid {other.pid}\)"):
            go(session, f"{registry}:v2")
        assert session.file.read_bytes() == before
    finally:
        other.kill()
        other.wait()
    assert go(session, f"{registry}:v2")["revision"] == 2, "a killed holder lets go"


def test_no_secret_in_anything_kept(session: Session, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    run = automation._Cli.run

    def record(cli: automation._Cli, words: list[str], *more: Any) -> Any:
        ran.append(words[0])
        return run(cli, words, *more)

    monkeypatch.setattr(automation._Cli, "run", record)
    go(session, f"{registry}:v1")
    assert ran == ["up"], "nothing reads the outputs in plain text after it"
    back = [entry.config for entry in session.history()]
    kept = json.dumps([back, session.reader.read_state()])
    assert "canary" not in kept


MAINTENANCE = {"runbook:maintenance": {"reason": "the provider moves the database"}}


def test_what_was_decided_before_a_question_is_not_applied_to_another_state(session: Session, registry: str) -> None:
    go(session, f"{registry}:v1")
    go(session, f"{registry}:v2")
    before = session.file.read_bytes()

    def answer_late(*_: object) -> bool:
        change_elsewhere(session, MAINTENANCE, "by hand")
        return True

    with pytest.raises(Refused, match=r"maintenance began \(by hand.* Nothing was changed"):
        rollback(session, Back(preview=False), POLICY, answer_late)
    with pytest.raises(Refused, match=r"maintenance mode is on \(the provider.*\), and this file would undo that"):
        back(session)
    assert session.file.read_bytes() == before
    document = yaml.safe_load(session.file.read_text())
    document["config"] |= MAINTENANCE
    session.file.write_text(yaml.safe_dump(document, sort_keys=False))

    def edit(*_: object) -> bool:
        session.file.write_text(session.file.read_text() + "# a comment\n")
        return True

    with pytest.raises(Refused, match=r"Pulumi\.dev\.yaml was changed while"):
        rollback(session, Back(preview=False), POLICY, edit)
    assert session.file.read_text().endswith("# a comment\n"), "what another one wrote stays"
    assert back(session)["target"] == 1, "the same command again decides on what stands now"


def test_between_two_updates_of_a_command_another_one_is_noticed(
    session: Session, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(session, f"{registry}:v1")
    asked: list[None] = []

    def measure(_cluster: FakeCluster, *_: object) -> None:
        asked.append(None)
        if len(asked) == 2:  # after the failed update, before the one that rolls back
            monkeypatch.setenv("MENDED", "1")
            change_elsewhere(session, MAINTENANCE, "by hand")

    monkeypatch.setattr(FakeCluster, "schema_level", measure)
    # By hand it succeeds: the cause of the failure is outside the program.
    program = PROGRAM.replace('== "bad":', '== "bad" and not os.environ.get("MENDED"):')
    session.reader.folder.joinpath("__main__.py").write_text("import os\n" + program)
    with pytest.raises(Interrupted, match=r"rollback was stopped.* maintenance began \(by hand"):
        go(session, f"{registry}:bad")


def test_an_update_that_ends_just_before_the_engines_lock_is_noticed(
    session: Session, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain `pulumi up`, after the last comparison and before the engine of the command holds the lock."""
    go(session, f"{registry}:v1")
    go(session, f"{registry}:v2")
    before = session.file.read_bytes()
    up = automation.Engine.up

    def up_after_another(self: automation.Engine, *given: Any) -> automation.Run:
        monkeypatch.setattr(automation.Engine, "up", up)
        # In the file of this checkout are already this command's changes.
        now = session.file.read_bytes()
        session.file.write_bytes(before)
        change_elsewhere(session, MAINTENANCE, "by hand")
        session.file.write_bytes(now)
        return up(self, *given)

    monkeypatch.setattr(automation.Engine, "up", up_after_another)
    with pytest.raises(Refused, match=r"maintenance began \(by hand.* Nothing was changed"):
        back(session)
    assert session.file.read_bytes() == before
    with pytest.raises(Refused, match=r"maintenance mode is on \(the provider.*\), and this file would undo that"):
        back(session)


def test_a_command_lock_of_another_machine_is_respected(session: Session, registry: str) -> None:
    go(session, f"{registry}:v1")
    elsewhere = CommandLock(session.cluster(load_settings(session.file), {}), "security lockdown")
    elsewhere.acquire()
    before = session.file.read_bytes()
    with pytest.raises(Locked, match="in use: `security lockdown` by alice@"):
        go(session, f"{registry}:v2")
    assert session.file.read_bytes() == before
    elsewhere.release()
    assert go(session, f"{registry}:v2")["revision"] == 2


def test_promote_releases_what_the_other_stack_serves(session: Session, registry: str) -> None:
    folder = session.reader.folder
    document = yaml.safe_load(session.file.read_text())
    pulumi(folder, "stack", "init", "prod")
    theirs = folder / "Pulumi.prod.yaml"
    salted = yaml.safe_load(theirs.read_text()) | {"config": document["config"]}
    salted["config"]["runbook:guards"] = {"promoteAfterMinutes": 30}
    theirs.write_text(yaml.safe_dump(salted, sort_keys=False))
    secrets = document["config"]["runbook:application"]["secrets"]
    pulumi(
        folder, "config", "set-all", "--stack", "prod", *[p for n in secrets for p in ("--secret", f"secrets:{n}=x")]
    )
    prod = open_session(folder, "prod")
    go(session, f"{registry}:v1")

    with pytest.raises(Refused, match=r"dev serves revision 1 for 0 min; guards\.promoteAfterMinutes asks for 30 min"):
        plan_promotion(session, prod)
    theirs.write_text(theirs.read_text().replace("promoteAfterMinutes: 30", "promoteAfterMinutes: 0"))
    found = plan_promotion(session, prod)
    assert ("guards.promoteAfterMinutes", None, 0) in found.differences
    done = promote(prod, found, POLICY, {})
    assert (done["revision"], done["image"]) == (1, read_config(session)["runbook:release"]["image"])

    with pytest.raises(RolledBack):
        go(session, f"{registry}:bad")
    go(session, f"{registry}:v2", allow_downtime=True)
    prod.judged = None
    assert plan_promotion(session, prod).candidate.release.git == "12e4567"
