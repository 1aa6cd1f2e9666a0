"""`runbook logs`: lines of every pod, of a rollout too, levels, queries, and no secret."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ops.adapters.cluster import Cluster
from ops.adapters.pod_logs import PodLogs, to_json
from ops.decisions.log_lines import Line, at_least, describe, matches, parse_level, parse_line
from ops.errors import Refused
from tests.support import pod_api

SECRET = "canary-5f0c2e"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pod_api.Cluster]:
    served = pod_api.Cluster(selector="app.kubernetes.io/component=service", secrets=[])
    with served.serving():
        config = {
            "clusters": [{"name": "c", "cluster": {"server": served.url}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "c",
        }
        file = tmp_path / "kubeconfig"
        file.write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(file))
        yield served


def logs() -> PodLogs:
    return PodLogs(Cluster("shop", {}))


def secret(value: str) -> dict[str, Any]:
    return {"data": {"KEY": base64.b64encode(value.encode()).decode()}}


def test_lines_of_all_pods_are_in_the_order_of_time_those_before_a_restart_too(api: pod_api.Cluster) -> None:
    now = time.time_ns()
    for name in ("backend-a", "backend-b"):
        api.start(name)
    api.say("backend-a", b"one", now - 5_000_000_000)
    api.say("backend-b", b"two", now - 4_000_000_000)
    api.restart("backend-a")
    api.say("backend-a", b"three", now - 3_000_000_000)
    api.say("backend-b", b"long ago", now - 7_200_000_000_000)
    found = [(line.pod, line.text) for line in logs().read(3600)]
    assert found == [("backend-a", "one"), ("backend-b", "two"), ("backend-a", "three")]


def test_values_of_secrets_are_masked(api: pod_api.Cluster) -> None:
    api.secrets = [secret(SECRET)]
    api.start("backend-a")
    api.say("backend-a", {"message": f"token {SECRET}", "level": "info"})
    (line,) = logs().read(3600)
    assert line.record == {"message": "token [secret]", "level": "info"}
    assert SECRET not in json.dumps(line.to_json())


def test_without_the_right_to_read_secrets_nothing_is_shown(api: pod_api.Cluster) -> None:
    api.secrets = None
    api.start("backend-a")
    api.say("backend-a", b"hello")
    with pytest.raises(Refused, match=r"Grant it list on secrets, or read them unmasked: `kubectl -n shop logs"):
        list(logs().read(60))


def test_pods_of_a_rollout_are_followed_with_its_new_secrets(api: pod_api.Cluster) -> None:
    api.start("backend-a")
    api.say("backend-a", b"old pod")

    def roll_out() -> None:
        api.secrets = [secret(SECRET)]
        api.start("backend-new")
        api.say("backend-new", f"new pod {SECRET}".encode())
        api.remove("backend-a")

    lines = logs().follow(60)
    assert next(lines).text == "old pod"
    roll_out()
    assert next(lines).text == "new pod [secret]"
    lines.close()


@pytest.mark.parametrize("what", ["cut", "restart", "rotate"])
def test_no_line_is_lost_or_twice_when_a_stream_ends(api: pod_api.Cluster, what: str) -> None:
    api.start("backend-a")
    api.say("backend-a", b"one")
    lines = logs().follow(60)
    assert next(lines).text == "one"
    api.cut() if what == "cut" else getattr(api, what)("backend-a")
    threading.Timer(0.1, lambda: [api.say("backend-a", text) for text in (b"two", b"three")]).start()
    assert [line.text for line in islice(lines, 2)] == ["two", "three"]
    lines.close()


def line(text: object, before: int | None = None) -> Line:
    raw = text if isinstance(text, str) else json.dumps(text)
    return parse_line("2026-08-16T12:00:00.000000000Z", "backend-a", "backend", raw, before)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ({"level": "error"}, "error"),
        ({"level": "WARNING"}, "warn"),
        ({"severity": "CRITICAL"}, "fatal"),
        ({"level": 50}, "error"),
        ({"level": 10}, "trace"),
        ({"level": True}, None),
        ({"level": 3, "short_message": "GELF"}, "error"),
        ({"levelname": "ERROR"}, "error"),
        ({"log.level": "warn"}, "warn"),
        ('{"level": NaN}', None),
        ('{"level": -Infinity}', None),
        ('{"level": 1e999}', None),
        ({"message": "an error"}, None),
        ("12:00 ERROR: it failed", "error"),
        ("[warn] slow", "warn"),
        ("an Errorless day", None),
        ("{not json} fatal", "fatal"),
        ("plain", None),
    ],
)
def test_levels(text: object, level: str | None) -> None:
    found = line(text)
    assert found.level == (None if level is None else parse_level(level))
    assert at_least(found, None)
    assert at_least(found, parse_level("error")) == (level in ("error", "fatal"))


def test_a_stack_trace_has_the_level_of_its_first_line() -> None:
    first = line("Error: it failed")
    assert line("    at handler (app.js:1)", first.level).level == parse_level("error")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PAYMENT_failed", True),
        ("status=500", True),
        ("status=50", False),
        ("status>=500", True),
        ("status<500", False),
        ("status!=500", False),
        ("user.id=42", True),
        ("user.id!=42", False),
        ("missing!=1", True),
        ("missing=1", False),
        ("note=a=b", True),
        ("route>5", False),
        ("nothing", False),
    ],
)
def test_queries(query: str, found: bool) -> None:
    record = {"message": "payment_failed", "status": 500, "user": {"id": 42}, "note": "a=b", "route": "/pay"}
    assert matches(line(record), [query]) == found
    assert matches(line(record), ["payment", query]) == found


def test_a_comparison_is_a_text_for_a_plain_line() -> None:
    assert matches(line("GET /shop status=500"), ["status=500"])


def test_what_escapes_of_json_hide_is_masked_and_moves_no_cursor(api: pod_api.Cluster) -> None:
    api.secrets = [secret(SECRET)]
    api.start("backend-a")
    api.say(
        "backend-a",
        rb'{"msg": "a\u001b[2Jb ' + SECRET[:4].encode() + rb"\u%04x" % ord(SECRET[4]) + SECRET[5:].encode() + b'"}',
    )
    (found,) = logs().read(60)
    assert describe(found) == "ab [secret]"
    assert SECRET not in to_json(found)


def test_half_a_character_is_shown_as_a_question_mark() -> None:
    found = line(r'{"msg": "cut \ud83d", "\ud83d": [1e999]}')
    assert describe(found).encode() == b"cut ? ?=[null]"
    assert json.loads(to_json(found))["fields"] == {"msg": "cut ?", "?": [None]}


def test_an_unknown_level_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="write one of trace, debug, info, warn, error, fatal"):
        parse_level("loud")


def test_a_json_line_is_shown_as_its_message_and_fields() -> None:
    record = {"level": "info", "message": "request", "status": 200, "route": "/shop", "note": "two words", "time": "x"}
    assert describe(line(record)) == 'request status=200 route=/shop note="two words"'
