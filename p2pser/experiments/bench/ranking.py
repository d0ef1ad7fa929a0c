"""Results of a benchmark in order, with ties where differences are within noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pser.base.errors import ConfigError
from p2pser.base.version import __version__
from p2pser.experiments.bench import definition, outcome
from p2pser.experiments.bench.definition import Bench
from p2pser.experiments.bench.outcome import Outcome
from p2pser.experiments.grid.ties import Contrast, contrasts


@dataclass(frozen=True)
class Place:
    """A result in the ranking.

    rank : 1 + the number of schemes that are significantly better; None for a baseline, and above the budget of bytes.
    behind : the paired difference to the first, corrected for all pairs of schemes; None for the first and unranked.
    """

    name: str
    outcome: Outcome
    rank: int | None
    behind: Contrast | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        own, gap, behind = self.outcome, self.outcome.gap, self.behind
        averages = {name: own.average(name) for name in (
            "uar", "uar_worst_peer", "bytes_per_peer", "bytes_final_per_peer", "seconds", "consensus_distance")}
        return {"rank": self.rank, "scheme": self.name, "kind": own.kind, "origin": own.origin, "p2pser": own.p2pser,
                **averages, "to_pooled": None if gap is None else vars(gap),
                "behind_first": None if behind is None else vars(behind)}


@dataclass(frozen=True)
class Ranking:
    """All results of one benchmark: the ranked ones, best first, then those without a rank. ``notes`` are for readers.
    """

    bench: Bench
    places: list[Place]
    notes: list[str]


def read(paths: Iterable[Path]) -> tuple[dict[str, dict[str, Outcome]], list[str]]:
    """Return the results in files and folders by benchmark and name, and a note for each that does not count.

    A folder's results are its JSON files and those in the folders directly below it. Raises ConfigError where there is
    no result, or a file that is named by itself is none.
    """
    outcomes: dict[str, dict[str, Outcome]] = {}
    notes: list[str] = []
    for path, named in _files(paths):
        try:
            own = outcome.read(path)
        except ConfigError as error:
            if named:
                raise
            notes.append(f"{error}; it does not count")
            continue
        why = _does_not_count(own)
        if why:
            notes.append(f"{path} does not count: {why}")
            continue
        others = outcomes.setdefault(own.bench, {})
        others[own.scheme if own.scheme not in others else f"{own.scheme} ({path})"] = own
    if not outcomes:
        raise ConfigError("; ".join(notes) if notes else
                          "there is no result there: name files or folders that p2pser bench run has written")
    return outcomes, notes


def _files(paths: Iterable[Path]) -> list[tuple[Path, bool]]:
    """Return the files, each with whether it is named by itself."""
    files: dict[Path, tuple[Path, bool]] = {}
    for path in paths:
        below = path.is_dir()
        for file in sorted([*path.glob("*.json"), *path.glob("*/*.json")]) if below else [path]:
            files[file.resolve()] = file, not below
    return list(files.values())


def _does_not_count(own: Outcome) -> str:
    """Return why a result cannot be ranked; empty where it can."""
    try:
        bench = definition.load(own.bench)
    except ConfigError:
        return f"this p2pser ({__version__}) has no benchmark {own.bench}"
    if (str(bench), bench.digest) != (own.bench, own.digest):
        return f"it is of another definition of {own.bench} than this p2pser's"
    if set(own.scores) != bench.trials:
        return f"it has {len(own.trials)} trials, and the benchmark {len(bench.trials)}: each fold and seed once"
    return ""


def rank(results: Mapping[str, Outcome]) -> Ranking:
    """Rank the results of one benchmark, by name."""
    bench = definition.load(next(iter(results.values())).bench)
    order = sorted(results, key=lambda name: -_uar(results[name]))
    ranked = [name for name in order if results[name].kind == "gossip" and not _too_much(bench, results[name])]
    pairs = contrasts({name: results[name].scores for name in ranked})

    def place(name: str) -> Place:
        if name not in ranked:
            return Place(name, results[name], None, None)
        better = [other for other in ranked if other != name and pairs[other, name].significant
                  and pairs[other, name].mean > 0]
        return Place(name, results[name], 1 + len(better), pairs.get((name, ranked[0])))

    places = [place(name) for name in [*ranked, *(name for name in order if name not in ranked)]]
    return Ranking(bench, places, _notes(bench, places))


def _uar(own: Outcome) -> float:
    return sum(own.scores.values()) / len(own.scores)


def _too_much(bench: Bench, own: Outcome) -> bool:
    """Whether a scheme has sent more than the budget."""
    sent = own.average("bytes_per_peer")
    return sent is None or sent > bench.megabytes * 1e6


def _notes(bench: Bench, places: Sequence[Place]) -> list[str]:
    notes = []
    dear = [each.name for each in places if each.outcome.kind == "gossip" and each.rank is None]
    if dear:
        notes.append(f"above the budget of {bench.megabytes:g} MB a peer, and not ranked: {', '.join(dear)}")
    overlap = [each.name for each in places if any(trial.speaker_overlap for trial in each.outcome.trials)]
    if overlap:
        notes.append(f"trained on speakers of the test: {', '.join(overlap)}")
    for what, values in (("versions of p2pser", [each.outcome.p2pser for each in places]),
                         ("machines", [str(sorted(each.outcome.machine.items())) for each in places])):
        if len(counts := Counter(values)) > 1:
            notes.append(f"the results come from {len(counts)} {what}: their last bits may differ")
    return notes
