"""Weight rules in topology files: named, by hand, and refused."""

from __future__ import annotations

import importlib.util
import pickle
from typing import Any

import numpy as np
import pytest

from p2pser.base.errors import TopologyError
from p2pser.graph import mixing
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology, parse
from p2pser.graph.spectral import slem

CHAIN = {"kind": "chain", "peers": 3}
TRIANGLE = {"edges": [[0, 1], [1, 2], [2, 0]], "directed": True}


def made(graph: dict[str, Any], weights: Any = None) -> Topology:
    return parse({"graph": graph, "weights": weights}, "test")


def test_metropolis_is_the_default_and_stays_as_it_was() -> None:
    for graph in ({"kind": "ring", "peers": 9}, {"kind": "star", "peers": 7}, {"kind": "erdos-renyi", "peers": 16}):
        topology = made(graph)
        assert topology.weights == "metropolis"
        assert np.array_equal(topology.matrix(4), metropolis(topology.graph))
        counts = {i: 3 + i for i in range(topology.size)}
        assert np.array_equal(topology.matrix(0, counts), metropolis(topology.graph, counts))
        assert topology.digest() == made(graph, "metropolis").digest()


def test_rules_on_a_star() -> None:
    graph = {"kind": "star", "peers": 4}  # Laplacian eigenvalues 0, 1, 1, 4
    assert made(graph, "lazy").matrix()[0].tolist() == [5 / 8, 1 / 8, 1 / 8, 1 / 8]
    assert made(graph, "max-degree").matrix()[1].tolist() == [1 / 4, 3 / 4, 0, 0]
    best = made(graph, "best-constant").matrix()
    np.testing.assert_allclose(best[0], [1 - 3 * 0.4, 0.4, 0.4, 0.4], rtol=0, atol=1e-14)
    assert slem(best) == pytest.approx(0.6, abs=1e-12)  # (4 - 1) / (4 + 1)
    shares = made(graph, "out-degree")
    assert shares.matrix()[:, 0].tolist() == [1 / 4] * 4
    assert shares.matrix()[:, 1].tolist() == [1 / 2, 1 / 2, 0, 0]
    assert (shares.stochastic, shares.directed) == ("column", False)


def test_out_degree_on_a_regular_graph_is_doubly_stochastic() -> None:
    assert made({"kind": "ring", "peers": 5}, "out-degree").stochastic == "doubly"


# ---- by hand -----------------------------------------------------------------------------------------------

def test_by_hand_both_ways() -> None:
    topology = made(CHAIN, {"edges": [[0, 1, 0.25], [1, 2, 0.5]]})
    assert topology.matrix().tolist() == [[0.75, 0.25, 0], [0.25, 0.25, 0.5], [0, 0.5, 0.5]]
    assert (topology.weights, topology.schedule, topology.stochastic) == ("by-hand", None, "doubly")
    assert pickle.loads(pickle.dumps(topology)).digest() == topology.digest()
    assert topology.digest() != made(CHAIN, {"edges": [[0, 1, 0.25], [1, 2, 0.25]]}).digest()


def test_by_hand_one_way() -> None:
    topology = made(TRIANGLE, {"edges": [[0, 1, 0.5], [1, 2, 0.5], [2, 0, 0.5]]})
    assert topology.matrix().tolist() == [[0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]]
    assert (topology.stochastic, topology.directed) == ("doubly", True)
    assert made(TRIANGLE, {"edges": [[0, 1, 0.5], [1, 2, 0.5], [2, 0, 0.25]]}).stochastic == "row"


def test_by_hand_different_each_way() -> None:
    topology = made(CHAIN, {"edges": [[0, 1, 0.25], [1, 0, 0.5], [1, 2, 0.5]]})
    assert topology.matrix()[:2].tolist() == [[0.5, 0.5, 0], [0.25, 0.25, 0.5]]
    assert (topology.stochastic, topology.directed) == ("row", False)


