"""Pictures of training logs: loss, accuracy and learning rate of one or several."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.log_parser import ParsedLog, Point, Row
from poseidon_caffe.schema.atomic import atomic_path
from poseidon_caffe.schema.files import StrPath

__all__ = ["CHARTS", "Axis", "Chart", "NamedLog", "plot_logs"]


class Axis(enum.Enum):
    """What runs along the picture; the value is its label."""

    ITERATIONS = "Iteration"
    SECONDS = "Time since the start (s)"


class _Panel(enum.Enum):
    """One diagram; the value is the label of its upright axis."""

    LOSS = "Loss"
    ACCURACY = "Accuracy"
    RATE = "Learning rate"


@dataclass(frozen=True)
class Chart:
    """One of the eight pictures of Caffe's plot_training_log.py.

    Attributes:
        title: what Caffe calls it.
        panel: the diagram that holds it.
        train: curves of the training are drawn.
        test: curves of the test nets are drawn.
        axis: what runs along it.
    """

    title: str
    panel: _Panel
    train: bool
    test: bool
    axis: Axis


CHARTS: Final = tuple(
    Chart(f"{title} vs. {short}", panel, train, not train, axis)
    for title, panel, train in (
        ("Test accuracy", _Panel.ACCURACY, False),
        ("Test loss", _Panel.LOSS, False),
        ("Train learning rate", _Panel.RATE, True),
        ("Train loss", _Panel.LOSS, True),
    )
    for short, axis in (("Iters", Axis.ITERATIONS), ("Seconds", Axis.SECONDS))
)
"""By Caffe's chart numbers, 0 to 7."""


@dataclass(frozen=True)
class NamedLog:
    """A log and what the legend calls it."""

    name: str
    log: ParsedLog


@dataclass(frozen=True)
class _Curve:
    """One line of a diagram.

    Attributes:
        label: for the legend.
        points: in the order printed.
        color: the log's.
        style: index of the line style and marker; 0 is the training's plain line.
    """

    label: str
    points: Sequence[Point]
    color: str
    style: int


_COLORS: Final = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
    "#7f3fbf",
)
"""A log keeps its colour in every diagram; people with any colour vision tell them."""
_STYLES: Final = (("-", ""), ("--", "o"), (":", "s"), ("-.", "^"), ("--", "D"))
_MARKED_MAX: Final = 60
_DECADES: Final = 30.0  # losses that differ more are drawn on a logarithmic axis
_WIDTH_IN: Final = 9.0
_HEIGHT_IN: Final = 3.1
_DPI: Final = 130


def plot_logs(
    logs: Sequence[NamedLog],
    path: StrPath,
    chart: Chart | None = None,
    axis: Axis = Axis.ITERATIONS,
) -> None:
    """Draws logs and writes the picture, whole or not at all.

    Args:
        logs: what is drawn, each in a colour of its own.
        path: the picture; its ending tells the format (.png, .svg, .pdf).
        chart: one of `CHARTS` alone, or None for all diagrams below each other.
        axis: what runs along, where ``chart`` does not say so.

    Raises:
        UsageError: matplotlib is missing, the ending is unknown, or the logs hold
            nothing for this chart.
        SnapshotError: the disk refused.
    """
    axis = chart.axis if chart else axis
    drawn = _panels(logs, chart)
    if not drawn:
        what = chart.title if chart else "loss, accuracy or learning rate"
        raise UsageError(
            f"nothing to draw: no log of {', '.join(each.name for each in logs)} "
            f"tells any {what}"
        )
    figure = _figure(len(drawn))
    ending = Path(path).suffix.lstrip(".").lower()
    known = figure.canvas.get_supported_filetypes()
    if ending not in known:
        raise UsageError(
            f"{path}: its ending must tell a kind of picture, one of {', '.join(known)}"
        )
    axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for place, (panel, curves) in zip(axes, drawn, strict=True):
        _draw(place, panel, curves, axis)
    figure.align_ylabels(axes)
    axes[-1].set_xlabel(axis.value)
    axes[0].set_title(_title(logs, chart), fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=ending, dpi=_DPI)


def _title(logs: Sequence[NamedLog], chart: Chart | None) -> str:
    if chart:
        return chart.title
    return logs[0].name if len(logs) == 1 else f"{len(logs)} trainings"


