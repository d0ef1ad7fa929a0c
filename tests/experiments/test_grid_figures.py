"""What a grid makes of the figures of its trials: rounds lost, tables for LaTeX, and what is more than noise."""

from __future__ import annotations

from typing import Any

import pytest

from p2pser.experiments.grid import file, ties
from p2pser.experiments.grid.summary import Summary
from p2pser.experiments.grid.tables import Tables
from p2pser.experiments.report import grid_tables
from p2pser.experiments.report.figures import curves


def test_rounds_lost_are_counted_to_where_the_undisturbed_run_was_as_good():
    def rows(fault: str, uars: list[float]) -> list[dict[str, Any]]:
        where = {"corpus": "c", "partition": "p", "peers": 2, "fault": fault, "scheme": "ring d", "kind": "gossip",
                 "topology": "ring", "algorithm": "d", "seed": 0, "fold": 0}
        return [{**where, "phase": "training", "round": at, "uar": uar} for at, uar in enumerate(uars, start=1)]

    grid = file.parse({"topologies": ["ring"], "faults": {"f": {"deaths": 2}}}, "g")
    both = rows("none", [0.2, 0.4, 0.5, 0.55, 0.6]) + rows("f", [0.2, 0.3, 0.4, 0.45, 0.45])
    made = Summary(grid, Tables([both[0], both[5]], both, []))
    place = next(place for place in made.places if place.fault == "f")
    assert made._lost(place, "ring d") == 2
    assert made._lost(place.undisturbed, "ring d") is None


class Sparse(dict[str, Any]):
    """A row of a table whose other columns are empty."""

    def __missing__(self, column: str) -> None:
        return None


def test_the_band_spans_rounds_that_were_not_evaluated():
    settings = {"topologies": ["ring", "star"], "settings": {"peer.evaluate_every": 2}}
    grid, summary, trials = file.parse(settings, "g"), [], []
    for topology in ("ring", "star"):
        for seed in (0, 1):
            where = {"corpus": "c", "partition": "p", "peers": 2, "fault": "none", "scheme": f"{topology} d",
                     "kind": "gossip", "topology": topology, "algorithm": "d", "seed": seed, "fold": 0}
            uars = [None, 0.3 + 0.1 * seed, None, 0.5 + 0.1 * seed]
            summary += [{**where, "phase": "training", "round": at, "uar": uar} for at, uar in enumerate(uars, start=1)]
            trials.append(Sparse(where, uar=0.5 + 0.1 * seed))
    made = Summary(grid, Tables(trials, [Sparse(row) for row in summary], []))
    figure = curves.uar_against(made, made.places[0], "round")
    bands = [panel.collections[0].get_paths() for panel in figure.axes]
    assert [len(paths) for paths in bands] == [1, 1]
    corners = {tuple(float(value) for value in vertex) for vertex in bands[0][0].vertices}
    assert corners == {(2.0, 0.3), (2.0, 0.4), (4.0, 0.5), (4.0, 0.6)}


def test_tables_for_latex_escape_what_latex_takes_for_its_own():
    text = grid_tables.to_latex(("a_b", "c"), [("50 % & more", "−1.0")])
    assert text == ("\\begin{tabular}{lr}\n\\toprule\na\\_b & c \\\\\n\\midrule\n"
                    "50 \\% \\& more & $-$1.0 \\\\\n\\bottomrule\n\\end{tabular}\n")
    assert grid_tables.short_names(["ring a:x=1", "ring b"]) == {"ring a:x=1": "ring a", "ring b": "ring b"}
    assert grid_tables.short_names(["r a:x=1", "r a:x=2"]) == {"r a:x=1": "r a:x=1", "r a:x=2": "r a:x=2"}


def test_holm_s_correction():
    # Holm (1979): 4 x .005, 3 x .01, 2 x .03, 1 x .04 raised to the one before.
    assert ties.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert ties.holm([0.5, 0.9]) == [1.0, 1.0]
    assert ties.holm([]) == []


def test_signs_are_assigned_at_random():
    assert ties.sign_flips([1.0, 2.0, 3.0, 4.0]) == 2 / 16
    # Of the 8 sums of +-1 +-2 +-3, those of absolute value 4 or more are +-6 and +-4.
    assert ties.sign_flips([3.0, 2.0, -1.0]) == 4 / 8
    assert ties.sign_flips([0.0, 0.0]) == 1.0
    assert ties.sign_flips([0.01] * 15) == pytest.approx(1 / 100_001, abs=1e-4)


def test_a_paired_difference_and_its_interval():
    scores: dict[str, Any] = {"a": {(0, 0): 0.7, (0, 1): 0.8, (1, 0): 0.9}, "b": {(0, 1): 0.5, (0, 0): 0.6}}
    each = ties.contrast("a", "b", scores)
    assert each is not None
    assert (each.pairs, each.mean) == (2, pytest.approx(0.2))
    # t(0.975, 1) = 12.7062; the sd of .1 and .3 is .141421, that of their mean .1.
    assert (each.low, each.high) == (pytest.approx(0.2 - 1.27062, abs=1e-4), pytest.approx(0.2 + 1.27062, abs=1e-4))
    both = ties.contrasts(scores)
    assert both["b", "a"].mean == -both["a", "b"].mean
    assert both["b", "a"].low == -both["a", "b"].high
    assert ties.contrast("a", "c", {**scores, "c": {(9, 9): 1.0}}) is None


def test_the_front_has_ties_where_a_difference_is_within_noise():
    trials = [(fold, seed) for fold in range(4) for seed in range(3)]
    cheap = {key: 0.60 + 0.01 * place for place, key in enumerate(trials)}
    wobble = [0.02, -0.02] * 6
    scores: dict[str, Any] = {
        "cheap": cheap, "equal": {key: cheap[key] + wobble[place] for place, key in enumerate(trials)},
        "better": {key: value + 0.05 for key, value in cheap.items()},
        "worse": {key: value - 0.05 for key, value in cheap.items()}}
    costs = {"cheap": 1.0, "equal": 2.0, "better": 3.0, "worse": 4.0}
    assert ties.standings(costs, ties.contrasts(scores)) == {
        "cheap": "front", "equal": "tied", "better": "front", "worse": "dominated"}


def test_forty_eight_schemes_can_differ():
    scores: dict[str, Any] = {f"scheme {number}": {trial: number + 0.01 * trial for trial in range(20)}
                              for number in range(48)}
    pairs = ties.contrasts(scores)
    assert pairs["scheme 7", "scheme 6"].significant


@pytest.mark.parametrize(("trials", "schemes", "told"), [
    (5, 2, "5 trials of each scheme: too few to tell 1 difference"), (6, 2, ""), (6, 3, "tell 3 differences"),
    (12, 48, "tell 1128 differences"), (18, 48, "")])
def test_too_few_trials_for_any_difference_are_told(trials: int, schemes: int, told: str) -> None:
    scores = {f"scheme {s}": {(0, seed): 0.01 * s + 0.001 * seed for seed in range(trials)} for s in range(schemes)}
    both = ties.contrasts(scores)
    once = [each for (ours, theirs), each in both.items() if ours < theirs]
    assert (told in ties.too_few(once)) if told else ties.too_few(once) == ""
    assert any(each.significant for each in once) == (not told)
