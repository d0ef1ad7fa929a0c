"""The picture of a timeline: what was said along a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.experiments.plots import COLOURS, FAINT, new_figure, save


def timeline_picture(path: Path, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], dimensions: Sequence[str],
                     title: str) -> None:
    """Draw the windows of a recording, in order: the probability of each emotion, stacked; below, each dimension.

    rows: ``start`` and ``end`` [s], ``label`` (None where it is silent), ``probabilities`` and ``dimensions`` by name.
    Where windows overlap, each is drawn from its own middle to the next one's. The format follows the ending of
    ``path`` (.png, .svg, .pdf).
    """
    panels = [part for part, names in (("probability", labels), ("rating", dimensions)) if names]
    drawn = new_figure(12.0, 1.2 + 2.6 * len(panels))
    axes = np.atleast_1d(drawn.subplots(len(panels), 1, sharex=True))
    edges, spoken = _edges(rows), np.array([row["label"] is not None for row in rows])
    for axis, panel in zip(axes, panels):
        names, key = (labels, "probabilities") if panel == "probability" else (dimensions, "dimensions")
        values = np.array([[row[key].get(name, np.nan) for name in names] for row in rows]).T
        if panel == "probability":
            _stacked(axis, edges, values, names)
        else:
            for number, (name, line) in enumerate(zip(names, values)):
                axis.stairs(line, edges, baseline=None, color=COLOURS[number % len(COLOURS)], label=name, linewidth=1.6)
            axis.set_ylim(-1, 1)
        for place in np.flatnonzero(~spoken):
            axis.axvspan(edges[place], edges[place + 1], color="#eeeeee", linewidth=0)
        axis.set_ylabel(panel)
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        axis.set_xlim(edges[0], edges[-1])
    silent = "; grey: silence" if not spoken.all() else ""
    axes[0].set_title(f"{title}, {len(rows)} windows of {rows[0]['end'] - rows[0]['start']:g} s{silent}", loc="left")
    axes[-1].set_xlabel("time [s]")
    axes[-1].tick_params(colors=FAINT, labelcolor="black")
    save(drawn, path)


def _edges(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return where one window gives way to the next: half way between their middles."""
    middles = np.array([(row["start"] + row["end"]) / 2 for row in rows])
    between = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([[rows[0]["start"]], between, [rows[-1]["end"]]])


def _stacked(axis: Any, edges: np.ndarray, values: np.ndarray, names: Sequence[str]) -> None:
    base = np.zeros(values.shape[1])
    for number, (name, share) in enumerate(zip(names, np.nan_to_num(values))):
        colour = COLOURS[number % len(COLOURS)]
        axis.stairs(base + share, edges, baseline=base, fill=True, color=colour, label=name,
                    hatch=None if number < len(COLOURS) else "//", linewidth=0)
        base = base + share
    axis.set_ylim(0, 1)
