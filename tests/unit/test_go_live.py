"""The go-live checklist: what each line is judged by, its report, and the template in the cluster."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest

from ops.adapters.task_jobs import HIDDEN, TaskFailed, Tasks, _keep_only
from ops.commands import go_live as going
from ops.commands.health import Health
from ops.decisions.go_live import Facts, Ran, judge
from ops.decisions.report import Line, Report, digest_of
from ops.decisions.schema_gate import Database, exact_database
from ops.errors import Refused
from settings import Application, Command, Release, SettingsError, StackFile, parse
from settings.go_live import COMMAND, LINES, GoLive
from tests.support.program import RELEASE, run_program, secrets_for, stack_config

NOW = datetime(2026, 8, 16, 12, tzinfo=UTC)
PASSED = [{"step": "connect", "passed": True, "found": "there"}]
FAILED = [*PASSED, {"step": "AUTH", "passed": False, "found": "login refused: 535"}]
IN_POD = ("variables", "api", "frontend", "stripe", "smtp", "redis", "clamav", "administrators")
CHECKLIST = GoLive.model_validate({"administrators": {"query": "SELECT id, totp FROM users"}})


def backup(hours: float, proven: float | None = None, name: str = "b1") -> dict[str, Any]:
    at = NOW - timedelta(hours=hours)
    proof = None if proven is None else (NOW - timedelta(hours=proven)).isoformat()
    return {"id": name, "created_at": at.isoformat(), "proven_at": proof}


def settings(**changes: Any) -> Any:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, **changes)
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    return parse(StackFile("Pulumi.sandbox.yaml", config, sealed))


@pytest.fixture(scope="module")
def good() -> Facts:
    return Facts(
        now=NOW,
        release=Release.model_validate(RELEASE),
        database=exact_database(1),
        steps=dict.fromkeys(IN_POD, PASSED),
        backups=[backup(1, proven=0.5)],
        backup=settings().backup,
        url="https://shop.example.com",
        front_door=(200, "healthy"),
        commands={"payments": Ran(True, "paid"), "smoke": Ran(True, "ok")},
    )


def failing(checklist: GoLive, facts: Facts) -> dict[str, Line]:
    return {line.name: line for line in judge(checklist, facts) if line.result == "fail"}


def test_everything_in_order_passes(good: Facts) -> None:
    lines = judge(CHECKLIST, good)
    assert [line.name for line in lines] == list(LINES)
    assert {line.result for line in lines} == {"pass"}
    assert all(line.evidence and line.remedy is None for line in lines)


@pytest.mark.parametrize("name", IN_POD)
def test_a_step_that_failed_fails_its_line_only(good: Facts, name: str) -> None:
    found = failing(CHECKLIST, replace(good, steps={**dict.fromkeys(IN_POD, PASSED), name: FAILED}))
    assert set(found) == {name}
    assert found[name].evidence == "AUTH: login refused: 535"
    assert found[name].remedy


@pytest.mark.parametrize(
    ("line", "changes", "words"),
    [
        ("migrations", {"database": exact_database(0)}, "schema level 0; revision 1 wants 1 to 2"),
        ("migrations", {"database": exact_database(3)}, "schema level 3"),
        ("migrations", {"database": Database(1, 1, "recorded")}, "no ready pod"),
        ("backup", {"backup": None}, "no runbook:backup"),
        ("backup", {"backups": []}, "no backup"),
        ("backup", {"backups": "the store cannot be reached"}, "the store cannot be reached"),
        ("backup", {"backups": [backup(2.1, proven=1)]}, "2.1 h old, and 2.0 h are allowed"),
        ("backup", {"backups": [backup(-1, proven=1)]}, "of the future"),
        ("backup", {"backups": [backup(1)]}, "it is not proven within 24.0 h"),
        ("backup", {"backups": [backup(1, proven=24.1)]}, "it is not proven within 24.0 h"),
        ("backup", {"backups": [backup(1), backup(2, proven=1)]}, "it is not proven"),
        ("online", {"front_door": (503, "maintenance")}, "answers 503 maintenance"),
        ("online", {"front_door": (None, "timed out")}, "no answer: timed out"),
        ("payments", {"commands": {"payments": Ran(False, "exit code 1"), "smoke": Ran(True, "")}}, "exit code 1"),
        ("smoke", {"commands": {"payments": Ran(True, "")}}, "not run"),
    ],
)
def test_red_in_one_line(good: Facts, line: str, changes: dict[str, Any], words: str) -> None:
    found = failing(CHECKLIST, replace(good, **changes))
    assert set(found) == {line}
    assert words in found[line].evidence
    assert found[line].remedy


def test_any_proven_backup_where_the_settings_say_so(good: Facts) -> None:
    facts = replace(good, backups=[backup(1), backup(2, proven=1, name="b0")])
    assert failing(CHECKLIST.model_copy(update={"backup": GoLive().backup}), facts)
    checklist = GoLive.model_validate({**CHECKLIST.to_config(), "backup": {"proven": "any"}})
    assert not failing(checklist, facts)


def test_without_a_way_to_learn_of_administrators_the_line_fails(good: Facts) -> None:
    found = failing(GoLive(), good)
    assert set(found) == {"administrators"}
    assert "SELECT id, totp_enabled" in str(found["administrators"].remedy)


def test_a_command_for_the_administrators(good: Facts) -> None:
    checklist = GoLive.model_validate({"administrators": {"command": {"run": "npm run admins:check"}}})
    assert set(failing(checklist, good)) == {"administrators"}
    commands = {**good.commands, "administrators": Ran(True, "2 administrators")}
    assert not failing(checklist, replace(good, commands=commands))


def test_a_line_that_is_left_out_is_shown_with_its_reason(good: Facts) -> None:
    checklist = GoLive.model_validate({**CHECKLIST.to_config(), "without": {"clamav": "customers upload nothing"}})
    steps = {name: PASSED for name in IN_POD if name != "clamav"}
    lines = {line.name: line for line in judge(checklist, replace(good, steps=steps))}
    assert lines["clamav"].result == "left out"
    assert "customers upload nothing" in lines["clamav"].evidence


def test_what_the_deployed_template_did_not_try_fails(good: Facts) -> None:
    steps = {name: PASSED for name in IN_POD if name != "smtp"}
    found = failing(CHECKLIST, replace(good, steps=steps))
    assert "another runbook:checklist" in found["smtp"].evidence
    assert set(failing(CHECKLIST, replace(good, steps="no pod within 120 s"))) == set(IN_POD)


def report(*lines: Line) -> Report:
    return Report("go-live", {"stack": "prod", "revision": 7}, "ann@desk", NOW.isoformat(), 4.2, lines)


def test_only_a_report_without_a_failure_is_signed_off() -> None:
    good, bad = Line("api", "API", "pass", "200"), Line("smtp", "SMTP", "fail", "refused", "look")
    left = Line("clamav", "ClamAV", "left out", "no uploads")
    assert report(good, left).to_json()["signedOff"] == {"by": "ann@desk", "at": NOW.isoformat()}
    for lines in ((good, bad), (left,), ()):
        made = report(*lines).to_json()
        assert (made["result"], made["signedOff"]) == ("failed", None)


def test_the_digest_changes_with_the_evidence() -> None:
    made = report(Line("api", "API", "fail", "500")).to_json()
    assert made["digest"] == digest_of(made)
    assert made["digest"] != digest_of({**made, "result": "passed"})


def test_the_page_escapes_what_servers_answer() -> None:
    page = report(Line("smtp", "SMTP", "fail", "<script>x</script>", "a & b")).to_html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "a &amp; b" in page


# -- settings and template ------------------------------------------------------------------------


def test_a_secret_that_another_line_needs_is_missed_there_only() -> None:
    secrets = ("STRIPE_WEBHOOK_SECRET", "SMTP_URL", "SENTRY_DSN")
    wanted = GoLive(variables=("ANALYTICS_ID",)).to_task("/api/health", secrets, production=True, url_of=str)
    assert wanted["variables"] == ["ANALYTICS_ID", "SENTRY_DSN"]
    left = GoLive(without={"smtp": "no mail"}).to_task("/api/health", secrets, production=True, url_of=str)
    assert left["variables"] == ["SENTRY_DSN", "SMTP_URL"]
    assert "smtp" not in left


@pytest.mark.parametrize(
    ("checklist", "words"),
    [
        ({"without": {"clamv": "x"}}, "clamav"),
        ({"without": {"clamav": ""}}, "clamav"),
        ({"administrators": {"query": "SELECT 1, 2", "command": {"run": "x"}}}, "either a query or a command"),
        ({"stripe": {"webhooks": [{"path": "/x", "secret": "X", "signed": "{who}.{body}"}]}}, "may be in braces"),
    ],
)
def test_settings_that_are_refused(checklist: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings(checklist=checklist)


def test_the_template_has_the_applications_environment_and_no_secret_of_its_own() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, checklist={})
    config["runbook:application"]["hostHeader"] = "shop.example.com"
    program = run_program(config)
    job = program.one("CronJob", "go-live").inputs["spec"]
    pod = job["jobTemplate"]["spec"]["template"]
    assert job["suspend"] is True
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "job"
    checks, command = pod["spec"]["containers"]
    deployed = program.one("Deployment", "backend").inputs["spec"]["template"]["spec"]["containers"][0]
    assert checks["image"] == config["runbook:image"]
    assert command["image"] == deployed["image"]
    assert checks["envFrom"] == [*deployed["envFrom"], {"secretRef": {"name": "database"}}]
    assert command["envFrom"] == deployed["envFrom"]
    env = {item["name"]: item["value"] for item in checks["env"]}
    assert env["HOST_HEADER"] == "shop.example.com"
    given = json.loads(env["GO_LIVE"])
    assert given["stripe"]["live"] is False
    assert given["api"]["check"]["target"] == "http://backend:3000"
    assert {item["name"]: item["value"] for item in command["env"]}["TARGET_URL"] == "http://backend:3000"


def test_without_the_setting_there_is_no_template() -> None:
    program = run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE))
    assert not [job for job in program.all("CronJob") if job.object_name == "go-live"]


def test_a_job_runs_one_container_and_its_command_lines_in_order() -> None:
    containers = [{"name": "checks", "command": ["x"]}, {"name": "command", "command": ["true"], "image": "shop"}]
    job: dict[str, Any] = {"template": {"spec": {"containers": containers}}, "activeDeadlineSeconds": 900}
    _keep_only("command", [["npm", "a"], ["npm", "b"]], 60)(job)
    pod = job["template"]["spec"]
    assert [(it["name"], it["command"]) for it in pod["initContainers"]] == [("command-1", ["npm", "a"])]
    assert pod["containers"] == [{"name": "command", "command": ["npm", "b"], "image": "shop"}]
    assert job["activeDeadlineSeconds"] == 60


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/", "http://web:8080"),
        ("/shop", "http://web:8080"),
        ("/api", "http://api:3000"),
        ("/api/webhooks/stripe?x=/shop", "http://api:3000"),
        ("/apis", "http://web:8080"),
    ],
)
def test_a_request_goes_to_the_service_that_has_its_path(path: str, url: str) -> None:
    probes = {kind: {"path": f"/{kind}"} for kind in ("startup", "readiness", "liveness")}
    services = [
        {"name": "web", "port": 8080, "paths": ["/"], "replicas": 2, "probes": probes},
        {"name": "api", "port": 3000, "paths": ["/api"], "replicas": 2, "probes": probes},
        {"name": "worker", "replicas": 1, "probes": {kind: {"command": f"{kind}.sh"} for kind in probes}},
    ]
    application = Application.model_validate({"services": services})
    assert application.internal_url(path) == url


# -- the command ----------------------------------------------------------------------------------


class FakeTasks:
    """Jobs in the cluster, as they end."""

    def __init__(self, *_: object) -> None: ...

    def check_go_live(self) -> Any:
        return {"lines": dict.fromkeys(IN_POD, PASSED)}

    def run_go_live_command(self, name: str, command: Command) -> str:
        if name == "payments":
            raise TaskFailed(f"go-live-{name} ended with exit code 1 (Error):\n\x1b[31mcard refused\x1b[0m")
        return f"{command.run[0]} ok"


def test_one_report_of_everything_and_no_failure_hides_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, good: Facts
) -> None:
    found, kept = settings(checklist=CHECKLIST.to_config()), list[Report]()
    release = Release.model_validate(RELEASE)
    facts = SimpleNamespace(
        settings=found,
        history=[SimpleNamespace(succeeded=True, release=release)],
        now=SimpleNamespace(finished=True),
        database=exact_database(0),
        cluster=None,
    )

    def no_store(_: object) -> Any:
        raise TaskFailed("the store cannot be reached")

    monkeypatch.setattr(going, "gather_context", lambda _: facts)
    monkeypatch.setattr(going, "require_application", lambda *_: None)
    monkeypatch.setattr(going, "Tasks", FakeTasks)
    monkeypatch.setattr(going, "list_backups", no_store)
    monkeypatch.setattr(going, "keep_report", lambda _, report, revision: kept.append(report) or f"go-live-r{revision}")
    monkeypatch.setattr(going.health, "read_health", lambda *_: Health(200, "healthy"))
    session: Any = SimpleNamespace(
        stack="test", seconds=2.0, say=print, file=Path("x"), reader=SimpleNamespace(read_state=dict)
    )
    report = going.go_live(session, tmp_path)
    failed = {line["name"]: line["evidence"] for line in report["lines"] if line["result"] == "fail"}
    assert set(failed) == {"migrations", "backup", "payments"}
    assert failed["payments"].endswith("(Error): card refused")
    assert failed["backup"] == "the store cannot be reached"
    assert (report["keptAs"], report["result"], report["revision"]) == ("go-live-r1", "failed", 1)
    assert json.loads((tmp_path / "go-live.json").read_text())["digest"] == kept[0].to_json()["digest"]
    assert "card refused" in (tmp_path / "go-live.html").read_text()


def test_it_is_refused_without_a_checklist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(going, "gather_context", lambda _: SimpleNamespace(settings=settings()))
    monkeypatch.setattr(going, "require_application", lambda *_: None)
    with pytest.raises(Refused, match=r"write `runbook:checklist: \{\}`"):
        going.go_live(cast(Any, SimpleNamespace(file=Path("Pulumi.x.yaml"))), None)


SECRET = "whsec_a+value/of=the shop"


class Printing:
    """A cluster with one Secret, and one Job whose command prints it and fails with `code`."""

    namespace = "shop"

    def __init__(self, code: int, *, may_read: bool = True) -> None:
        self.code, self.may_read = code, may_read

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        secrets = {"items": [{"data": {"STRIPE_WEBHOOK_SECRET": base64.b64encode(SECRET.encode()).decode()}}]}

        def answer(request: httpx.Request) -> httpx.Response:
            assert request.url.path == "/api/v1/namespaces/shop/secrets"
            return httpx.Response(200, json=secrets) if self.may_read else httpx.Response(403)

        with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://api") as client:
            yield client

    @contextmanager
    def patient(self) -> Iterator[Any]:
        lines = ['{"level": "info"}', f"signing with {SECRET}", f"url {quote(SECRET, safe='')}"]
        yield SimpleNamespace(
            list=lambda *_, **__: [], create=lambda _: None, delete=lambda *_, **__: None, log=lambda *_, **__: lines
        )

    def find(self, _kind: object, name: str) -> Any:
        pod = {"containers": [{"name": COMMAND, "command": ["true"]}], "volumes": []}
        job = {"spec": {"template": {"metadata": {"labels": {}}, "spec": pod}}}
        return SimpleNamespace(to_dict=lambda: {"spec": {"jobTemplate": job}, "metadata": {"name": name, "uid": "1"}})

    def watch_changes(self, *_: object, **__: object) -> Iterator[tuple[str, Any]]:
        state = {"name": COMMAND, "state": {"terminated": {"exitCode": self.code}}}
        spec = {"containers": [{"name": COMMAND}]}
        yield "ADDED", {"metadata": {"name": "p"}, "spec": spec, "status": {"containerStatuses": [state]}}


def run_command(cluster: Printing) -> tuple[list[str], str]:
    """What is printed meanwhile, and what is kept as evidence."""
    said: list[str] = []
    tasks = Tasks(cast(Any, cluster), said.append)
    try:
        kept = tasks.run_go_live_command("smoke", Command(run=("npm run smoke",), timeout_seconds=60))
    except TaskFailed as failed:
        kept = str(failed)
    return said, kept


@pytest.mark.parametrize("code", [0, 1])
def test_secrets_that_a_command_of_the_release_prints_are_neither_shown_nor_kept(code: int) -> None:
    said, kept = run_command(Printing(code))
    assert "signing with [secret]" in "\n".join(said)
    assert "url [secret]" in kept
    for text in (*said, kept):
        assert SECRET not in text
        assert quote(SECRET, safe="") not in text


@pytest.mark.parametrize("code", [0, 1])
def test_where_secrets_cannot_be_masked_nothing_that_it_prints_is_shown(code: int) -> None:
    said, kept = run_command(Printing(code, may_read=False))
    assert {line.strip() for line in said if "go-live-" not in line} == {HIDDEN}
    assert "signing with" not in kept
