"""Continuous performance: its settings, its CronJob, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from monitoring.alerts.stack import domains
from settings import Monitoring
from settings.cron import longest_gap
from settings.performance import METRICS, PageCheck
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.lighthouse import commands as measuring
from tasks.lighthouse.browser import Run, run_lighthouse
from tasks.lighthouse.judge import TITLES, UNITS, judge_page
from tasks.pages import measure
from tasks.pages.measure import measure_pages
from tests.support.monitored_config import watched
from tests.support.page_checks import IMAGE, LIMITS, config
from tests.support.program import RELEASE, Program, Registered, run_program
from tests.unit.test_backup_components import reach, sources
from tests.unit.test_settings import judged, refusal

LOCKDOWN = {"reason": "an attack", "since": "2026-11-29T10:00:00Z", "until": "2026-11-29T11:00:00Z"}


@pytest.fixture(scope="module")
def sandbox() -> Program:
    return run_program(config())


def containers(job: Registered) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The one that measures, and the one that keeps."""
    assert job.pod
    (first,), (second,) = job.pod["initContainers"], job.pod["containers"]
    return first, second


# -- settings ------------------------------------------------------------------------------------------


def test_the_defaults_are_the_runbooks() -> None:
    performance = judged(config()).performance
    assert performance
    check = performance.continuous
    assert check
    assert longest_gap(check.schedule) == timedelta(minutes=10)
    assert performance.runs == 3
    assert {route.score for route in performance.routes} == {90}


def test_the_task_and_the_command_call_metrics_the_same() -> None:
    assert {name: (title, UNITS[name]) for name, title in TITLES.items()} == dict(METRICS)


def test_a_check_was_missed_when_the_next_should_have_ended() -> None:
    assert PageCheck().missed_seconds == 600 + 540
    paris = PageCheck(time_zone="Europe/Paris")
    assert paris.missed_seconds == 3600 + 600 + 540, "the night in which the clock skips an hour"


def test_it_is_off_unless_asked_for() -> None:
    made = run_program(config(performance={"image": IMAGE}))
    assert not [job for job in made.all("CronJob") if job.object_name == "page-check"]
    exporter = made.one("Deployment", "backup-exporter").containers[0]
    assert "PAGE_CHECK" not in {item["name"] for item in exporter["env"]}


@pytest.mark.parametrize(
    ("continuous", "where", "says"),
    [
        ({"timeoutSeconds": 601}, "continuous.timeoutSeconds", "the next begins after 600 s"),
        ({"schedule": "*/5 * * * *"}, "continuous.timeoutSeconds", "the next begins after 300 s"),
        ({"schedule": "every minute"}, "continuous.schedule", "five"),
        ({"url": "https://shop.example.com/shop"}, "continuous.url", "https://shop.example.com"),
    ],
)
def test_what_cannot_run_is_refused_with_its_place(continuous: dict[str, Any], where: str, says: str) -> None:
    message = str(refusal(config(continuous=continuous)))
    assert f"runbook:performance.{where}" in message
    assert says in message


def test_results_need_a_store() -> None:
    written = config()
    del written["runbook:backup"]
    assert "results are kept in the store of backups" in str(refusal(written))


def test_its_pod_has_room_in_the_quota() -> None:
    huge = {"cpu": "1", "memory": "200Gi", "ephemeralStorage": "1Gi"}
    performance = {"image": IMAGE, "continuous": {}, "resources": {"requests": huge, "limits": huge}}
    assert "guards.quota.memory" in str(refusal(config(performance=performance)))


# -- objects -------------------------------------------------------------------------------------------


def test_the_cron_job_starts_one_check_at_a_time_and_ends_it(sandbox: Program) -> None:
    spec = sandbox.one("CronJob", "page-check").inputs["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == ("*/10 * * * *", "Etc/UTC", False)
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] > 0
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (1, 1)
    job = spec["jobTemplate"]["spec"]
    assert (job["activeDeadlineSeconds"], job["backoffLimit"]) == (540, 0)
    paris = run_program(config(continuous={"timeZone": "Europe/Paris", "schedule": "0 * * * *"}))
    assert paris.one("CronJob", "page-check").inputs["spec"]["timeZone"] == "Europe/Paris"


@pytest.mark.parametrize(
    "change",
    [{"continuous": {"suspend": True}}, {"lockdown": LOCKDOWN}, {"maintenance": {"reason": "a restore"}}],
    ids=["suspended", "lockdown", "maintenance mode"],
)
def test_while_nothing_is_measured_nothing_is_missed(change: dict[str, Any]) -> None:
    written = config(**change)
    assert run_program(written).one("CronJob", "page-check").inputs["spec"]["suspend"] is True
    assert judged(config()).checks_pages
    assert not judged(written).checks_pages


