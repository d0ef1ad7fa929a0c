"""A comparison over a grid as text and as the files of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from p2pser.base.atomic import put
from p2pser.base.errors import ConfigError
from p2pser.base.wording import counted
from p2pser.experiments.grid.cells import Place
from p2pser.experiments.grid.comparison import GridComparison
from p2pser.experiments.grid.summary import Summary
from p2pser.experiments.report import grid_tables
from p2pser.experiments.report.comparison import BUDGETS
from p2pser.experiments.report.figures.all import pictures
from p2pser.experiments.report.grid_tables import HEAD, text_rows
from p2pser.experiments.report.page import Part, page

REPORT = "report.html"
FIGURES = "figures"

__all__ = ["HEAD", "legend", "text_rows", "to_dict", "write"]


def write(comparison: GridComparison, out: Path) -> list[str]:
    """Write tables, figures and report.html into a folder; return what was written. Raises ConfigError."""
    summary, grid = comparison.summary, comparison.grid
    try:
        tables = grid_tables.write(summary, out)
        parts = [Part(str(place), tables=[(HEAD, text_rows(summary, place))], text=standing_sentences(summary, place),
                      pictures=list(pictures(summary, place, out / FIGURES))) for place in summary.places]
        across = list(pictures(summary, None, out / FIGURES))
        parts += [Part("Across the grid", pictures=across)] * bool(across)
        source = yaml.safe_dump(grid.model_dump(mode="json", exclude_defaults=True), sort_keys=False, width=100)
        html = page(f"Comparison {grid.name}", legend(comparison).splitlines(), _warning(comparison),
                    parts, tables, source)
        put(out / REPORT, html.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror or error}; give another --out") from None
    return [REPORT, f"{FIGURES}/", *tables]


def _warning(comparison: GridComparison) -> str:
    synthetic = [name for name in comparison.grid.corpora if name.startswith("synthetic")]
    return " ".join(filter(None, [
        f"Incomplete: {comparison.missing} trials are missing." if comparison.missing else "",
        "The synthetic corpus is for trying the system; it says nothing about real emotions." if synthetic else ""]))


def standing_sentences(summary: Summary, place: Place) -> list[str]:
    """Return which schemes of a place are on the front of UAR and bytes, which are tied, and which dominated."""
    short, schemes = grid_tables.short_names(each.scheme for each in summary.figures), summary.at(place)
    names = {standing: [short[each.scheme] for each in schemes if each.standing == standing]
             for standing in ("front", "tied", "dominated")}
    return [f"{words}: {', '.join(names[standing])}." for standing, words in (
        ("front", "On the front of UAR and bytes"), ("tied", "Dearer, and within noise of a cheaper one"),
        ("dominated", "Dominated by one that is significantly better for no more bytes")) if names[standing]]


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
        f"{counted(len(trials), 'trial')}: {counted(len({row['fold'] for row in trials}), 'fold')}, "
        f"{counted(len({row['seed'] for row in trials}), 'seed')}. UAR: of the consensus model (where there is none, "
        "the mean of each peer's), mean over folds and seeds of the recall over the classes present. to pooled, to "
        "pooled-steps, over local: mean paired difference over folds and seeds [95 %, Student's t], points. "
        "worst peer: its own model after the last round. "
        f"MB/peer: payload of the rounds, sent by a peer. seconds: predicted for {grid.network} links and "
        f"{grid.step_seconds:g} s a local step. rounds: until the mean UAR is {grid.target:.0%} of pooled's. front, "
        "tied, dominated: by UAR and bytes, with a paired randomisation test over folds and seeds, corrected by Holm.",
        BUDGETS,
        f"selection: {chosen}, the model after the last round; test speakers that were trained on: {overlap}",
        *comparison.notes])
