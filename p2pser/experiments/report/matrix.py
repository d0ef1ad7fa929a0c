"""The cross-corpus matrix as text and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2pser.base.atomic import write_json
from p2pser.base.wording import counted
from p2pser.experiments.crosscorpus import Matrix
from p2pser.experiments.report.canvas import new_figure, save, without_frame
from p2pser.experiments.report.comparison import BUDGETS, points, with_sd
from p2pser.experiments.report.styles import INK

FILES = ("matrix.json", "matrix.png")
"""What ``write`` writes."""


def write(matrix: Matrix, out: Path) -> None:
    """Write ``FILES`` into a folder."""
    write_json(out / "matrix.json", {**matrix.to_dict(), "out": str(out)})
    matrix_picture(out / "matrix.png", matrix)


def text_rows(matrix: Matrix) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the head and the rows of the table as text: a row for each training set, a column for each tested corpus,
    and their mean.
    """
    rows = []
    for row in matrix.rows:
        cells = [matrix.cells[row][name] for name in matrix.corpora]
        mean = float(np.mean([cell.uar for cell in cells]))
        rows.append((row, *(with_sd(cell.uar, cell.uar_sd) for cell in cells), f"{mean:.3f}"))
    for name, differences in (("gossip on all, to its own", matrix.gains),
                              ("gossip on all, to pooled", matrix.gaps_to_pooled),
                              ("gossip on all, to pooled-steps", matrix.gaps_to_pooled_steps)):
        if differences:
            rows.append((name, *(points(differences[corpus]) for corpus in matrix.corpora), ""))
    return ("trained on", *matrix.corpora, "mean"), rows


def legend(matrix: Matrix) -> str:
    """Return what the table's reader needs to know, in a few lines."""
    tested = "; ".join(f"{name}: {corpus.clips} clips of {corpus.speakers} speakers in {corpus.tested_folds} of "
                       f"{corpus.folds} folds, chance {corpus.chance:.3f}, majority {corpus.majority:.3f}"
                       for name, corpus in matrix.corpora.items())
    merges = "".join(f", {a} counts as {b}" for a, b in matrix.map.items())
    return "\n".join([
        f"emotions: {', '.join(matrix.labels)}{merges}. Tested: {tested}.",
        f"{matrix.peers_each} peers for each corpus on {matrix.topology}, {matrix.model} on {matrix.features}, "
        f"{matrix.rounds} rounds of {matrix.local_steps} local steps, {counted(len(matrix.seeds), 'seed')}; "
        f"normalisation {matrix.normalise}.",
        "Cells: UAR (a), the mean over the tested corpus's folds of the recall over the classes present, mean and sd "
        "over seeds, of the consensus model. All rows of a column are tested on the same clips, of speakers that none "
        "was trained on. Last rows: mean paired difference over folds and seeds [95 % paired speaker bootstrap], "
        "points.",
        *([BUDGETS] if matrix.gaps_to_pooled else []),
        f"selection: {matrix.selection}; test speakers that were trained on: {matrix.speaker_overlap}",
        *matrix.notes])


def matrix_picture(path: Path, matrix: Matrix) -> None:
    """Write the matrix as a picture: UAR (a) in points, its sd over seeds below, shaded by its excess over chance.

    A frame marks a test on the training corpus. The format follows the ending of ``path``.
    """
    from matplotlib.patches import Rectangle

    rows, columns = matrix.rows, list(matrix.corpora)
    cells = [[matrix.cells[row][name] for name in columns] for row in rows]
    figure = new_figure(2.6 + 1.35 * len(columns), 1.6 + 0.55 * len(rows))
    axes = figure.subplots()
    values = np.array([[cell.uar for cell in line] for line in cells])
    chance = np.array([corpus.chance for corpus in matrix.corpora.values()])
    axes.imshow((values - chance) / (1 - chance), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        sd = cells[row][column].uar_sd
        text = f"{100 * value:.1f}" + ("" if sd is None else f"\n±{100 * sd:.1f}")
        dark = (value - chance[column]) / (1 - chance[column]) > 0.55
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else INK)
        if rows[row] == columns[column]:
            axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, fill=False, edgecolor=INK, linewidth=1.2))
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.xaxis.tick_top()
    axes.set_xlabel(f"tested on, UAR (a) [points], unseen speakers, {len(matrix.labels)} emotions", fontsize=9,
                    color=INK)
    axes.set_ylabel("trained on", fontsize=9, color=INK)
    without_frame(axes)
    save(figure, path)