def test_pages_are_asked_for_as_customers_do_of_the_services_that_have_them(sandbox: Program) -> None:
    browser, _ = containers(sandbox.one("CronJob", "page-check"))
    env = {item["name"]: item["value"] for item in browser["env"]}
    asked = json.loads(env["LIGHTHOUSE"])
    assert [(route["path"], route["target"]) for route in asked["routes"]] == [
        ("/", "http://backend:3000"),
        ("/shop", "http://backend:3000"),
    ]
    assert asked["allSeconds"] == 480
    assert env["PUBLIC_URL"] == judged(config()).url
    public = run_program(config(continuous={"url": "https://shop.example.com"}))
    browser, _ = containers(public.one("CronJob", "page-check"))
    env = {item["name"]: item["value"] for item in browser["env"]}
    assert {route["target"] for route in json.loads(env["LIGHTHOUSE"])["routes"]} == {"https://shop.example.com"}
    assert (env["PUBLIC_URL"], env["HOST_HEADER"]) == ("", "")


def test_the_browser_has_no_secret_and_only_the_store_is_in_reach_of_the_other(sandbox: Program) -> None:
    job = sandbox.one("CronJob", "page-check")
    browser, keep = containers(job)
    assert browser["image"] == IMAGE
    assert sources(browser) == set()
    assert {mount["name"] for mount in browser["volumeMounts"]} == {"browser", "box"}
    assert browser["resources"]["limits"]["memory"] == "1536Mi"
    assert sources(keep) == {"backup-settings", "backup-store-token"}, "it signs no record of restore tests"
    assert {mount["name"]: mount.get("readOnly", False) for mount in keep["volumeMounts"]} == {
        "tmp": False,
        "box": True,
    }
    assert job.pod
    assert job.pod["automountServiceAccountToken"] is False
    names = {item["name"]: item.get("value") for item in keep["env"]}
    assert names["RELEASE_REVISION"] == str(RELEASE["revision"])
    assert (names["RELEASE_GIT"], names["RELEASE_IMAGE"]) == (RELEASE["git"], RELEASE["image"])
    assert not [one for one in sandbox.all("Role") if one.object_name == "page-check"]


def test_it_reaches_the_services_and_the_stores_window_and_no_data_service(sandbox: Program) -> None:
    template = sandbox.one("CronJob", "page-check").template
    assert template
    ways = reach(sandbox, template["metadata"]["labels"])
    assert {"allow-dns", "allow-page-check-to-services-3000", "allow-page-check-to-backup-exporter"} <= ways
    assert not [one for one in ways if "postgres" in one or "redis" in one or one == "allow-backup-store"]


def test_on_a_volume_only_the_container_without_the_browser_mounts_it() -> None:
    written = config()
    written["runbook:backup"] = {**written["runbook:backup"], "destination": {"mode": "volume", "size": "1Gi"}}
    browser, keep = containers(run_program(written).one("CronJob", "page-check"))
    assert "backups" in {mount["name"] for mount in keep["volumeMounts"]}
    assert "backups" not in {mount["name"] for mount in browser["volumeMounts"]}


def test_its_alerts_are_there_where_it_runs() -> None:
    settings = judged(config())
    made: list[set[str]] = []
    for performance in (settings.performance, None):
        found = domains(
            "shop", Monitoring(), ["backend"], settings.backup, settings.rotations(), performance=performance
        )
        made.append({alert.name for domain in found for alert in domain.alerts})
    assert made[0] - made[1] == {"PageOverBudget", "PageCheckMissed"}
    program = run_program(watched(performance={"image": IMAGE, "continuous": {}}))
    (boards,) = [item for item in program.all("ConfigMap") if item.object_name.startswith("dashboards-")]
    assert any("pages" in name for name in boards.inputs["data"])


# -- measuring -----------------------------------------------------------------------------------------


