"""A comparison over a grid as text and as the files of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2pser.base.errors import ConfigError
from p2pser.experiments.grid.comparison import GridComparison
from p2pser.experiments.report import grid_tables
from p2pser.experiments.report.grid_tables import HEAD, text_rows

__all__ = ["HEAD", "legend", "text_rows", "to_dict", "write"]


def write(comparison: GridComparison, out: Path) -> list[str]:
    """Write tables, figures and report.html into a folder; return what was written. Raises ConfigError."""
    try:
        return grid_tables.write(comparison.summary, out)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror or error}; give another --out") from None


def to_dict(comparison: GridComparison) -> dict[str, Any]:
    """Return the summary as plain data, for ``--json``."""
    return {"grid": comparison.grid.model_dump(mode="json"), "missing": comparison.missing,
            "summary": [each.to_row() for each in comparison.summary.figures],
            "differences": grid_tables.difference_dicts(comparison.summary), "notes": comparison.notes}


def legend(comparison: GridComparison) -> str:
    """Return what the table's reader needs to know, in a few lines."""
    grid, trials = comparison.grid, comparison.tables.trials
    chosen = f"settings chosen on {grid.inner} inner folds of training speakers" if grid.tune else \
        "no setting was tuned"
    overlap = max(row["speaker_overlap"] for row in trials)
    return "\n".join([
        f"{len(trials)} trials: {len({row['fold'] for row in trials})} fold(s), {len({row['seed'] for row in trials})} "
        f"seed(s). UAR: of the consensus model (where there is none, the mean of each peer's), mean over folds and "
        "seeds of the recall over the classes present. to pooled, over local: mean paired difference over folds and "
        "seeds [95 %, Student's t], points. worst peer: its own model after the last round. MB/peer: payload of the "
        f"rounds, sent by a peer. seconds: predicted for {grid.network} links and {grid.step_seconds:g} s a local "
        f"step. rounds: until the mean UAR is {grid.target:.0%} of pooled's. front, tied, dominated: by UAR and bytes, "
        "with a paired randomisation test over folds and seeds, corrected by Holm.",
        f"selection: {chosen}, the model after the last round; test speakers that were trained on: {overlap}",
        *comparison.notes])
