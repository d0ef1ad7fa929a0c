"""For how many peers a curious one can solve: known cases, and against rows that were really mixed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from p2pser.graph.exposure import exposure, solvable
from p2pser.graph.spec import Topology, load, parse


@pytest.mark.parametrize(("kind", "peers", "solved", "exchanges"), [
    ("ring", 24, 23, 12),  # half-way round, from both sides
    ("ring", 8, 7, 4),
    ("chain", 24, 23, 12),  # from the middle
    ("complete", 24, 23, 1),
    ("exponential", 24, 23, 3),
    ("torus", 16, 9, 4),  # peers in places that mirror each other are seen as sums
    ("star", 8, 7, 1),
    ("one-peer-exponential", 8, 1, 1),
])
def test_known_cases(kind: str, peers: int, solved: int, exchanges: int) -> None:
    found = exposure(load(kind, peers, 0))
    assert (found.peers, found.exchanges) == (solved, exchanges)


def test_the_observer_that_learns_most_is_found() -> None:
    star = parse({"graph": {"kind": "star", "peers": 5}}, "a test", "star")
    assert exposure(star).observer == 0  # the centre, which all others send to
    solved = [[len(peers) for peers, _ in solvable([star.matrix()] * 3, (i,))] for i in range(5)]
    assert solved == [[4, 4, 4], *[[1, 1, 1]] * 4]  # a leaf has the centre, and the sum of the other leaves


def received(topology: Topology, rows: np.ndarray, observers: tuple[int, ...], exchanges: int
             ) -> tuple[np.ndarray, np.ndarray]:
    """Return the combinations that observers know, (K, N), and the rows that they received, (K, D)."""
    mixed, known = np.eye(topology.size), [*observers]
    combinations, values = [np.eye(topology.size)[known]], [rows[known]]
    for t in range(exchanges):
        W = topology.matrix(t)
        sources = sorted({j for i in observers for j in topology.sources(i, t)} | set(observers))
        combinations.append(mixed[sources])
        values.append((mixed @ rows)[sources])
        mixed = W @ mixed
    return np.concatenate(combinations), np.concatenate(values)


@pytest.mark.parametrize(("kind", "peers", "observers", "exchanges"), [
    ("ring", 12, (3,), 4), ("ring", 12, (3,), 6), ("torus", 16, (0,), 9), ("torus", 16, (0, 1), 9),
    ("random-regular", 14, (5,), 3), ("directed-ring", 7, (2,), 4), ("base-3", 9, (4,), 5),
])
def test_rows_that_were_mixed_are_solved_for_as_promised(kind: str, peers: int, observers: tuple[int, ...],
                                                         exchanges: int) -> None:
    topology = load(kind, peers, 0)
    rows = np.random.default_rng(2).normal(size=(peers, 3))
    combinations, values = received(topology, rows, observers, exchanges)
    found = np.linalg.lstsq(combinations, values, rcond=1e-12)[0]
    right = {i for i in range(peers) if np.allclose(found[i], rows[i], rtol=0, atol=1e-5)} - set(observers)
    promised = list(islice(solvable(map(topology.matrix, range(exchanges)), observers), exchanges))[-1][0]
    assert promised == right
    assert right


def test_one_who_rests_first_learns_later() -> None:
    found = list(solvable([np.eye(2), np.full((2, 2), 0.5)], (0,)))
    assert found == [(frozenset(), 1), (frozenset({1}), 2)]


def test_one_peer() -> None:
    assert exposure(load("ring", 1, 0)).peers == 0
