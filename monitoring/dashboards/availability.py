"""Whether the public address of an application that is not this stack's answers."""

from __future__ import annotations

from monitoring.alerts.service import NAME
from monitoring.dashboards.board import Board, Query, Row, Word, graph, number

_PROBE = '{job="front-door"}'


def availability() -> Board:
    return Board(
        slug="availability",
        title="Public address",
        about="Probes of the public address: whether it answers, and how fast.",
        since="now-6h",
        domains=(NAME,),
        rows=(
            Row(
                "Front door",
                (
                    number(
                        "Front door",
                        "short",
                        f"min(probe_success{_PROBE})",
                        words={0: Word(text="failing", color="red"), 1: Word(text="healthy", color="green")},
                    ),
                    graph(
                        "Answers well", "percent", Query(f"100 * avg_over_time(probe_success{_PROBE}[5m])", "of 5 min")
                    ),
                    graph("Time of a probe", "s", Query(f"max(probe_duration_seconds{_PROBE})", "seconds")),
                ),
            ),
        ),
    )
