"""Preventive maintenance: its settings, its objects, its clock, its reports, its command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from ops.cli import main
from ops.commands import maintenance_tasks as commands
from settings import Lockdown, Maintenance, MaintenanceTasks
from settings.cron import next_cron_job_run
from settings.maintenance_tasks import SCHEDULES
from tasks.errors import TaskError
from tasks.maintenance_tasks import audit, images
from tasks.maintenance_tasks import report as reports
from tests.support.program import RELEASE, Program, Registered, committed, run_program, stack_config
from tests.unit.test_backup_components import chosen, reach, sources
from tests.unit.test_settings import judged, refusal

API_SERVER = [{"cidr": "10.0.0.1/32", "ports": [6443]}]
LOCKDOWN = {"reason": "an attack", "since": "2026-11-29T10:00:00Z", "until": "2026-11-29T11:00:00Z"}


def config(**changes: Any) -> dict[str, Any]:
    """The sandbox with one release and its maintenance."""
    own = committed("Pulumi.sandbox.yaml")["runbook:maintenanceTasks"]
    return stack_config("Pulumi.sandbox.yaml", **{"release": RELEASE, "maintenanceTasks": own, **changes})


@pytest.fixture(scope="module")
def sandbox() -> Program:
    return run_program(config())


def tasks(**changes: Any) -> MaintenanceTasks:
    return MaintenanceTasks.model_validate({"apiServer": API_SERVER, **changes})


def cron_jobs(program: Program) -> dict[str, Registered]:
    names = [f"maintenance-{schedule}" for schedule in SCHEDULES]
    return {name: program.one("CronJob", name) for name in names}


def containers(job: Registered) -> dict[str, Mapping[str, Any]]:
    pod = job.pod
    assert pod
    return {item["name"]: item for item in (*pod.get("initContainers", ()), *pod["containers"])}


# -- settings ------------------------------------------------------------------------------------------


def test_the_defaults_are_the_runbooks() -> None:
    made = tasks()
    assert [made.of(name).schedule for name in SCHEDULES] == ["0 6 * * *", "0 3 * * 0", "0 5 1 * *"]
    named = {name: {task.task or task.title for task in made.of(name).enabled} for name in SCHEDULES}
    assert named["daily"] >= {"analyze", "vacuum-analyze", "security-scan"}
    assert named["weekly"] >= {"reindex", "vulnerability-scan", "backup-verification", "unused-images"}
    assert named["monthly"] >= {"security-audit", "vacuum-analyze", "reindex"}


@pytest.mark.parametrize(
    ("daily", "where", "says"),
    [
        ([{"task": "analyze", "run": "true"}], "daily.tasks[0].run", "either built-in"),
        ([{}], "daily.tasks[0].task", "either built-in"),
        ([{"run": "true"}], "daily.tasks[0].name", "needs a name"),
        ([{"task": "analyze"}, {"name": "analyze", "run": "true"}], "daily.tasks[1].name", "already the name"),
        ([{"task": "analyze", "report": "npm-audit"}], "daily.tasks[0].report", "only the output of a command"),
        ([{"name": "a", "run": "echo 'a"}], "daily.tasks[0].run", "not a command line"),
        ([{"task": "vacuum"}], "daily.tasks[0].task", "vacuum-analyze"),
        ([{"task": "reindex", "timeoutSeconds": 86400}], "daily.schedule", "the next begins after 86400 s"),
    ],
)
def test_what_cannot_run_is_refused_with_its_place(daily: list[dict[str, Any]], where: str, says: str) -> None:
    message = str(refusal(config(maintenanceTasks={"apiServer": API_SERVER, "daily": {"tasks": daily}})))
    assert f"runbook:maintenanceTasks.{where}" in message
    assert says in message


def test_reports_need_a_store() -> None:
    written = config()
    del written["runbook:backup"]
    assert "needs runbook:backup" in str(refusal(written))


# -- the clock -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "now", "zone", "runs"),
    [
        # The clock goes from 02:00 to 03:00 on the last Sunday of March in Paris, from 03:00 to 04:00 in Kyiv.
        ("0 6 * * *", "2026-03-28T12:00", "Europe/Paris", ["2026-03-29T04:00", "2026-03-30T04:00"]),
        ("0 3 * * 0", "2026-03-28T12:00", "Europe/Paris", ["2026-03-29T01:00", "2026-04-05T01:00"]),
        ("30 2 * * *", "2026-03-28T12:00", "Europe/Paris", ["2026-03-30T00:30"]),
        ("0 3 * * 0", "2026-03-28T12:00", "Europe/Kyiv", ["2026-04-05T00:00"]),
        # It goes back on the last Sunday of October.
        ("0 6 * * *", "2026-10-24T12:00", "Europe/Paris", ["2026-10-25T05:00", "2026-10-26T05:00"]),
        ("0 3 * * 0", "2026-10-24T12:00", "Europe/Paris", ["2026-10-25T02:00", "2026-11-01T02:00"]),
        # The first of the month, after 28, 30 and 31 days; here it is still the day before in UTC.
        ("0 0 1 * *", "2026-02-28T12:00", "Europe/Paris", ["2026-02-28T23:00", "2026-03-31T22:00"]),
        ("0 5 1 * *", "2026-12-31T12:00", "Etc/UTC", ["2027-01-01T05:00", "2027-02-01T05:00"]),
    ],
)
def test_the_next_run_is_the_cron_jobs(schedule: str, now: str, zone: str, runs: list[str]) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    for expected in runs:
        at = next_cron_job_run(schedule, at, zone)
        assert at.astimezone(UTC) == datetime.fromisoformat(expected).replace(tzinfo=UTC)
        assert at.tzinfo == ZoneInfo(zone)


def test_a_run_that_the_clock_skips_was_not_missed() -> None:
    made, week = tasks(), 7 * 86_400
    longest = made.longest_seconds("weekly")
    assert made.missed_seconds("weekly", "Etc/UTC") == week + longest
    assert made.missed_seconds("weekly", "Europe/Paris") == week + 3600 + longest, "the week with 25 hours in a day"
    # Kyiv has no 03:00 on that Sunday.
    assert made.missed_seconds("weekly", "Europe/Kyiv") == 2 * week - 3600 + longest
    assert made.missed_seconds("monthly", "Etc/UTC") == 31 * 86_400 + made.longest_seconds("monthly")
    assert made.missed_seconds("daily", "Europe/Paris") == 25 * 3600 + made.longest_seconds("daily")


# -- objects -------------------------------------------------------------------------------------------


def test_each_schedule_is_a_cron_job_in_the_stacks_time_zone(sandbox: Program) -> None:
    found = {name: job.inputs["spec"] for name, job in cron_jobs(sandbox).items()}
    assert {name: (spec["schedule"], spec["timeZone"], spec["suspend"]) for name, spec in found.items()} == {
        "maintenance-daily": ("0 6 * * *", "Etc/UTC", False),
        "maintenance-weekly": ("0 3 * * 0", "Etc/UTC", False),
        "maintenance-monthly": ("0 5 1 * *", "Etc/UTC", False),
    }
    paris = config(maintenanceTasks={"apiServer": API_SERVER, "timeZone": "Europe/Paris"})
    spec = run_program(paris).one("CronJob", "maintenance-daily").inputs["spec"]
    assert spec["timeZone"] == "Europe/Paris"


@pytest.mark.parametrize(
    "change",
    [{"lockdown": LOCKDOWN}, {"lockdown": {**LOCKDOWN, "automatic": True}}, {"maintenance": {"reason": "a restore"}}],
    ids=["lockdown", "automatic lockdown", "maintenance mode"],
)
def test_nothing_starts_in_a_lockdown_or_in_maintenance_mode(change: dict[str, Any]) -> None:
    program = run_program(config(**change))
    assert {job.inputs["spec"]["suspend"] for job in cron_jobs(program).values()} == {True}


def test_the_application_gets_nothing_of_the_runners(sandbox: Program) -> None:
    job = cron_jobs(sandbox)["maintenance-daily"]
    found = containers(job)
    runner, application = found["runner"], found["application"]
    assert {mount["name"] for mount in application["volumeMounts"]} == {"application-tmp", "box"}
    assert {"token", "tmp", "box"} == {mount["name"] for mount in runner["volumeMounts"]}
    assert not {"backup-evidence", "backup-store-token", "database"} & sources(application)
    assert {"backup-evidence", "backup-store-token", "database"} <= sources(runner)
    assert application["image"] == RELEASE["image"]
    assert application["restartPolicy"] == "Always", "it ends with the runner"
    pod = job.pod
    assert pod
    assert pod["automountServiceAccountToken"] is False


def test_without_commands_no_container_of_the_application_starts(sandbox: Program) -> None:
    assert set(containers(cron_jobs(sandbox)["maintenance-weekly"])) == {"runner"}


def test_the_identity_may_read_one_lease_and_only_for_images_the_nodes(sandbox: Program) -> None:
    (rule,) = sandbox.one("Role", "maintenance-tasks").inputs["rules"]
    assert rule == {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["runbook-command"],
        "verbs": ["get"],
    }
    (nodes,) = sandbox.one("ClusterRole", "runbook-shop-maintenance-tasks").inputs["rules"]
    assert nodes == {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    only = {"tasks": [{"task": "analyze"}]}
    few = config(maintenanceTasks={"apiServer": API_SERVER, "daily": only, "weekly": only, "monthly": only})
    assert not [one for one in run_program(few).all("ClusterRole") if "maintenance" in one.object_name]


def test_its_pods_reach_the_api_server_and_the_store_through_its_window(sandbox: Program) -> None:
    job = cron_jobs(sandbox)["maintenance-daily"]
    assert job.template
    labels = job.template["metadata"]["labels"]
    ways = reach(sandbox, labels)
    assert {"allow-maintenance-tasks", "allow-maintenance-tasks-to-backup-exporter"} <= ways
    assert "allow-backup-store" not in ways
    into = sandbox.one("NetworkPolicy", "allow-maintenance-tasks-into-backup-exporter").inputs["spec"]
    (rule,) = into["ingress"]
    assert chosen(rule["from"][0]["podSelector"], labels)
    smoke = next(one for one in sandbox.all("Job") if one.object_name.startswith("smoke-"))
    assert smoke.template
    assert not chosen(rule["from"][0]["podSelector"], smoke.template["metadata"]["labels"])


def test_the_runner_gets_what_the_settings_say(sandbox: Program) -> None:
    env = {item["name"]: item["value"] for item in containers(cron_jobs(sandbox)["maintenance-daily"])["runner"]["env"]}
    plan = json.loads(env["MAINTENANCE_PLAN"])
    assert [task["name"] for task in plan["tasks"]] == ["analyze", "vacuum-analyze", "routes", "statistics"]
    assert plan["commandLock"] == "runbook-command"
    assert RELEASE["image"] in env["MAINTENANCE_IMAGES"]
    exporter = sandbox.one("Deployment", "backup-exporter").containers[0]
    assert {"name": "MAINTENANCE_SCHEDULES", "value": "daily weekly monthly"} in exporter["env"]


# -- reports -------------------------------------------------------------------------------------------


def report(**changes: Any) -> dict[str, Any]:
    step = {"name": "statistics", "kind": "statistics", "result": "done", "why": None, "attempts": 1, "seconds": 1.0}
    return {
        "schedule": "daily",
        "run": "20261129T060000.000Z",
        "stack": "runbook/prod",
        "began_at": "2026-11-29T06:00:00+00:00",
        "ended_at": "2026-11-29T06:01:00+00:00",
        "seconds": 60.0,
        "result": "done",
        "summary": "1 of 1 tasks done",
        "tasks": [{**step, "notes": [], "measures": {"database bytes": 100.0, "old": 1}}],
        "previous": None,
        "changes": [],
        **changes,
    }


def test_a_page_of_a_report_escapes_what_it_shows() -> None:
    made = report(previous="<b>", summary="<script>alert(1)</script>")
    made["tasks"][0] |= {"why": "<img src=x>", "notes": ["\"><svg onload='x'>"], "name": "a&b"}
    made["changes"] = [{"task": "<i>", "what": "<u>", "before": 1, "now": 2}]
    page = reports.to_html(made)
    for tag in ("<script", "<img", "<svg", "<i>", "<u>", "<b>"):
        assert tag not in page
    assert "a&amp;b" in page
    assert "&lt;u&gt;: 1 → 2 (+100%)" in page


def test_what_changed_is_what_differs() -> None:
    now = report()["tasks"]
    now[0] |= {"result": "failed", "measures": {"database bytes": 150.0, "new": 3}}
    assert reports.compare(now, report()) == [
        {"task": "statistics", "what": "result", "before": "done", "now": "failed"},
        {"task": "statistics", "what": "database bytes", "before": 100.0, "now": 150.0},
        {"task": "statistics", "what": "old", "before": 1, "now": None},
        {"task": "statistics", "what": "new", "before": None, "now": 3},
    ]
    assert reports.compare(now, None) == []


# -- audits and images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("npm-audit", "npm ERR! network", "printed no JSON"),
        ("npm-audit", '{"error": {"code": "ENOLOCK", "summary": "no lockfile"}}', "no lockfile"),
        ("npm-audit", "[]", "vulnerabilities"),
        ("pip-audit", "{}", "dependencies"),
    ],
)
def test_an_audit_that_did_not_take_place_fails(kind: str, text: str, says: str) -> None:
    with pytest.raises(TaskError, match=says):
        audit.parse(kind, text, None, exit_code=1)


def test_the_severity_that_fails_is_a_setting() -> None:
    text = json.dumps({"vulnerabilities": {"tar": {"severity": "moderate", "fixAvailable": True}}})
    assert audit.parse("npm-audit", text, "high", exit_code=1).failure is None
    assert audit.parse("npm-audit", text, "moderate", exit_code=1).failure
    assert audit.parse("npm-audit", text, None, exit_code=1).failure is None


def test_pip_audit() -> None:
    found = {
        "dependencies": [
            {"name": "jinja2", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]},
            {"name": "ours", "skip_reason": "not on PyPI"},
        ]
    }
    outcome = audit.parse("pip-audit", json.dumps(found), "high", exit_code=1)
    assert outcome.notes == ["jinja2 2.0: PYSEC-1 (fixed in 2.1)", "not audited: ours"]
    assert outcome.measures == {"vulnerabilities": 1, "packages not audited": 1}


def test_an_image_is_unused_when_its_repository_is_the_stacks_and_its_digest_is_not() -> None:
    used, old = "localhost:15000/shop@sha256:aa", "localhost:15000/shop@sha256:bb"
    node = {
        "status": {
            "images": [
                {"names": [used, "localhost:15000/shop:v2"], "sizeBytes": 10},
                {"names": [old], "sizeBytes": 20},
                {"names": ["registry.k8s.io/pause@sha256:cc"], "sizeBytes": 30},
            ]
        }
    }
    assert list(images._unused(node, {images.repository_of(used)}, {"sha256:aa"})) == [(old, 20)]
    assert images.repository_of("localhost:15000/shop:v2") == "localhost:15000/shop"


# -- the command ---------------------------------------------------------------------------------------


class World:
    """A stack's settings, and the tasks that its cluster is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.made: dict[str, Any] = {**report(), "key": "maintenance/daily/20261129T060000.000Z.json"}
        settings = judged(config()).model_copy(update=changes)
        session = SimpleNamespace(stack="test", file=Path("Pulumi.test.yaml"))
        monkeypatch.setattr("ops.stack.session.open_session", lambda *_: session)
        monkeypatch.setattr(commands, "load_settings", lambda _: settings)
        monkeypatch.setattr(commands, "tasks_of", lambda _: self)

    def run_maintenance(self, schedule: str, names: list[str]) -> Any:
        self.asked.append((schedule, *names))
        return self.made

    def run(self, *words: str) -> Any:
        self.asked.append(words)
        return {"report": self.made, "html": "<p>page</p>", "text": "the report"}


