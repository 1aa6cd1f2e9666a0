"""Rotation on real servers: which logins they accept and refuse; killed tasks; no secrets in logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.rotation_world import Cache, Database, World, killed_before
from tests.support.servers import Postgres, postgres
from tests.support.task_processes import task

KINDS = ("database", "redis")


@pytest.fixture(scope="module")
def log() -> list[str]:
    """What PostgreSQL logs: every statement."""
    return []


@pytest.fixture(scope="module")
def server(log: list[str]) -> Iterator[Postgres]:
    with postgres("-c", "log_statement=all", "-c", "log_connections=on", log=log) as server:
        yield server


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "redis":
        return request.getfixturevalue("cache")
    return Database(request.getfixturevalue("server"))


def test_periods_take_turns(world: World) -> None:
    for new in (1, 2, 3):
        old = new - 1
        assert world.done("prepare", new, old) == {
            "kind": world.kind,
            "role": world.role(new),
            "created": True,
            "tested": True,
        }
        assert (world.accepted(new), world.accepted(old)) == (True, True), "both, until the old one retires"
        retired = world.done("retire", new, old)
        assert retired == {"kind": world.kind, "role": world.role(old), "ended_sessions": 0, "refused": True}
        assert (world.accepted(new), world.accepted(old)) == (True, False)
        assert (world.admin_accepted(new), world.admin_accepted(old)) == (True, False)
    assert world.role(1) == world.role(3)
    assert not world.accepted(1), "the same role, another password"


def test_again_changes_nothing(world: World) -> None:
    world.done("prepare", 1, 0)
    with world.live(world.role(1), world.of_period(1)) as pod:
        assert world.done("prepare", 1, 0)["created"] is False
        before = world.state()
        world.done("retire", 1, 0)
        after = world.state()
        world.done("retire", 1, 0)
        world.done("prepare", 1, 0)
        assert world.state() == after
        assert (after == before) is (world.kind == "database"), "only PostgreSQL hides which password it is"
        assert pod.is_alive(), "who uses the new one notices nothing"


def test_clients_that_use_the_old_password_are_named_and_stay(world: World) -> None:
    world.done("prepare", 1, 0)
    with world.live(world.role(0), world.of_period(0)) as pod:
        refused = world.run("retire", 1, 0)
        assert (refused.exit_code, refused.error) == (1, "still_used")
        assert f"1 of {world.role(0)} by " in refused.message
        assert "from 127.0.0.1" in refused.message
        assert ("an old pod" in refused.message) is (world.kind == "database")
        assert pod.is_alive()
        assert world.accepted(0)
    assert world.done("retire", 1, 0)["ended_sessions"] == 0, "a session that has just ended is waited for"


def test_force_ends_the_sessions_of_the_old_one_and_of_the_admin(world: World) -> None:
    world.done("prepare", 1, 0)
    world.done("retire", 1, 0)
    world.done("prepare", 2, 1)
    ids = ((world.role(0), world.of_admin(1)), (world.role(1), world.of_period(1)), (world.role(2), world.of_period(2)))
    with world.live(*ids[0]) as admin, world.live(*ids[1]) as old, world.live(*ids[2]) as new:
        assert world.run("retire", 2, 1).error == "still_used"
        assert world.done("retire", 2, 1, "--force")["ended_sessions"] == 2
        alive = [client.is_alive() for client in (admin, old, new)]
    assert alive == [False, False, True]
    assert (world.accepted(1), world.accepted(2)) == (False, True)


def test_force_on_the_very_first(world: World) -> None:
    world.done("prepare", 1, 0)
    with world.live(world.role(0), world.of_period(0)) as old:
        assert world.done("retire", 1, 0, "--force")["ended_sessions"] == 1
        assert not old.is_alive()
    assert not world.accepted(0)


def test_a_rotation_ends_the_sessions_of_one_that_failed_before(world: World) -> None:
    """Period 1 went back to 0; 3 has the same role, and sessions that logged in with the password of 1 are ended."""
    world.done("prepare", 1, 0)
    with world.live(world.role(1), world.of_period(1)) as stranger:
        assert world.done("prepare", 3, 0)["created"] is True
        assert not stranger.is_alive()
    assert (world.accepted(0), world.accepted(1), world.accepted(3)) == (True, False, True)


BEFORE: dict[tuple[str, int, int], list[tuple[str, int, int]]] = {
    ("prepare", 1, 0): [],
    ("prepare", 3, 0): [("prepare", 1, 0)],
    ("retire", 1, 0): [("prepare", 1, 0)],
    ("retire", 2, 1): [("prepare", 1, 0), ("retire", 1, 0), ("prepare", 2, 1)],
}
"""What is killed, and what is done before it: a verb, the new period, the old one."""


@contextmanager
def fresh(kind: str, server: Postgres, folder: Path) -> Iterator[World]:
    if kind == "database":
        yield Database(server)
    else:
        cache = Cache(folder)
        with cache.serving():
            yield cache


@pytest.mark.parametrize("what", BEFORE, ids=lambda what: f"{what[0]}-{what[1]}-after-{what[2]}")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_and_run_again(kind: str, what: tuple[str, int, int], server: Postgres, tmp_path: Path) -> None:
    """Before each message that it sends to the server, one after the other; 0 is not at all."""
    verb, new, old = what
    expected, message, killed = None, 0, True
    while killed:
        with fresh(kind, server, tmp_path) as world:
            for step in BEFORE[what]:
                world.done(*step)
            if message:
                words = ("credentials", verb, kind)
                killed = killed_before(message, world.port, partial(world.environment, new, old), *words)
            world.done(verb, new, old)
            accepted = world.accepted(new), world.accepted(old), world.admin_accepted(new)
            expected = expected or (shape(world), accepted)
            assert (shape(world), accepted) == expected, f"killed before message {message}"
        message += 1
    assert message > 10


def shape(world: World) -> list[str]:
    """Its state, with common names in place of its own names and passwords."""
    rows = [str(row) for row in world.state()]
    for name, own in world.own_names():
        rows = [row.replace(own, name) for row in rows]
    return sorted(rows)


def test_both_of_the_admins_passwords_are_tried(world: World) -> None:
    variable = f"ROTATE_{world.kind.upper()}_ADMIN_URL"
    wrong = world.url(world.role(0), world.password("wrong"))
    refused = world.run("prepare", 1, 0, **{variable: wrong, f"{variable}_PREVIOUS": wrong})
    assert (refused.exit_code, refused.error) == (1, "admin_refused")
    assert variable in refused.message
    assert f"{variable}_PREVIOUS" in refused.message
    assert not world.accepted(1)
    assert world.run("prepare", 1, 0, **{variable: wrong}).exit_code == 0, "the previous one holds"
    assert world.run("prepare", 3, 0, **{f"{variable}_PREVIOUS": wrong}).error == "admin_refused"
    holds = world.url(world.role(0), world.of_period(0))
    assert world.run("prepare", 3, 0, **{variable: holds, f"{variable}_PREVIOUS": wrong}).exit_code == 0


def test_a_retired_password_that_is_still_accepted_is_an_error(world: World) -> None:
    """The admin's new password is the old one: the check at the end must find it."""
    world.done("prepare", 1, 0)
    variable = f"ROTATE_{world.kind.upper()}_ADMIN_URL"
    outcome = world.run("retire", 1, 0, **{variable: world.url(world.role(0), world.of_period(0))})
    assert (outcome.exit_code, outcome.error) == (1, "still_accepted")


