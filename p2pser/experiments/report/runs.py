"""Pictures of runs: one run in three panels, and several topologies beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.experiments.report.canvas import FLOOR, Curve, array, new_figure, save, with_grid
from p2pser.experiments.report.styles import COLOURS, FAINT, INK, PALE, Style, model_styles, topology_styles
from p2pser.graph.theory import chebyshev

if TYPE_CHECKING:
    from p2pser.graph.spec import Topology

UAR = "UAR on the held-out speakers"
MEAN_CCC = "CCC on the held-out speakers, mean of the dimensions"


def run_picture(path: Path, *, topology: Topology, dead: Iterable[int], rounds: int, uar: Mapping[str, Curve],
                baselines: Mapping[str, float | None], distance: Curve, final_distance: Curve,
                slem: float, score: str = UAR) -> None:
    """Write the picture of one run: topology, UAR and consensus distance per round.

    Parameters
    ----------
    path : its ending (.png, .svg, .pdf) is the format.
    topology, dead : drawn with its dead peers marked.
    rounds : of the run.
    uar : for each name ("mean", "worst", "consensus model", …) a value after each round, in [0, 1].
    baselines : the level of each name ("pooled", "local-only"), drawn across.
    distance : the consensus distance (relative) after each round.
    final_distance : the same in the final consensus, before any exchange and after each.
    slem : second largest eigenvalue modulus of the mixing matrix of the living peers, for the predicted slopes.
    score : what ``uar`` measures, the panel's title.
    """
    from p2pser.graph.drawing import draw_on

    figure = new_figure(13.5, 4.4)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.15, 1.3))
    draw_on(left, topology, dead=tuple(dead))
    _levels(middle, baselines)
    styles = model_styles(uar)
    for name, curve in uar.items():
        values = array(curve)
        _plot(middle, np.arange(1, len(values) + 1), values, color=styles[name].colour, linestyle=styles[name].dash,
              label=name)
    _uar_axes(middle, rounds, score)
    _distance_panel(right, rounds, distance, final_distance, slem)
    save(figure, path)


SIDE = 3.0
"""Width of a scheme's panels [inches]."""
ACROSS = 4
"""Panels beside each other."""


