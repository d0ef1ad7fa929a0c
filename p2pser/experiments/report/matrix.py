"""The cross-corpus matrix as a picture: a row a model, a column a tested corpus, shaded by how far above chance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from p2pser.experiments.report.runs import INK, new_figure, save


def matrix_picture(path: Path, document: Mapping[str, Any]) -> None:
    """Write the picture of ``crosscorpus.tabulate``'s document: UAR (a) in points, its sd over seeds below.

    A frame marks what was tested on the corpus that it was trained on. The format follows the ending of ``path``.
    """
    from matplotlib.patches import Rectangle

    rows, columns = list(document["rows"]), list(document["corpora"])
    cells = [[document["cells"][row][name] for name in columns] for row in rows]
    figure = new_figure(2.6 + 1.35 * len(columns), 1.6 + 0.55 * len(rows))
    axes = figure.subplots()
    values = np.array([[cell["uar"] for cell in line] for line in cells])
    chance = np.array([document["corpora"][name]["chance"] for name in columns])
    axes.imshow((values - chance) / (1 - chance), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        sd = cells[row][column]["uar_sd"]
        said = f"{100 * value:.1f}" + ("" if sd is None else f"\n±{100 * sd:.1f}")
        dark = (value - chance[column]) / (1 - chance[column]) > 0.55
        axes.text(column, row, said, ha="center", va="center", fontsize=9, color="white" if dark else INK)
        if rows[row] == columns[column]:
            axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, fill=False, edgecolor=INK, linewidth=1.2))
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.xaxis.tick_top()
    axes.set_xlabel(f"tested on, UAR (a) [points], unseen speakers, {len(document['labels'])} emotions", fontsize=9,
                    color=INK)
    axes.set_ylabel("trained on", fontsize=9, color=INK)
    axes.tick_params(length=0, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)
    save(figure, path)