def test_the_old_one_stays_if_the_new_one_does_not_work(world: World) -> None:
    for flags in ((), ("--force",)):
        outcome = world.run("retire", 1, 0, *flags)
        assert (outcome.exit_code, outcome.error) == (1, "new_refused")
        assert world.accepted(0)


def test_trying_what_should_be_refused(world: World) -> None:
    def answers() -> dict[str, str]:
        return task(world.environment(1, 0), "credentials", "try").result[world.kind]

    world.done("prepare", 1, 0)
    assert answers() == {"old": "accepted", "admin_previous": "accepted"}
    world.done("retire", 1, 0)
    assert answers() == {"old": "refused", "admin_previous": "refused"}
    nothing = task({}, "credentials", "try")
    assert nothing.result == {kind: {"old": "none", "admin_previous": "none"} for kind in KINDS}


def test_who_is_logged_in(world: World) -> None:
    world.done("prepare", 1, 0)
    with world.live(world.role(0), world.of_period(0)), world.live(world.role(1), world.of_period(1)):
        found = task(world.environment(1, 0), "credentials", "sessions").result
    rows = found[world.kind]
    if world.kind == "database":
        rows = [row for row in rows if row["role"] in (world.role(0), world.role(1))]
        assert [(row["role"], row["application"], row["count"], row["previous"]) for row in rows] == [
            (world.role(0), "an old pod", 1, True),
            (world.role(1), "an old pod", 1, False),
        ]
        assert all(row["oldest_at"] for row in rows)
    else:
        assert rows == [
            {"role": "default", "count": 1, "previous": True},
            {"role": "shop-b", "count": 1, "previous": False},
        ]


def test_nothing_secret_is_in_a_servers_log(world: World, log: list[str]) -> None:
    """Each test that runs a task checks what the task prints."""
    for new in (1, 2):
        world.done("prepare", new, new - 1)
        world.done("retire", new, new - 1)
    logged = "".join(world.log if isinstance(world, Cache) else log)
    if isinstance(world, Cache):
        logged += world.admin("slowlog", "get", "1000") + world.admin("acl", "log") + world.admin("acl", "list")
        assert "Accepted 127.0.0.1" in logged
    else:
        assert f'ALTER ROLE "{world.role(0)}" PASSWORD \'SCRAM-SHA-256$' in logged
    found = [plaintext for plaintext in world.plaintexts if plaintext in logged]
    assert not found
