"""A whole comparison over a grid: planned, estimated, run, and its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from p2pser.base.errors import P2PSERError
from p2pser.experiments.grid import cells as grid_cells
from p2pser.experiments.grid.cells import Cell
from p2pser.experiments.grid.estimate import Estimate, estimate
from p2pser.experiments.grid.file import Grid
from p2pser.experiments.grid.summary import Summary
from p2pser.experiments.grid.tables import Tables, tables

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class GridComparison:
    """What a grid has found so far.

    ``missing`` trials are not finished: the comparison was interrupted. Those that are finished count all the same.
    """

    grid: Grid
    cells: list[Cell]
    tables: Tables
    missing: int
    interrupted: bool
    notes: list[str]

    @cached_property
    def summary(self) -> Summary:
        """The figures of all schemes at all places."""
        return Summary(self.grid, self.tables)

    def to_frame(self, table: str = "trials") -> pandas.DataFrame:
        """Return ``trials``, ``rounds`` or ``peers`` as a pandas frame. Raises ConfigError without pandas."""
        return self.tables.to_frame(table)


def estimated(grid: Grid, out: Path, processes: int | str | None = None) -> Estimate:
    """Validate a grid with its data, and return what it will cost. Raises as ``compare_grid`` does."""
    return estimate(grid_cells.cells(grid, out), processes)


def compare_grid(grid: Grid, out: Path, *, processes: int | str | None = None, progress: bool = False,
                 beforehand: Callable[[Estimate], None] | None = None) -> GridComparison:
    """Compute what is missing of a grid and return all of it. Ctrl-C returns what is finished.

    Parameters
    ----------
    grid : from ``file.load``.
    out : the folder of the finished trials; a second call computes only what is missing.
    processes : how many; default one for each processor; a text is the address of a Ray cluster.
    progress : show a bar on standard error.
    beforehand : is given the estimate before anything is computed. Without it nothing is estimated.

    Raises ConfigError, TopologyError or CorpusError where anything in the grid does not fit, or the memory does not
    suffice.
    """
    planned = grid_cells.cells(grid, out, progress=progress)
    if beforehand is not None:
        expected = estimate(planned, processes)
        beforehand(expected)
        expected.require_memory()
    interrupted = False
    try:
        grid_cells.run(planned, processes=processes, progress=progress)
    except KeyboardInterrupt:
        interrupted = True
    by_place = grid_cells.known(planned)
    if not any(results.outer for results in by_place.values()):
        if interrupted:
            raise KeyboardInterrupt
        raise P2PSERError("no trial of the grid is finished")
    notes = dict.fromkeys(note for results in by_place.values() for document in results.outer.values()
                          for note in document["notes"])
    missing = sum(grid_cells.missing(planned).values()) if interrupted else 0
    found = GridComparison(grid, planned, tables(by_place), missing, interrupted, list(notes))
    found.notes.extend(found.summary.notes())
    return found
