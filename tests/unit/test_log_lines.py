"""Lines out of a stream, and how far a log has been read."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from tasks.logs.counts import Counts, Event
from tasks.logs.follow import LONGEST
from tasks.logs.lines import Position, Splitter, stamped


def test_a_line_without_end_takes_no_more_memory_than_a_long_one() -> None:
    splitter = Splitter(LONGEST)
    chunk = b"x" * 1_000_000
    tracemalloc.start()
    try:
        for _ in range(50):
            assert not list(splitter.feed(chunk))
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert [(len(line), whole) for line, whole in splitter.feed(b"\nnext\nhalf")] == [(LONGEST, False), (4, True)]
    assert list(splitter.feed(b"\n")) == [(b"half", True)]


def test_a_line_of_exactly_the_longest_is_whole() -> None:
    assert [whole for _, whole in Splitter(4).feed(b"1234\n12345\n")] == [True, False]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"1970-01-01T00:00:01.000000002Z text", (1_000_000_002, b"text")),
        (b"1970-01-01T02:00:01.5+02:00 ", (1_500_000_000, b"")),
        (b"1970-01-01T00:00:01Z {}", (1_000_000_000, b"{}")),
        (b"unable to retrieve container logs", None),
    ],
)
def test_the_kubelets_time(line: bytes, found: tuple[int, bytes] | None) -> None:
    assert stamped(line) == found


def test_a_clock_that_is_set_back_loses_no_line_of_a_stream() -> None:
    position = Position(5)
    position.begin()
    assert [position.passes(at) for at in (4, 5, 9, 6, 7, 9)] == [False, True, True, True, True, True]
    position.begin()
    assert [position.passes(at) for at in (5, 9, 6, 7, 9, 9, 8)] == [False, False, False, False, False, True, True]


def test_a_line_with_half_a_character_is_counted() -> None:
    """A thread that ends with it would count no attack of this pod any more."""
    counts = Counts({"attack": Event("event", re.compile("sql"), "address")})
    counts.set_watching(True)
    counts.add("backend-a", ready=True)
    counts.line("backend-a", rb'{"event": "sql", "address": "\ud800"}')
    events = {sample.name: sample.value for metric in counts.collect() for sample in metric.samples if sample.value}
    assert events["runbook_log_events_total"] == 1
