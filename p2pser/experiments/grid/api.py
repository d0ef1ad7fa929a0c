"""``p2pser.compare_grid``: a grid from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pser.base.arguments import check
from p2pser.experiments.grid import comparison, file


def compare_grid(grid: str | os.PathLike[str] | Mapping[str, Any], *, out: str | os.PathLike[str],
                 jobs: int | None = 1) -> comparison.GridComparison:
    """Compute what is missing of a grid of topologies, algorithms, peers, partitions, corpora, seeds and faults.

    Parameters
    ----------
    grid : the path of a file ``GRID.yaml``, or what it holds.
    out : the folder in which finished trials are kept, so that a second call computes only the missing ones. The report
        is not written.
    jobs : number of processes; None: one per processor. With several, call it under ``if __name__ == "__main__":``.

    Returns
    -------
    The tables of all finished trials.

    Raises
    ------
    Error : where anything in the grid does not fit together.

    >>> p2pser.compare_grid("grid.yaml", out="runs/grid").to_frame("rounds")  # doctest: +SKIP
    """
    check(compare_grid, locals(), jobs=(1, None))
    given = file.parse(grid, "the grid") if isinstance(grid, Mapping) else file.load(Path(grid))
    return comparison.compare_grid(given, Path(out), processes=jobs)
