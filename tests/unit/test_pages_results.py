"""Results of page checks: how they are kept, their metrics, and `runbook performance pages`."""

from __future__ import annotations

import base64
import gzip
import json
from argparse import Namespace
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.cli import main
from ops.commands import pages as commands
from ops.decisions import pages as decisions
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.exporter import Exporter
from tasks.pages import commands as verbs
from tasks.pages import results
from tasks.pages.metrics import compute_percent
from tasks.store import open_store
from tasks.store.window import WindowStore
from tasks.store.window import serve as serve_store
from tests.support.exposition import read_samples
from tests.support.page_checks import GOOD, IMAGE, NOW, check, config, page
from tests.support.program import RELEASE
from tests.unit.test_settings import judged

# -- results -------------------------------------------------------------------------------------------


def test_what_was_measured_is_kept_with_its_release_and_what_is_old_deleted(tmp_path: Path) -> None:
    file = tmp_path / "pages.json"
    file.write_text(json.dumps([page(), page("/", "not measured")]))
    environment = Environment(
        {
            "BACKUP_STORE": f"file://{tmp_path / 'store'}",
            "PAGES_FILE": str(file),
            "PAGES_DAYS": "14",
            "RELEASE_REVISION": "7",
            "RELEASE_GIT": "abc",
            "RELEASE_IMAGE": RELEASE["image"],
        }
    )
    store = open_store(environment)
    store.prepare()
    for days in (13, 15):
        results.keep(store, check(days * 24 * 60, page()))
    store.put("backups/x", b"another's")
    made = verbs._keep(Namespace(), environment)
    assert made.data["deleted"] == 1
    assert made.summary.startswith("/shop kept, / not measured: pages/")
    assert store.get("backups/x") == b"another's"
    (_, newest) = verbs._history(Namespace(seconds=14 * 86_400), environment).data
    assert newest["release"] == {"revision": "7", "git": "abc", "image": RELEASE["image"]}
    assert newest["pages"] == [page(), page("/", "not measured")]
    assert len(verbs._history(Namespace(seconds=60), environment).data) == 1


@pytest.mark.parametrize(
    "written",
    [
        b"no JSON",
        b"{}x",
        b"[1]",
        json.dumps([{**page(), "result": "wonderful"}]).encode(),
        json.dumps([{**page(), "values": {"lcp": 1}}]).encode(),
        json.dumps([{**page(), "benchmark": "fast"}]).encode(),
        json.dumps([{**page(), "values": {**GOOD, "lcp": float("nan")}}]).encode(),
        b"[" + b" " * (1 << 20) + b"]",
    ],
)
def test_what_the_browsers_container_writes_is_not_trusted(written: bytes) -> None:
    with pytest.raises(TaskError) as caught:
        results.parse_pages(written)
    assert caught.value.code == "result_invalid"


def test_of_what_it_writes_only_known_fields_are_taken() -> None:
    found = results.parse_pages(
        json.dumps([{**page(), "more": "x", "worst": "w" * 9999, "values": {**GOOD, "own": 1}}, page()]).encode()
    )
    assert found == [page()]
    (cut,) = results.parse_pages(json.dumps([{**page(), "worst": "w" * 9999}]).encode())
    assert len(cut["worst"]) == 300


def test_through_the_stores_window_results_can_be_added_and_deleted_and_backups_not(tmp_path: Path) -> None:
    below = open_store(Environment({"BACKUP_STORE": f"file://{tmp_path}"}))
    below.put("backups/x", b"a backup")
    server = serve_store(below, "127.0.0.1", 0, "token")
    try:
        window = WindowStore(f"http://127.0.0.1:{server.server_port}", "token")
        results.keep(window, check(20 * 24 * 60, page()))
        assert len(results.list_keys(window)) == 1
        assert results.clean_up(window, NOW, 14) == 1
        with pytest.raises(TaskError) as caught:
            window.delete(["backups/x"])
        assert caught.value.code == "store_denied"
    finally:
        server.shutdown()


# -- metrics -------------------------------------------------------------------------------------------


def metrics(folder: Path, *checks: dict[str, Any], paths: str = '["/shop"]') -> dict[str, float]:
    """What the exporter exposes of a store with these results."""
    environment = Environment({"BACKUP_STORE": f"file://{folder}", **({"PAGE_CHECK": paths} if paths else {})})
    store = open_store(environment)
    for one in checks:
        results.keep(store, one)
    made = Exporter(environment, store)
    made.refresh()
    return {name: value for name, value in read_samples(made).items() if name.startswith("runbook_page")}


