"""Curves over a run: UAR against rounds, bytes and predicted seconds, and the consensus distance with theory's line.

A panel a topology, with the others behind it in grey: curves of several topologies on one panel hide each other.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from p2pser.experiments.differences import mean_known
from p2pser.experiments.grid.cells import Place
from p2pser.experiments.grid.summary import SchemeFigures, Summary
from p2pser.experiments.report.canvas import FLOOR, array
from p2pser.experiments.report.figures.common import (
    Look,
    algorithm_lines,
    draw_levels,
    dress,
    label_outer,
    legend_below,
    line_for,
    log_x,
    panels,
    spread,
)
from p2pser.experiments.report.styles import FAINT, INK, PALE, Style
from p2pser.graph.theory import chebyshev

Against = Literal["round", "bytes_per_peer", "seconds"]
AXES: dict[Against, tuple[str, float]] = {
    "round": ("round", 1.0), "bytes_per_peer": ("MB sent by a peer", 1e-6), "seconds": ("predicted seconds", 1.0)}


def uar_against(summary: Summary, place: Place, against: Against) -> Any | None:
    """Return the figure of UAR against rounds, bytes or seconds; None where nothing was evaluated on the way."""
    look = Look(summary, place)
    label, scale = AXES[against]
    drawn = {}
    for each in look.schemes:
        curves = summary.curve(place, each.scheme, "uar")
        x = array(summary.mean_curve(place, each.scheme, against)) * scale
        if curves and np.isfinite(x).any():
            drawn[each.scheme] = (x, *spread(curves))
    if not drawn:
        return None
    figure, axes = panels(len(look.topologies), sharex=True, sharey=True)
    levels = look.levels()
    handles: list[Any] = []
    for panel, topology in zip(axes, look.topologies):
        handles = draw_levels(panel, levels)
        for each in look.schemes:
            if each.topology != topology and each.algorithm == look.algorithms[0] and each.scheme in drawn:
                _line(panel, *drawn[each.scheme][:2], color=PALE, linewidth=1.0, zorder=1.5)
        for each in look.of(topology):
            if each.scheme in drawn:
                x, centre, low, high = drawn[each.scheme]
                colour = look.styles[topology].colour
                if each.algorithm == look.algorithms[0]:
                    known = np.isfinite(x) & np.isfinite(centre)  # a round that not all have cuts the band
                    panel.fill_between(x[known], low[known], high[known], color=colour, alpha=0.15, linewidth=0)
                _line(panel, x, centre, color=colour, linestyle=look.dash(each.algorithm), linewidth=1.9, zorder=3)
        dress(panel, title=topology, colour=look.styles[topology].colour)
    for panel in axes if against != "round" else ():
        log_x(panel)
    label_outer(axes, label, "UAR, held-out speakers")
    band = line_for("lowest to highest trial" + (f" ({look.algorithm(look.algorithms[0])})"
                                                   if len(look.algorithms) > 1 else ""),
                    Style(FAINT, "-", ""), linewidth=7, alpha=0.3)
    legend_below(figure, [*algorithm_lines(look), *handles, line_for("the other topologies", Style(PALE, "-", "")),
                          band])
    return figure


def distance(summary: Summary, place: Place) -> Any | None:
    """Return the figure of the consensus distance: in training, then in the final consensus beside theory."""
    look = Look(summary, place)
    if not any(summary.curve(place, each.scheme, "distance") for each in look.schemes):
        return None
    figure, axes = panels(len(look.topologies), sharey=True)
    highest = FLOOR * 10
    for panel, topology in zip(axes, look.topologies):
        for each in look.of(topology):
            highest = max(highest, _distances(panel, look, each))
        dress(panel, title=topology, colour=look.styles[topology].colour)
    for panel in axes:
        panel.set_yscale("log")
        panel.set_ylim(FLOOR / 2, highest * 2)
    label_outer(axes, "round, then exchange (shaded)", "consensus distance")
    legend_below(figure, [*algorithm_lines(look), line_for("theory: plain gossip, slem$^k$", Style(INK, ":", "")),
                          line_for("theory: Chebyshev", Style(INK, "", ""), linestyle=(0, (1, 2.5)), linewidth=2.2)])
    return figure


def _distances(panel: Any, look: Look, each: SchemeFigures) -> float:
    """Draw the distances of a scheme; return the highest."""
    summary, place, colour = look.summary, look.place, look.styles[each.topology].colour
    training = _geometric(summary.curve(place, each.scheme, "distance"))
    final = _geometric(summary.curve(place, each.scheme, "distance", "consensus"))
    dash, rounds = look.dash(each.algorithm), len(training)
    _line(panel, np.arange(1, rounds + 1), training, color=colour, linestyle=dash, linewidth=1.9)
    if not np.isfinite(training).any():
        panel.text(0.5, 0.5, f"below {FLOOR:.0e}\nafter every round".replace("1e-06", "$10^{-6}$"), ha="center",
                   va="center", transform=panel.transAxes, fontsize=9, color=INK)
        panel.set_xticks([])
    if np.isfinite(final).sum() > 1:
        x = rounds + np.arange(len(final))
        _line(panel, x, final, color=colour, linestyle=dash, linewidth=1.9)
        if each.algorithm == look.algorithms[0]:
            panel.axvspan(rounds, x[-1], color="#56B4E9", alpha=0.12, linewidth=0)
            slem = mean_known(row["slem"] for row in summary.trials[place][each.scheme])
            if slem is not None and 1e-6 < slem < 1:
                k = np.arange(len(final))
                panel.plot(x, final[0] * slem**k, color=INK, linestyle=":", linewidth=1.3, zorder=4)
                panel.plot(x, final[0] * chebyshev(k, slem), color=INK, linestyle=(0, (1, 2.5)), linewidth=2.2,
                           zorder=4)
    values = np.concatenate([training, final])
    return float(np.nanmax(values)) if np.isfinite(values).any() else 0.0


def _geometric(runs: list[list[float | None]]) -> np.ndarray:
    """Return the geometric mean of curves over the rounds that all have, NaN below the floor."""
    if not runs:
        return np.array([])
    shortest = min(len(run) for run in runs)
    values = np.array([array(run[:shortest]) for run in runs])
    means = np.exp(np.log(np.maximum(values, 1e-300)).mean(axis=0)) if shortest else np.array([])
    return np.where(means > FLOOR / 2, means, np.nan)


def _line(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    known = np.isfinite(x) & np.isfinite(y)
    axes.plot(x[known], y[known], **style)