def report(
    score: float = 0.95,
    lcp: float = 1500,
    tbt: float = 50,
    cls: float = 0.01,
    kilobytes: float = 120,
    speed: int = 1500,
) -> dict[str, Any]:
    """As much of Lighthouse's result as is read."""

    def audit(title: str, value: float, good: float) -> dict[str, Any]:
        return {"title": title, "numericValue": value, "displayValue": f"{value:g}\u00a0ms", "score": good}

    return {
        "categories": {
            "performance": {
                "score": score,
                "auditRefs": [
                    {"id": "largest-contentful-paint", "weight": 25},
                    {"id": "total-blocking-time", "weight": 30},
                ],
            }
        },
        "environment": {"benchmarkIndex": speed},
        "audits": {
            "largest-contentful-paint": audit("Largest Contentful Paint", lcp, 0.9),
            "total-blocking-time": audit("Total Blocking Time", tbt, 0.2),
            "cumulative-layout-shift": audit("Cumulative Layout Shift", cls, 1),
            "unused-javascript": {"title": "Reduce unused JavaScript", "score": 0, "metricSavings": {"LCP": 300}},
            "network-requests": {
                "details": {
                    "items": [
                        {"resourceType": "Script", "transferSize": kilobytes * 1024},
                        {"resourceType": "Image", "transferSize": 9e9},
                    ]
                }
            },
        },
    }


def test_a_limit_that_is_just_kept_is_kept() -> None:
    at = report(0.9, 2000, 100, 0.1, 200)
    assert judge_page([at], LIMITS, 1000).over == []
    beyond = judge_page([report(0.89, 2001, 101, 0.101, 200.1)], LIMITS, 1000)
    assert list(beyond.over) == list(LIMITS)
    assert beyond.worst == "Total Blocking Time 101 ms; most to gain: Reduce unused JavaScript"
    assert beyond.worst_audit == "Total Blocking Time; most to gain: Reduce unused JavaScript"


def test_the_median_of_three_counts() -> None:
    runs = [report(lcp=9000), report(lcp=1900), report(lcp=100)]
    assert judge_page(runs, LIMITS, 1000).values["lcp"] == 1900


class Browser:
    """Lighthouse that answers what each path is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **reports: Any) -> None:
        self.reports, self.asked = reports, list[tuple[str, float]]()
        monkeypatch.setattr(measuring, "run_lighthouse", self)
        monkeypatch.setattr(measure, "reach", lambda _: None)

    def __call__(self, url: str, _form: str, seconds: float, _environment: Environment) -> Run:
        self.asked.append((url, seconds))
        found = self.reports[url.rpartition("/")[2]]
        if isinstance(found, Exception):
            raise found
        return Run(found, "<html>")


def asked(*paths: str, seconds: float = 480) -> dict[str, Any]:
    routes = [{"path": path, "limits": LIMITS, "target": "http://backend:3000"} for path in paths]
    return {"routes": routes, "formFactor": "mobile", "runs": 3, "leastBenchmark": 1000, "runSeconds": 90} | {
        "allSeconds": seconds
    }


def test_each_page_has_its_own_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    away = TaskError("not_measured", "no answer")
    browser = Browser(
        monkeypatch,
        fast=report(),
        slow=report(lcp=4000),
        busy=report(lcp=4000, speed=999),
        idle=report(speed=5),
        gone=away,
    )
    found = list(measure_pages(asked("/fast", "/slow", "/busy", "/idle", "/gone"), Environment({})))
    assert {page["path"]: page["result"] for page in found} == {
        "/fast": "kept",
        "/slow": "over budget",
        "/busy": "busy",
        # A pass on a slow machine is a pass.
        "/idle": "kept",
        "/gone": "not measured",
    }
    assert found[1]["over"] == ["lcp"]
    assert found[4]["why"] == "no answer"
    # Three runs of each, none again on the machine that was busy: the next check is another attempt.
    each_three_times = [name for name in ("fast", "slow", "busy", "idle") for _ in range(3)]
    assert [url.rpartition("/")[2] for url, _ in browser.asked] == [*each_three_times, "gone"]
    assert "lighthouse-report slow.html" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_left_to_the_next_check(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(monkeypatch, fast=report())
    list(measure_pages(asked("/fast", seconds=30), Environment({})))
    assert all(0 < seconds <= 30 for _, seconds in browser.asked)
    monkeypatch.setattr(measuring, "run_lighthouse", run_lighthouse)
    monkeypatch.setattr("os.geteuid", lambda: 10001)
    (page,) = measure_pages(asked("/fast", seconds=0), Environment({}))
    assert page["result"] == "not measured"
    assert "time for all pages was over" in page["why"]


def test_a_service_that_accepts_no_connection_is_not_measured() -> None:
    route = {"path": "/", "limits": LIMITS, "target": "http://nothing.invalid:3000"}
    (page,) = measure_pages({**asked(), "routes": [route]}, Environment({}))
    assert page["result"] == "not measured"
    assert "nothing.invalid:3000 cannot be reached" in page["why"]


def test_a_container_that_must_not_measure_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    Browser(monkeypatch, fast=Refused("root", "Chromium has no sandbox as root"))
    with pytest.raises(Refused):
        list(measure_pages(asked("/fast"), Environment({})))
