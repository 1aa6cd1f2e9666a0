"""The quick reference: what its commands decide and print, and what they refuse."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from monitoring.alerts.rule import scoped
from ops.adapters.prometheus import Sample, join_queries, parse_samples
from ops.adapters.task_jobs import _keep_only, _task_command
from ops.cli import live
from ops.cli.durations import parse_seconds
from ops.commands import measures
from ops.commands import restart as restarting
from ops.commands.business import compare_periods
from ops.commands.debugging import find_urls
from ops.commands.emergency_actions import find_action
from ops.commands.measures import Measures
from ops.commands.restart import choose_services
from ops.decisions.log_lines import RefusedRequests, parse_line
from ops.decisions.plots import plot_lines, render_html
from ops.decisions.slow_phase import judge_phases
from ops.errors import Refused, RolledBack, Stuck
from sandbox import packages
from settings import Monitoring, SettingsError, StackFile, parse
from settings.operations import COMMAND, TASK, Metric, RateLimits
from tasks.operations.database import without_values
from tasks.operations.metric import bind
from tests.support.program import RELEASE, run_program, secrets_for, stack_config

BEGIN = datetime(2026, 8, 16, 11, tzinfo=UTC)


def settings(**changes: Any) -> Any:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, **changes)
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    return parse(StackFile("Pulumi.sandbox.yaml", config, sealed))


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "why"),
    [
        ({"metrics": {"business": {"query": "SELECT now(), 1"}}}, "does not use :since"),
        ({"metrics": {"business": {"query": "SELECT :from, 1"}}}, ":from is no parameter"),
        ({"rateLimits": {}}, "either patterns of Redis keys or a command"),
        ({"rateLimits": {"keys": ["limit:*"]}}, "would show the limits of all"),
        ({"rateLimits": {"command": {"run": "npm run limits"}}}, "has no {user}"),
    ],
)
def test_settings_that_cannot_work_are_refused(operations: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why.replace("{", r"\{")):
        settings(operations=operations)


def test_casts_and_texts_are_no_parameters() -> None:
    query = "SELECT '10:00'::time, note::text, 1 FROM t WHERE at >= :since AND note LIKE 'a%:until' AND b = \":x\""
    Metric(query=query.replace('":x"', "1"))
    assert bind(query) == (
        "SELECT '10:00'::time, note::text, 1 FROM t WHERE at >= %(since)s::timestamptz AND note LIKE 'a%%:until' "
        'AND b = ":x"'
    )


@pytest.mark.parametrize(
    "text", ["-- customers' :until", "/* it's 1 :until */", "$a$it's :until$a$,", r"E'it\'s :until',", "days[1:n],"]
)
def test_comments_and_quoted_texts_hide_and_bring_no_parameter(text: str) -> None:
    query = f"SELECT at, {text}\n1 FROM t WHERE at >= :since AND note <> 'x'"  # noqa: S608 - no query that is run
    assert Metric(query=query).query == query
    assert bind(query) == query.replace(":since", "%(since)s::timestamptz")


# -- the template of the Jobs --------------------------------------------------------------------


def test_the_template_reaches_what_the_application_reaches_and_never_runs_by_itself() -> None:
    program = run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE))
    cron = program.one("CronJob", "operations")
    assert cron.inputs["spec"]["suspend"] is True
    pod = cron.inputs["spec"]["jobTemplate"]["spec"]["template"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "job"
    assert pod["spec"]["automountServiceAccountToken"] is False
    task, command = pod["spec"]["containers"]
    assert (task["name"], command["name"]) == (TASK, COMMAND)
    assert command["image"] == RELEASE["image"]
    variables = program.one("Deployment", "backend").containers[0]["envFrom"]
    assert [one for one in command["envFrom"] if one not in variables] == []
    assert all(one in task["envFrom"] for one in variables)


def test_one_container_is_left_with_the_commands_lines_after_the_pods_network_is_there() -> None:
    program = run_program(stack_config("Pulumi.sandbox.yaml", release=RELEASE))
    job = json.loads(json.dumps(program.one("CronJob", "operations").inputs["spec"]["jobTemplate"]["spec"]))
    _keep_only(COMMAND, [["first"], ["second", "two words"]], 30)(job)
    pod = job["template"]["spec"]
    reach, *lines = (*pod["initContainers"], *pod["containers"])
    assert [one["command"] for one in lines] == [["first"], ["second", "two words"]]
    template = program.one("CronJob", "operations").containers
    assert (reach["image"], reach["name"]) == (template[0]["image"], "reach")
    assert reach["command"][-1] == "http://backend:3000"
    assert not {"env", "envFrom"} & reach.keys(), "it needs none of the secrets"
    assert job["activeDeadlineSeconds"] == 30


# -- debug ---------------------------------------------------------------------------------------


def phases(**milliseconds: float) -> dict[str, Any]:
    return {"url": "u", "median": {**milliseconds, "total": sum(milliseconds.values())}}


FAST = phases(name=0, connect=1, firstByte=5, transfer=1)


@pytest.mark.parametrize(
    ("outside", "inside", "said"),
    [
        (phases(name=300, connect=1, firstByte=5), FAST, "look at the resolver"),
        (phases(name=1, connect=1, tls=400, firstByte=5), FAST, "look at the ingress controller"),
        (phases(name=1, firstByte=500), phases(name=1, firstByte=480), "the application, or what it waits for"),
        (phases(name=1, firstByte=500), FAST, "much less from a pod: the ingress controller or the network"),
        ({"url": "u", "phase": "connect", "error": "timed out"}, FAST, "look at the load balancer or a firewall"),
        ({"url": "u", "phase": "tls", "error": "expired"}, FAST, "look at the certificate"),
        (
            {"url": "u", "phase": "firstByte", "error": "reset"},
            {"url": "u", "phase": "connect", "error": "refused"},
            "The service itself does not answer (connect: refused)",
        ),
        (FAST, {"url": "u", "phase": "job", "error": "no quota"}, "from a pod it could not be asked: no quota"),
    ],
)
def test_where_to_look_first(outside: dict[str, Any], inside: dict[str, Any], said: str) -> None:
    assert said in judge_phases(outside, inside)


def test_urls_outside_and_inside_are_of_the_same_path() -> None:
    found = settings()
    assert find_urls(found, "/shop?page=2") == ("http://localhost:18080/shop?page=2", "http://backend:3000/shop?page=2")
    assert find_urls(found, "shop") == ("http://localhost:18080/shop", "http://backend:3000/shop")
    assert find_urls(found, "http://localhost:18080/x")[1] == "http://backend:3000/x"
    with pytest.raises(Refused, match="is not below http://localhost:18080: write a path"):
        find_urls(found, "https://elsewhere.example.com/")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT 1 FROM u WHERE email='a''b@x' AND id IN (1, 2.5)", "SELECT ? FROM u WHERE email=? AND id IN (?, ?)"),
        ("SET a = $1, b2 = E'x\\'y' -- secret\n WHERE c = $tag$ it's $tag$", "SET a = $1, b2 = ? WHERE c = ?"),
        ("SELECT 'cut in the mid", "SELECT ?"),
        ("/* token=abc */ SELECT now()", "SELECT now()"),
    ],
)  # fmt: skip
def test_queries_are_shown_without_values(query: str, shown: str) -> None:
    assert without_values(query) == shown


def refused_requests(*records: object) -> RefusedRequests:
    found = RefusedRequests((401, 403, 429), {"status": "status", "source": "client.ip", "route": "route"})
    for record in records:
        text = record if isinstance(record, str) else json.dumps(record)
        found.count(parse_line("t", "p", "c", text))
    return found


def test_refused_requests_count_by_client() -> None:
    of_one = {"status": 401, "client": {"ip": "203.0.113.7"}, "route": "/login"}
    of_other = {**of_one, "client": {"ip": "198.51.100.1"}}
    others = ({"status": 403}, {"status": 200}, "status=401", {"status": True})
    found = refused_requests(of_one, {**of_one, "status": "429"}, of_other, *others)
    assert found.requests == 5
    first, *rest = [one.to_json() for one in found.worst(10)]
    assert first == {
        "source": "203.0.113.7",
        "statuses": {"401": 1, "429": 1},
        "total": 2,
        "routes": {"/login": 2},
    }
    assert {one["source"] for one in rest} == {"198.51.100.1", None}


def test_rate_limits_of_a_command_are_one_word() -> None:
    limits = RateLimits.model_validate({"command": {"run": "npm run limits -- {user}"}})
    assert limits.command
    assert limits.command.argvs == [["npm", "run", "limits", "--", "{user}"]]


# -- metrics -------------------------------------------------------------------------------------


def points(values: Sequence[float | None], *, total: bool = True, unit: str = "EUR") -> dict[str, Any]:
    times = [f"2026-08-16T{10 + place // 6:02}:{place % 6}0:00+00:00" for place in range(len(values))]
    found = {"times": times, "columns": {"revenue": values}, "stepSeconds": 600, "until": "2026-08-16T12:00:00+00:00"}
    return compare_periods("revenue", Metric(query="x :since", unit=unit, total=total), found, BEGIN)


def test_a_sum_is_compared_with_the_period_before() -> None:
    column = points([1, 1, None, 1, 1, 0, 2, 2, 2, 2, None, 2])["columns"]["revenue"]
    assert column == {"points": [2, 2, 2, 2, 0, 2], "value": 10, "before": 4}


def test_a_mean_leaves_out_what_is_missing() -> None:
    column = points([None] * 6 + [4, None, None, 8, None, None], total=False)["columns"]["revenue"]
    assert (column["value"], column["before"], column["points"][1]) == (6, None, None)


def test_a_plot_fits_80_columns_and_shows_the_highest() -> None:
    found = points([0] * 6 + [0, 10, 5, 0, 0, 10])
    lines = plot_lines(found)
    assert lines[0] == "revenue: 25 EUR (sum), 0 in the period before"
    assert lines[2].startswith("10  █")
    assert max(map(len, lines)) <= 80
    many = {**found, "columns": {"revenue": {"points": [1.0] * 500, "value": 500, "before": 250}}}
    assert max(map(len, plot_lines(many))) <= 80
    assert "+100.0 % against 250 in the period before" in plot_lines(many)[0]


def test_the_page_is_one_file_without_scripts_and_escapes_names() -> None:
    page = render_html({**points([1] * 12), "metric": "<b>"}, "prod & co")
    assert "<title>&lt;b&gt; of prod &amp; co</title>" in page
    assert "<script" not in page
    assert page.count("<rect") == 6


# -- status --------------------------------------------------------------------------------------


def test_what_promtool_prints_is_read() -> None:
    printed = '[{"metric":{"__name__":"up","job":"a"},"value":[1,"1"]},{"metric":{},"value":[1,"NaN"]}]'
    first, second = parse_samples(printed)
    assert (first.labels["job"], first.value) == ("a", 1)
    assert second.value != second.value
    assert Measures({"x": [second]}, []).number("x") is None


def test_several_queries_are_one() -> None:
    joined = join_queries({"a": "sum(up{})", "b": "x or vector(0)"})
    assert joined == (
        'label_replace(sum(up{}), "runbook_query", "a", "", "") or '
        'label_replace(x or vector(0), "runbook_query", "b", "", "")'
    )


def test_firing_alerts_are_the_most_severe_first_and_the_watchdog_is_none() -> None:
    labels = [("Watchdog", "none"), ("B", "warning"), ("A", "warning"), ("C", "critical"), ("B", "warning")]
    samples = [Sample({"alertname": name, "severity": severity}, 1) for name, severity in labels]
    found = Measures({"alerts": samples}, []).alerts()
    assert found is not None
    assert [(one["name"], one["count"]) for one in found] == [("C", 1), ("A", 1), ("B", 2)]


STATUS = {
    "application": True,
    "revision": 12, "action": "deploy", "version": "2.4.0", "finished": True, "image": "r/shop@sha256:" + "a" * 64,
    "command": {"doing": "deploy", "user": "ada", "host": "laptop", "since": "now"},
    "services": [{"name": "backend", "ready": 1, "wanted": 2, "settled": False}],
    "health": {"status": 503, "detail": "unhealthy"}, "schema": {"database": 3, "release": {"min": 2, "max": 3}},
    "lastUpdate": {"result": "succeeded", "when": "2026-08-16T12:00:00+00:00", "seconds": 31, "who": "ada@laptop"},
    "lockdown": {"state": "off"},
}  # fmt: skip
FRAME = {
    "at": "2026-08-16T12:00:05+00:00", "stack": "prod", "healthy": False, "status": STATUS, "maintenance": None,
    "alerts": [{"name": f"Alert{number}", "severity": "critical"} for number in range(9)],
    "requests": {"perSecond": 12.3, "errorPercent": 4.5, "p50": 0.012, "p95": 0.2, "p99": None},
    "backups": {"backupAge": 4000, "provenAge": 90_000}, "rotations": {"running": {"JWT": "begun"}, "overdue": ["X"]},
    "incidents": [{"name": "incident-lockdown-1", "kind": "lockdown", "reason": "SQL injection"}],
    "problems": ["nothing from metrics: " + "long " * 40],
}  # fmt: skip


def show(frame: dict[str, Any]) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"), force_terminal=False)  # noqa: SIM115, PTH123
    console.print(live.draw(frame, 80))
    return console.export_text()


def test_the_screen_fits_80_columns_and_has_every_subject() -> None:
    text = show(FRAME)
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        *(
            "prod NOT HEALTHY",
            "12 (deploy), version 2.4.0",
            "deploy by ada@laptop",
            "1 of 2 pods ready",
            "503 unhealthy",
        ),
        *("Alert5 and 3 more", "12.3 a second, 4.50 % errors", "p50 12 ms", "newest 67 min ago, last proven 25 h ago"),
        *("X overdue, JWT (begun)", "incident-lockdown-1", "nothing from metrics"),
    ):
        assert word in " ".join(text.split()), (word, text)


def test_the_screen_goes_on_when_nothing_can_be_read() -> None:
    text = show({"at": FRAME["at"], "stack": "prod", "healthy": None, "status": None, "problems": ["no route"]})
    assert "prod unknown" in text
    assert "no route" in text


def test_each_refresh_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert live.watch(lambda: FRAME, 0.01, 3, as_json=True) == FRAME
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [FRAME] * 3


# -- emergencies ---------------------------------------------------------------------------------


def test_an_action_that_the_stack_file_does_not_name_is_refused_with_what_to_write() -> None:
    with pytest.raises(Refused, match=r"runbook:operations:\n    optimization:\n      about: "):
        find_action(settings(operations={}), "Pulumi.x.yaml", "emergency-optimization", undo=False)


def test_without_a_setting_the_caches_are_purged_as_after_a_release() -> None:
    action = find_action(settings(), "Pulumi.x.yaml", "emergency-cache-clear", undo=False)
    assert action.command == settings().commands.cache
    assert "npm run ops:wait --workspace backend" in action.describe(undo=False)
    assert "Nothing to take back." in action.describe(undo=False)
    with pytest.raises(Refused, match=r"operations.cacheClear has no undo"):
        find_action(settings(), "Pulumi.x.yaml", "emergency-cache-clear", undo=True)


def test_what_an_action_does_and_how_to_take_it_back_is_said_before() -> None:
    given = {"about": "turns search off", "command": {"run": ["a", "b c"]}, "undo": {"run": "d"}}
    found = settings(operations={"optimization": given})
    action = find_action(found, "Pulumi.x.yaml", "emergency-optimization", undo=False)
    assert action.describe(undo=False).splitlines() == [
        "Turns search off:",
        "  a",
        "  b c",
        "In the image of the release that serves, for at most 300 s.",
        "`runbook performance emergency-optimization --undo` takes it back.",
    ]
    back = find_action(found, "Pulumi.x.yaml", "emergency-optimization", undo=True)
    assert back.describe(undo=True).splitlines()[:2] == ["Takes back emergency-optimization:", "  d"]


def test_services_to_restart_are_known_ones() -> None:
    assert [one.name for one in choose_services(settings(), ())] == ["backend"]
    with pytest.raises(Refused, match="There is no service frontend: write one of backend"):
        choose_services(settings(), ["frontend"])


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("2 H", 7200), ("7d", 604_800)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_seconds(text, "--since") == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0m", "-1h", "1w"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="write a number and a unit"):
        parse_seconds(text, "--since")


# -- restart -------------------------------------------------------------------------------------


class Cluster:
    """A Deployment whose new pods become ready, or not; it records what is written to it."""

    namespace = "shop"

    def __init__(self, *, good: Sequence[bool]) -> None:
        """For each rollout, whether it succeeds."""
        self.good = list(good)
        self.written: list[Any] = []

    def find(self, kind: Any, name: str) -> Any:
        return kind.from_dict({"metadata": {"name": name}, "spec": {"selector": {}, "template": {"metadata": {}}}})

    @contextmanager
    def patient(self) -> Iterator[Any]:
        yield self

    def patch(self, _kind: Any, _name: str, change: Any, **_: Any) -> None:
        self.written.append(change["spec"]["template"]["metadata"]["annotations"][restarting.RESTARTED_AT])

    def await_settled(self, _services: Any, _seconds: int) -> Any:
        return [SimpleNamespace(settled=self.good[len(self.written) - 1])]

    @contextmanager
    def http(self) -> Iterator[Any]:
        raise Refused("no API server here")
        yield


def restart_one(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []

    class Watch:
        """Ends the wait of a rollout at once."""

        def __init__(self, _connect: Any, _say: Any, stop: Any, _seconds: float) -> None:
            self.begins = lambda *_: stop()

        def __enter__(self) -> Watch:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(restarting, "FailureWatch", Watch)
    session = SimpleNamespace(say=said.append, command_lock=None)
    found = settings()
    restarting._restart_one(session, cluster, found, found.application.main_service)  # type: ignore[arg-type]
    return said


def test_a_restart_whose_pods_do_not_become_ready_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(good=[False, True])
    with pytest.raises(RolledBack, match="backend has a new pod that is not ready within 45 s"):
        restart_one(cluster, monkeypatch)
    assert len(cluster.written) == 2
    assert cluster.written[1] is None, "the annotation from before, so that the old pods' template is the current one"


def test_a_restart_that_cannot_go_back_says_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stuck, match=r"going back failed too.*describe deployment backend"):
        restart_one(Cluster(good=[False, False]), monkeypatch)


def test_a_restart_that_succeeds_writes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(good=[True])
    restart_one(cluster, monkeypatch)
    assert datetime.fromisoformat(cluster.written[0]).tzinfo


# -- queries -------------------------------------------------------------------------------------


def test_prometheus_answers_all_queries_at_once_each_by_its_name(tmp_path: Path) -> None:
    found, refused = Monitoring(), '{status="401"}'
    login = 'http_request_duration_seconds_count{namespace="shop",route="/login",status="401",instance'
    queries = {
        **measures.ALERTS,
        **measures.requests(found, 60),
        **measures.routes(found, 60),
        **measures.CONTAINERS,
        **measures.BACKUPS,
        **measures.SECRETS,
        "refused": f"sum by (status) {measures.count_requests(refused, 300)}",
        "earlier": f"sum by (status) {measures.count_requests(refused, 240, ' @ 240')} > 0",
    }
    series = {
        'ALERTS{namespace="shop",alertname="A",alertstate="firing",severity="critical"}': "1x100",
        'ALERTS{namespace="other",alertname="B",alertstate="firing",severity="critical"}': "1x100",
        'http_request_duration_seconds_count{namespace="shop",route="/shop",status="200"}': "0+27x100",
        'http_request_duration_seconds_count{namespace="shop",route="/shop",status="500"}': "0+3x100",
        'http_request_duration_seconds_count{namespace="shop",route="/api/live",status="200"}': "0+900x100",
        # It begins with its first two requests, five of ten minutes before the end.
        f'{login}="a"}}': "_x30 2 2 5x9",
        f'{login}="b"}}': "100x30 101x10",
        'runbook_backup_last_success_timestamp_seconds{namespace="shop"}': "100x100",
        'runbook_secret_phase{namespace="shop",secret="JWT",phase="overlap"}': "1x100",
        'runbook_secret_rotated_timestamp_seconds{namespace="shop",secret="OLD"}': "1x100",
        'runbook_secret_max_age_seconds{namespace="shop",secret="OLD"}': "60x100",
    }
    expected = {
        '{runbook_query="perSecond"}': 2,
        '{runbook_query="refused",status="401"}': 6,
        '{runbook_query="errorPercent"}': 10,
        '{runbook_query="failingRoutes",route="/shop"}': 0.2,
        '{runbook_query="backupAge"}': 500,
        '{runbook_query="overdue",namespace="shop",secret="OLD"}': 599,
        'ALERTS{runbook_query="alerts",namespace="shop",alertname="A",alertstate="firing",severity="critical"}': 1,
        'runbook_secret_phase{runbook_query="rotating",namespace="shop",secret="JWT",phase="overlap"}': 1,
    }
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": scoped(join_queries(queries), "shop"),
                "eval_time": "10m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
            }
        ],
    }
    file = tmp_path / "queries.test.yaml"
    file.write_text(json.dumps({"tests": [test]}))
    done = subprocess.run([packages.require("promtool"), "test", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_query_with_dollars_reaches_its_task() -> None:
    """Kubernetes takes $$ for an escaped $, and $(NAME) for a variable."""
    assert _task_command(["debug", "metric", "--query", "SELECT $$a$$, '$(HOME)'"])[6] == "SELECT $$$$a$$$$, '$$(HOME)'"
