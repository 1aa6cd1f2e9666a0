"""Client threads: all of them run, and they end when stopped or when their time is over."""

from __future__ import annotations

import threading

from sandbox.traffic import ClientThreads, Pause


def test_each_client_runs_until_stopped() -> None:
    running, ended = threading.Barrier(3), list[int]()

    def client(number: int, pause: Pause) -> None:
        running.wait(10)
        while pause(0.001):
            pass
        ended.append(number)

    threads = ClientThreads(client, range(2), limit_seconds=600)
    running.wait(10)
    assert ended == []
    threads.stop()
    assert sorted(ended) == [0, 1]


def test_clients_that_are_never_stopped_end_after_the_limit() -> None:
    ended = threading.Event()

    def client(number: int, pause: Pause) -> None:
        while pause(0.001):
            pass
        ended.set()

    ClientThreads(client, range(1), limit_seconds=0.01)
    assert ended.wait(10)
