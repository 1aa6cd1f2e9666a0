"""Actions of post-mortems: announced, listed, done, reminded of before they are due, and kept as issues."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ci import actions as pipeline
from ci.actions import keep_issues
from ops.cli.main import app
from ops.commands.incident import IncidentLog, parse_actions
from ops.commands.incident_actions import finish_action, list_actions, remind
from ops.decisions.actions import list_actions_of
from ops.decisions.incident import Facts
from ops.errors import Refused
from tests.unit import test_pipeline_comments as comments
from tests.unit.test_incident_log import BEGAN, Namespace, log_of, slack

server, forge_of = comments.server, comments.forge_of
NAME = "incident-reported-0001"


def resolved_log(tmp_path: Path, webhook: str | None = None, *actions: str, level: int = 1, **more: Any) -> IncidentLog:
    incidents = {f"level{level}": {"about": "down", "channel": "critical"}, **more}
    log = log_of(Namespace(), tmp_path, webhook, incidents=incidents)
    vars(log)["_gather"] = lambda _: Facts(BEGAN)
    log.start(level, "checkout", another=False)
    log.resolve(None, {"text": "mended", "cause": None, "actions": parse_actions(actions)})
    return log


def due_of(days: int) -> date:
    return datetime.now(UTC).date() + timedelta(days=days)


def test_the_post_mortem_is_announced_with_its_actions_and_mentions_no_one(tmp_path: Path) -> None:
    with slack() as (url, said):
        resolved_log(tmp_path, url, "raise the timeout=ada", "test it")
    announced = said[-1]
    assert announced.startswith(f"*dev*: :memo: The post-mortem of {NAME} (checkout) is written")
    assert f"due {due_of(14)}: raise the timeout (ada); test it (no owner)" in announced
    assert "<!channel>" not in announced


def test_a_post_mortem_without_actions_says_so(tmp_path: Path) -> None:
    with slack() as (url, said):
        resolved_log(tmp_path, url)
    assert "It has no actions" in said[-1]


def test_an_incident_without_a_post_mortem_announces_none(tmp_path: Path) -> None:
    with slack() as (url, said):
        resolved_log(tmp_path, url, "raise it=ada", level=3)
    assert len(said) == 2  # start, resolve


def test_an_action_is_open_until_someone_writes_that_it_is_done(tmp_path: Path) -> None:
    log = resolved_log(tmp_path, None, "raise the timeout=ada", "test it=bob")
    assert [(one.number, one.what, one.owner, one.due) for one in list_actions(log, None, closed=False)] == [
        (1, "raise the timeout", "ada", due_of(14)),
        (2, "test it", "bob", due_of(14)),
    ]
    finish_action(log, NAME, 1, "30 s")
    assert [one.number for one in list_actions(log, None, closed=False)] == [2]
    first = list_actions(log, None, closed=True)[0]
    assert first.done
    assert first.done.endswith(due_of(0).isoformat())
    with pytest.raises(Refused, match="is done already"):
        finish_action(log, NAME, 1, "")
    with pytest.raises(Refused, match=f"{NAME} has no action 3:\n  1  raise the timeout\n  2  test it"):
        finish_action(log, NAME, 3, "")


def test_a_due_date_stays_when_the_setting_changes() -> None:
    end = {"at": "2026-08-16T13:00:00+00:00", "by": "bob", "kind": "resolve", "text": "x", "actions": [{"what": "a"}]}
    record = {"name": NAME, "openedAt": BEGAN.isoformat(), "by": "ada", "kind": "reported", "level": 1}
    of_date, older = ({**record, "entries": [{**end, **more}]} for more in ({"due": "2026-08-30"}, {}))
    assert [one.due.isoformat() for one in list_actions_of([of_date, older], 7)] == ["2026-08-23", "2026-08-30"]
    assert list_actions_of([{**record, "kind": "lockdown", "entries": [end]}, {**record, "entries": []}], 7) == []


@pytest.mark.parametrize(
    ("days_later", "words"),
    [(10, None), (11, "due in 3 days"), (14, "due today"), (16, f"overdue since {due_of(14)}")],
)
def test_a_reminder_is_sent_from_three_days_before_on_until_it_is_done(
    days_later: int, words: str | None, tmp_path: Path
) -> None:
    with slack() as (url, said):
        log = resolved_log(tmp_path, url, "raise the timeout=ada")
        before = len(said)
        done = remind(log, None, lambda: due_of(days_later))
        sent = said[before:]
        finish_action(log, NAME, 1, "")
        remind(log, None, lambda: due_of(days_later))
    assert len(said) == before + len(sent)
    if words is None:
        assert (sent, done["actions"]) == ([], [])
    else:
        (message,) = sent
        assert f"{NAME} #1 raise the timeout (ada): {words}" in message


def test_a_reminder_that_is_not_sent_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = resolved_log(tmp_path, None, "raise it=ada", actionDays=1)
    monkeypatch.setattr("ops.cli.incident_actions.open_log", lambda _: log)
    printed = CliRunner().invoke(app, ["incident", "remind"])
    assert printed.exit_code == 1
    assert "secrets:SLACK_WEBHOOK_CRITICAL is not set" in printed.output


def test_the_list_ends_with_1_when_one_is_overdue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = resolved_log(tmp_path, None, "raise it=ada")
    monkeypatch.setattr("ops.cli.incident_actions.open_log", lambda _: log)
    assert CliRunner().invoke(app, ["incident", "actions"]).exit_code == 0
    assert "No action is due." in CliRunner().invoke(app, ["incident", "actions", "--due", "3"]).output
    monkeypatch.setattr("ops.commands.incident_actions.today_utc", lambda: due_of(15))
    printed = CliRunner().invoke(app, ["incident", "actions", "--json"])
    assert printed.exit_code == 1
    (row,) = json.loads(printed.output)
    assert (row["overdue"], row["daysLeft"], row["incident"]) == (True, -1, NAME)


def rows(log: IncidentLog) -> list[dict[str, Any]]:
    return [one.to_json(due_of(0)) for one in list_actions(log, None, closed=True)]


def test_each_open_action_has_one_issue_that_is_closed_when_it_is_done(
    forge_of: Any, server: Any, tmp_path: Path
) -> None:
    log, forge = resolved_log(tmp_path, None, "raise it=ada", "test it"), forge_of(1)
    for _ in range(2):
        keep_issues(forge, "prod", rows(log))
    texts = comments.bodies(server)
    assert len(texts) == 2
    assert "Owner: ada. Due" in texts[0]
    assert "Owner: unknown" in texts[1]
    assert f"`runbook incident action-done 2 -i {NAME} --stack prod`" in texts[1]
    finish_action(log, NAME, 1, "")
    keep_issues(forge, "prod", rows(log))
    issues = next(items for path, items in server.items.items() if path.endswith("/issues"))
    assert [one.get("state", "open") for one in issues] == ["closed", "open"]
    assert all("post-mortem" in one["labels"] for one in issues)


RUNBOOK = """#!/bin/sh
case "$*" in
"incident remind --stack dev") echo reminded; exit "$SENT";;
"incident actions --all --json --stack dev") cat "$ACTIONS"; exit 1;;
esac
exit 9
"""


@pytest.mark.parametrize(("issues", "sent"), [(True, 0), (False, 0), (True, 1)])
def test_the_pipeline_reminds_and_opens_issues_only_by_setting(
    issues: bool, sent: int, tmp_path: Path, forge_of: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    log = resolved_log(folder, None, "raise it=ada", issues=issues)
    (tmp_path / "runbook").write_text(RUNBOOK)
    (tmp_path / "runbook").chmod(0o755)
    (tmp_path / "actions.json").write_text(json.dumps(rows(log)))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("ACTIONS", str(tmp_path / "actions.json"))
    monkeypatch.setenv("SENT", str(sent))
    monkeypatch.setattr(pipeline, "find_forge", lambda: forge_of(1))
    monkeypatch.setattr(pipeline, "read_stack_file", lambda path: path.name)
    monkeypatch.setattr(pipeline, "parse", lambda name: {"Pulumi.dev.yaml": log.settings}[name])
    assert pipeline.main(["dev", "--folder", str(folder)]) == sent
    assert len(comments.bodies(server)) == (1 if issues else 0)
