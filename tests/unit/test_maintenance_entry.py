"""Maintenance mode on the status page: an entry while it is on, that does not count against the uptime."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ops.commands import maintenance
from ops.commands.maintenance import show_on_status_page
from ops.decisions.public_status import publish_records
from ops.errors import Refused
from ops.stack import incidents
from settings.status_page import PUBLISHED, PUBLISHED_KEY, StatusPage
from tasks.status_page.content import Site, read_content
from tasks.status_page.files import render_files
from tests.unit.test_incident_log import BEGAN, Namespace
from tests.unit.test_public_status import records_only
from tests.unit.test_status_page import PAGE

PAGE_SETTINGS = StatusPage.model_validate(PAGE)


def session(said: list[str]) -> Any:
    return SimpleNamespace(say=said.append)


def shown(namespace: Namespace) -> dict[str, Any]:
    return json.loads((namespace.kept[PUBLISHED].data or {})[PUBLISHED_KEY])


def switch(namespace: Any, reason: str | None, said: list[str] | None = None) -> None:
    show_on_status_page(session([] if said is None else said), namespace, PAGE_SETTINGS, reason)


def test_it_is_an_entry_while_it_is_on() -> None:
    namespace = Namespace()
    records_only(namespace)
    for _ in range(2):  # a command that was killed, and its second run
        switch(namespace, "moving db1 to 10.0.0.7")
    (entry,) = shown(namespace)["incidents"]
    assert (entry["title"], entry["endedAt"]) == ("Maintenance", None)
    assert [one["text"] for one in entry["updates"]] == ["We are working on the shop. It is closed meanwhile."]
    assert "10.0.0.7" not in json.dumps(shown(namespace))
    switch(namespace, None)
    (entry,) = shown(namespace)["incidents"]
    assert entry["endedAt"]
    assert entry["updates"][-1]["text"] == "The maintenance is over."
    switch(namespace, None)
    assert len(shown(namespace)["incidents"]) == 1


def test_the_page_says_maintenance_and_counts_no_outage() -> None:
    record = {"name": "incident-maintenance-1", "kind": "maintenance", "by": "a", "reason": "x", "entries": []}
    opened = {**record, "openedAt": (BEGAN + timedelta(hours=1)).isoformat()}
    now = BEGAN + timedelta(hours=2)
    made = publish_records(PAGE_SETTINGS, [opened], BEGAN, now)
    content = read_content(Site.from_task(PAGE_SETTINGS.to_task()), made, now)
    assert content.state == "maintenance"
    assert {part.state for part in content.parts} == {"maintenance"}
    assert {part.uptime for part in content.parts} == {1.0}
    assert {part.days[-1][1] for part in content.parts} == {"maintenance"}
    page = render_files(PAGE_SETTINGS.to_task(), made, now)["index.html"][1].decode()
    assert "Under maintenance" in page


def test_texts_are_those_of_the_settings() -> None:
    own = StatusPage.model_validate({**PAGE, "templates": {"maintenance": "Back at nine."}})
    record = {"name": "n", "kind": "maintenance", "by": "a", "reason": "x", "entries": []}
    made = publish_records(own, [{**record, "openedAt": BEGAN.isoformat()}], BEGAN, datetime.now(UTC))
    assert made["incidents"][0]["updates"][0]["text"] == "Back at nine."


def test_what_fails_is_said_and_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def fail(*_: Any) -> Any:
        raise Refused("the API server answers 403")

    monkeypatch.setattr(incidents, "list_incidents", fail)
    switch(Namespace(), "moving", said)
    assert said == [
        "The status page does not show it: the API server answers 403. `runbook incident publish` tries again."
    ]


def test_a_stack_without_a_status_page_has_no_record() -> None:
    namespace = Namespace()
    show_on_status_page(session([]), namespace, None, "moving")  # type: ignore[arg-type]
    assert namespace.kept == {}


@pytest.mark.parametrize("reason", ["moving the database", None])
def test_the_command_shows_it(reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    page = object()
    facts = SimpleNamespace(
        now=SimpleNamespace(release=object()),
        checked=lambda change: change,
        text="",
        cluster="cluster",
        settings=SimpleNamespace(status_page=page),
    )
    run = SimpleNamespace(succeeded=True, outputs={})
    monkeypatch.setattr(maintenance, "StackLock", lambda *_: monkeypatch.context())
    monkeypatch.setattr(maintenance, "require_application", lambda *_: None)
    monkeypatch.setattr(maintenance, "gather_context", lambda *_, **__: facts)
    monkeypatch.setattr(maintenance, "prepare_update", lambda *_: None)
    monkeypatch.setattr(maintenance, "apply", lambda *_: run)
    monkeypatch.setattr(maintenance, "show_on_status_page", lambda *words: given.append(words[1:]))
    wanted = maintenance.Maintenance(reason=reason) if reason else None
    maintenance.switch_maintenance(SimpleNamespace(stack="dev", seconds=1.0), None, wanted)  # type: ignore[arg-type]
    assert given == [("cluster", page, reason)]
