"""The benchmark of a maintenance run: what it measures, and when an answer has become slower."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from settings import MaintenanceTasks
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.maintenance_tasks import report as reports
from tasks.maintenance_tasks.benchmark import benchmark, find_regressions, percentile
from tasks.maintenance_tasks.context import Context, Outcome, Stopped
from tasks.maintenance_tasks.plan import Plan
from tasks.store import open_store
from tests.support import http_servers
from tests.support.program import run_program
from tests.unit.test_maintenance_tasks import API_SERVER, config, containers

FAST = {"requests": 10, "pauseMilliseconds": 0}


class Shop(ThreadingHTTPServer):
    """Answers each path with its status."""

    def __init__(self, statuses: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = statuses
        self.asked: list[tuple[str, str | None, str | None]] = []


class Handler(http_servers.Handler):
    server: Shop  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"], self.headers["X-Forwarded-Proto"]))
        self.answer(self.server.statuses.get(self.path, 404))


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop({"/": 200, "/shop": 302, "/broken": 500})
    with http_servers.closing_server(made):
        yield made


def measure(shop: Shop, folder: Path, *paths: str, **limits: Any) -> Outcome:
    settings = {
        "apiServer": API_SERVER,
        "monthly": {"tasks": [{"task": "benchmark"}]},
        "benchmark": {**FAST, "paths": list(paths), **limits},
    }
    plan = Plan.of(MaintenanceTasks.model_validate(settings).to_plan("monthly"))
    (folder / "store").mkdir(exist_ok=True)
    environment = Environment(
        {
            "BACKUP_STORE": f"file://{folder}/store",
            "TARGET_URL": f"http://127.0.0.1:{shop.server_port}",
            "PUBLIC_URL": "https://shop.example.com/",
            "HOST_HEADER": "shop.example.com",
        }
    )
    return benchmark(Context(environment, plan, plan.tasks[0], guard=None))  # type: ignore[arg-type]


def keep(folder: Path, run: str, measures: dict[str, float], *, kind: str = "benchmark") -> None:
    task = {"name": "benchmark", "kind": kind, "result": "done", "why": None, "seconds": 1, "notes": []}
    report = {
        **dict.fromkeys(("began_at", "ended_at", "summary", "previous"), "x"),
        "schedule": "monthly",
        "run": run,
        "seconds": 1,
        "result": "done",
        "changes": [],
        "tasks": [{**task, "measures": measures}],
    }
    store = open_store(Environment({"BACKUP_STORE": f"file://{folder}/store"}))
    store.put(f"maintenance/monthly/{run}.json", json.dumps(report).encode(), keep=False)
    assert reports.read(store, "monthly", run)


def test_each_path_is_measured_as_clients_ask_for_it(shop: Shop, tmp_path: Path) -> None:
    done = measure(shop, tmp_path, "/", "/shop")
    assert done.failure is None
    assert list(done.measures) == ["/: ms at 50 %", "/: ms at 95 %", "/shop: ms at 50 %", "/shop: ms at 95 %"]
    assert all(0 < value < 5000 for value in done.measures.values())
    assert done.measures["/: ms at 50 %"] <= done.measures["/: ms at 95 %"]
    assert shop.asked == [("/", "shop.example.com", "https")] * 12 + [("/shop", "shop.example.com", "https")] * 12
    assert done.notes == ["nothing to compare with yet: the next run is compared with this one"]


def test_what_has_become_slower_since_the_last_measurement_fails_and_is_named(shop: Shop, tmp_path: Path) -> None:
    keep(tmp_path, "20261001T050000.000Z", {"/: ms at 50 %": 9000.0})
    keep(tmp_path, "20261101T050000.000Z", {"/: ms at 50 %": 0.001, "/: ms at 95 %": 9000.0})
    # Put off, or of another task: they say nothing.
    keep(tmp_path, "20261115T050000.000Z", {})
    keep(tmp_path, "20261116T050000.000Z", {"/: ms at 50 %": 9000.0}, kind="command")
    done = measure(shop, tmp_path, "/", leastMilliseconds=0)
    assert done.notes == ["compared with 20261101T050000.000Z"]
    assert done.failure
    assert done.failure.startswith("slower than in 20261101T050000.000Z: /: ms at 50 % 0.001 → ")
    assert "95 %" not in done.failure


@pytest.mark.parametrize(
    ("now", "slower"),
    [
        (125.0, []),
        (125.1, ["/: 100 → 125.1 (+25%)"]),
        (60.0, []),
    ],
)
def test_a_regression_is_more_than_the_percentage(now: float, slower: list[str]) -> None:
    assert [*find_regressions({"/: ": 100.0}, {"/: ": now}, 25, 20)] == [one.replace("/:", "/: ") for one in slower]


def test_a_few_milliseconds_more_are_none_however_many_percent_they_are() -> None:
    assert [*find_regressions({"a": 5.0}, {"a": 24.9}, 25, 20)] == []
    assert [*find_regressions({"a": 5.0}, {"a": 25.0}, 25, 20)] == ["a 5 → 25 (+400%)"]
    assert [*find_regressions({}, {"a": 25.0}, 25, 20)] == []


@pytest.mark.parametrize(("path", "says"), [("/broken", "/broken: answers 500"), ("/absent", "/absent: answers 404")])
def test_a_path_that_does_not_work_fails_and_the_others_are_measured(
    path: str, says: str, shop: Shop, tmp_path: Path
) -> None:
    done = measure(shop, tmp_path, path, "/")
    assert done.failure
    assert f"{says} (maintenanceTasks.benchmark.paths)" in done.failure
    assert list(done.measures) == ["/: ms at 50 %", "/: ms at 95 %"]


def test_a_server_that_is_away_is_a_failure(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.maintenance_tasks.benchmark.reach", lambda _: "")
    shop.shutdown()
    shop.server_close()
    failure = measure(shop, tmp_path, "/").failure
    assert failure
    assert "/: " in failure
    assert "refused" in failure.lower()


def test_it_gives_way_between_two_requests(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Stopped("a release runs", gives_way=True)

    def stop(_: Context) -> None:
        if len(shop.asked) == 3:
            raise stopped

    monkeypatch.setattr(Context, "require_going", stop)
    with pytest.raises(Stopped):
        measure(shop, tmp_path, "/")
    assert len(shop.asked) == 3


def test_a_plan_without_a_benchmark_says_what_to_do(shop: Shop) -> None:
    settings = MaintenanceTasks.model_validate({"apiServer": API_SERVER})
    plan = Plan.of(settings.to_plan("daily"))
    assert plan.benchmark is None
    with pytest.raises(TaskError, match="update the stack"):
        benchmark(Context(Environment({}), plan, plan.tasks[0], guard=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("part", "value"), [(50, 20.0), (95, 38.0), (100, 40.0)])
def test_percentiles_are_measured_values(part: int, value: float) -> None:
    assert percentile([float(number) for number in range(40, 0, -1)], part) == value
    assert percentile([7.04], part) == 7.0


def test_a_month_measures_the_health_check_unless_paths_are_set() -> None:
    monthly = {"monthly": {"tasks": [{"task": "benchmark"}]}}
    plans = {}
    for name, more in (("default", {}), ("own", {"benchmark": {"paths": ["/shop"]}})):
        program = run_program(config(maintenanceTasks={"apiServer": API_SERVER, **monthly, **more}))
        env = {
            schedule: {
                item["name"]: item.get("value")
                for item in containers(program.one("CronJob", f"maintenance-{schedule}"))["runner"]["env"]
            }
            for schedule in ("daily", "monthly")
        }
        assert "TARGET_URL" not in env["daily"]
        assert env["monthly"]["TARGET_URL"] == "http://backend:3000"
        plans[name] = json.loads(env["monthly"]["MAINTENANCE_PLAN"])["benchmark"]["paths"]
    assert plans == {"default": ["/api/health"], "own": ["/shop"]}


def test_the_runbooks_month_has_one() -> None:
    made = MaintenanceTasks.model_validate({"apiServer": API_SERVER})
    assert [made.measures(schedule) for schedule in ("daily", "weekly", "monthly")] == [False, False, True]