def compare_picture(path: Path, curves: Mapping[str, Mapping[str, Sequence[Curve]]],
                    baselines: Mapping[str, float | None]) -> None:
    """Write the picture that compares schemes: a panel each for UAR and one for the consensus distance per round.

    curves: for each scheme "uar" and "distance", each a curve for each run (seed, fold): the line is the mean over
    runs and the band reaches from the lowest to the highest. The other schemes' means are behind it in grey. A scheme's
    name begins with its topology's, whose colour it has. baselines: as in ``run_picture``.
    """
    names = list(curves) or [""]
    topologies = topology_styles(name.partition(" ")[0] for name in names)
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    figure = new_figure(max(6.0, SIDE * across), 0.8 + 4.6 * down)
    panels = figure.subplots(2 * down, across, squeeze=False, sharex=True, sharey=False)
    runs = {name: {key: _runs(pair.get(key, ())) for key in ("uar", "distance")} for name, pair in curves.items()}
    longest = max([1, *(each.shape[1] for pair in runs.values() for each in pair.values() if each.size)])
    styles = model_styles(name for name, level in baselines.items() if level is not None)
    for place, name in enumerate(names):
        upper, lower = panels[2 * (place // across)][place % across], panels[2 * (place // across) + 1][place % across]
        lower.set_yscale("log")  # before anything is drawn: all distances may be 0
        for other, pair in runs.items():
            for axes, key in ((upper, "uar"), (lower, "distance")):
                if pair[key].size:
                    style = topologies[other.partition(" ")[0]]
                    _with_band(axes, pair[key], style if other == name else None, log=key == "distance")
        for baseline, level in baselines.items():
            if level is not None:
                upper.axhline(level, color=styles[baseline].colour, linestyle=styles[baseline].dash, linewidth=1.1,
                              zorder=1, label=f"{baseline} {level:.3f}")
        _dress(upper, name, longest)
        _dress(lower, "", longest)
        lower.tick_params(labelbottom=True)
        upper.set_xlabel("")
        upper.set_ylabel("UAR" if place % across == 0 else "")
        lower.set_ylabel("consensus distance" if place % across == 0 else "")
        if not any(line.get_color() != PALE for line in lower.lines):
            lower.text(0.5, 0.5, "below $10^{-6}$", transform=lower.transAxes, ha="center", va="center", color=INK,
                       bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85})
    for unused in range(len(names), across * down):
        for row in (0, 1):
            panels[2 * (unused // across) + row][unused % across].set_axis_off()
    _alike([axes for row in panels[0::2] for axes in row])
    _alike([axes for row in panels[1::2] for axes in row])
    handles, labels = panels[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(handles), across), frameon=False)
    save(figure, path)


def _with_band(axes: Any, runs: np.ndarray, style: Style | None, *, log: bool) -> None:
    """Draw the mean of runs with a band from the lowest to the highest; without a style, the mean in grey."""
    if log:
        runs = np.where(runs > FLOOR, runs, np.nan)
    at = np.flatnonzero(np.isfinite(runs).any(axis=0))
    centre = (_geometric_mean if log else np.nanmean)(runs[:, at], axis=0)
    if style is None:
        axes.plot(at + 1, centre, color=PALE, linewidth=1.0, zorder=1.5)
        return
    if len(runs) > 1:
        axes.fill_between(at + 1, np.nanmin(runs[:, at], axis=0), np.nanmax(runs[:, at], axis=0), color=style.colour,
                          alpha=0.15, linewidth=0)
    if len(at):
        axes.plot(at + 1, centre, color=style.colour, linewidth=1.9, zorder=3)


def _alike(panels: Sequence[Any]) -> None:
    """Give panels with curves the same limits."""
    drawn = [axes for axes in panels if axes.lines]
    if drawn:
        low, high = zip(*(axes.get_ylim() for axes in drawn))
        for axes in drawn:
            axes.set_ylim(min(low), max(high))


def _distance_panel(axes: Any, rounds: int, distance: Curve, final_distance: Curve, slem: float) -> None:
    """Consensus distance on a log axis: training, then the gossip-only end, shaded, beside the theory."""
    training, final = _positive(distance), _positive(final_distance)
    _plot(axes, np.arange(1, len(training) + 1), training, color=COLOURS[0], label="measured")
    end = float(rounds)
    if np.isfinite(final).any():
        x = rounds + np.arange(len(final))
        end = float(x[-1])
        _plot(axes, x, final, color=COLOURS[0], marker="o" if len(final) <= 80 else "", markersize=2.5)
        axes.axvspan(rounds, max(end, rounds + 1), color="#56B4E9", alpha=0.13, linewidth=0)
        start = int(np.flatnonzero(np.isfinite(final))[0])
        if 1e-6 < slem < 1 and len(final) - start > 1:
            k = np.arange(len(final) - start)
            axes.plot(x[start:], final[start] * slem**k, color=COLOURS[1], linestyle="--", linewidth=1.4,
                      label=f"theory: plain, {slem:.3f}$^k$")
            axes.plot(x[start:], final[start] * chebyshev(k, slem), color=COLOURS[2], linestyle="--",
                      linewidth=1.4, label="theory: Chebyshev")
    axes.set_yscale("log")
    _dress(axes, "Consensus distance (relative)", end)
    if end > rounds:
        axes.set_xlabel("round, then exchange of the gossip-only end (shaded)")
    values = np.concatenate([training, final])
    values = values[np.isfinite(values)]
    if values.size:
        axes.set_ylim(values.min() / 3, values.max() * 3)
    _legend(axes, "lower left")


def _positive(curve: Curve) -> np.ndarray:
    """The curve for a log axis: what is not above 0 is left out."""
    values = array(curve)
    return np.where(values > 0, values, np.nan)


def _runs(curves: Sequence[Curve]) -> np.ndarray:
    """The curves as (runs, rounds), shorter ones filled up with nan, empty ones left out."""
    several = [array(curve) for curve in curves if len(curve)]
    longest = max((len(curve) for curve in several), default=0)
    return np.array([np.pad(curve, (0, longest - len(curve)), constant_values=np.nan) for curve in several])


def _geometric_mean(runs: np.ndarray, axis: int) -> np.ndarray:
    """The mean that a log axis asks for."""
    return np.asarray(np.exp(np.nanmean(np.log(runs), axis=axis)))


def _plot(axes: Any, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """Draw a line through the finite points, so that a gap between two measurements is bridged."""
    known = np.isfinite(y)
    axes.plot(x[known], y[known], linewidth=1.8, **style)


def _levels(axes: Any, baselines: Mapping[str, float | None]) -> None:
    """Draw each baseline across the panel, its name and value on the line."""
    known = sorted((level, name) for name, level in baselines.items() if level is not None)
    for number, (level, name) in enumerate(known):
        axes.axhline(level, color=FAINT, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        # Of two levels that nearly meet, the lower one's name goes below its line.
        close = number + 1 < len(known) and known[number + 1][0] - level < 0.05
        axes.annotate(f"{name} {level:.3f}", (1, level), xycoords=("axes fraction", "data"),
                      xytext=(-3, -3 if close else 3), textcoords="offset points", ha="right",
                      va="top" if close else "bottom", color=INK, fontsize=9)


def _uar_axes(axes: Any, rounds: int, title: str) -> None:
    _dress(axes, title, rounds)
    low, high = axes.get_ylim()
    span = max(high - low, 0.05)
    axes.set_ylim(max(0.0, low - 0.05 * span), min(1.0, high + 0.08 * span))
    # Below the panel, where it covers neither a curve nor a baseline's name.
    _legend(axes, "upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)


def _dress(axes: Any, title: str, last: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel("round")
    axes.set_xlim(0.5 if last <= 1 else 1, max(last, 1.5))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    with_grid(axes)
    axes.tick_params(colors=INK, labelsize=9)


def _legend(axes: Any, where: str, **more: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=where, fontsize=9, framealpha=0.85, edgecolor="none", **more)
