"""The parts of a dashboard: panels with a description and a link to a runbook."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableOption,
)

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# The address of the runbooks. A variable in Grafana, so that a deployment can set another address.
RUNBOOKS = "docs/runbooks"


class Unit(Enum):
    """Units of values, by Grafana's name."""

    COUNT = "short"
    SECONDS = "s"
    BYTES = "bytes"
    PER_SECOND = "ops"
    SHARE = "percentunit"


@dataclass(frozen=True)
class Panel(ABC):
    """A panel of a dashboard.

    Args:
        title: the text above the panel.
        about: what the values mean; Grafana shows it beside the title.
        runbook: the alert whose runbook the panel links to.
        queries: PromQL by legend, in which ``{{label}}`` stands for a label's value.
    """

    title: str
    about: str
    runbook: str
    queries: Mapping[str, str]
    unit: Unit = Unit.COUNT
    width: int = 6
    height: int = 6

    def build(self) -> "Builder":
        """Return the panel as a builder of Grafana's SDK."""
        builder = self._look().title(self.title).description(self.about).datasource(DATASOURCE)
        builder = builder.span(self.width).height(self.height).unit(self.unit.value).no_value("no data")
        builder = builder.links([_runbook(self.runbook)])
        for number, (legend, expression) in enumerate(self.queries.items()):
            builder = builder.with_target(self._target(chr(ord("A") + number), legend, expression))
        return builder

    @abstractmethod
    def _look(self) -> "Builder":
        """Return the SDK's builder for this kind of panel, with its appearance set."""

    def _target(self, name: str, legend: str, expression: str) -> prometheus.Dataquery:
        return prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend).range()


@dataclass(frozen=True)
class Lines(Panel):
    """Values over time; ``stacked`` where their sum has a meaning."""

    stacked: bool = False

    def _look(self) -> "Builder":
        legend = common.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.BOTTOM)
        look = (
            timeseries.Panel()
            .legend(legend.display_mode(looks.LegendDisplayMode.LIST))
            .show_points(looks.VisibilityMode.NEVER)
            .line_width(1)
            .tooltip(
                common.VizTooltipOptions()
                .mode(looks.TooltipDisplayMode.MULTI)
                .sort(looks.SortOrder.DESCENDING)
            )
            .fill_opacity(40 if self.stacked else 8)
            .axis_soft_min(0)
        )
        mode = looks.StackingMode.NORMAL if self.stacked else looks.StackingMode.NONE
        return look.stacking(common.StackingConfig().mode(mode))


@dataclass(frozen=True)
class Number(Panel):
    """The latest value, large: orange from ``warn`` and red from ``alarm``, the limits of the alerts."""

    width: int = 3
    height: int = 3
    warn: float | None = None
    alarm: float | None = None

    def _look(self) -> "Builder":
        look = (
            stat.Panel()
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .graph_mode(looks.BigValueGraphMode.NONE)
            .color_mode(looks.BigValueColorMode.VALUE)
            .text_mode(looks.BigValueTextMode.VALUE)
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
            .thresholds(_thresholds(self.warn, self.alarm))
        )
        # An increase is estimated between two scrapes: 7 clips may be 7.2.
        return look.decimals(0) if self.unit is Unit.COUNT else look

    def _target(self, name: str, legend: str, expression: str) -> prometheus.Dataquery:
        return prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend).instant()


@dataclass(frozen=True)
class Bars(Panel):
    """The latest values side by side."""

    def _look(self) -> "Builder":
        return (
            bargauge.Panel()
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .orientation(looks.VizOrientation.HORIZONTAL)
            .display_mode(looks.BarGaugeDisplayMode.BASIC)
            .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color("blue"))
            .thresholds(_thresholds(None, None))
            .min(0)
        )

    def _target(self, name: str, legend: str, expression: str) -> prometheus.Dataquery:
        return prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend).instant()


Builder = timeseries.Panel | stat.Panel | bargauge.Panel


def board(uid: str, title: str, about: str, panels: Sequence[Panel], *, hours: int) -> dashboard.Dashboard:
    """Return a dashboard of the last ``hours`` with panels in rows, from left to right."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags(["clips"])
        .readonly()
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("1m")
        .time(f"now-{hours}h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.TextBoxVariable("runbooks")
            .label("Runbooks at")
            .default_value(RUNBOOKS)
            .current(VariableOption(text=RUNBOOKS, value=RUNBOOKS))
        )
        .link(
            dashboard.DashboardLink("Clips")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["clips"])
            .keep_time(True)
            .include_vars(True)
        )
    )
    for number, panel in enumerate(panels, start=1):
        built = built.with_panel(panel.build().id(number))
    return built


def _runbook(alert: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(DashboardLinkType.LINK)
    return link.url(f"${{runbooks}}/{alert}.md").target_blank(True)


def _thresholds(warn: float | None, alarm: float | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(color="green", value=None)]
    steps += [Threshold(color="orange", value=warn)] if warn is not None else []
    steps += [Threshold(color="red", value=alarm)] if alarm is not None else []
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