def invoke(*words: str) -> Any:
    return CliRunner().invoke(main.app, ["maintenance", *words])


def test_run_starts_the_schedule_and_ends_with_the_runs_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    shown = invoke("run", "daily", "--task", "statistics")
    assert (shown.exit_code, world.asked) == (0, [("daily", "statistics")])
    assert "1 of 1 tasks done" in shown.output
    world.made["result"] = world.made["tasks"][0]["result"] = "failed"
    assert invoke("run", "daily").exit_code == 1
    world.made["result"] = world.made["tasks"][0]["result"] = "put off"
    assert invoke("run", "daily").exit_code == 2
    assert json.loads(invoke("run", "daily", "--json").output)["result"] == "put off"


@pytest.mark.parametrize(
    ("changes", "words", "says"),
    [
        ({"lockdown": Lockdown.model_validate(LOCKDOWN)}, ("daily",), "an attack"),
        ({"maintenance": Maintenance(reason="a restore")}, ("daily",), "a restore"),
        ({"maintenance_tasks": None}, ("daily",), "no runbook:maintenanceTasks"),
        ({}, ("dayly",), "daily, weekly or monthly"),
        ({}, ("daily", "--task", "vacum"), "analyze, vacuum-analyze, routes, statistics"),
    ],
)
def test_run_is_refused_before_a_job_is_made(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: tuple[str, ...], says: str
) -> None:
    world = World(monkeypatch, **changes)
    shown = invoke("run", *words)
    assert (shown.exit_code, world.asked) == (2, [])
    assert says in shown.output


def test_report_shows_the_newest_and_writes_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(monkeypatch)
    shown = invoke("report", "daily", "--html", str(tmp_path / "page.html"))
    assert shown.exit_code == 0, shown.output
    assert "The next one begins at" in shown.output
    assert (tmp_path / "page.html").read_text() == "<p>page</p>"
    assert world.asked == [("maintenance", "report", "daily")]


def test_the_next_run_is_none_while_the_cron_jobs_are_suspended() -> None:
    settings = judged(config())
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert commands.find_next_run(settings, "monthly", now) == "2026-12-01 05:00 Etc/UTC"
    paused = settings.model_copy(update={"maintenance": Maintenance(reason="a restore")})
    assert commands.find_next_run(paused, "monthly", now) is None
