"""Enhanced mode of an incident, how fast a level is answered, and the emergency procedures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ops.cli import incident_watch
from ops.cli.main import app
from ops.commands.enhanced_mode import EnhancedMode
from ops.commands.incident import IncidentLog
from ops.decisions.incident import Incident, read_incident
from ops.decisions.observation import Observed, find_signs, find_unanswered
from ops.decisions.procedures import Situation, list_procedures
from ops.errors import Refused
from settings import Lockdown, Monitoring, StackFile, parse
from settings.incidents import Incidents, Pace
from tests.support.program import RELEASE, secrets_for, stack_config
from tests.unit.test_incident_log import Namespace, log_of, slack

BEGAN = datetime(2026, 8, 16, 12, tzinfo=UTC)
PACE = Pace(respond_minutes=5, watch_seconds=15, repeat_minutes=10)
SETTINGS = Monitoring(image=f"monitoring@sha256:{'a' * 64}")


def frame(**changes: Any) -> dict[str, Any]:
    status = {
        "services": [{"name": "backend", "ready": 2, "wanted": 2, "settled": True}],
        "health": {"status": 200, "detail": "healthy"},
        "command": None,
        "lockdown": {"state": "off"},
        **changes.pop("status", {}),
    }
    numbers = {"perSecond": 5.0, "errorPercent": 0.0, "p95": 0.2}
    made = {"status": status, "problems": [], "alerts": [], "maintenance": None, "requests": numbers}
    return {**made, **changes}


def requests(**numbers: float | None) -> dict[str, Any]:
    return frame(requests={"perSecond": 5.0, "errorPercent": 0.0, "p95": 0.2, **numbers})


def opened(*entries: dict[str, Any]) -> Incident:
    record = {"name": "n", "openedAt": BEGAN.isoformat(), "by": "ada", "kind": "reported", "title": "slow", "level": 1}
    return read_incident(record, entries)


def entry(kind: str, minutes: float, **more: Any) -> dict[str, Any]:
    return {"at": (BEGAN + timedelta(minutes=minutes)).isoformat(), "by": "bob", "kind": kind, "text": "", **more}


@pytest.mark.parametrize("status", [200, 204])
def test_a_stack_that_is_well_has_no_signs(status: int) -> None:
    """R4: an application answers its health check with any 2xx."""
    assert find_signs(frame(status={"health": {"status": status, "detail": ""}}), SETTINGS) == {}


@pytest.mark.parametrize(
    ("seen", "identity"),
    [
        (frame(alerts=[{"name": "X", "severity": "critical"}]), "alert X"),
        (frame(status={"services": [{"name": "web", "ready": 1, "wanted": 2, "settled": False}]}), "service web"),
        (frame(status={"health": {"status": 503, "detail": "db"}}), "health"),
        (frame(status={"health": {"status": None, "detail": "refused"}}), "health"),
        (frame(status={"lockdown": {"state": "on"}}), "lockdown"),
        (frame(maintenance={"reason": "moving"}), "maintenance"),
        (frame(status={"command": {"doing": "rollback", "user": "eve", "host": "b"}}), "command rollback eve@b"),
        ({**frame(), "status": None, "problems": ["no answer in 5.02 s"]}, "problem no answer in #.# s"),
        (requests(errorPercent=1.0), "errors"),
        (requests(p95=1.5), "slow"),
    ],
)
def test_each_sign(seen: dict[str, Any], identity: str) -> None:
    assert list(find_signs(seen, SETTINGS)) == [identity]


@pytest.mark.parametrize("numbers", [{"errorPercent": 0.99}, {"p95": 1.49}, {"perSecond": 0.1, "errorPercent": 50.0}])
def test_below_half_of_an_alerts_limit_or_with_few_requests_there_is_no_sign(numbers: dict[str, float]) -> None:
    assert find_signs(requests(**numbers), SETTINGS) == {}


def test_what_begins_is_news_once_and_over_only_after_three_observations_without_it() -> None:
    incident, sign = opened(entry("note", 0)), {"health": "the health check answers 503"}
    seen, now, said = Observed(), BEGAN, []
    for signs in (sign, sign, {}, sign, {}, {}, {}, {}):
        seen, news = seen.follow(signs, incident, PACE, now)
        said.append(news.text if news else "")
    begins, over = "begins: the health check answers 503", "over: the health check answers 503"
    assert said == [begins, "", "", "", "", "", over, ""]


def test_what_stays_is_sent_again_after_the_levels_time() -> None:
    incident, sign = opened(entry("note", 0)), {"a": "A"}
    seen, news = Observed().follow(sign, incident, PACE, BEGAN)
    assert news is not None
    assert news.text == "begins: A"
    seen, news = seen.follow(sign, incident, PACE, BEGAN + timedelta(minutes=9))
    assert news is None
    seen, news = seen.follow(sign, incident, PACE, BEGAN + timedelta(minutes=10))
    assert news is not None
    assert news.text == "still: A"
    _, news = seen.follow(sign, incident, PACE, BEGAN + timedelta(minutes=11))
    assert news is None


def test_an_incident_that_no_one_answers_is_sent_again_until_someone_does() -> None:
    machines = [entry("start", 0), entry("notify", 0), entry("watch", 1), entry("observed", 2)]
    incident = opened(*machines)
    assert find_unanswered(incident, PACE, None, BEGAN + timedelta(minutes=4)) is None
    first = BEGAN + timedelta(minutes=5)
    assert find_unanswered(incident, PACE, None, first) == "no one has answered for 5 min (`runbook incident note`)"
    assert find_unanswered(incident, PACE, first, BEGAN + timedelta(minutes=9)) is None
    assert find_unanswered(incident, PACE, first, BEGAN + timedelta(minutes=10)) is not None
    assert find_unanswered(opened(*machines, entry("note", 6)), PACE, first, BEGAN + timedelta(hours=1)) is None
    # The people of the new level have not answered yet.
    escalated = opened(*machines, entry("note", 6), entry("escalate", 20, level=1))
    assert find_unanswered(escalated, PACE, first, BEGAN + timedelta(minutes=24)) is None
    assert find_unanswered(escalated, PACE, first, BEGAN + timedelta(minutes=25)) is not None


def watch(log: IncidentLog, frames: list[Any], waits: Callable[[int], None] = lambda _: None, **more: Any) -> Any:
    """Run it on these frames; before each further one, `waits` is called with its number."""
    said: list[str] = []
    left, count = iter(frames), iter(range(1, 1000))

    def read() -> Any:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    def pause(_: float) -> None:
        waits(next(count))

    mode = EnhancedMode(log, read, said.append, pause)
    return mode.run(None, more.get("times", len(frames))), said


def written(log: IncidentLog, *kinds: str) -> list[str]:
    """Texts of these kinds in the log; of one kind, in order. Entries of one millisecond are ordered by kind."""
    return [one["text"] for one in log.find(None, closed=True).entries if one["kind"] in kinds]


def test_what_is_observed_is_in_the_log_and_is_sent(tmp_path: Path) -> None:
    with slack() as (url, said):
        log = log_of(Namespace(), tmp_path, url)
        log.start(1, "down", another=False)
        done, _ = watch(log, [frame(status={"health": {"status": 503, "detail": "db"}}), frame()])
    assert written(log, "observed") == ["begins: the health check answers 503: db"]
    off = "enhanced mode is off: 2 observations were wanted"
    assert written(log, "watch") == ["enhanced mode: observed every 15 s", off]
    assert len(said) == 2
    assert "Answer within 5 min" in said[0]
    assert "begins: the health check answers 503: db" in said[1]
    assert done["observations"] == 2


def test_it_ends_with_the_resolution(tmp_path: Path) -> None:
    log = log_of(Namespace(), tmp_path)
    vars(log)["write_post_mortem"] = lambda _: ("", "")
    log.start(2, "search", another=False)

    def resolve(_: int) -> None:
        log.resolve(None, {"text": "mended", "cause": None, "actions": []})

    done, _ = watch(log, [frame()], resolve, times=None)
    assert done["ended"] == "incident-reported-0001 is resolved"
    assert written(log, "watch") == ["enhanced mode: observed every 30 s"]


def test_a_later_watcher_takes_over(tmp_path: Path) -> None:
    log = log_of(Namespace(), tmp_path)
    log.start(2, "search", another=False)

    def begin_another(number: int) -> None:
        if number == 1:
            watch(log, [frame()])

    done, _ = watch(log, [frame(), frame()], begin_another, times=None)
    assert "watches it now" in done["ended"]
    assert len(written(log, "watch")) == 3


def test_it_goes_on_when_nothing_can_be_read_and_news_are_not_lost(tmp_path: Path) -> None:
    log = log_of(Namespace(), tmp_path)
    log.start(1, "down", another=False)
    bad = frame(status={"health": {"status": 503, "detail": "db"}})
    append, failures = log.append, [Refused("the API server does not answer")]

    def fail_once(name: str | None, made: Any, **more: Any) -> Any:
        if made["kind"] == "observed" and failures:
            raise failures.pop()
        return append(name, made, **more)

    vars(log)["append"] = fail_once
    done, said = watch(log, [Refused("no route"), bad, bad])
    assert "not observed: no route" in said
    assert "not observed: the API server does not answer" in said
    assert written(log, "observed") == ["begins: the health check answers 503: db"]
    assert done["observations"] == 3


def test_ctrl_c_is_in_the_log(tmp_path: Path) -> None:
    log = log_of(Namespace(), tmp_path)
    log.start(1, "down", another=False)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    done, _ = watch(log, [frame()], stop, times=None)
    assert done["ended"] == "stopped"
    assert written(log, "watch")[-1] == "enhanced mode is off: stopped"


def test_a_level_without_it_is_refused_and_says_which_key_gives_it(tmp_path: Path) -> None:
    log = log_of(Namespace(), tmp_path)
    log.start(3, "slow", another=False)
    with pytest.raises(Refused, match=r"runbook:incidents\.level3\.watchSeconds"):
        watch(log, [frame()])


def test_a_level_keeps_what_is_left_out_of_it() -> None:
    given = Incidents.model_validate({"level1": {"channel": "security"}, "level3": {"respondMinutes": 60}})
    assert given.level1.about == Incidents().level1.about
    assert given.level3.mentions == ()
    assert given.pace(1) == Pace(respond_minutes=5, watch_seconds=15, repeat_minutes=5)
    assert [given.pace(level).watch_seconds for level in (1, 2, 3, 4)] == [15, 30, 0, 0]
    changed = {"level2": {"about": "x", "channel": "alerts", "watchSeconds": 0, "respondMinutes": 10}}
    assert Incidents.model_validate(changed).pace(2) == Pace(respond_minutes=10, watch_seconds=0, repeat_minutes=15)


def settings_of(**changes: Any) -> Any:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, **changes)
    return parse(StackFile("Pulumi.sandbox.yaml", config, frozenset(f"secrets:{name}" for name in secrets_for(config))))


def situation(**changes: Any) -> Situation:
    found: dict[str, Any] = {"rollback": "from revision 42 to 41", "refusal": "", "ages": {}, "lockdown": None}
    return Situation(**{**found, "now": BEGAN, **changes})


def effects(settings: Any, found: Situation) -> dict[str, str]:
    return {one.command: one.effect for one in list_procedures(settings, found)}


def test_each_procedure_says_what_it_would_do_now() -> None:
    found = effects(settings_of(), situation(ages={"backupAge": 4000.0, "provenAge": 7200.0}))
    assert found["runbook rollback"] == "from revision 42 to 41"
    assert "backend" in found["runbook system restart"]
    assert "customers get the maintenance page" in found["runbook maintenance on REASON"]
    assert "for 1 h" in found["runbook security lockdown --reason REASON"]
    restore = found["runbook restore start ID --in-place"]
    assert "what was written in the last 1 h 6 min is lost" in restore
    assert "a restore was proven 2 h ago" in restore


def test_what_is_on_is_taken_back_and_what_is_refused_says_why() -> None:
    lockdown = Lockdown(reason="attack", since=BEGAN, until=BEGAN + timedelta(minutes=30))
    settings = settings_of(maintenance={"reason": "moving"})
    refused = situation(rollback=None, refusal="Revision 41 serves levels 1 to 2", lockdown=lockdown)
    found = effects(settings, refused)
    assert found["runbook rollback"] == "refused: Revision 41 serves levels 1 to 2"
    assert "is on (moving)" in found["runbook maintenance off"]
    assert "is on for 30 min" in found["runbook security unlock"]
    assert "`runbook backup list`" in found["runbook restore start ID --in-place"]
    assert not next(one for one in list_procedures(settings, refused) if one.name == "rollback").possible


@pytest.mark.parametrize(("level", "shown"), [(1, True), (2, False)])
def test_level_1_shows_the_procedures_when_it_begins(
    level: int, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(Namespace(), tmp_path)
    monkeypatch.setattr("ops.cli.incident.open_log", lambda _: log)
    row = {"name": "rollback", "command": "runbook rollback", "effect": "from 42 to 41", "possible": True}
    monkeypatch.setattr(incident_watch, "list_for", lambda _: [row])
    printed = CliRunner().invoke(app, ["incident", "start", "--level", str(level), "down"])
    assert printed.exit_code == 0, printed.output
    assert ("from 42 to 41" in printed.output) is shown
    assert "`runbook incident watch`" in printed.output


def test_an_incident_is_open_although_the_procedures_cannot_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(Namespace(), tmp_path)

    def fail(_: Any) -> Any:
        raise Refused("the state cannot be read")

    monkeypatch.setattr("ops.cli.incident.open_log", lambda _: log)
    monkeypatch.setattr(incident_watch, "list_for", fail)
    printed = CliRunner().invoke(app, ["incident", "start", "--level", "1", "down"])
    assert printed.exit_code == 0
    assert "cannot be judged now: the state cannot be read" in printed.output
    assert log.find(None).title == "down"
