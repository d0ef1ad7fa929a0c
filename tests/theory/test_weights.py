"""The mixing weights and their spectrum against closed forms."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import TopologyError
from p2pser.base.registries import GRAPHS
from p2pser.graph.graphs import build
from p2pser.graph.mixing import RULES, metropolis, slow_weights, weight
from p2pser.graph.spec import parse
from p2pser.graph.spectral import rounds_to, second, slem, stationary


@st.composite
def connected_graphs(draw: st.DrawFn) -> nx.Graph:
    """Draw a random tree on up to 12 nodes, with further edges."""
    size = draw(st.integers(1, 12))
    graph = nx.empty_graph(size)
    graph.add_edges_from((draw(st.integers(0, child - 1)), child) for child in range(1, size))
    ends = st.integers(0, size - 1)
    pairs = st.tuples(ends, ends).filter(lambda pair: pair[0] != pair[1])
    if size > 1:
        graph.add_edges_from(draw(st.lists(pairs, max_size=30)))
    return graph


@given(graph=connected_graphs())
def test_uniform_weights_are_symmetric_doubly_stochastic_and_not_negative(graph: nx.Graph) -> None:
    W = metropolis(graph)
    assert W.dtype == np.float64
    assert np.array_equal(W[~np.eye(len(W), dtype=bool)], W.T[~np.eye(len(W), dtype=bool)])  # bit-equal flows
    np.testing.assert_allclose(W.sum(axis=0), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert (W >= 0).all()
    assert (np.diag(W) > 0).all()
    assert np.array_equal(W > 0, nx.to_numpy_array(graph, nodelist=range(len(W))) + np.eye(len(W)) > 0)
    assert 0 <= slem(W) < 1


SYMMETRIC = ("metropolis", "lazy", "max-degree", "best-constant")
"""The rules of theorem 1 but the one that needs a solver; best-constant alone may be negative (on the diagonal)."""
UNDIRECTED = sorted(kind for kind in GRAPHS if not build(kind, 16).is_directed())


def disagreement(x: np.ndarray) -> float:
    return float(np.linalg.norm(x - x.mean(axis=0)))


def is_symmetric_and_doubly_stochastic(W: np.ndarray, rule: str) -> bool:
    off = W - np.diag(W.diagonal())
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-13)
    assert bool((off >= 0).all())
    return np.array_equal(off, off.T) and (rule == "best-constant" or bool((W >= 0).all()))


@given(graph=connected_graphs(), rule=st.sampled_from(SYMMETRIC), seed=st.integers(0, 2**32 - 1))
def test_every_rule_is_symmetric_doubly_stochastic_and_contracts_by_its_slem(
    graph: nx.Graph, rule: str, seed: int
) -> None:
    W = RULES[rule](graph).dense()
    assert is_symmetric_and_doubly_stochastic(W, rule)
    assert 0 <= slem(W) < 1
    x = np.random.Generator(np.random.Philox(seed)).normal(size=(len(W), 3))
    assert disagreement(W @ x) <= slem(W) * disagreement(x) + 1e-12
    if rule == "lazy":
        assert np.linalg.eigvalsh(W).min() > -1e-12


@pytest.mark.parametrize("kind", UNDIRECTED)
@pytest.mark.parametrize("rule", [*SYMMETRIC, "by-hand"])
def test_every_kind_and_rule_contracts_the_slowest_mode_by_the_slem(
    slowest_mode: Callable[..., np.ndarray], kind: str, rule: str
) -> None:
    if rule == "by-hand":  # a little less than Metropolis weights, unequal ones
        graph = build(kind, 16)
        edges = [[i, j, (0.6 + 0.3 * (i % 2)) * weight(graph.degree(i), graph.degree(j))] for i, j in graph.edges]
        topology = parse({"graph": {"kind": kind, "peers": 16}, "weights": {"edges": edges}}, "test")
    else:
        topology = parse({"graph": {"kind": kind, "peers": 16}, "weights": rule}, "test")
    assert topology.schedule is None
    W = topology.matrix()
    assert is_symmetric_and_doubly_stochastic(W, rule)
    x, value = 3.0 + slowest_mode(W), slem(W)
    for _ in range(20):
        after = W @ x
        # slem 0 (a complete graph): whatever the start, nothing is left. Else the mode shrinks by it, and stays one.
        assert disagreement(after) <= (1e-12 if value == 0 else disagreement(x) * value * 1.01)
        assert value == 0 or disagreement(after) >= disagreement(x) * value * 0.99
        x = after
    assert x.mean() == pytest.approx(3.0, abs=1e-12)


@given(graph=connected_graphs(), factor=st.floats(0.3, 1.9))
def test_no_constant_is_faster_than_the_best(graph: nx.Graph, factor: float) -> None:
    best = RULES["best-constant"](graph).dense()
    other = np.eye(len(best)) + factor * (best - np.eye(len(best)))
    assert slem(best) <= np.abs(np.linalg.eigvalsh(other - 1 / len(best))).max() + 1e-9


@given(graph=connected_graphs(), directed=st.booleans())
def test_out_degree_shares_are_column_stochastic(graph: nx.Graph, directed: bool) -> None:
    if directed and len(graph) > 1:  # a ring around all, so that it is strongly connected, and some one-way links
        graph = nx.DiGraph([(i, (i + 1) % len(graph)) for i in graph] + [edge for edge in graph.edges if sum(edge) % 2])
    W = RULES["out-degree"](graph).dense()
    np.testing.assert_allclose(W.sum(axis=0), 1, rtol=0, atol=1e-14)
    assert (W >= 0).all()
    assert (W.diagonal() > 0).all()
    assert second(W) < 1
    ratio = np.linalg.matrix_power(W, 20_000)
    pi = ratio.sum(axis=1)
    np.testing.assert_allclose(ratio, np.outer(pi, np.ones(len(W))) / len(W), rtol=0, atol=1e-6)  # push-sum's limit


@given(graph=connected_graphs(), data=st.data())
def test_clip_weights_conserve_the_clip_weighted_mean(graph: nx.Graph, data: st.DataObject) -> None:
    counts = {i: data.draw(st.integers(1, 1000)) for i in graph}
    W = metropolis(graph, counts)
    pi = np.array([counts[i] for i in range(len(W))], dtype=float)
    pi /= pi.sum()
    np.testing.assert_allclose(pi @ W, pi, rtol=0, atol=1e-14)
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert (W >= 0).all()
    flow = pi[:, None] * W  # detailed balance
    np.testing.assert_allclose(flow, flow.T, rtol=1e-12, atol=1e-18)
    assert 0 <= slem(W, pi) < 1
    assert slem(W) == pytest.approx(slem(W, pi), abs=1e-8)
    np.testing.assert_allclose(stationary(W), pi, rtol=0, atol=1e-9)


@given(graph=connected_graphs(), data=st.data())
def test_a_peer_finds_its_row_from_its_neighbours_alone(graph: nx.Graph, data: st.DataObject) -> None:
    counts = {i: data.draw(st.integers(1, 50)) for i in graph}
    W = metropolis(graph, counts)
    for i in graph:
        row = [weight(graph.degree(i), graph.degree(j), counts[i], counts[j]) for j in sorted(graph[i])]
        assert row == [W[i, j] for j in sorted(graph[i])]  # bit for bit
        assert 1.0 - functools.reduce(operator.add, row, 0.0) == W[i, i]  # added in ascending order of the ids


@given(graph=connected_graphs(), count=st.integers(1, 10**6))
def test_equal_counts_are_uniform_weights(graph: nx.Graph, count: int) -> None:
    assert np.array_equal(metropolis(graph), metropolis(graph, dict.fromkeys(graph, count)))


@pytest.mark.parametrize("peers", [3, 4, 5, 8, 9, 20, 33])
def test_slem_of_the_ring(peers: int) -> None:
    values = [(1 + 2 * math.cos(math.tau * k / peers)) / 3 for k in range(1, peers)]
    assert slem(metropolis(build("ring", peers))) == pytest.approx(max(map(abs, values)), abs=1e-12)


@pytest.mark.parametrize("peers", [2, 3, 8, 20])
def test_slem_of_the_complete_graph_is_zero(peers: int) -> None:
    W = metropolis(build("complete", peers))
    assert slem(W) == 0.0


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
def test_slem_of_the_hypercube(bits: int) -> None:
    expected = (bits - 1) / (bits + 1)  # eigenvalues (bits + 1 - 2 k) / (bits + 1), k = 0 .. bits
    assert slem(metropolis(build("hypercube", 2**bits))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("peers", [3, 4, 8, 20])
def test_slem_of_the_star(peers: int) -> None:
    assert slem(metropolis(build("star", peers))) == pytest.approx(1 - 1 / peers, abs=1e-12)


@pytest.mark.parametrize("peers", [3, 8, 15])
def test_slem_of_the_chain(peers: int) -> None:
    values = [(1 + 2 * math.cos(math.pi * k / peers)) / 3 for k in range(1, peers)]
    assert slem(metropolis(build("chain", peers))) == pytest.approx(max(map(abs, values)), abs=1e-12)


def test_one_peer_needs_no_gossip() -> None:
    W = metropolis(build("ring", 1))
    assert W.tolist() == [[1.0]]
    assert slem(W) == 0.0


@pytest.mark.parametrize("kind", ["ring", "chain", "star", "grid", "tree", "hypercube", "exponential",
                                  "random-regular", "erdos-renyi", "watts-strogatz"])
@pytest.mark.parametrize("unequal", [False, True])
def test_gossip_contracts_the_slowest_mode_by_the_slem(
    slowest_mode: Callable[..., np.ndarray], kind: str, unequal: bool
) -> None:
    graph = build(kind, 16)
    counts = {i: 1 + 7 * (i % 3) for i in graph} if unequal else None
    W = metropolis(graph, counts)
    pi = np.array([counts[i] if counts else 1 for i in graph], dtype=float)
    pi /= pi.sum()
    x = 3.0 + slowest_mode(W, pi)
    distances = []
    for _ in range(21):
        distances.append(math.sqrt(pi @ (x - pi @ x) ** 2))
        x = W @ x
    measured = (distances[20] / distances[0]) ** (1 / 20)
    assert measured == pytest.approx(slem(W, pi), rel=0.01)
    assert pi @ x == pytest.approx(3.0, abs=1e-12)


@given(graph=connected_graphs(), seed=st.integers(0, 2**32 - 1))
def test_no_disagreement_is_forgotten_more_slowly(graph: nx.Graph, seed: int) -> None:
    W = metropolis(graph)
    x = np.random.Generator(np.random.Philox(seed)).normal(size=len(W))
    before, after = np.linalg.norm(x - x.mean()), np.linalg.norm(W @ x - x.mean())
    assert after <= slem(W) * before + 1e-12


@pytest.mark.parametrize(("eps", "value", "rounds"), [
    (1e-6, 0.5, 20), (1e-3, 0.1, 3), (1e-6, 0.0, 1), (1e-6, 1.0, None), (1.0, 0.9, 0), (1e-6, 1e-7, 1),
])
def test_rounds_to(eps: float, value: float, rounds: int | None) -> None:
    assert rounds_to(eps, value) == rounds


@given(eps=st.floats(1e-12, 0.5), value=st.floats(0.01, 0.9999))
def test_rounds_to_is_the_smallest_that_suffices(eps: float, value: float) -> None:
    rounds = rounds_to(eps, value)
    assert rounds is not None
    assert value**rounds <= eps * (1 + 1e-9)
    assert rounds == 1 or value ** (rounds - 1) > eps * (1 - 1e-9)


def test_very_unequal_clips_are_warned_of() -> None:
    graph = build("ring", 8)  # small and large holders in turn, 1 : 100
    uniform, clips = metropolis(graph), metropolis(graph, {i: 100 if i % 2 else 1 for i in graph})
    assert slem(uniform) == pytest.approx(0.805, abs=5e-4)
    assert slem(clips) == pytest.approx(0.997, abs=5e-4)
    sentence = slow_weights(uniform, clips)
    assert sentence is not None
    assert "slem is 0.997 instead of 0.805" in sentence
    assert f"{rounds_to(1e-6, slem(clips))} exchanges instead of 64" in sentence


@pytest.mark.parametrize("counts", [[10] * 8, [10, 12, 9, 11, 10, 8, 13, 10]])
def test_similar_clips_are_not_warned_of(counts: list[int]) -> None:
    graph = build("ring", 8)
    assert slow_weights(metropolis(graph), metropolis(graph, dict(enumerate(counts)))) is None


@pytest.mark.parametrize("counts", [{0: 1, 1: 2}, {0: 1, 1: 2, 2: 0}, {0: 1, 1: 2, 2: -3}])
def test_missing_and_empty_counts_are_refused(counts: dict[int, int]) -> None:
    with pytest.raises(TopologyError, match="clip count of peer 2 is"):
        metropolis(build("ring", 3), counts)
