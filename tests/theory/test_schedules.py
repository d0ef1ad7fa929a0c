"""Schedules against their theorems: finite-time consensus, and the reported contraction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pser.graph import base_k as base
from p2pser.graph import theory
from p2pser.graph.schedule import Schedule
from p2pser.graph.schedules import Base, EpidemicLocal, EpidemicOracle, OnePeerExponential, OnePeerHypercube
from p2pser.graph.spec import load, parse
from p2pser.graph.spectral import rounds_to
from p2pser.graph.theory import Convergence, convergence, distance, measured


def product(schedule: Schedule, exchanges: int, start: int = 0) -> np.ndarray:
    P = np.eye(schedule.size)
    for t in range(start, start + exchanges):
        P = schedule.matrix(t) @ P
    return P


def is_symmetric_doubly_stochastic_and_of_degree(schedule: Schedule, most: int) -> bool:
    for t in range(schedule.period or 0):
        W = schedule.matrix(t)
        off = W - np.diag(W.diagonal())
        np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
        if not np.array_equal(off, off.T) or (W < 0).any() or (off != 0).sum(axis=1).max() > most:
            return False
    return True


# ---- consensus in finite time ------------------------------------------------------------------------------

@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_base_graphs_agree_exactly_within_their_bound(k: int) -> None:
    for n in range(k + 1, 101):
        schedule = Base(n, k)
        assert is_symmetric_doubly_stochastic_and_of_degree(schedule, k), n
        assert np.abs(product(schedule, schedule.period) - 1 / n).max() <= 1e-12, n
        assert schedule.period <= 2 * math.log(n, k + 1) + 2 + 1e-9, n


@pytest.mark.parametrize(("n", "k", "exchanges"), [
    (2, 1, 1), (3, 1, 3), (4, 1, 2), (5, 1, 5), (6, 1, 4), (7, 1, 5), (8, 1, 3), (64, 1, 6), (1024, 1, 10),
    (3, 2, 1), (9, 2, 2), (8, 2, 3), (12, 2, 3), (5, 2, 3), (5, 4, 1), (25, 4, 2), (25, 3, 6),
])
def test_lengths_of_base_graphs(n: int, k: int, exchanges: int) -> None:
    # Products of factors up to k+1 take one exchange a factor; others a second pass over their largest part.
    assert Base(n, k).period == exchanges


@pytest.mark.parametrize("n", [250, 997, 1000])
def test_base_graphs_of_many_peers(n: int) -> None:
    x = np.random.Generator(np.random.Philox(n)).normal(size=n)
    mean, schedule = x.mean(), base.exchanges(n, 2)
    for links in schedule:
        flow = np.zeros(n)
        for u, v, w in ((int(u), int(v), w) for u, v, w in links):
            flow[u] += w * (x[v] - x[u])
            flow[v] += w * (x[u] - x[v])
        x = x + flow
    assert np.abs(x - mean).max() <= 1e-12
    assert len(schedule) <= 2 * math.log(n, 3) + 2


@pytest.mark.parametrize("start", [1, 2, 3])
def test_finite_time_counts_from_the_beginning_of_a_period(start: int) -> None:
    # Averages of averages need their order: from the middle of a period it takes into the next one.
    schedule = Base(5, 1)
    assert distance(product(schedule, schedule.period, start)) > 1e-3
    assert distance(product(schedule, 2 * schedule.period, start)) == 0.0


@pytest.mark.parametrize("family", [OnePeerHypercube, OnePeerExponential])
@pytest.mark.parametrize("bits", range(1, 9))
def test_one_peer_graphs_of_powers_of_two_agree_exactly(
    family: type[OnePeerHypercube] | type[OnePeerExponential], bits: int
) -> None:
    schedule = family(2**bits)
    assert schedule.period == bits
    for start in range(bits):  # in any order
        assert np.abs(product(schedule, bits, start) - 2.0**-bits).max() <= 1e-12
    assert all((np.count_nonzero(schedule.matrix(t), axis=1) == 2).all() for t in range(bits))


@pytest.mark.parametrize("n", [3, 5, 6, 7, 12, 20, 33])
def test_one_peer_exponential_of_other_numbers_agrees_only_in_the_limit(n: int) -> None:
    schedule = OnePeerExponential(n)
    assert distance(product(schedule, schedule.period)) > 1e-3
    found = convergence(load("one-peer-exponential", n))
    assert (found.finite_time, found.means) == (None, "exact")
    assert 0 < found.per_exchange < 1


# ---- what is told of convergence ---------------------------------------------------------------------------

PERIODIC = [("one-peer-exponential", 6), ("one-peer-exponential", 20), ("directed-exponential", 7),
            ("directed-ring", 9), ("base-2", 11), ("base-3", 7), ("ring", 12),
            ("barbell", 10), ("complete", 6), ("one-peer-hypercube", 8)]


@pytest.mark.parametrize(("name", "peers"), PERIODIC)
def test_the_contraction_is_the_norm_that_the_worst_start_attains(name: str, peers: int) -> None:
    topology = load(name, peers)
    found = convergence(topology)
    P = np.eye(peers)
    for t in range(found.period or 0):
        P = topology.matrix(t) @ P
    worst = np.linalg.svd(P - 1 / peers)[2][0]
    assert np.linalg.norm(P @ worst - worst.mean()) == pytest.approx(found.contraction, abs=1e-12)
    assert found.per_exchange ** (found.period or 0) == pytest.approx(found.contraction, rel=1e-9)
    x = np.random.Generator(np.random.Philox(1)).normal(size=(peers, 50))
    after = P @ x
    assert np.linalg.norm(after - after.mean(axis=0)) <= found.contraction * np.linalg.norm(x - x.mean(axis=0)) + 1e-12


@pytest.mark.parametrize(("name", "peers"), PERIODIC)
def test_predicted_rounds_are_the_fewest_that_every_start_needs(name: str, peers: int) -> None:
    topology, found = load(name, peers), convergence(load(name, peers))
    assert found.rounds is not None
    P = np.eye(peers)
    for t in range(found.rounds):
        assert distance(P) > 1e-6
        P = topology.matrix(t) @ P
    assert distance(P) <= 1e-6
    if topology.schedule is None:
        assert found.rounds == rounds_to(1e-6, found.contraction)
    taken = measured(topology)
    assert taken is not None
    assert 0.75 * found.rounds - 2 <= taken <= found.rounds


@pytest.mark.parametrize(("kind", "predicted"), [
    # E[W^2] = E[W] for pairs that average, with eigenvalue 1/2 - 1/(2 (n-1)) where all n meet.
    ("random-matching", lambda n, s: math.sqrt((1 - 1 / (n - 1)) / 2)),
    # Of a regular graph on n peers: trace(W^2) = n / (s+1), less the 1 of consensus, over n - 1 eigenvalues.
    ("epidemic", lambda n, s: math.sqrt((n / (s + 1) - 1) / (n - 1))),
])
def test_random_schedules_contract_as_their_expectation(kind: str, predicted: object) -> None:
    assert callable(predicted)
    topology = load(kind, 16)
    s = len(topology.sources(0, 0))
    found = convergence(topology)
    assert (found.means, found.period, found.finite_time) == ("estimated", None, None)
    assert found.contraction == pytest.approx(predicted(16, s), rel=1e-9)
    decay = []
    for start in range(0, 3000, 10):
        x = np.random.Generator(np.random.Philox(start)).normal(size=16)
        x -= x.mean()
        decay.append(np.linalg.norm(topology.matrix(start) @ x) ** 2 / (x @ x))
    assert math.sqrt(np.mean(decay)) == pytest.approx(found.contraction, rel=0.05)


def test_epidemic_learning_needs_no_structure() -> None:
    # De Vos et al. 2023: the local form mixes nearly as well as the oracle's, both far better than a fixed ring.
    oracle, local = (convergence(load(name, 32)).per_exchange for name in ("epidemic", "epidemic-local"))
    assert oracle < local < 1.2 * oracle
    assert local < 0.5 < convergence(load("ring", 32)).per_exchange


def test_the_local_form_moves_the_mean_and_the_oracle_does_not() -> None:
    x = np.random.Generator(np.random.Philox(4)).normal(size=16)
    assert abs((EpidemicOracle(16, 0, 4).matrix(0) @ x).mean() - x.mean()) < 1e-15
    assert abs((EpidemicLocal(16, 0, 4).matrix(0) @ x).mean() - x.mean()) > 1e-3


def test_push_sum_on_directed_links_converges_at_the_second_eigenvalue() -> None:
    topology = parse({"graph": {"edges": [[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]], "directed": True}}, "test")
    found = convergence(topology)
    assert (topology.stochastic, found.means) == ("column", "asymptotic")
    assert found.contraction == pytest.approx(np.sort(np.abs(np.linalg.eigvals(topology.matrix())))[-2])
    taken = measured(topology)
    assert taken is not None
    assert found.rounds is not None
    assert abs(taken - found.rounds) <= 5


def test_a_sequence_with_a_random_part_is_estimated_turn_by_turn() -> None:
    topology = parse({"graph": {"kind": "sequence", "files": ["base-2", "random-matching"], "peers": 8}}, "test")
    found = convergence(topology)
    assert found.means == "estimated"
    assert 0 < found.per_exchange < 1
    assert found.rounds is not None
    taken = measured(topology)
    assert taken is not None
    assert taken <= found.rounds


def test_what_does_not_agree_within_patience_is_told_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theory, "PATIENCE", 100)
    assert measured(load("chain", 40)) is None
    assert measured(load("base-2", 40)) == convergence(load("base-2", 40)).finite_time


def test_one_peer_agrees_with_itself() -> None:
    expected = Convergence(1, 0.0, "exact", 0.0, 1, 1)
    assert convergence(load("ring", 1)) == expected
    assert convergence(load("one-peer-exponential", 1)) == expected
    assert convergence(load("random-matching", 1)).contraction == 0.0
    assert measured(load("ring", 1)) == 0