def used(found: Mapping[str, float]) -> dict[str, float]:
    """Metric → percent of its budget."""
    names = {name: value for name, value in found.items() if name.startswith("runbook_page_budget_percent")}
    return {name.split('metric="')[1].split('"')[0]: value for name, value in names.items()}


def test_without_results_a_page_was_never_measured(tmp_path: Path) -> None:
    found = metrics(tmp_path)
    assert found['runbook_page_measured_timestamp_seconds{path="/shop"}'] == 0
    assert found["runbook_page_check_timestamp_seconds"] == 0
    assert used(found) == {}
    assert metrics(tmp_path, paths="") == {}


def test_an_object_that_is_no_result_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(Environment({"BACKUP_STORE": f"file://{tmp_path}"}))
    for name, text in (("20990101T000000.000Z", b"[]"), ("20990102T000000.000Z", b'{"at": "now", "release": {}}')):
        store.put(f"pages/{name}.json", text)
    assert used(metrics(tmp_path, check(5, page())))
    assert capsys.readouterr().err.count("is no result of a page check") == 2
    assert len(results.read_since(store, NOW - timedelta(days=1))) == 1


def test_a_page_over_its_budget_names_release_and_worst_audit(tmp_path: Path) -> None:
    found = metrics(tmp_path, check(20, page(), revision=6), check(10, page(result="over budget", lcp=3000.0)))
    labels = 'git="abc7",metric="lcp",path="/shop",revision="7",worst="Largest Contentful Paint"'
    (name,) = [name for name in found if 'metric="lcp"' in name and "percent" in name]
    assert sorted(name.partition("{")[2].rstrip("}").split(",")) == labels.split(",")
    assert found[name] == 150
    assert {metric for metric, percent in used(found).items() if percent > 100} == {"lcp"}
    assert found['runbook_page_check_pages{result="over budget"}'] == 1


def test_a_machine_that_was_too_busy_changes_no_budget_and_shows(tmp_path: Path) -> None:
    found = metrics(
        tmp_path,
        check(30, page()),
        check(20, page(result="busy", lcp=9000.0)),
        check(10, page("/shop", "not measured")),
    )
    assert max(used(found).values()) <= 100
    minutes_ago = {minutes: (NOW - timedelta(minutes=minutes)).timestamp() for minutes in (10, 30)}
    assert found['runbook_page_measured_timestamp_seconds{path="/shop"}'] == minutes_ago[30]
    assert found["runbook_page_check_timestamp_seconds"] == minutes_ago[10]
    assert found['runbook_page_check_pages{result="not measured"}'] == 1
    found = metrics(tmp_path, check(5, page(result="busy", lcp=9000.0)))
    assert found['runbook_page_check_pages{result="busy"}'] == 1
    assert found["runbook_page_check_benchmark"] == 400


@pytest.mark.parametrize(
    ("metric", "value", "limit", "over", "percent"),
    [
        ("lcp", 2000, 2000, False, 100),
        ("lcp", 2000.001, 2000, True, 100.1),
        ("score", 90, 90, False, 100),
        ("score", 45, 90, True, 200),
        ("score", 0, 90, True, float("inf")),
        ("tbt", 0, 0, False, 100),
        ("tbt", 5, 0, True, float("inf")),
        ("cls", 0.3, 0.1 * 3, False, 100),
    ],
)
def test_a_budget_in_percent_is_over_100_exactly_when_it_is_missed(
    metric: str, value: float, limit: float, over: bool, percent: float
) -> None:
    assert compute_percent(metric, value, limit, over=over) == pytest.approx(percent)
    assert (compute_percent(metric, value, limit, over=over) > 100) == over


# -- the command ---------------------------------------------------------------------------------------


