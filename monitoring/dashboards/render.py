"""Dashboards as Grafana reads them. Only this module needs Grafana's SDK; import it where it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

from monitoring.alerts.rule import Alert, Domain
from monitoring.dashboards.board import WIDTH, Board, Mark, Panel, Query, Row
from monitoring.dashboards.stack import marks

_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHTS = {"graph": 8, "number": 4, "timeline": 6}
_COLORS = {"critical": "red", "warning": "orange"}
_STEP = "60s"

AnyPanel = timeseries.Panel | stat.Panel | statetimeline.Panel


def files(boards: Iterable[Board], domains: Iterable[Domain], namespace: str) -> dict[str, str]:
    """JSON by file name, for ConfigMaps that Grafana's sidecar loads (label `grafana_dashboard`)."""
    alerts = {alert.name: alert for domain in domains for alert in domain.alerts}
    return {f"{board.slug}.json": _text(board, alerts, namespace) for board in boards}


def _text(board: Board, alerts: Mapping[str, Alert], namespace: str) -> str:
    built = _built(board, alerts, namespace).build()
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _built(board: Board, alerts: Mapping[str, Alert], namespace: str) -> dashboard.Dashboard:
    found = (
        dashboard.Dashboard(f"{namespace}: {board.title}")
        .uid(_uid(board.slug, namespace))
        .description(board.about)
        .tags(["runbook", namespace])
        # Changes made in Grafana would be lost at the next update.
        .readonly()
        .timezone("browser")
        .time(board.since, "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            dashboard.DashboardLink("Dashboards")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["runbook", namespace])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for mark in marks(namespace):
        found.annotation(_Annotating(mark))
    numbers = count(1)
    for row in board.rows:
        found.with_row(dashboard.Row(row.title).id(next(numbers)))
        for beside in _lines(row):
            height = max(_HEIGHTS[panel.kind] for panel in beside)
            for panel in beside:
                found.with_panel(_panel(panel, alerts).id(next(numbers)).height(height))
    return found


def _lines(row: Row) -> Iterator[list[Panel]]:
    """The row's panels, line by line."""
    beside: list[Panel] = []
    for panel in row.panels:
        beside.append(panel)
        if sum(each.width for each in beside) >= WIDTH:
            yield beside
            beside = []
    if beside:
        yield beside


def _uid(slug: str, namespace: str) -> str:
    """Stable, and at most 40 characters (Grafana's limit) for every namespace."""
    return f"{slug}-{hashlib.sha256(namespace.encode()).hexdigest()[:12]}"


class _Annotation(models.AnnotationQuery):
    """The schema leaves these fields to the data source."""

    def __init__(self, titles: str) -> None:
        super().__init__()
        self._titles = titles

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": self._titles, "step": _STEP}


class _Annotating(dashboard.AnnotationQuery):
    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self._internal = _Annotation(titles=mark.query.legend)
        self.name(mark.name).datasource(_SOURCE).enable(True).icon_color(mark.color).expr(mark.query.expr)


def _panel(panel: Panel, alerts: Mapping[str, Alert]) -> AnyPanel:
    match panel.kind:
        case "number":
            made = _number(panel)
        case "timeline":
            made = _timeline()
        case "graph":
            made = _graph(panel)
    made.title(panel.title).datasource(_SOURCE).unit(panel.unit).no_value(panel.empty)
    made.span(panel.width).thresholds(_limits(panel, alerts))
    if about := "\n\n".join(_about(panel, alerts)):
        made.description(about)
    if panel.words:
        words = panel.words.items()
        mapped = {str(key): models.ValueMappingResult(text=word.text, color=word.color) for key, word in words}
        made.mappings([models.ValueMap(options=mapped)])
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        made.with_target(_target(query, letter, now=panel.kind == "number"))
    return made


def _graph(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .fill_opacity(8)
        .show_points(kinds.VisibilityMode.NEVER)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
        )
    )
    if panel.lines:
        # Keeps a limit visible that is above every measured value.
        made.axis_soft_max(1.1 * max(line.value for line in panel.lines) or 1)
        if not any(line.below for line in panel.lines):
            made.min(0)
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    return made


def _number(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .color_mode(kinds.BigValueColorMode.VALUE)
        .text_mode(kinds.BigValueTextMode.VALUE_AND_NAME if panel.queries[0].legend else kinds.BigValueTextMode.VALUE)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _timeline() -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .show_value(kinds.VisibilityMode.AUTO)
        .row_height(0.8)
        .merge_values(True)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _target(query: Query, letter: str, *, now: bool) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).ref_id(letter).datasource(_SOURCE)
    made.legend_format(query.legend or "__auto")
    return made.instant() if now else made.range()


def _limits(panel: Panel, alerts: Mapping[str, Alert]) -> dashboard.ThresholdsConfig:
    """Colours from the lowest value on; each reaches up to the next."""
    good = "transparent" if panel.kind == "graph" else "orange" if panel.words and not panel.lines else "green"
    lines = sorted(panel.lines, key=lambda line: line.value)
    colors = [_COLORS[alerts[line.alert].severity] if line.alert else "orange" for line in lines]
    # An upper limit starts its colour; a lower limit ends it.
    reaching = [*colors, good] if any(line.below for line in lines) else [good, *colors]
    steps = [
        models.Threshold(value=value, color=color)
        for value, color in zip([None, *(line.value for line in lines)], reaching, strict=True)
    ]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _about(panel: Panel, alerts: Mapping[str, Alert]) -> Iterator[str]:
    if panel.about:
        yield panel.about
    for line in panel.lines:
        if line.alert:
            alert = alerts[line.alert]
            after = f" for {alert.lasting} s" if alert.lasting else ""
            yield f"`{alert.name}` ({alert.severity}): {'below' if line.below else 'from'} {line.value:g}{after}."
