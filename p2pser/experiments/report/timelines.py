"""The picture of a timeline: the predictions along a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.experiments.report.canvas import new_figure, save
from p2pser.experiments.report.styles import COLOURS, FAINT


def timeline_picture(path: Path, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], dimensions: Sequence[str],
                     title: str) -> None:
    """Draw the windows of a recording, in order: the darker, the more probable an emotion; below, each dimension.

    rows: ``start`` and ``end`` [s], ``label`` (None where it is silent), ``probabilities`` and ``dimensions`` by name.
    Where windows overlap, each is drawn from its own middle to the next one's. The format follows the ending of
    ``path`` (.png, .svg, .pdf).
    """
    heights = [0.5 + 0.38 * len(labels)] * bool(labels) + [2.4] * bool(dimensions)
    drawn = new_figure(12.0, 0.9 + sum(heights))
    axes = list(np.atleast_1d(drawn.subplots(len(heights), 1, sharex=True, height_ratios=heights)))
    edges, spoken = _edges(rows), np.array([row["label"] is not None for row in rows])
    if labels:
        _chances(drawn, axes[0], edges, rows, labels)
    if dimensions:
        _ratings(axes[-1], edges, rows, dimensions)
    for axis in axes:
        for place in np.flatnonzero(~spoken):
            axis.axvspan(edges[place], edges[place + 1], color="#e4e4e4", linewidth=0)
        axis.set_xlim(edges[0], edges[-1])
    silent = "; grey: silence" if not spoken.all() else ""
    axes[0].set_title(f"{title}, {len(rows)} windows of {rows[0]['end'] - rows[0]['start']:g} s{silent}", loc="left")
    axes[-1].set_xlabel("time [min:s]")
    axes[-1].set_xticks(_moments(float(edges[-1])))
    axes[-1].xaxis.set_major_formatter(lambda seconds, _: f"{int(seconds) // 60}:{seconds % 60:02.0f}")
    save(drawn, path)


def _edges(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return where one window gives way to the next: half way between their middles."""
    middles = np.array([(row["start"] + row["end"]) / 2 for row in rows])
    between = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([[rows[0]["start"]], between, [rows[-1]["end"]]])


def _moments(length: float) -> np.ndarray:
    """Return 4 to 12 round moments [s] of a recording."""
    step = next((step for step in (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800) if length / step <= 12), 3600)
    return np.arange(0, length, step)


def _values(rows: Sequence[Mapping[str, Any]], key: str, names: Sequence[str]) -> np.ndarray:
    """Return (names, windows), NaN where a window is silent."""
    return np.array([[row[key].get(name, np.nan) for name in names] for row in rows]).T


def _chances(figure: Any, axis: Any, edges: np.ndarray, rows: Sequence[Mapping[str, Any]],
             names: Sequence[str]) -> None:
    mesh = axis.pcolormesh(edges, np.arange(len(names) + 1), _values(rows, "probabilities", names), cmap="Blues",
                           vmin=0, vmax=1, edgecolors="none")
    axis.set_yticks(np.arange(len(names)) + 0.5, names)
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    figure.colorbar(mesh, ax=axis, label="probability", pad=0.01)


def _ratings(axis: Any, edges: np.ndarray, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    for number, (name, line) in enumerate(zip(names, _values(rows, "dimensions", names))):
        axis.stairs(line, edges, baseline=None, color=COLOURS[number], label=name, linewidth=1.6)
    axis.axhline(0, color=FAINT, linewidth=0.8)
    axis.set_ylim(-1, 1)
    axis.set_ylabel("rating")
    axis.legend(loc="upper right", ncols=len(names), framealpha=0.9)