class World:
    """A stack's settings, and what its cluster answers."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *checks: dict[str, Any], written: dict[str, Any] | None = None
    ) -> None:
        self.checks, self.asked = list(checks), []
        settings = judged(written or config())
        cluster = SimpleNamespace(namespace="shop", patient=lambda: nullcontext(self))
        session = SimpleNamespace(stack="test", file=Path("Pulumi.test.yaml"), cluster=lambda *_: cluster)
        monkeypatch.setattr("ops.stack.session.open_session", lambda *_: session)
        monkeypatch.setattr(commands, "load_settings", lambda _: settings)
        monkeypatch.setattr(commands, "tasks_of", lambda _: self)
        monkeypatch.setattr(commands.stack_file, "read", lambda _: SimpleNamespace(config={}))
        self.pods: list[tuple[str, int, str, list[str]]] = []
        """Of each its name, age in seconds, phase, log."""

    def run(self, *words: str) -> Any:
        self.asked.append(words)
        return self.checks

    def list(self, _kind: Any, labels: dict[str, str]) -> list[Any]:
        assert labels == {"app.kubernetes.io/name": "page-check"}
        return [
            SimpleNamespace(
                metadata=SimpleNamespace(name=name, creationTimestamp=NOW - timedelta(seconds=age)),
                status=SimpleNamespace(phase=phase),
            )
            for name, age, phase, _ in self.pods
        ]

    def log(self, name: str, container: str, newlines: bool) -> list[str]:
        assert (container, newlines) == ("lighthouse", False)
        return next(log for pod, _, _, log in self.pods if pod == name)


def invoke(*words: str) -> Any:
    return CliRunner().invoke(main.app, ["performance", "pages", *words])


def test_it_shows_each_page_against_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, check(20, page()), check(10, page(), page("/", "not measured")))
    shown = invoke("--last", "7d")
    assert shown.exit_code == 0, shown.output
    assert world.asked == [("pages", "history", "--seconds", "604800")]
    assert "Largest Contentful Paint 1500 ms, budget 2000 ms" in shown.output
    assert "/: not measured" in shown.output
    assert "release 7 (abc7)" in shown.output
    world.checks.append(check(5, page(result="over budget", lcp=3000.0)))
    shown = invoke()
    assert shown.exit_code == 1
    assert "3000 ms, budget 2000 ms  over budget" in shown.output
    assert "worst: Largest Contentful Paint" in shown.output
    # A machine that is busy now says nothing else.
    world.checks.append(check(1, page(result="busy", lcp=9000.0)))
    assert invoke().exit_code == 1
    assert json.loads(invoke("--json").stdout)["pages"][0]["decided"]["over"] == ["lcp"]


def test_it_is_refused_without_a_check_or_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    World(monkeypatch)
    shown = invoke()
    assert (shown.exit_code, "No check has ended in the last 24h" in shown.output) == (2, True)
    World(monkeypatch, written=config(performance={"image": IMAGE}))
    shown = invoke()
    assert (shown.exit_code, "no runbook:performance.continuous" in shown.output) == (2, True)


class Elements(HTMLParser):
    """Which elements a page has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, class_: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.found if attributes.get("class") == class_]


def test_the_history_has_a_line_for_each_page_and_metric_and_marks_releases(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    both = [check(100 - 10 * step, page(), page("/"), revision=7 if step < 3 else 8) for step in range(6)]
    World(monkeypatch, *both, check(30, page(result="busy", lcp=9000.0), revision=8))
    file = tmp_path / "pages.html"
    assert invoke("--html", str(file)).exit_code == 0
    made = Elements(file.read_text())
    assert len(made.of("page")) == 2 * 5
    assert len(made.of("release")) == 2 * 5, "two releases in each of five pictures"
    assert len(made.of("budget")) == 2 * 5
    assert len(made.of("busy")) == 5
    assert "9000 ms" in file.read_text(), "what a busy machine measured can be pointed at"
    assert "Largest Contentful Paint, at most 2100 ms" in file.read_text(), "and does not stretch the picture"
    assert not [tag for tag, _ in made.found if tag == "script"]
    # Where nothing was measured for long, the line is interrupted.
    gap = Elements(decisions.render_pages([*both, check(-100, page()), check(-110, page())], "test"))
    assert len(gap.of("page")) == 3 * 5


def test_what_is_measured_cannot_write_into_the_history() -> None:
    bad = {**page("/<script>"), "worst": "<img src=x>"}
    found = decisions.render_pages([check(1, bad), check(0, page("/shop", "not measured"))], "<b>")
    for tag in ("<script", "<img", "<b>"):
        assert tag not in found


def test_lighthouses_reports_are_those_of_the_newest_check_that_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packed = base64.b64encode(gzip.compress(b"<html>")).decode()
    world = World(monkeypatch, check(10, page()))
    world.pods = [
        ("older", 1200, "Succeeded", []),
        ("newer", 600, "Succeeded", [f"lighthouse-report shop.html {packed}", "/shop kept"]),
        ("running", 5, "Running", [f"lighthouse-report shop.html {packed[:9]}"]),
    ]
    assert invoke("--reports", str(tmp_path / "new")).exit_code == 0
    assert (tmp_path / "new" / "shop.html").read_text() == "<html>"
    world.pods = world.pods[2:]
    shown = invoke("--reports", str(tmp_path))
    assert (shown.exit_code, "create job --from=cronjob/page-check" in shown.output.replace("\n", " ")) == (2, True)
