"""Pages that serve (HerbisVeritas "Performance Budgets")."""

from __future__ import annotations

from monitoring.alerts.pages import NAME
from monitoring.dashboards.board import WIDTH, Board, Measured, Query, Row, Word, graph, number
from settings.performance import METRICS

_DRAWN = {"score": ("short", 8), "lcp": ("ms", 8), "tbt": ("ms", 8), "cls": ("short", 12), "bundleKb": ("kbytes", 12)}
"""Metric → its unit in a dashboard, and the width of its graph."""


def pages() -> Board:
    used = Measured("PageOverBudget", "{{path}} {{metric}}")
    return Board(
        slug=NAME,
        title="Pages",
        about="What Lighthouse measures of the release that serves, and the budgets.",
        since="now-7d",
        domains=(NAME,),
        rows=(
            Row(
                "Checks",
                (
                    *(
                        number(
                            f"Pages {result}",
                            "short",
                            f'runbook_page_check_pages{{result="{result}"}}',
                            words={0: Word(text="none", color="green")},
                            about=about,
                            width=6,
                        )
                        for result, about in (
                            ("over budget", ""),
                            ("busy", "The machine was too busy for a miss to be believed: no alert."),
                            ("not measured", "No answer, or no time left."),
                        )
                    ),
                    number("Speed of the machine", "short", "runbook_page_check_benchmark{}", width=6),
                    graph("Age of the newest result", "s", Measured("PageCheckMissed", "{{path}}"), width=WIDTH),
                ),
            ),
            Row("Budgets", (graph("In percent of the budget", "percent", used, width=WIDTH),)),
            Row(
                "Values",
                tuple(
                    graph(title, unit, Query(f'runbook_page_value{{metric="{metric}"}}', "{{path}}"), width=width)
                    for metric, (title, _) in METRICS.items()
                    for unit, width in [_DRAWN[metric]]
                ),
            ),
        ),
    )