def _figure(rows: int) -> Any:
    """An empty figure that needs no screen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "matplotlib is missing, which draws the picture: "
            'pip install "poseidon-caffe[plot]"'
        ) from error
    height = 0.9 + _HEIGHT_IN * rows if rows > 1 else 5.2
    figure = Figure(figsize=(_WIDTH_IN, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(
    logs: Sequence[NamedLog], chart: Chart | None
) -> list[tuple[_Panel, list[_Curve]]]:
    """The diagrams that have curves, with them."""
    wanted = (chart.panel,) if chart else tuple(_Panel)
    found = []
    for panel in wanted:
        curves = [
            curve
            for index, each in enumerate(logs)
            for curve in _curves(each, panel, index, several=len(logs) > 1)
            if chart is None or (chart.test if curve.style else chart.train)
        ]
        if curves:
            found.append((panel, curves))
    return found


def _curves(
    each: NamedLog, panel: _Panel, index: int, *, several: bool
) -> list[_Curve]:
    """What one log has for one diagram."""
    log, color = each.log, _COLORS[index % len(_COLORS)]
    head = f"{each.name}: " if several else ""
    if panel is _Panel.RATE:
        label = each.name if several else "learning rate"
        return [_Curve(label, log.rates, color, 0)] if log.rates else []
    loss = panel is _Panel.LOSS
    curves = []
    if loss and log.losses:
        curves.append(_Curve(f"{head}train loss", log.losses, color, 0))
    elif not loss:
        curves += [
            _Curve(f"{head}train {name}", _points(log.train, name), color, 0)
            for name in _names(log.train, loss=False)
        ]
    curves += [
        _Curve(f"{head}test {name}", _points(log.test, name), color, style)
        for style, name in enumerate(_names(log.test, loss=loss), start=1)
    ]
    return curves


def _names(rows: Sequence[Row], *, loss: bool) -> list[str]:
    """Outputs that are losses by their name, or those that are none."""
    names = dict.fromkeys(name for row in rows for name in row.outputs)
    return [name for name in names if ("loss" in name.lower()) == loss]


def _points(rows: Sequence[Row], name: str) -> list[Point]:
    return [
        Point(row.iteration, row.seconds, row.outputs[name])
        for row in rows
        if name in row.outputs
    ]


def _draw(place: Any, panel: _Panel, curves: Sequence[_Curve], axis: Axis) -> None:
    """One diagram with its legend."""
    for curve in curves:
        line, marker = _STYLES[curve.style % len(_STYLES)]
        along, up = _broken(curve.points, axis)
        if len(up) > _MARKED_MAX or (not marker and len(up) > 1):
            marker = ""
        place.plot(
            along,
            up,
            label=curve.label,
            color=curve.color,
            linestyle=line,
            marker=marker or ("." if len(up) == 1 else ""),
            markersize=4,
            linewidth=1.2,
        )
    if panel is _Panel.LOSS and _spread(curves) > _DECADES:
        place.set_yscale("log")
    elif panel is _Panel.RATE:
        place.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    place.set_ylabel(panel.value)
    place.grid(visible=True, alpha=0.3, linewidth=0.6)
    place.margins(x=0.01)
    for side in ("top", "right"):
        place.spines[side].set_visible(False)
    place.legend(fontsize=8, framealpha=0.85, ncols=1 + len(curves) // 9)


def _broken(points: Sequence[Point], axis: Axis) -> tuple[list[float], list[float]]:
    """Both coordinates; the line is broken where a training began again earlier."""
    along: list[float] = []
    up: list[float] = []
    last = -math.inf
    for point in points:
        if point.iteration < last:
            along.append(math.nan)
            up.append(math.nan)
        last = point.iteration
        seconds = axis is Axis.SECONDS
        along.append(point.seconds if seconds else point.iteration)
        up.append(point.value if math.isfinite(point.value) else math.nan)
    return along, up


def _spread(curves: Sequence[_Curve]) -> float:
    """Largest value over smallest, 0 when any is not above 0."""
    values = [p.value for c in curves for p in c.points if math.isfinite(p.value)]
    if not values or min(values) <= 0:
        return 0.0
    return max(values) / min(values)
