"""From incident records to the status page: nothing internal gets out, and two that publish at once lose nothing."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lightkube.resources.core_v1 import ConfigMap

from ops.commands import status_page as publishing
from ops.commands.incident import parse_moment
from ops.commands.status_page import publish_status
from ops.controller.publication import publish_news
from ops.decisions.incident import Facts
from ops.decisions.public_status import publish_records
from ops.errors import Refused
from ops.stack import incidents
from settings.status_page import PUBLISHED, PUBLISHED_KEY, StatusPage
from tasks.status_page.files import render_files
from tests.unit.test_incident_log import BEGAN, Namespace, log_of
from tests.unit.test_status_page import PAGE

PAGE_SETTINGS = StatusPage.model_validate(PAGE)
INTERNAL = ("backend-7c9f-x2x", "DROP TABLE", "ada@laptop", "10.0.0.7", "CrashLoop", "sha256:", "incident-", "payments")


def at(minutes: float) -> str:
    return (BEGAN + timedelta(minutes=minutes)).isoformat()


def record(*entries: dict[str, Any], kind: str = "reported", **more: Any) -> dict[str, Any]:
    return {
        "name": f"incident-{kind}-0001",
        "kind": kind,
        "by": "ada@laptop",
        "openedAt": BEGAN.isoformat(),
        "title": "backend-7c9f-x2x in CrashLoop",
        "reason": "backend-7c9f-x2x in CrashLoop",
        "entries": [{"by": "ada@laptop", "text": "10.0.0.7 ran DROP TABLE", **one} for one in entries],
        **more,
    }


def published(*records: dict[str, Any], now: float = 120) -> dict[str, Any]:
    return publish_records(PAGE_SETTINGS, records, BEGAN, BEGAN + timedelta(minutes=now))


def test_nothing_internal_gets_out() -> None:
    start = {"at": at(0), "kind": "start", "level": 1, "affects": ["payments"]}
    own = [
        *({"at": at(n), "kind": kind} for n, kind in enumerate(("note", "assess", "workaround", "notify", "escalate"))),
        {"at": at(6), "kind": "status-page", "text": "Cards fail."},
        {"at": at(7), "kind": "schedule-fix", "from": at(300), "until": at(330)},
        {"at": at(9), "kind": "resolve", "cause": "sha256:abc", "actions": [{"what": "10.0.0.7", "owner": "x"}]},
    ]
    automatic = {
        "alert": {"name": "CrashLoop"},
        "leaving": 3,
        "closedAt": at(5),
        "result": "rollback",
        "error": "sha256:",
    }
    made = published(
        record(start, *own),
        record(kind="rollback", **automatic),
        record(kind="lockdown", allow=["10.0.0.7/32"], closedAt=at(5)),
        record(kind="alert", closedAt=at(0)),
        record(kind="emergency-rotation"),
    )
    assert len(made["incidents"]) == 3, "alerts and rotations are none that customers notice"
    site = PAGE_SETTINGS.to_task()
    texts = [json.dumps(made), *(text.decode() for _, text in render_files(site, made, BEGAN).values())]
    for text in texts:
        assert [word for word in INTERNAL if word in text] == []
    assert "Cards fail." in texts[0]


def test_an_incident_counts_by_the_levels_it_had() -> None:
    start = {"at": at(0), "kind": "start", "level": 3, "affects": ["postgres"]}
    assessed = {"at": at(5), "kind": "assess", "level": 2, "text": "it turns out to be"}
    escalated = {"at": at(20), "kind": "escalate", "level": 1}
    milder = {"at": at(30), "kind": "escalate", "level": 3}
    (found,) = published(record(start, assessed, escalated, milder, {"at": at(60), "kind": "resolve"}))["incidents"]
    periods = [(one["from"], one["until"], one["impact"]) for one in found["periods"]]
    assert periods == [
        (at(0), at(20), "partial"),
        (at(20), at(30), "outage"),
        (at(30), at(60), "degraded"),
    ]
    assert found["periods"][0]["components"] == ["Shop"], "what depends on the database"
    assert [one["text"] for one in found["updates"]] == ["We are looking into it.", "This is resolved."]
    assert found["title"] == "Major outage"


def test_an_incident_that_customers_do_not_notice_is_shown_only_with_a_text() -> None:
    start = {"at": at(0), "kind": "start", "level": 4}
    assert published(record(start))["incidents"] == []
    said = {"at": at(1), "kind": "status-page", "text": "New photos are late.", "title": "Photos"}
    (found,) = published(record(start, said))["incidents"]
    assert (found["title"], found["periods"][0]["impact"], found["endedAt"]) == ("Photos", "operational", None)


def test_a_rollback_that_changed_nothing_is_not_shown_and_a_failed_one_is_not_called_resolved() -> None:
    assert published(record(kind="rollback", closedAt=at(1), result="given up"))["incidents"] == []
    (failed,) = published(record(kind="rollback", closedAt=at(1), result="rollback-failed"))["incidents"]
    assert [one["text"] for one in failed["updates"]] == ["A change caused errors. We are taking it back."]


def test_a_template_of_the_settings_replaces_a_built_in_one() -> None:
    page = StatusPage.model_validate({**PAGE, "templates": {"investigating": "Nous enquêtons."}})
    made = publish_records(page, [record({"at": at(0), "kind": "start", "level": 1})], BEGAN, BEGAN)
    assert made["incidents"][0]["updates"][0]["text"] == "Nous enquêtons."


# -- publishing ----------------------------------------------------------------------------------------


def shown(namespace: Namespace) -> dict[str, Any]:
    return json.loads((namespace.kept[PUBLISHED].data or {})[PUBLISHED_KEY])


def titles(namespace: Namespace) -> list[str]:
    return [update["text"] for one in shown(namespace)["incidents"] for update in one["updates"]]


def records_only(namespace: Namespace) -> None:
    """The API server selects by label."""
    everything = namespace.list
    vars(namespace)["list"] = lambda kind, labels=None: [
        one for one in everything(kind, labels) if incidents.LABEL in ((one.metadata and one.metadata.labels) or {})
    ]


@pytest.fixture
def namespace() -> Namespace:
    made = Namespace()
    records_only(made)
    return made


def test_each_step_of_an_incident_is_on_the_page(namespace: Namespace, tmp_path: Path) -> None:
    log = log_of(namespace, tmp_path, statusPage=PAGE)
    done = log.start(1, "pool exhausted", another=False, affects=["backend"])
    assert done["published"] == {"sent": True, "text": "the status page is published"}
    assert [one["endedAt"] for one in shown(namespace)["incidents"]] == [None]
    log.say(None, "Orders are slow.", None, None)
    log.say(None, None, "identified", None)
    assert titles(namespace)[1:] == ["Orders are slow.", "We have found the cause and are working on a solution."]
    log.append(None, {"kind": "note", "text": "a secret"})
    vars(log)["_gather"] = lambda _: Facts(BEGAN)
    log.resolve(None, {"text": "a bigger pool", "cause": None, "actions": []})
    assert titles(namespace)[-1] == "This is resolved."
    assert shown(namespace)["incidents"][0]["endedAt"]


def test_what_cannot_be_said_is_refused_before_anything_is_written(namespace: Namespace, tmp_path: Path) -> None:
    log = log_of(namespace, tmp_path, statusPage=PAGE)
    with pytest.raises(Refused, match=r"--affects cart: runbook:statusPage\.components has Shop, backend"):
        log.start(1, "down", another=False, affects=["cart"])
    assert namespace.kept == {}
    log.start(1, "down", another=False)
    with pytest.raises(Refused, match="--template soon: there are finished, identified, investigating"):
        log.say(None, None, "soon", None)
    with pytest.raises(Refused, match="either a text or --template"):
        log.say(None, "a", "identified", None)
    with pytest.raises(Refused, match="has no status page: set runbook:statusPage"):
        log_of(namespace, tmp_path).say(None, "a", None, None)


def test_of_two_that_publish_at_once_the_page_has_both(namespace: Namespace, tmp_path: Path) -> None:
    """The first has read the records, then the second writes and publishes, then the first publishes."""
    first, second = (log_of(namespace, tmp_path, statusPage=PAGE) for _ in range(2))
    first.start(1, "down", another=False)
    listed, done = namespace.list, []

    def list_then_wait(kind: Any, labels: Any = None) -> Any:
        found = [
            ConfigMap.from_dict(json.loads(json.dumps(one.to_dict(), default=str))) for one in listed(kind, labels)
        ]
        if not done:
            done.append(1)
            second.say("incident-reported-0001", "of the second", None, None)
        return found

    vars(namespace)["list"] = list_then_wait
    assert publish_status(namespace, PAGE_SETTINGS) is None  # type: ignore[arg-type]
    assert "of the second" in titles(namespace)


def test_the_controller_writes_only_what_is_new(namespace: Namespace, tmp_path: Path) -> None:
    log = log_of(namespace, tmp_path, statusPage=PAGE)
    publish_news(namespace, log.settings)  # type: ignore[arg-type]
    version = namespace.kept[PUBLISHED].metadata.resourceVersion  # type: ignore[union-attr]
    publish_news(namespace, log.settings)  # type: ignore[arg-type]
    assert namespace.kept[PUBLISHED].metadata.resourceVersion == version  # type: ignore[union-attr]
    incidents.open_incident(namespace, "rollback", {"reason": "automatic rollback: ErrorRate"})  # type: ignore[arg-type]
    publish_news(namespace, log.settings)  # type: ignore[arg-type]
    assert titles(namespace) == ["A change caused errors. We are taking it back."]


def test_a_scheduled_fix_is_planned_maintenance_only_with_a_text_for_customers(
    namespace: Namespace, tmp_path: Path
) -> None:
    log = log_of(namespace, tmp_path, statusPage=PAGE)
    log.start(2, "pool exhausted", another=False)
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

    def schedule(text: str, public: str | None = None, *, withdraw: bool = False) -> dict[str, Any]:
        at_, affects = (None, []) if withdraw else (soon.isoformat(), ["postgres"])
        return log.schedule_fix(None, text, at_, 1800, public, affects, withdraw=withdraw)

    schedule("raise max_connections")
    assert shown(namespace)["planned"] == []
    schedule("raise max_connections", "Short pause of orders.")
    (planned,) = shown(namespace)["planned"]
    assert (planned["text"], planned["components"]) == ("Short pause of orders.", ["Shop"])
    assert (planned["from"], planned["until"]) == (soon.isoformat(), (soon + timedelta(minutes=30)).isoformat())
    assert shown(namespace)["incidents"][0]["periods"][0]["components"] == ["Shop", "Checkout"], "of the incident"
    schedule("another day", "Later.")
    assert [one["text"] for one in shown(namespace)["planned"]] == ["Later."]
    schedule("not needed", withdraw=True)
    assert shown(namespace)["planned"] == []
    kinds = [one["kind"] for one in log.find(None).entries]
    assert kinds.count("schedule-fix") == 4, "all of it stands in the log"


@pytest.mark.parametrize(("when", "why"), [("tomorrow", "write a time such as"), ("2020-01-01T00:00+00:00", "is over")])
def test_a_fix_needs_a_time_that_lies_ahead(namespace: Namespace, tmp_path: Path, when: str, why: str) -> None:
    log = log_of(namespace, tmp_path, statusPage=PAGE)
    log.start(2, "pool exhausted", another=False)
    before = len(log.find(None).entries)
    with pytest.raises(Refused, match=why):
        log.schedule_fix(None, "x", when, 60, None, (), withdraw=False)
    assert len(log.find(None).entries) == before


def test_a_time_without_an_offset_is_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paris left daylight saving time at 03:00 on 25 October 2026."""
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        found = [f"{parse_moment(text):%d %H:%M}" for text in ("2026-10-25T01:30", "2026-10-25T03:30")]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == ["24 23:30", "25 02:30"]


