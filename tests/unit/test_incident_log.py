"""Incidents that people open: one log for all, two writers at once, who is notified, and the post-mortem."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightkube import ApiError
from lightkube.resources.core_v1 import ConfigMap, Event

from ops.commands.incident import IncidentLog, parse_actions
from ops.decisions.incident import Facts, Moment, list_moments, next_name, read_incident, write_post_mortem
from ops.decisions.post_mortem_page import find_milestones, write_post_mortem_page
from ops.errors import Refused
from ops.stack import incidents
from settings import StackFile, parse
from tests.support import http_servers
from tests.support.program import RELEASE, secrets_for, stack_config

BEGAN = datetime(2026, 8, 16, 12, tzinfo=UTC)


class Namespace:
    """ConfigMaps as an API server keeps them: names are unique, and a stale version is rejected."""

    namespace = "shop"

    def __init__(self) -> None:
        self.kept: dict[str, ConfigMap] = {}
        self.lock = threading.Lock()
        self.between: list[Any] = []
        """What another command does between a read and the next write."""

    @contextmanager
    def patient(self) -> Iterator[Namespace]:
        try:
            yield self
        except ApiError as error:
            raise Refused(str(error)) from None

    def find(self, _kind: Any, name: str) -> ConfigMap | None:
        return self.kept.get(name)

    def get(self, _kind: Any, name: str) -> ConfigMap:
        found = self.kept[name]
        copy = ConfigMap.from_dict(json.loads(json.dumps(found.to_dict(), default=str)))
        if self.between:
            self.between.pop()()
        return copy

    def create(self, made: Any) -> Any:
        if isinstance(made, Event):
            return made
        with self.lock:
            if made.metadata.name in self.kept:
                raise _error(409)
            made.metadata.creationTimestamp = BEGAN
            made.metadata.resourceVersion = "1"
            self.kept[made.metadata.name] = made
        return made

    def patch(self, _kind: Any, name: str, change: dict[str, Any], **_: Any) -> None:
        with self.lock:
            found = self.kept[name]
            assert found.metadata
            wanted = (change.get("metadata") or {}).get("resourceVersion")
            if wanted and wanted != found.metadata.resourceVersion:
                raise _error(409)
            found.metadata.resourceVersion = str(int(found.metadata.resourceVersion or 0) + 1)
            found.data = {**(found.data or {}), **change["data"]}

    def list(self, _kind: Any, labels: Any = None) -> list[ConfigMap]:
        return list(self.kept.values())

    def delete(self, _kind: Any, name: str) -> None:
        del self.kept[name]


class _Answer:
    def __init__(self, code: int) -> None:
        self.status_code = code

    def json(self) -> dict[str, Any]:
        return {"code": self.status_code, "message": f"conflict {self.status_code}"}


def _error(code: int) -> ApiError:
    return ApiError(request=None, response=_Answer(code))  # type: ignore[arg-type]


def log_of(namespace: Namespace, tmp_path: Path, webhook: str | None = None, **changes: Any) -> IncidentLog:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, **changes)
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    file = tmp_path / "Pulumi.dev.yaml"
    lines = ["config:", *(["  secrets:SLACK_WEBHOOK_CRITICAL: {secure: x}"] if webhook else ["  runbook:x: y"])]
    file.write_text("\n".join(lines) + "\n")
    reader = SimpleNamespace(run=lambda *_: f"{webhook}\n")
    made = IncidentLog(SimpleNamespace(file=file, stack="dev", reader=reader))  # type: ignore[arg-type]
    made.__dict__["settings"] = parse(StackFile("Pulumi.sandbox.yaml", config, sealed))
    made.__dict__["cluster"] = namespace
    return made


@contextmanager
def slack() -> Iterator[tuple[str, list[str]]]:
    said: list[str] = []

    class Handler(http_servers.Handler):
        def do_POST(self) -> None:
            said.append(json.loads(self.read_body())["text"])
            self.answer(200)

    with http_servers.serve(Handler) as port:
        yield f"http://127.0.0.1:{port}/secret-path", said


def test_people_of_the_level_are_notified_and_the_log_says_so(tmp_path: Path) -> None:
    with slack() as (url, said):
        log = log_of(Namespace(), tmp_path, url, incidents={"level1": {"about": "down", "channel": "critical"}})
        done = log.start(1, "checkout answers 500", another=False)
    assert done["incident"] == "incident-reported-0001"
    (text,) = said
    assert text.startswith(
        "<!channel> :rotating_light: *dev*: start of incident-reported-0001, level 1 (down): checkout"
    )
    kinds = [(one["kind"], one["text"]) for one in log.find(None).entries]
    assert kinds == [("start", "checkout answers 500"), ("notify", "sent to channel critical, mentions: 1")]


def test_a_title_calls_no_one(tmp_path: Path) -> None:
    with slack() as (url, said):
        log_of(Namespace(), tmp_path, url).start(1, "<!here> & <https://example.com|here>", another=False)
    assert "&lt;!here&gt; &amp; &lt;https://example.com|here&gt;" in said[0]


def test_an_incident_opens_although_slack_cannot_be_reached_and_the_address_stays_secret(tmp_path: Path) -> None:
    log = log_of(Namespace(), tmp_path, "http://127.0.0.1:9/secret-path")
    assert log.start(1, "down", another=False)["notified"]["sent"] is False
    without = log_of(Namespace(), tmp_path)
    assert "secrets:SLACK_WEBHOOK_CRITICAL is not set" in without.start(1, "down", another=False)["notified"]["text"]
    assert "secret-path" not in json.dumps(log.find(None).to_json())


def test_a_second_one_joins_the_first_unless_it_is_another(tmp_path: Path) -> None:
    log = log_of(Namespace(), tmp_path)
    log.start(2, "search", another=False)
    with pytest.raises(Refused, match="incident-reported-0001 is open: write to it with `runbook incident note`"):
        log.start(1, "down", another=False)
    assert log.start(3, "slow", another=True)["incident"] == "incident-reported-0002"
    with pytest.raises(Refused, match="Name one of the open incidents"):
        log.append(None, {"kind": "note", "text": "which?"})


def test_two_people_who_open_one_at_the_same_time_open_one(tmp_path: Path) -> None:
    namespace = Namespace()
    logs = [log_of(namespace, tmp_path) for _ in range(4)]
    barrier = threading.Barrier(4)
    for log in logs:
        listed = log.list_all

        def wait(listed: Any = listed, waited: list[int] = []) -> Any:  # noqa: B006 (once for each log)
            found = listed()
            if not waited:
                waited.append(1)
                barrier.wait(5)
            return found

        vars(log)["list_all"] = wait
    results: list[str] = []

    def start(log: IncidentLog) -> None:
        try:
            results.append(log.start(1, "down", another=False)["incident"])
        except Refused as error:
            results.append(str(error)[:30])

    threads = [threading.Thread(target=start, args=(log,)) for log in logs]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(results) == ["incident-reported-0001", *["incident-reported-0001 is open"] * 3]
    assert list(namespace.kept) == ["incident-reported-0001"]


def test_notes_of_many_writers_are_all_kept(tmp_path: Path) -> None:
    namespace = Namespace()
    log = log_of(namespace, tmp_path)
    log.start(4, "slow", another=False)
    texts = [f"note {number}" for number in range(20)]
    threads = [threading.Thread(target=log.append, args=(None, {"kind": "note", "text": text})) for text in texts]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(one["text"] for one in log.find(None).entries if one["kind"] == "note") == sorted(texts)


def test_facts_that_two_commands_add_at_once_are_both_kept() -> None:
    namespace = Namespace()
    name = incidents.open_incident(namespace, "lockdown", {"reason": "attack"})  # type: ignore[arg-type]
    namespace.between = [lambda: incidents.add_to_incident(namespace, name, {"a": 1})]  # type: ignore[arg-type]
    incidents.add_to_incident(namespace, name, {"b": 2})  # type: ignore[arg-type]
    (record,) = incidents.list_incidents(namespace)  # type: ignore[arg-type]
    assert (record["a"], record["b"], record["reason"]) == (1, 2, "attack")


def test_the_level_is_that_of_the_last_entry_with_one() -> None:
    record = {"name": "n", "openedAt": BEGAN.isoformat(), "by": "ada", "kind": "reported", "level": 3, "title": "slow"}
    entries = [
        {"at": "2026-08-16T12:05:00+00:00", "by": "bob", "kind": "escalate", "text": "all", "level": 1},
        {"at": "2026-08-16T12:01:00+00:00", "by": "ada", "kind": "assess", "text": "some", "level": 2, "users": 10},
        {"at": "2026-08-16T12:06:00+00:00", "by": "ada", "kind": "note", "text": "x"},
    ]
    found = read_incident(record, entries)
    assert (found.level, found.title, found.resolution) == (1, "slow", None)
    assert [one["kind"] for one in found.entries] == ["assess", "escalate", "note"]


def resolved(**resolution: Any) -> Any:
    record = {"name": "incident-reported-0001", "openedAt": BEGAN.isoformat(), "by": "ada", "kind": "reported"}
    end = {"at": "2026-08-16T13:10:30+00:00", "by": "bob", "kind": "resolve", "text": "rolled back", **resolution}
    start = {"at": BEGAN.isoformat(), "by": "ada", "kind": "start", "text": "checkout", "level": 1}
    return read_incident({**record, "title": "checkout"}, [end, start])


def test_what_is_unknown_is_named() -> None:
    text = write_post_mortem(resolved(), Facts(until=BEGAN, missing=["alerts: no monitoring"]), 14)
    assert "| Duration | 1 h 10 min |" in text
    unknown = text.partition("## Unknown")[2]
    for word in ("alerts: no monitoring", "users", "failed requests", "revenue", "root cause", "actions"):
        assert word in unknown, word


def test_no_text_breaks_a_table_or_the_title_of_a_post_mortem() -> None:
    incident = resolved(actions=[{"what": "set a|b\n\nand restart", "owner": "ops | web"}])
    text = write_post_mortem(replace(incident, title="slow\n# All is well"), Facts(until=BEGAN), 14)
    assert text.startswith("# Post-mortem: slow # All is well\n")
    assert r"| set a\|b and restart | ops \| web | 2026-08-30 |" in text


def test_the_timeline_is_in_order_and_actions_are_due_in_two_weeks() -> None:
    moments = [
        Moment(BEGAN + timedelta(minutes=5), "update", "rollback, revision 42"),
        Moment(BEGAN - timedelta(minutes=5), "alert", "ErrorRateHigh fires"),
    ]
    actions = parse_actions(["raise the timeout=ada", "test it"])
    incident = resolved(cause="a timeout", actions=actions, users=12)
    facts = Facts(
        BEGAN, moments, failed_requests=120, requests=4000, revenue=80, revenue_before=100, revenue_unit="EUR"
    )
    text = write_post_mortem(incident, facts, 14)
    sources = [one.source for one in list_moments(incident, facts)]
    assert sources == ["alert", "log", "update", "log"]
    assert "| Failed requests | 120 of 4000 |" in text
    assert "| Revenue | 80.00 EUR (-20.00) |" in text
    assert "| raise the timeout | ada | 2026-08-30 |" in text
    assert "| Users affected | 12 |" in text
    assert text.partition("## Unknown")[2].split("\n")[2:-1] == ["- the owner of “test it”"]


def test_the_picture_shows_how_long_detection_action_and_recovery_took() -> None:
    moments = [
        Moment(BEGAN - timedelta(minutes=9), "update", "deploy, revision 41"),
        Moment(BEGAN - timedelta(minutes=3), "alert", "ErrorRateHigh fires"),
        Moment(BEGAN + timedelta(minutes=7), "update", "rollback, revision 42"),
        Moment(BEGAN + timedelta(minutes=9), "alert", "ErrorRateHigh fired until then"),
    ]
    incident, facts = resolved(cause="a <short> timeout"), Facts(BEGAN, moments)
    found = find_milestones(incident, facts)
    assert (found.to_detect, found.to_act) == (timedelta(minutes=6), timedelta(minutes=10))
    assert found.to_recover == timedelta(minutes=73, seconds=30)
    page = write_post_mortem_page(incident, facts, 14)
    assert "a &lt;short&gt; timeout" in page
    label = "Release 11:51:00; Alert 11:57:00; Detection 11:57:00; Action 12:07:00; Recovery 13:10:30"
    assert f'aria-label="{label}"' in page
    assert page.count("<circle") == 5
    assert "<script" not in page


def test_what_did_not_happen_is_not_drawn() -> None:
    record = {"name": "n", "openedAt": BEGAN.isoformat(), "by": "ada", "kind": "reported", "title": "slow", "level": 2}
    facts = Facts(BEGAN + timedelta(hours=1))
    found = find_milestones(read_incident(record, []), facts)
    assert (found.to_detect, found.to_act, found.to_recover) == (None, None, None)
    page = write_post_mortem_page(read_incident(record, []), facts, 14)
    assert page.count("<circle") == 1
    assert page.count("<td>unknown</td>") >= 3


def test_the_post_mortem_of_a_level_is_kept_as_text_and_page(tmp_path: Path) -> None:
    namespace = Namespace()
    log = log_of(namespace, tmp_path)
    vars(log)["_gather"] = lambda _: Facts(BEGAN)
    log.start(2, "search", another=False)
    done = log.resolve(None, {"text": "mended", "cause": None, "actions": []})
    kept = namespace.kept[done["incident"]].data or {}
    assert kept["post-mortem.md"] == done["postMortem"]
    assert kept["post-mortem.html"] == done["postMortemPage"]
    assert "<svg" in kept["post-mortem.html"]


def test_names_count_on() -> None:
    assert next_name([]) == "incident-reported-0001"
    assert next_name(["incident-reported-0009", "incident-lockdown-20260816t120000z-ab12"]) == "incident-reported-0010"
