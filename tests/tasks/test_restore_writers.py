"""A restore in place, killed anywhere, under clients that do not stop writing: nothing acknowledged is gone unnamed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.support.restore_world import KILLED, Shop, run

VERBS = ("prepare", "swap", "finish")
POINTS = 12
"""At how many acts the command is killed, evenly over all of them."""


@contextmanager
def writing(shop: Shop) -> Iterator[list[str]]:
    """Two clients that insert orders and reconnect at once; every order that the server acknowledged."""
    acknowledged: list[str] = []
    done = threading.Event()

    def client(name: str) -> None:
        number = 0
        while not done.is_set():
            try:
                with shop.server.connect(shop.name) as connection:
                    while not done.wait(0.01):
                        number += 1
                        connection.execute("INSERT INTO orders (what) VALUES (%s)", (f"{name}{number}",))
                        acknowledged.append(f"{name}{number}")
            except psycopg.Error:
                continue

    clients = [threading.Thread(target=client, args=(name,)) for name in ("a", "b")]
    for each in clients:
        each.start()
    try:
        yield acknowledged
    finally:
        done.set()
        for each in clients:
            each.join()


class Command:
    """What the operators' command does, and what it learns: the backups that were named."""

    def __init__(self, shop: Shop, backup: str) -> None:
        self._shop = shop
        self._words = {verb: ("--backup", backup) if verb == "prepare" else () for verb in VERBS}
        self.acts: list[int] = []
        self.named: set[str] = set()

    def run(self, kill_after: int | None = None) -> bool:
        """Continue where it stands; whether it got through."""
        now = self._shop.run("restore", "state").json
        for verb in VERBS:
            if verb == "prepare" and now["phase"] in ("prepared", "swapped"):
                continue
            done = run(self._shop.environment, "restore", verb, *self._words[verb], kill_after=kill_after)
            if done.status == KILLED:
                self._shop.settle()
                return False
            assert done.status == 0, done.err
            self._learn(done.json)
            self.acts.append(done.acts)
            if kill_after is not None:
                kill_after -= done.acts
        return True

    def _learn(self, state: Any) -> None:
        last = state["last"] or {}
        self.named |= {state["safety"], state["late_backup"], last.get("safety"), last.get("late_backup")} - {None}


def test_killed_anywhere_nothing_acknowledged_is_gone_unnamed(shop: Shop) -> None:
    backup = shop.back_up()
    with writing(shop):
        measured = Command(shop, backup)
        assert measured.run()
    acts = sum(measured.acts)
    assert acts > POINTS
    points = sorted({1 + n * (acts - 1) // POINTS for n in range(POINTS)})
    assert len(points) == POINTS
    for point in points:
        command = Command(shop, backup)
        with writing(shop) as acknowledged:
            assert not command.run(kill_after=point), f"it got through in less than {point} of {acts} acts"
            assert command.run(), "the same command again"
        assert shop.databases() == {shop.name}
        kept = set(shop.orders())
        assert {"thyme", "mint", "sage"} <= kept
        for name in command.named:
            shop.run("restore", "into", "--backup", name, "--database", f"{shop.name}_named")
            kept |= set(shop.orders(f"{shop.name}_named"))
            shop.drop_copies()
        assert set(acknowledged) <= kept, f"killed at {point} of {acts}"
        shop.server.execute("DELETE FROM orders WHERE what ~ '[0-9]$'", shop.name)


def test_the_same_command_after_the_drop_restores_nothing_over_new_orders(shop: Shop) -> None:
    """Killed between the drop of the replaced database and the note of it."""
    backup = shop.back_up()
    command = Command(shop, backup)
    shop.swap_in(backup)
    for point in range(1, 100):
        done = run(shop.environment, "restore", "finish", kill_after=point)
        assert done.status == KILLED, "finish got through without being killed after the drop"
        shop.settle()
        if shop.databases() == {shop.name}:
            break
    assert shop.phase() == "swapped"
    assert shop.run("restore", "undo", expect=2).code == "restore_phase"
    shop.server.execute("INSERT INTO orders (what) VALUES ('new')", shop.name)
    assert command.run()
    assert shop.orders() == ["thyme", "mint", "sage", "new"]
    state = shop.run("restore", "state").json
    assert (state["phase"], state["last"]["backup"]) == ("idle", backup)
    # A restore of it later has no trace of this one.
    later = shop.back_up()
    shop.run("restore", "into", "--backup", later, "--database", f"{shop.name}_later")
    assert shop.query("SELECT to_regclass('runbook.restored')::text", f"{shop.name}_later") == [None]


@contextmanager
def writing_to_the_replaced(shop: Shop, sessions: int) -> Iterator[list[str]]:
    """A client that looks for the replaced database and writes to it, in this many sessions, one after the other;
    every order that the server acknowledged."""
    acknowledged: list[str] = []
    done, begun = threading.Event(), threading.Event()

    def client() -> None:
        ended = 0
        while not done.is_set() and ended < sessions:
            try:
                (name,) = (name for name in shop.databases() if "_replaced_" in name)
                with shop.server.connect(name) as connection:
                    try:
                        while not done.is_set():
                            order = f"r{len(acknowledged)}"
                            connection.execute("INSERT INTO orders (what) VALUES (%s)", (order,))
                            acknowledged.append(order)
                            begun.set()
                    except psycopg.Error:
                        ended += 1
            except (psycopg.Error, ValueError):
                done.wait(0.005)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        assert begun.wait(30)
        yield acknowledged
    finally:
        done.set()
        thread.join()


def test_what_is_written_to_the_replaced_database_until_it_is_dropped(shop: Shop) -> None:
    """By a client that looks for its name, and comes again while it is backed up."""
    backup = shop.back_up()
    shop.swap_in(backup)
    with writing_to_the_replaced(shop, sessions=2) as acknowledged:
        finished = shop.run("restore", "finish").json
    assert shop.databases() == {shop.name}
    shop.run("restore", "into", "--backup", finished["late_backup"], "--database", f"{shop.name}_late")
    assert set(acknowledged) <= set(shop.orders(f"{shop.name}_late"))


def test_a_replaced_database_that_a_client_goes_on_writing_to_is_kept(shop: Shop) -> None:
    backup = shop.back_up()
    shop.run("restore", "prepare", "--backup", backup)
    replaced = shop.run("restore", "swap").json["replaced"]
    with writing_to_the_replaced(shop, sessions=1000) as acknowledged:
        failed = shop.run("restore", "finish", expect=1)
    assert failed.code == "database_in_use"
    assert "public.orders" in failed.message
    assert replaced in failed.message
    assert set(acknowledged) <= set(shop.orders(replaced))
    late = shop.run("restore", "finish").json["late_backup"]
    assert shop.databases() == {shop.name}
    shop.run("restore", "into", "--backup", late, "--database", f"{shop.name}_late")
    assert set(acknowledged) <= set(shop.orders(f"{shop.name}_late"))
