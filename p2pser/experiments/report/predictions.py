"""Pictures of predictions: confusion matrices, and accuracy by confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from p2pser.evaluation.calibration import Reliability
from p2pser.experiments.report.canvas import new_figure, save, without_frame
from p2pser.experiments.report.styles import COLOURS, FAINT, INK

COLUMNS = 3
"""Most panels side by side."""


def confusion_picture(path: Path, tables: Mapping[str, ArrayLike], labels: Sequence[str]) -> None:
    """Write the confusion matrix of each name: rows true, columns predicted, shaded and numbered by the row's shares.

    tables: counts (classes, classes), rows true. The format follows the ending of ``path`` (.png, .svg, .pdf); raises
    ConfigError for another one, P2PSERError where nothing can be written.
    """
    each = 1.6 + 0.62 * len(labels)
    figure, panels = _panels(len(tables), each, each)
    for axes, (name, table) in zip(panels, tables.items()):
        counts = np.asarray(table, dtype=np.float64)
        clips = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, clips, out=np.zeros_like(counts), where=clips > 0)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8,
                          color="white" if share > 0.55 else INK)
        recall = np.diagonal(shares)[clips[:, 0] > 0]
        axes.set_title(f"{name}   UAR (b) {recall.mean():.3f}" if len(recall) else name, fontsize=10, color=INK)
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.set_xlabel("predicted [% of the row]", fontsize=9, color=INK)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("true", fontsize=9, color=INK)
        without_frame(axes)
    save(figure, path)


def reliability_picture(path: Path, curves: Mapping[str, Mapping[str, Reliability]]) -> None:
    """Write accuracy against confidence, a panel for each name and a line for each way ("before", "after scaling").

    Dots have the size of the share of clips. On the diagonal a model is calibrated. Raises as ``confusion_picture``.
    """
    figure, panels = _panels(len(curves), 3.8, 3.6)
    for axes, (name, ways) in zip(panels, curves.items()):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        for number, (way, curve) in enumerate(ways.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(curve.confidence, curve.accuracy, color=colour, linewidth=1.4, label=way)
            axes.scatter(curve.confidence, curve.accuracy, s=8 + 300 * curve.share, color=colour, alpha=0.5,
                         linewidths=0)
        axes.set_title(name, fontsize=10, color=INK)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("confidence", fontsize=9, color=INK)
        axes.set_ylabel("accuracy", fontsize=9, color=INK)
        axes.tick_params(colors=INK, labelsize=8)
        axes.legend(loc="upper left", fontsize=8, edgecolor="none")
    save(figure, path)


def _panels(count: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure of so many panels [inch each], in rows of at most ``COLUMNS``."""
    columns = 2 if count == 4 else min(count, COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]