# -- the bucket ----------------------------------------------------------------------------------------


class Bucket:
    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.writes = 0
        self.during: list[Any] = []

    def put_object(self, **given: Any) -> None:
        self.writes += 1
        self.kept[given["Key"]] = given
        if self.during:
            self.during.pop()()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    monkeypatch.setattr("ops.stack.state_files.connect_bucket", lambda *_, **__: made)
    return made


COPIED = StatusPage.model_validate({**PAGE, "bucket": {"url": "s3://status.example.com/page?region=eu-west-3"}})


def test_the_bucket_has_the_page_and_what_was_published_while_it_was_written(
    namespace: Namespace, tmp_path: Path, bucket: Bucket
) -> None:
    log = log_of(namespace, tmp_path, statusPage=PAGE)
    log.start(1, "down", another=False)
    bucket.during = [lambda: log.say(None, "news", None, None)]
    assert publish_status(namespace, COPIED) is None  # type: ignore[arg-type]
    assert sorted(bucket.kept) == ["page/feed.atom", "page/index.html", "page/status.json"]
    assert b"news" in bucket.kept["page/index.html"]["Body"]
    assert bucket.kept["page/index.html"]["ContentType"] == "text/html; charset=utf-8"
    assert bucket.writes == 6


def test_what_the_bucket_did_not_take_is_written_later(
    namespace: Namespace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import EndpointConnectionError

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://s3")

    put = bucket.put_object
    monkeypatch.setattr(bucket, "put_object", fail)
    why = publish_status(namespace, COPIED, only_news=True)  # type: ignore[arg-type]
    assert why
    assert "s3://status.example.com cannot be written" in why
    assert shown(namespace)["incidents"] == [], "the cluster's page is published all the same"
    monkeypatch.setattr(bucket, "put_object", put)
    for _ in range(2):
        assert publish_status(namespace, COPIED, only_news=True) is None  # type: ignore[arg-type]
    assert bucket.writes == 3, "once"


def test_a_page_that_is_a_day_old_is_written_again(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        at = datetime.now(UTC)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.at.astimezone(tz)

    monkeypatch.setattr(publishing, "datetime", Clock)
    publish_status(namespace, PAGE_SETTINGS)  # type: ignore[arg-type]
    before = shown(namespace)["publishedAt"]
    Clock.at += timedelta(hours=23)
    publish_status(namespace, PAGE_SETTINGS, only_news=True)  # type: ignore[arg-type]
    assert shown(namespace)["publishedAt"] == before
    Clock.at += timedelta(hours=2)
    publish_status(namespace, PAGE_SETTINGS, only_news=True)  # type: ignore[arg-type]
    assert shown(namespace)["publishedAt"] != before
