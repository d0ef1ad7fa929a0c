"""What the figures of a grid share: panels, names, levels of baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from p2pser.experiments.differences import mean_known
from p2pser.experiments.grid.cells import Place
from p2pser.experiments.grid.summary import SchemeFigures, Summary
from p2pser.experiments.report.canvas import array, new_figure, with_grid
from p2pser.experiments.report.grid_tables import short_names
from p2pser.experiments.report.styles import DASHES, INK, MODELS, Style, topology_styles

COLUMNS = 4
"""Panels beside each other."""
FEW, WIDE = 3, 4.2
"""The same of panels an algorithm, and their width [inches]."""


class Look:
    """The styles and names of a place's schemes: a colour and a marker a topology, a line style an algorithm."""

    def __init__(self, summary: Summary, place: Place) -> None:
        self.summary, self.place, self.schemes = summary, place, summary.at(place)
        self.topologies = list(dict.fromkeys(each.topology for each in self.schemes))
        self.algorithms = list(dict.fromkeys(each.algorithm for each in self.schemes))
        everywhere = dict.fromkeys(each.topology for each in summary.figures if each.topology)
        self.styles = topology_styles(everywhere)

    def dash(self, algorithm: str) -> str:
        """The line style of an algorithm."""
        return DASHES[self.algorithms.index(algorithm) % len(DASHES)]

    def of(self, topology: str) -> list[SchemeFigures]:
        """The schemes on a topology."""
        return [each for each in self.schemes if each.topology == topology]

    def algorithm(self, algorithm: str) -> str:
        """The short name of an algorithm (``short_names``)."""
        return short_names(self.algorithms)[algorithm]

    def title(self, algorithm: str) -> str:
        """The title of an algorithm's panel; empty where there is only one."""
        return self.algorithm(algorithm) if len(self.algorithms) > 1 else ""

    def by_algorithm(self, *, height: float = 3.2, **shared: Any) -> tuple[Any, list[Any]]:
        """Return a figure with a panel an algorithm, which share their y axis, and the panels."""
        return panels(len(self.algorithms), height=height, width=WIDE, columns=FEW, sharey=True, **shared)

    def name(self, each: SchemeFigures) -> str:
        """The short name of a scheme."""
        own = [self.algorithm(each.algorithm)] * (len(self.algorithms) > 1)
        return ", ".join([each.topology, *own])

    def levels(self) -> dict[str, float]:
        """The mean UAR of each baseline."""
        scores = self.summary.scores(self.place.undisturbed)
        means = {name: mean_known(own.values()) for name, own in scores.items() if name in MODELS}
        return {name: value for name, value in means.items() if value is not None}


def panels(number: int, *, height: float = 2.6, width: float = 3.0, columns: int = COLUMNS,
           **shared: Any) -> tuple[Any, list[Any]]:
    """Return a figure with so many panels in rows, and the panels. height, width: of each [inches]."""
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    figure = new_figure(max(6.0, width * columns), height * rows + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False, **shared)
    flat = [axes for line in grid for axes in line]
    for axes in flat[number:]:
        axes.set_axis_off()
    if shared.get("sharex"):  # the lowest panel of each column has the numbers
        for place in range(number):
            flat[place].tick_params(labelbottom=place + columns >= number)
    return figure, flat[:number]


def dress(axes: Any, *, title: str = "", x: str = "", colour: str = INK) -> None:
    """Give a panel its title, the label of its x axis, and a grid."""
    axes.set_title(title, fontsize=10.5, color=colour, loc="left", fontweight="bold" if colour != INK else "normal")
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    with_grid(axes)
    axes.tick_params(colors=INK, labelsize=8.5)


def label_outer(axes: list[Any], x: str, y: str, columns: int = COLUMNS) -> None:
    """Name the axes at the lowest panel of each column, and at the first of each row."""
    columns = min(columns, len(axes))
    for place, panel in enumerate(axes):
        panel.set_xlabel(x if place + columns >= len(axes) else "", fontsize=9.5, color=INK)
        panel.set_ylabel(y if place % columns == 0 else "", fontsize=9.5, color=INK)


def log_x(axes: Any, base: int = 10) -> None:
    """Give a panel a logarithmic x axis with plain numbers, few enough to be read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log", base=base)
    low, high = axes.get_xlim()
    several = high / max(low, 1e-300) > 30
    axes.xaxis.set_major_locator(LogLocator(base=base, subs=(1,) if several or base == 2 else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_levels(axes: Any, levels: dict[str, float]) -> list[Any]:
    """Draw the baselines across a panel; their names are for the legend below all panels."""
    return [axes.axhline(value, color=MODELS[name].colour, linestyle=MODELS[name].dash, linewidth=1.1, zorder=1,
                         label=f"{name} {value:.3f}") for name, value in levels.items()]


def line_for(label: str, style: Style, **more: Any) -> Any:
    """Return a line for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"color": style.colour, "linestyle": style.dash, "linewidth": 1.6, **more})


def marker_for(label: str, style: Style, **more: Any) -> Any:
    """Return a marker for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"color": style.colour, "marker": style.marker, "linestyle": "",
                                          "markersize": 7, **more})


def legend_below(figure: Any, handles: Iterable[Any]) -> None:
    """Put a legend below all panels, where it covers nothing."""
    handles = list(handles)
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        fitting = max(1, int(figure.get_size_inches()[0] * 11 / (longest + 6)))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), fitting), frameon=False,
                      fontsize=9)


def algorithm_lines(look: Look) -> list[Any]:
    """Return lines for a legend that tell the algorithms apart; none where there is one."""
    if len(look.algorithms) < 2:
        return []
    return [line_for(look.algorithm(name), Style(INK, look.dash(name), "")) for name in look.algorithms]


def spread(runs: Sequence[Sequence[float | None]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of several curves, the lowest and the highest value after each round (NaN where one has none)."""
    values = np.array([array(run) for run in runs])
    return values.mean(axis=0), values.min(axis=0), values.max(axis=0)

