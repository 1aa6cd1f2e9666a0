"""What `runbook` decides: revisions, the schema gate, quarantine, the target of a rollback."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from ops.decisions.quarantine import with_quarantined, without_quarantined
from ops.decisions.release_state import ReleaseState, find_resumable, next_revision, read_release_state
from ops.decisions.rollback_target import differences, rollback_changes, rollback_target
from ops.decisions.schema_gate import Database, deploy_gate, exact_database, recorded_database, rollback_gate
from ops.errors import Refused
from ops.stack.history import Entry, History
from settings import Quarantined, Release, SchemaRange


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def release(revision: int, letter: str = "a", schema: tuple[int, int, int] = (1, 2, 1), **more: Any) -> Release:
    low, high, level = schema
    return Release(
        revision=revision,
        image=f"localhost:15000/shop@{digest(letter)}",
        git="1a2b3c4",
        schema_=SchemaRange(min=low, max=high, level=level),
        **more,
    )


def entry(
    made: Release | None,
    result: str = "succeeded",
    kind: str = "update",
    config: Mapping[str, Any] | None = None,
) -> Entry:
    plain = {f"runbook:{key}": value for key, value in (config or {}).items()}
    if made:
        plain["runbook:release"] = made.to_config()
    message = f"{made.message} by alice@laptop" if made else "pulumi up"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Entry(kind, result, now, now, message, {}, plain, {})


def history(*entries: Entry) -> History:
    """Newest first, in pages of two."""
    return History(lambda size, page: list(entries[(page - 1) * size : page * size]), page=2)


def rolled_back(revision: int, of: int, letter: str = "a") -> Release:
    return release(revision, letter, action="rollback", migrate=False, rollback_of=of)


# -- the current release -----------------------------------------------------------------------------------


def test_a_stack_never_deployed_starts_at_revision_1() -> None:
    now = read_release_state({}, None)
    assert now == ReleaseState(None, (), finished=True)
    assert next_revision(now) == 1


def test_the_newer_of_stack_file_and_history_counts() -> None:
    bad = {"digest": digest("b"), "revision": 4, "reason": "broken"}
    last = entry(release(5), config={"quarantine": [bad]})
    stale = read_release_state({"runbook:release": release(3).to_config()}, last)
    assert stale.release == release(5)
    assert [item.reason for item in stale.quarantine] == ["broken"]
    assert stale.finished
    assert next_revision(stale) == 6

    lifted = read_release_state({"runbook:release": release(5).to_config()}, last)
    assert lifted.quarantine == (), "a stack file that is up to date is believed, also when it lifted one"


def test_a_killed_run_continues_under_its_number_and_another_release_gets_the_next() -> None:
    now = read_release_state({"runbook:release": release(6, "b").to_config()}, entry(release(5)))
    assert not now.finished
    wanted = release(6, "b")
    assert find_resumable(now, wanted.image, wanted.schema_) == wanted
    assert find_resumable(now, release(1, "c").image, wanted.schema_) is None
    assert next_revision(now) == 7

    finished = read_release_state({"runbook:release": release(6, "b").to_config()}, entry(release(6, "b")))
    assert find_resumable(finished, wanted.image, wanted.schema_) is None


# -- the schema gate -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "running", "database", "code"),
    [
        ((1, 2, 1), None, 0, None),
        ((2, 2, 2), (1, 2, 1), 1, None),
        ((3, 3, 3), (2, 2, 2), 2, "running_cannot_serve"),
        ((1, 2, 1), (3, 3, 3), 3, "database_ahead"),
        ((1, 2, 1), (1, 2, 1), 2, None),
        ((0, 0, 0), (1, 2, 1), 1, "database_ahead"),
    ],
)
def test_the_gate_of_a_deploy(
    new: tuple[int, int, int], running: tuple[int, int, int] | None, database: int, code: str | None
) -> None:
    before = release(1, schema=running) if running else None
    block = deploy_gate(release(2, schema=new).schema_, before, exact_database(database))
    assert (block.code if block else None) == code


def test_downtime_can_be_accepted_but_not_a_database_that_is_ahead() -> None:
    running = release(1, schema=(2, 2, 2))
    assert deploy_gate(release(2, schema=(3, 3, 3)).schema_, running, exact_database(2), allow_downtime=True) is None
    assert deploy_gate(running.schema_, running, exact_database(3), allow_downtime=True)


@pytest.mark.parametrize(
    ("target", "database", "code", "restore"),
    [
        ((1, 2, 1), exact_database(2), None, False),
        ((2, 2, 2), exact_database(3), "database_ahead", True),
        ((2, 2, 2), exact_database(1), "database_behind", False),
        ((1, 2, 1), Database(1, 2, "recorded"), None, False),
        ((1, 1, 1), Database(1, 2, "recorded"), "database_ahead", True),
    ],
)
def test_the_gate_of_a_rollback(
    target: tuple[int, int, int], database: Database, code: str | None, restore: bool
) -> None:
    block = rollback_gate(release(1, schema=target), database)
    assert (block.code if block else None) == code
    assert (block.restore if block else False) == restore


def test_the_refusal_names_the_migration() -> None:
    block = rollback_gate(release(4, schema=(2, 2, 2)), exact_database(3))
    assert block
    assert "Revision 4 serves schema levels 2, but the database is at level 3: migration 3" in block.why


BUNDLED = {"data": {"postgres": {"mode": "bundled"}}}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], Database(0, 0, "empty")),
        ([entry(release(1))], Database(1, 1, "recorded")),
        ([entry(release(2, "b", (2, 2, 2)), "failed"), entry(release(1))], Database(1, 2, "recorded")),
        ([entry(rolled_back(3, 2)), entry(release(2, "b", (2, 2, 2)))], Database(2, 2, "recorded")),
        ([entry(release(1), "failed")], Database(0, 1, "recorded")),
        ([entry(release(1), kind="destroy", config=BUNDLED), entry(release(1))], Database(0, 0, "empty")),
        ([entry(release(1), kind="destroy"), entry(release(1))], Database(1, 1, "recorded")),
    ],
)
def test_the_level_the_history_knows(entries: list[Entry], expected: Database) -> None:
    assert recorded_database(entries) == expected


# -- where a rollback goes -----------------------------------------------------------------------------


def target(entries: list[Entry], to: int | None = None, *bad: str, force: bool = False) -> int | None:
    quarantine = tuple(Quarantined(digest=digest(letter), revision=1, reason="broken") for letter in bad)
    now = ReleaseState(entries[0].release, quarantine, finished=True)
    return rollback_target(history(*entries), now, to, allow_quarantined=force).revision


def test_a_rollback_goes_to_the_last_good_other_release() -> None:
    assert target([entry(release(2, "b")), entry(release(1, "a"))]) == 1
    # failed, refreshed and repeated updates of the current release are passed over
    assert (
        target(
            [
                entry(release(4, "c")),
                entry(release(4, "c"), kind="refresh"),
                entry(release(3, "b"), "failed"),
                entry(release(2, "b")),
                entry(release(1, "a")),
            ]
        )
        == 2
    )


def test_a_rollback_never_returns_to_a_release_that_was_rolled_back() -> None:
    entries = [
        entry(release(4, "d")),
        entry(rolled_back(3, 2)),
        entry(release(2, "b")),
        entry(release(1, "a")),
    ]
    assert target(entries) == 3
    with pytest.raises(Refused, match="no earlier release"):
        target(entries, None, "a")
    with pytest.raises(Refused, match="no earlier release"):
        target(entries[1:])


def test_the_same_image_with_other_settings_is_another_release() -> None:
    old, new = {"application": {"services": [1]}}, {"application": {"services": [2]}}
    assert target([entry(release(2), config=new), entry(release(1), config=old)]) == 1
    with pytest.raises(Refused):
        target([entry(release(2), config=old), entry(release(1), config=old)])


def test_a_named_revision_must_exist_have_succeeded_and_be_clean() -> None:
    entries = [entry(release(3, "c")), entry(release(2, "b"), "failed"), entry(release(1, "a"))]
    assert target(entries, 1) == 1
    with pytest.raises(Refused, match="Revision 9 does not exist in this stack's history: it has 1 to 3"):
        target(entries, 9)
    with pytest.raises(Refused, match="Revision 2 never succeeded"):
        target(entries, 2)
    with pytest.raises(Refused, match="is what runs now"):
        target(entries, 3)
    with pytest.raises(Refused, match="--allow-quarantined"):
        target(entries, 1, "a")
    assert target(entries, 1, "a", force=True) == 1


def test_history_is_loaded_lazily() -> None:
    read: list[int] = []

    def page(size: int, number: int) -> list[Entry]:
        read.append(number)
        return [entry(release(10 - number))] * size

    assert History(page, page=2).newest
    assert read == [1]


# -- what is written -----------------------------------------------------------------------------------


def test_a_rollback_restores_image_services_and_commands_and_nothing_else() -> None:
    old = entry(release(1), config={"application": {"services": [1]}, "data": {"postgres": "old"}})
    changes = rollback_changes(old, 3, release(2, "b"), ())
    assert set(changes) == {
        "runbook:release",
        "runbook:quarantine",
        "runbook:application",
        "runbook:commands",
    }
    written = Release.model_validate(changes["runbook:release"])
    assert written == rolled_back(3, 2)
    assert changes["runbook:commands"] is None, "a key the target did not have is removed"


def test_a_rollback_keeps_the_report_of_its_release_and_no_reason_of_its_deploy() -> None:
    old = entry(release(1, without_checks="could not wait", without_proof="dump checked", report=digest("c")))
    made = Release.model_validate(rollback_changes(old, 3, release(2, "b"), ())["runbook:release"])
    assert (made.without_checks, made.without_proof, made.report) == (None, None, digest("c"))


def test_quarantine_keeps_a_digest_once_and_lifts_by_its_first_digits() -> None:
    one = Quarantined(digest=digest("a"), revision=1, reason="old")
    again = Quarantined(digest=digest("a"), revision=3, reason="new")
    two = Quarantined(digest=digest("b"), revision=2, reason="other")
    assert with_quarantined((one, two), again) == (two, again)
    assert without_quarantined((one, two), "aaa") == (two,)
    with pytest.raises(Refused, match="no quarantined digest starts with ccc"):
        without_quarantined((one, two), "ccc")


def test_differences_are_leaf_by_leaf_with_services_by_name() -> None:
    def services(replicas: int) -> dict[str, Any]:
        return {"application": {"services": [{"name": "backend", "replicas": replicas, "env": {"A": "1"}}]}}

    old, new = entry(release(1), config=services(2)), entry(release(2, "b"), config=services(3))
    assert differences(old.config, new.config) == [
        ("release.image", release(1).image, release(2, "b").image),
        ("application.services[backend].replicas", 2, 3),
    ]


def test_after_a_rollback_that_failed_the_next_one_tries_again() -> None:
    failed = [entry(rolled_back(3, 2), "failed"), entry(release(2, "b"), "failed"), entry(release(1, "a"))]
    assert target(failed) == 1
