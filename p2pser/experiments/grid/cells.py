"""The cells of a grid: all trials of one corpus, partition, number of peers and condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from p2pser.base.progress import progress as progress_bar
from p2pser.experiments import pool
from p2pser.experiments.conditions import Conditions
from p2pser.experiments.grid.file import UNDISTURBED, Grid
from p2pser.experiments.jobs import Job, Plan, file_name
from p2pser.experiments.planning import plan
from p2pser.experiments.results import Results
from p2pser.graph import spec

TRIALS = "trials"
"""The folder, below that of the grid, with a file for each finished trial."""


@dataclass(frozen=True)
class Place:
    """The axes of a grid that the trials of a cell share."""

    corpus: str
    partition: str
    peers: int
    fault: str

    @property
    def undisturbed(self) -> Place:
        """The same without faults: where the baselines of a cell's trials are, and what they chose on inner folds."""
        return replace(self, fault=UNDISTURBED)

    def __str__(self) -> str:
        fault = "" if self.fault == UNDISTURBED else f", {self.fault}"
        return f"{self.corpus}, {self.partition}, {self.peers} peers{fault}"


@dataclass(frozen=True)
class Cell:
    """A place of the grid with the plan of its trials."""

    place: Place
    plan: Plan

    @property
    def number(self) -> int:
        """How many trials the cell has, those on inner folds among them."""
        return len(self.plan.jobs()) + (len(self.plan.tuning_jobs()) if self._tunes else 0)

    @property
    def _tunes(self) -> bool:
        return self.plan.tunes and self.place.fault == UNDISTURBED


def cells(grid: Grid, out: Path, *, progress: bool = False) -> list[Cell]:
    """Return the cells of a grid, undisturbed ones before those with faults. Features are in the cache afterwards.

    Raises ConfigError, TopologyError, CorpusError where anything in the grid does not fit.
    """
    planned = []
    for corpus in grid.corpora:
        for partition in grid.partitions:
            config = grid.config(corpus, partition)
            for peers in grid.peers:
                topologies = [spec.load(name, peers, config.seed) for name in grid.topologies]
                base = plan(config, topologies, algorithms=grid.algorithms, seeds=grid.seeds, folds=grid.folds,
                            tune=grid.tuning, inner=grid.inner, whole_names=True, progress=progress)
                for fault, settings in grid.conditions.items():
                    conditions = Conditions(settings, grid.network, grid.step_seconds)
                    for topology in topologies:
                        conditions.require(config, topology)
                    place = Place(corpus, partition, peers, fault)
                    planned.append(Cell(place, replace(
                        base, conditions=conditions, out=out / TRIALS / folder(place),
                        kinds=base.kinds if fault == UNDISTURBED else ("gossip",))))
    return sorted(planned, key=lambda cell: cell.place.fault != UNDISTURBED)


def folder(place: Place) -> str:
    """Return the name of a cell's folder."""
    return file_name("-".join([place.corpus, place.partition, str(place.peers), place.fault]))


def run(cells: list[Cell], *, processes: int | str | None = None, progress: bool = False) -> dict[Place, Results]:
    """Compute the trials that are missing, cell after cell, and return all results.

    Each finished trial is a file at once: an interrupted or killed run loses only the trials that it had begun. A trial
    with faults takes what its scheme chose on inner folds without them.
    """
    results: dict[Place, Results] = {}
    with progress_bar("trials", sum(cell.number for cell in cells), wanted=progress) as bar:
        def done(cell: Cell) -> Callable[[Job, bool], None]:
            return lambda job, stored: bar.advance(text=f"{cell.place}, {job}")

        for cell in cells:
            results[cell.place] = pool.run(_with_choice(cell, results), processes=processes, done=done(cell))
    return results


def known(cells: list[Cell]) -> dict[Place, Results]:
    """Return the results of the trials that are finished, without computing any."""
    results: dict[Place, Results] = {}
    for cell in cells:
        results[cell.place] = pool.known(_with_choice(cell, results))
    return results


def missing(cells: list[Cell]) -> dict[Place, int]:
    """Return how many trials of each place are not finished; what depends on a choice that is still open is not."""
    results = known(cells)
    return {cell.place: cell.number - len(results[cell.place].outer)
            - (len(results[cell.place].inner) if cell.number > len(cell.plan.jobs()) else 0) for cell in cells}


def _with_choice(cell: Cell, results: dict[Place, Results]) -> Plan:
    base = results.get(cell.place.undisturbed)
    return cell.plan if base is None else replace(cell.plan, chosen=base.plan.chosen)


def undisturbed(cells: list[Cell]) -> Iterator[Cell]:
    """Yield the cells without faults."""
    return (cell for cell in cells if cell.place.fault == UNDISTURBED)
