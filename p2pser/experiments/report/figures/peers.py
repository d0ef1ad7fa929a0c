"""Figures of models and peers: own models and the consensus, spread by degree, paired differences of schemes."""

from __future__ import annotations

from typing import Any

import numpy as np

from p2pser.base import seeding
from p2pser.experiments.grid.cells import Place
from p2pser.experiments.grid.summary import Summary
from p2pser.experiments.report.canvas import new_figure, without_frame
from p2pser.experiments.report.figures.common import (
    Look,
    dress,
    label_outer,
    legend_below,
    line_for,
    marker_for,
    panels,
)
from p2pser.experiments.report.styles import FAINT, INK, MODELS, Style

MOST_NUMBERS = 14
"""Schemes up to which each difference is written into its cell."""


def models(summary: Summary, place: Place) -> Any | None:
    """Return the figure of the consensus model beside the mean and the worst of the peers' own models."""
    look = Look(summary, place)
    known = [each for each in look.schemes if each.uar_mean_peer is not None and each.uar_worst_peer is not None]
    if not known:
        return None
    figure = new_figure(8.5, 1.3 + 0.36 * len(known))
    axes = figure.subplots()
    for at, each in enumerate(reversed(known)):
        colour = look.styles[each.topology].colour
        ends = (each.uar_worst_peer, max(each.uar, each.uar_mean_peer or 0.0))
        axes.plot(ends, (at, at), color=colour, linewidth=1.2, alpha=0.6, zorder=2)
        axes.plot(each.uar_worst_peer, at, marker="X", color=colour, markersize=7, zorder=3)
        axes.plot(each.uar_mean_peer, at, marker="s", color=colour, markerfacecolor="white", markersize=7, zorder=3)
        axes.plot(each.uar, at, marker="o", color=colour, markersize=7, zorder=4)
    axes.set_yticks(range(len(known)), [look.name(each) for each in reversed(known)])
    handles = [axes.axvline(value, color=MODELS[name].colour, linestyle=MODELS[name].dash, linewidth=1.1,
                            label=f"{name} {value:.3f}") for name, value in look.levels().items()]
    dress(axes, x="UAR on the held-out speakers, mean over folds and seeds")
    ink = Style(INK, "", "")
    legend_below(figure, [
        marker_for("consensus model", ink._replace(marker="o")),
        marker_for("mean of the peers' own models", ink._replace(marker="s"), markerfacecolor="white"),
        marker_for("worst peer's own", ink._replace(marker="X")), *handles])
    return figure


def by_degree(summary: Summary, place: Place) -> Any | None:
    """Return the figure of the peers' own models by their degree; None where no model of a peer was evaluated."""
    look, rows = Look(summary, place), summary.peers[place]
    if not rows:
        return None
    figure, axes = panels(len(look.topologies), sharey=True)
    draw = seeding.generator(0, "places of points")
    for panel, topology in zip(axes, look.topologies):
        colour = look.styles[topology].colour
        points: dict[float, list[float]] = {}
        for each in look.of(topology):
            trials: dict[tuple[int, int], list[dict[str, Any]]] = {}
            for row in rows.get(each.scheme, []):
                trials.setdefault((row["fold"], row["seed"]), []).append(row)
            for peers in trials.values():
                middle = float(np.mean([row["uar"] for row in peers]))
                for row in peers:
                    points.setdefault(row["degree"], []).append(100 * (row["uar"] - middle))
        degrees = sorted(points)
        for at, degree in enumerate(degrees):
            values = np.array(points[degree])
            panel.scatter(at + draw.uniform(-0.22, 0.22, len(values)), values, s=7, color=colour, alpha=0.35,
                          linewidths=0)
            panel.plot([at - 0.3, at + 0.3], [values.mean()] * 2, color=INK, linewidth=2)
        panel.set_xticks(range(len(degrees)), [f"{degree:g}" for degree in degrees])
        panel.set_xlim(-0.6, len(degrees) - 0.4)
        panel.axhline(0, color=FAINT, linewidth=0.8)
        dress(panel, title=topology, colour=colour)
    label_outer(axes, "degree: messages an exchange", "UAR minus the run's mean [points]")
    legend_below(figure, [marker_for("a peer in a trial", Style(INK, "", "."), alpha=0.6),
                          line_for("mean of the peers of a degree", Style(INK, "-", ""), linewidth=2)])
    return figure


def differences(summary: Summary, place: Place) -> Any | None:
    """Return the figure of all paired differences between schemes; None where there is only one."""
    look, pairs = Look(summary, place), summary.contrasts(place)
    schemes = sorted(look.schemes, key=lambda each: -each.uar)
    if len(schemes) < 2:
        return None
    means = {key: 100 * each.mean for key, each in pairs.items()}
    values = np.array([[means.get((ours.scheme, theirs.scheme), np.nan) for theirs in schemes] for ours in schemes])
    size = len(schemes)
    figure = new_figure(max(6.0, 3.0 + 0.62 * size), max(3.6, 1.6 + 0.42 * size))
    axes = figure.subplots()
    reach = max(1.0, float(np.nanmax(np.abs(values))))
    shown = axes.imshow(values, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto")
    for i, ours in enumerate(schemes):
        for j, theirs in enumerate(schemes):
            each = pairs.get((ours.scheme, theirs.scheme))
            if each is None:
                continue
            dark = abs(values[i, j]) > 0.5 * reach
            if size <= MOST_NUMBERS:
                axes.text(j, i, f"{values[i, j]:+.1f}".replace("-", "−"), ha="center", va="center", fontsize=8,
                          fontweight="bold" if each.significant else "normal",
                          color="white" if dark else INK)
            elif each.significant:
                axes.plot(j, i, marker=".", color="white" if dark else INK, markersize=4)
    names = [look.name(each) for each in schemes]
    axes.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor", fontsize=8.5)
    axes.set_yticks(range(size), names, fontsize=8.5)
    axes.set_title("row minus column, points of UAR" + (
        "; bold: more than noise" if size <= MOST_NUMBERS else "; dot: more than noise"), fontsize=10.5, loc="left",
        color=INK)
    without_frame(axes)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02)
    bar.ax.tick_params(labelsize=8.5, colors=INK)
    bar.outline.set_visible(False)
    return figure