@pytest.mark.parametrize(("graph", "weights", "message"), [
    (CHAIN, "uniform", r"weights = 'uniform': give one of 'metropolis', 'lazy', .*or \{edges: \[\[i, j, w\], …\]\}"),
    (CHAIN, 3, "weights = 3: give one of"),
    (CHAIN, {"edges": []}, "weights: give one of"),
    (CHAIN, {"edge": [[0, 1, 0.5]]}, "weights: give one of"),
    (CHAIN, {"edges": [[0, 1]]}, r"edges holds \[0, 1\], but each must be \[i, j, w\]"),
    (CHAIN, {"edges": [[0, 1, "x"]]}, "two ids and a weight that is not 0"),
    (CHAIN, {"edges": [[0, 1, 0]]}, "two ids and a weight that is not 0"),
    (CHAIN, {"edges": [[0, 1, float("nan")]]}, "two ids and a weight"),
    (CHAIN, {"edges": [[0, 1.5, 0.5]]}, "two ids and a weight"),
    (CHAIN, {"edges": [[0, 1, 0.5]]}, r"must name every link, but not the one from peer 1 to peer 2; add \[1, 2, w\]"),
    (CHAIN, {"edges": [[0, 2, 0.5]]}, "the link from peer 0 to peer 2, which the graph does not have"),
    (CHAIN, {"edges": [[0, 1, 0.5], [0, 1, 0.4], [1, 2, 0.1]]}, "the link from peer 0 to peer 1 twice"),
    (CHAIN, {"edges": [[0, 1, 0.6], [1, 2, 0.5]]}, "the weights of peer 1 sum to 1.1, more than 1"),
    ({"kind": "chain", "peers": 2}, {"edges": [[0, 1, 1.0]]},
     "never reaches consensus .* is 1.; leave every peer some weight"),
    (TRIANGLE, {"edges": [[0, 1, 1.0], [1, 2, 1.0], [2, 0, 1.0]]}, "never reaches consensus"),
    (TRIANGLE, {"edges": [[1, 0, 0.5]]}, "the link from peer 1 to peer 0, which the graph does not have"),
    (TRIANGLE, "metropolis", "weights: metropolis need links that carry both ways, .*use weights: out-degree"),
    (TRIANGLE, "best-constant", "weights: best-constant need links that carry both ways"),
    ({"kind": "directed-ring", "peers": 4}, "lazy", "weights: lazy need links that carry both ways"),
])
def test_refused(graph: dict[str, Any], weights: Any, message: str) -> None:
    with pytest.raises(TopologyError, match=message) as caught:
        made(graph, weights)
    assert "\n" not in str(caught.value)


# ---- fastest mixing ----------------------------------------------------------------------------------------

def test_without_cvxpy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TopologyError, match=r"needs the package cvxpy; .* pip install 'p2pser\[optimal\]'"):
        made(CHAIN, "fastest")


@pytest.mark.skipif(importlib.util.find_spec("cvxpy") is None, reason="the extra 'optimal' is not installed")
@pytest.mark.parametrize("kind", ["ring", "star", "barbell", "random-geometric"])
def test_fastest_is_a_minimum(kind: str) -> None:
    topology = made({"kind": kind, "peers": 8}, "fastest")
    W, edges = topology.matrix(), list(topology.graph.edges)
    assert np.array_equal(W, W.T)
    least = slem(W)
    assert least <= slem(mixing.best_constant(topology.graph)) + 1e-6
    if kind in ("ring", "star"):  # all edges are alike: one constant is best
        assert least == pytest.approx(slem(mixing.best_constant(topology.graph)), abs=1e-6)
    generator = np.random.Generator(np.random.Philox(1))
    for _ in range(200):  # the slem is convex in the weights: what nothing near improves is the best
        V = W.copy()
        for (i, j), change in zip(edges, generator.normal(size=len(edges)) * 1e-3):
            V[[i, j], [j, i]] += change
            V[[i, j], [i, j]] -= change
        assert slem(V) >= least - 1e-6
