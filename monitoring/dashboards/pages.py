"""Pages that serve (HerbisVeritas "Performance Budgets")."""

from __future__ import annotations

from monitoring.alerts.pages import NAME
from monitoring.dashboards.board import WIDTH, Board, Measured, Query, Row, Word, graph, number

_METRICS = (
    ("Performance score", "score", "short", 8),
    ("Largest Contentful Paint", "lcp", "ms", 8),
    ("Total Blocking Time", "tbt", "ms", 8),
    ("Cumulative Layout Shift", "cls", "short", 12),
    ("Scripts and styles transferred", "bundleKb", "kbytes", 12),
)


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
                    for title, metric, unit, width in _METRICS
                ),
            ),
        ),
    )
