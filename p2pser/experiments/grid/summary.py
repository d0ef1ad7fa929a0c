"""The figures of each scheme at each place of a grid: means over its trials, and paired differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from p2pser.experiments.compare import rounds_to
from p2pser.experiments.differences import mean_known
from p2pser.experiments.grid.cells import Place
from p2pser.experiments.grid.file import Grid
from p2pser.experiments.grid.tables import Row, Tables
from p2pser.experiments.grid.ties import Contrast, Scores, Standing, contrast, contrasts, standings, too_few

COMPARED = {"gap_to_pooled": "pooled", "gap_to_pooled_steps": "pooled-steps", "gain_over_local": "local-only"}
"""The paired differences of a scheme, and the baseline of each."""
Groups = defaultdict[Place, dict[str, list[Row]]]
"""Rows by place and scheme; a place that has none has an empty dict."""


@dataclass(frozen=True)
class SchemeFigures:
    """The figures of a scheme, or of a baseline, at one place of the grid.

    Means are over the finished trials. ``gap_to_pooled``, ``gap_to_pooled_steps`` and ``gain_over_local`` are paired
    over folds and seeds, and not corrected for other comparisons. ``rounds_to_target`` is the first round (from 1)
    whose mean UAR is the grid's share of the pooled model's, ``bytes_to_target`` the bytes that a peer had sent; None:
    never. ``rounds_lost`` says for a place with faults how many rounds before its end the undisturbed mean curve had
    the UAR with which the disturbed one ended, and ``rounds_lost_per_death`` divides them by the deaths.
    """

    place: Place
    kind: str
    scheme: str
    topology: str
    algorithm: str
    trials: int
    uar: float
    uar_mean_peer: float | None
    uar_worst_peer: float | None
    gap_to_pooled: Contrast | None
    gap_to_pooled_steps: Contrast | None
    gain_over_local: Contrast | None
    consensus_distance: float | None
    bytes_per_peer: float | None
    seconds: float | None
    rounds_to_target: int | None
    bytes_to_target: float | None
    rounds_lost: int | None
    rounds_lost_per_death: float | None
    standing: Standing | None
    facts: Row

    def to_row(self) -> dict[str, Any]:
        """Return a row of the summary, without nested values."""
        row = {**vars(self.place), **{key: value for key, value in vars(self).items()
                                      if key not in ("place", "facts", *COMPARED)}}
        for name in COMPARED:
            each: Contrast | None = getattr(self, name)
            row |= {f"{name}_{part}": None if each is None else getattr(each, part)
                    for part in ("mean", "low", "high", "p")}
        return {**row, **self.facts}


FACTS = ("degree_min", "degree_mean", "degree_max", "spectral_gap", "contraction_measured", "exposed_peers",
         "exposed_after", "skew", "final_exchanges")
"""Columns of a trial whose mean over the trials is in the summary."""


@dataclass(frozen=True)
class Summary:
    """All figures of a grid, from its tables."""

    grid: Grid
    tables: Tables

    @cached_property
    def places(self) -> list[Place]:
        """The places that have finished trials, in the order of the tables."""
        return list(dict.fromkeys(_place(row) for row in self.tables.trials))

    @cached_property
    def trials(self) -> Groups:
        """The trials of each place by scheme, in order; baselines by their kind."""
        return _grouped(self.tables.trials)

    @cached_property
    def rounds(self) -> Groups:
        """The rows of the rounds of each place, by scheme."""
        return _grouped(self.tables.rounds)

    @cached_property
    def peers(self) -> Groups:
        """The rows of the peers of each place, by scheme."""
        return _grouped(self.tables.peers)

    def schemes(self, place: Place) -> list[str]:
        """Return the names of the schemes of gossip at a place."""
        return [scheme for scheme, rows in self.trials[place].items() if rows[0]["kind"] == "gossip"]

    def scores(self, place: Place, column: str = "uar") -> dict[str, Scores]:
        """Return a figure of each trial by (fold, seed), for each scheme and baseline of a place."""
        return {scheme: {(row["fold"], row["seed"]): row[column] for row in rows if row[column] is not None}
                for scheme, rows in self.trials[place].items()}

    def curve(self, place: Place, scheme: str, column: str, phase: str = "training") -> list[list[float | None]]:
        """Return one value a round (or exchange of the final consensus), for each trial."""
        runs: dict[tuple[int, int], list[float | None]] = {}
        for row in self.rounds[place].get(scheme, []):
            if row["phase"] == phase:
                runs.setdefault((row["seed"], row["fold"]), []).append(row[column])
        return list(runs.values())

    def mean_curve(self, place: Place, scheme: str, column: str) -> list[float | None]:
        """Return the mean over trials of a value after each round; None where no trial has one."""
        return [mean_known(values) for values in zip(*self.curve(place, scheme, column))]

    def contrasts(self, place: Place) -> dict[tuple[str, str], Contrast]:
        """Return the corrected paired differences in UAR between all schemes of gossip of a place."""
        scores = self.scores(place)
        return contrasts({scheme: scores[scheme] for scheme in self.schemes(place)})

    def notes(self) -> list[str]:
        """Return a note for each place where no difference between schemes can be significant."""
        found = {place: too_few([each for (ours, theirs), each in self.contrasts(place).items() if ours < theirs])
                 for place in self.places}
        return list(dict.fromkeys(note for note in found.values() if note))

    @cached_property
    def figures(self) -> list[SchemeFigures]:
        """The figures of all schemes and baselines of all places."""
        return [each for place in self.places for each in self._at(place)]

    def at(self, place: Place) -> list[SchemeFigures]:
        """Return the figures of the schemes of gossip at a place."""
        return [each for each in self.figures if each.place == place and each.kind == "gossip"]

    def pooled(self, place: Place) -> float | None:
        """Return the mean UAR of the pooled model; None where it is not trained yet."""
        return mean_known(self.scores(place.undisturbed).get("pooled", {}).values())

    def _at(self, place: Place) -> list[SchemeFigures]:
        scores = {**{name: own for name, own in self.scores(place.undisturbed).items()
                     if name in COMPARED.values()}, **self.scores(place)}
        costs = {scheme: value for scheme in self.schemes(place)
                 if (value := mean_known(row["bytes_per_peer"] for row in self.trials[place][scheme])) is not None}
        standing = standings(costs, self.contrasts(place))
        figures = []
        for scheme, rows in self.trials[place].items():
            def average(column: str, rows: list[Row] = rows) -> float | None:
                return mean_known(row[column] for row in rows)

            reached = self._reached(place, scheme)
            lost = self._lost(place, scheme)
            deaths = self.grid.conditions[place.fault].deaths
            to_pooled, to_pooled_steps, over_local = (
                contrast(scheme, other, scores) if other in scores and scheme != other else None
                for other in COMPARED.values())
            figures.append(SchemeFigures(
                place, rows[0]["kind"], scheme, rows[0]["topology"], rows[0]["algorithm"], len(rows),
                float(np.mean([row["uar"] for row in rows])), average("uar_mean_peer"), average("uar_worst_peer"),
                to_pooled, to_pooled_steps, over_local,
                average("consensus_distance"), average("bytes_per_peer"), average("seconds"),
                reached, None if reached is None else self.mean_curve(place, scheme, "bytes_per_peer")[reached - 1],
                lost, lost / deaths if lost is not None and deaths else None, standing.get(scheme),
                {name: average(name) for name in FACTS}))
        return figures

    def _reached(self, place: Place, scheme: str) -> int | None:
        pooled = self.pooled(place)
        curves = self.curve(place, scheme, "uar")
        return None if pooled is None or not curves else rounds_to(curves, self.grid.target * pooled)

    def _lost(self, place: Place, scheme: str) -> int | None:
        if place == place.undisturbed or scheme not in self.trials[place.undisturbed]:
            return None
        calm = self.mean_curve(place.undisturbed, scheme, "uar")
        ended = next((value for value in reversed(self.mean_curve(place, scheme, "uar")) if value is not None), None)
        if not calm or ended is None:
            return None
        first = next((at for at, value in enumerate(calm, start=1) if value is not None and value >= ended), len(calm))
        return len(calm) - first


def _place(row: Row) -> Place:
    return Place(row["corpus"], row["partition"], row["peers"], row["fault"])


def _grouped(rows: Iterable[Row]) -> Groups:
    groups: Groups = defaultdict(dict)
    for row in rows:
        groups[_place(row)].setdefault(row["scheme"], []).append(row)
    return groups


def contrast_rows(pairs: Mapping[Place, Mapping[tuple[str, str], Contrast]]) -> list[Row]:
    """Return a row for each pair of schemes at each place, once."""
    rows, seen = [], set()
    for place, by_pair in pairs.items():
        for (ours, theirs), each in by_pair.items():
            if (place, theirs, ours) not in seen:
                seen.add((place, ours, theirs))
                rows.append({**vars(place), **vars(each)})
    return rows
