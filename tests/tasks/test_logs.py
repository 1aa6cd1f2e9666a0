"""Counting in logs, against a server that streams, breaks, restarts and refuses as the API server does."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from sandbox import packages
from settings.logs import EVENTS
from tasks.environment import Environment
from tasks.logs.counts import KEPT_SECONDS, SOURCE_GROUPS, Counts, events_of
from tasks.logs.follow import LONGEST
from tests.support.exposition import expose, parse_samples, read_samples
from tests.support.log_counting import ATTACK, LOOKED_FOR, attacks, counting, judging, level
from tests.support.pod_api import Cluster
from tests.support.servers import free_ports
from tests.support.task_processes import ended, start, task


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    with made.serving():
        yield made


# -- what is counted -----------------------------------------------------------------------------------


def test_lines_are_classified_and_events_begin_at_zero(cluster: Cluster) -> None:
    cluster.start("a")
    cluster.start("b")
    with counting(cluster) as counter:
        zeros = counter.numbers
        assert {
            zeros[f'runbook_log_events_total{{event="{event}",pod="{pod}"}}'] for event in EVENTS for pod in "ab"
        } == {0}
        assert zeros["runbook_log_watch_up"] == 1
        for line in (ATTACK, {**ATTACK, "level": "WARN"}, {"event": "refused_login"}, {"event": "refused_logins"}):
            cluster.say("a", line)
        for text in (b"plain text", b"[1]", b"\xff\xfe{", b"[" * 5000, b'{"level": {"event": "sql_injection"}}'):
            cluster.say("a", text)
        cluster.say("a", json.dumps({**ATTACK, "more": "x" * LONGEST}).encode())
        numbers = counter.reads(cluster, "a")
    assert numbers[attacks("a")] == 2
    assert numbers['runbook_log_events_total{event="refused_login",pod="a"}'] == 1
    assert numbers[attacks("b")] == 0
    shown = {name: numbers[level("a", name)] for name in ("warn", "other", "not_json", "too_long", "debug")}
    assert shown == {"warn": 2, "other": 3, "not_json": 4, "too_long": 1, "debug": 1}


def test_events_are_counted_for_each_source_without_its_address() -> None:
    counts = judging(json.dumps({"sql_injection": {"field": "event", "pattern": "^sql", "source": "client.ip"}}))
    counts.add("a", ready=True)
    counts.set_watching(True)
    zeros = read_samples(counts)
    series = [name for name in zeros if name.startswith("runbook_log_events_total")]
    assert len(series) == SOURCE_GROUPS, "each begins at 0, so that the first event is an increase"
    # The same client; an IPv6 network; one more client; and a line without an address.
    addresses = ["192.0.2.1", " 192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::ffff", "192.0.2.77", None]
    for address in addresses:
        counts.line("a", json.dumps({"event": "sql_injection", "client": {"ip": address}}).encode())
    text = expose(counts)
    numbers = sorted(value for name, value in parse_samples(text).items() if name in series and value)
    assert numbers == [1, 1, 2, 3]
    assert "192.0.2" not in text
    assert "2001" not in text


def test_fields_may_lie_in_others_or_have_a_dot_and_numbers_are_text() -> None:
    rules = {
        "sql_injection": {"field": "event.action", "pattern": "^sql"},
        "refused_login": {"field": "status", "pattern": "^401$"},
        "refused_webhook": {"field": "message", "pattern": "(?i)signature"},
    }
    counts = judging(json.dumps(rules))
    for record in (
        {"event": {"action": "sql_injection"}},
        {"event.action": "sqlmap"},
        {"event": "sql"},
        {"status": 401},
        {"status": 4010},
        {"status": None},
        {"message": "wrong Signature"},
        {"message": "x" * 4096 + "signature"},
    ):
        counts.line("a", json.dumps(record).encode())
    counts.set_watching(True)
    numbers = read_samples(counts)
    counted = {event: numbers[f'runbook_log_events_total{{event="{event}",pod="a"}}'] for event in EVENTS}
    assert counted == {"sql_injection": 2, "refused_login": 1, "refused_webhook": 1}


def test_what_was_said_before_it_began_is_not_counted(cluster: Cluster) -> None:
    cluster.start("a")
    for _ in range(3):
        cluster.say("a", ATTACK, at=time.time_ns() - 1_000_000)
    with counting(cluster) as counter:
        cluster.say("a", ATTACK)
        assert counter.reads(cluster, "a")[attacks("a")] == 1


# -- pods come and go ----------------------------------------------------------------------------------


def test_a_pod_that_comes_is_read_from_its_first_line_and_one_that_goes_to_its_last(cluster: Cluster) -> None:
    cluster.start("a")
    with counting(cluster) as counter:
        cluster.start("b", ready=False)
        cluster.say("b", ATTACK)
        counter.until(lambda numbers: numbers.get(attacks("b")) == 1)
        cluster.say("b", ATTACK)
        cluster.remove("b")
        assert counter.until(lambda numbers: numbers[attacks("b")] == 2)[attacks("a")] == 0
        # It may be asked once more for what it said last, but not again.
        cluster.say("a", ATTACK)
        counter.until(lambda numbers: numbers[attacks("a")] == 1)
        asked = cluster.streams("b")
        cluster.say("a", ATTACK)
        counter.until(lambda numbers: numbers[attacks("a")] == 2)
        assert cluster.streams("b") == asked


def test_the_numbers_of_a_pod_that_is_gone_are_forgotten_after_a_while() -> None:
    now = [1000.0]
    counts = Counts(events_of(Environment({"LOGS_EVENTS": LOOKED_FOR})), clock=lambda: now[0])
    counts.set_watching(True)
    for pod in "ab":
        counts.add(pod, ready=True)
        counts.line(pod, json.dumps(ATTACK).encode())
    counts.remove("a")
    now[0] += KEPT_SECONDS
    assert 'pod="a"' in expose(counts)
    now[0] += 1
    assert 'pod="a"' not in expose(counts)
    assert read_samples(counts)[attacks("b")] == 1


def test_a_container_that_restarts_is_read_on_with_what_it_said_last(cluster: Cluster) -> None:
    cluster.start("a")
    with counting(cluster) as counter:
        cluster.say("a", ATTACK)
        counter.reads(cluster, "a")
        cluster.status["log"] = 500
        cluster.cut()
        cluster.say("a", ATTACK)  # while no stream is open; then the container ends
        cluster.restart("a")
        cluster.say("a", ATTACK)
        cluster.status.clear()
        counter.until(lambda numbers: numbers[attacks("a")] == 3)
        cluster.restart("a")
        cluster.say("a", ATTACK)
        counter.until(lambda numbers: numbers[attacks("a")] == 4)
        assert counter.reads(cluster, "a")[attacks("a")] == 4


def test_a_pod_that_has_ended_is_not_asked_again_and_again(cluster: Cluster) -> None:
    cluster.start("a")
    cluster.start("b")
    with counting(cluster) as counter:
        counter.reads(cluster, "a")
        cluster.say("a", ATTACK)
        cluster.end("a")
        counter.until(lambda numbers: numbers[attacks("a")] == 1)
        asked = cluster.streams("a")
        for ready in (False, True) * 3:
            cluster.ready("a", ready)
            counter.reads(cluster, "b")
        # One more request is allowed: the log may end before the watch reports the end of the pod.
        assert cluster.streams("a") <= asked + 2
        assert counter.numbers[attacks("a")] == 1


def test_only_a_pod_that_serves_is_expected_to_say_something(cluster: Cluster) -> None:
    read = 'runbook_log_read_timestamp_seconds{pod="a"}'
    cluster.start("a", ready=False)
    with counting(cluster) as counter:
        assert read not in counter.reads(cluster, "a")
        before = time.time()
        cluster.ready("a", True)
        assert counter.until(lambda numbers: read in numbers)[read] >= before
        before = time.time()
        assert counter.reads(cluster, "a")[read] >= before
        cluster.ready("a", False)
        counter.until(lambda numbers: read not in numbers)


# -- what fails ----------------------------------------------------------------------------------------


def test_while_the_api_server_is_away_nothing_is_lost_and_nothing_counts_twice() -> None:
    cluster = Cluster()
    with ExitStack() as work:
        with cluster.serving():
            cluster.start("a")
            counter = work.enter_context(counting(cluster))
            for _ in range(5):
                cluster.say("a", ATTACK)
            counter.reads(cluster, "a")
        counter.until(lambda numbers: numbers["runbook_log_watch_up"] == 0)
        cluster.say("a", ATTACK)
        cluster.start("b")
        cluster.say("b", ATTACK)
        work.enter_context(cluster.serving())
        counter.until(lambda numbers: numbers["runbook_log_watch_up"] == 1)
        counter.until(lambda numbers: numbers.get(attacks("b")) == 1)
        assert counter.reads(cluster, "a")[attacks("a")] == 6
        assert counter.reads(cluster, "b")[attacks("b")] == 1


@pytest.mark.parametrize("in_a_line", [False, True])
def test_a_stream_that_breaks_is_read_on_where_it_broke(cluster: Cluster, in_a_line: bool) -> None:
    cluster.start("a")
    with counting(cluster) as counter:
        for count in range(1, 6):
            cluster.say("a", ATTACK)
            counter.reads(cluster, "a")
            streams = cluster.streams("a")
            cluster.cut(in_a_line=in_a_line)
            assert counter.reads(cluster, "a")[attacks("a")] == count
            assert cluster.streams("a") > streams


def test_lines_of_one_moment_are_counted_once_each(cluster: Cluster) -> None:
    cluster.start("a")
    with counting(cluster) as counter:
        at = time.time_ns()
        for _ in range(3):
            cluster.say("a", ATTACK, at)
        counter.until(lambda numbers: numbers[attacks("a")] == 3)
        cluster.cut()
        for _ in range(2):
            cluster.say("a", ATTACK, at)
        counter.until(lambda numbers: numbers[attacks("a")] == 5)
        assert counter.reads(cluster, "a")[attacks("a")] == 5


def test_a_log_that_is_rotated_is_opened_again(cluster: Cluster) -> None:
    cluster.start("a")
    with counting(cluster) as counter:
        counter.reads(cluster, "a")
        for count in range(1, 4):
            cluster.rotate("a")
            cluster.say("a", ATTACK)
            assert counter.until(lambda numbers, count=count: numbers[attacks("a")] == count)
        assert counter.reads(cluster, "a")[attacks("a")] == 3


def test_a_stream_that_is_silent_is_opened_again_and_is_no_fault(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.start("a")
    with counting(cluster, silence=0.3) as counter:
        asked = cluster.streams("a")
        counter.until(lambda _: cluster.streams("a") > asked + 2)
        cluster.say("a", ATTACK)
        counter.until(lambda numbers: numbers[attacks("a")] == 1)
        asked = cluster.streams("a")
        counter.until(lambda _: cluster.streams("a") > asked + 1)
        numbers = counter.reads(cluster, "a")
        assert (numbers[attacks("a")], numbers["runbook_log_watch_up"]) == (1, 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("how", ["in the stream", "as the answer"])
def test_a_version_that_is_too_old_is_no_fault_and_is_listed_again(
    cluster: Cluster, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.start("a")
    cluster.start("b")
    with counting(cluster) as counter:
        lists = cluster.lists
        if how == "as the answer":
            cluster.status["watch"] = 410
        cluster.compact(forgotten="a")
        counter.until(lambda _: cluster.lists > lists + (how == "as the answer"))
        cluster.status.clear()
        # No DELETED event reported this pod: the new list does not contain it.
        counter.until(lambda numbers: 'runbook_log_read_timestamp_seconds{pod="a"}' not in numbers)
        cluster.start("c")
        counter.until(lambda numbers: attacks("c") in numbers)
        cluster.say("b", ATTACK)
        assert counter.reads(cluster, "b")[attacks("b")] == 1
    assert "is not known" not in capfd.readouterr().err


@pytest.mark.parametrize("what", ["list", "watch"])
@pytest.mark.parametrize("status", [403, 500])
def test_a_refusal_is_reported_and_retried(
    cluster: Cluster, what: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.start("a")
    with counting(cluster) as counter:
        counter.reads(cluster, "a")
        cluster.status[what] = status
        cluster.cut()
        counter.until(lambda numbers: numbers["runbook_log_watch_up"] == 0 and cluster.refusals > 1)
        cluster.status.clear()
        counter.until(lambda numbers: numbers["runbook_log_watch_up"] == 1)
        cluster.say("a", ATTACK)
        assert counter.until(lambda numbers: numbers[attacks("a")] == 1)
    logged = capfd.readouterr().err
    assert f"it answered {status}" in logged
    assert "a secret" not in logged


def test_a_token_that_was_replaced_is_read_anew(cluster: Cluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    cluster.token = "first"
    cluster.start("a")
    with counting(cluster, LOGS_IDENTITY=str(tmp_path)) as counter:
        counter.reads(cluster, "a")
        cluster.token = "second"
        cluster.cut()
        counter.until(lambda numbers: numbers["runbook_log_watch_up"] == 0)
        cluster.say("a", ATTACK)
        token.write_text("second\n")
        assert counter.until(lambda numbers: numbers[attacks("a")] == 1)[level("a", "warn")] == 1
        counter.until(lambda numbers: numbers["runbook_log_watch_up"] == 1)


# -- as a pod runs it ----------------------------------------------------------------------------------


@pytest.fixture
def environment(cluster: Cluster) -> dict[str, str]:
    (port,) = free_ports(1)
    return {
        "LOGS_API_URL": cluster.url,
        "LOGS_NAMESPACE": "shop",
        "LOGS_SELECTOR": "part=service",
        "LOGS_EVENTS": LOOKED_FOR,
        "LOGS_HOST": "127.0.0.1",
        "LOGS_PORT": str(port),
    }


def test_it_serves_metrics_ends_on_a_signal_and_prints_no_line(cluster: Cluster, environment: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{environment['LOGS_PORT']}"
    cluster.status["list"] = 500
    cluster.start("a")
    process = start(environment, "logs")
    try:
        client = httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=8))
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code in (200, 503)
        cluster.status.clear()
        deadline = time.monotonic() + 20
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for line in (ATTACK | {"card": "4242424242424242"}, b"whsec_plain", {"level": "whsec_level"}):
            cluster.say("a", line)
        while level("a", "other") not in (text := client.get("/metrics").text):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        command = [packages.require("promtool"), "check", "metrics"]
        checked = subprocess.run(command, input=text, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert parse_samples(text)[attacks("a")] == 1
    finally:
        process.send_signal(signal.SIGTERM)
        outcome = ended(process, environment)
    assert outcome.exit_code == 0, outcome.progress
    for secret in ("4242", "whsec", "suspicious"):
        assert secret not in text + outcome.progress


def test_it_is_ready_also_without_an_api_server(cluster: Cluster, environment: dict[str, str]) -> None:
    """Otherwise a release would wait for it, and Prometheus could not scrape `runbook_log_watch_up 0`."""
    assert not judging().ready
    cluster.status["list"] = 500
    process = start(environment, "logs")
    try:
        transport = httpx.HTTPTransport(retries=8)
        client = httpx.Client(base_url=f"http://127.0.0.1:{environment['LOGS_PORT']}", transport=transport)
        deadline = time.monotonic() + 20
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert parse_samples(client.get("/metrics").text)["runbook_log_watch_up"] == 0
        cluster.status.clear()
        while parse_samples(client.get("/metrics").text)["runbook_log_watch_up"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGTERM)
        assert ended(process, environment).exit_code == 0


@pytest.mark.parametrize("events", ["", "{", "[]", '{"a": {}}', '{"a": {"field": "b", "pattern": "("}}'])
def test_events_that_cannot_be_read_are_refused(environment: dict[str, str], events: str) -> None:
    outcome = task({**environment, "LOGS_EVENTS": events}, "logs")
    assert (outcome.exit_code, outcome.error) == (2, "environment_invalid")
    assert "sql_injection" in outcome.message
