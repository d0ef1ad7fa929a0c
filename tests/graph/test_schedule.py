"""Schedules: W of every exchange as a function of (seed, t), what files say of them, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pser.base.errors import TopologyError
from p2pser.base.registries import SCHEDULES
from p2pser.graph.mixing import RULES, metropolis
from p2pser.graph.schedule import Static, entries_of
from p2pser.graph.schedules import Base, default_receivers
from p2pser.graph.spec import Topology, load, parse

NAMES = ("one-peer-exponential", "one-peer-hypercube", "base-2", "base-3", "epidemic", "epidemic-local",
         "random-matching", "directed-ring", "directed-exponential", "random-digraph")
RANDOM = ("epidemic", "epidemic-local", "random-matching")


def made(graph: dict[str, Any], seed: int = 0, **more: Any) -> Topology:
    return parse({"graph": graph, **more}, "test", seed=seed)


# ---- what every schedule keeps -----------------------------------------------------------------------------

@given(kind=st.sampled_from(sorted(SCHEDULES)), peers=st.integers(1, 24), seed=st.integers(0, 2**40),
       t=st.integers(0, 99))
def test_every_kind_keeps_what_it_promises(kind: str, peers: int, seed: int, t: int) -> None:
    assume(SCHEDULES[kind].fits(peers))
    topology = made({"kind": kind, "peers": peers}, seed)
    W = topology.matrix(t)
    assert W.shape == (peers, peers)
    assert W.dtype == np.float64
    assert (W >= 0).all()
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert topology.stochastic == "doubly"
    np.testing.assert_allclose(W.sum(axis=0), 1, rtol=0, atol=1e-14)
    off = W - np.diag(W.diagonal())
    assert topology.directed or np.array_equal(off, off.T)
    assert all(topology.graph.has_edge(i, j) for i, j in np.argwhere(off).tolist())  # the union holds every link


@pytest.mark.parametrize("name", NAMES)
def test_matrices_are_pure_in_seed_and_exchange(name: str) -> None:
    one, other = load(name, seed=3), load(name, seed=3)
    late = one.matrix(7).copy()
    for t in range(40):  # whatever else was asked for in between
        other.matrix(t)
    assert np.array_equal(late, other.matrix(7))
    assert np.array_equal(late, pickle.loads(pickle.dumps(one)).matrix(7))
    with pytest.raises(ValueError, match="read-only"):
        one.matrix(7)[0, 0] = 2
    period = one.schedule.period if one.schedule else None
    assert period is None or np.array_equal(late, one.matrix(7 + period))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("t", [0, 1, 5])
def test_sources_and_receivers_are_two_views_of_one_matrix(name: str, t: int) -> None:
    topology = load(name)
    W = topology.matrix(t)
    for i in range(topology.size):
        assert topology.sources(i, t) == tuple(j for j in range(topology.size) if j != i and W[i, j] != 0)
        assert all(i in topology.sources(j, t) for j in topology.receivers(i, t))
    sent = {(i, j) for i in range(topology.size) for j in topology.receivers(i, t)}
    assert sent == {(j, i) for i in range(topology.size) for j in topology.sources(i, t)}


def test_static_graphs_have_sources_and_receivers_too() -> None:
    topology = load("ring")
    assert (topology.sources(0, 9), topology.receivers(0, 9)) == ((1, 7), (1, 7))
    assert (topology.directed, topology.stochastic, topology.schedule) == (False, "doubly", None)
    for method in (topology.sources, topology.receivers):
        with pytest.raises(TopologyError, match="no peer 8"):
            method(8, 0)


@pytest.mark.parametrize("name", RANDOM)
def test_random_ones_change_with_exchange_and_seed(name: str) -> None:
    topology = load(name, seed=1)
    assert topology.schedule is not None
    assert topology.schedule.period is None
    assert any(not np.array_equal(topology.matrix(0), topology.matrix(t)) for t in range(1, 5))
    assert any(not np.array_equal(topology.matrix(t), load(name, seed=2).matrix(t)) for t in range(5))
    assert nx.utils.graphs_equal(nx.Graph(topology.graph), nx.complete_graph(topology.size))


def test_random_schedules_stay_what_they_are() -> None:
    # Peers with different versions of p2pser, NumPy or networkx must draw the same links.
    def drawn(name: str) -> str:
        topology = load(name, 9 if name == "random-matching" else 8, seed=0)
        links = [topology.sources(i, t) for t in range(4) for i in range(topology.size)]
        return hashlib.blake2b(repr(links).encode(), digest_size=8).hexdigest()

    assert {name: drawn(name) for name in RANDOM} == {
        "epidemic": "d77c589b638f9d73", "epidemic-local": "76293638b5bad2c2", "random-matching": "9a6f09cca95b53c2",
    }


@pytest.mark.parametrize("name", NAMES)
def test_no_exchange_before_the_first(name: str) -> None:
    topology = load(name)
    if topology.schedule is not None and not isinstance(topology.schedule, Static):
        with pytest.raises(TopologyError, match="no exchange -1"):
            topology.matrix(-1)


# ---- each kind ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("peers", [1, 2, 3, 5, 6, 8, 16, 20])
def test_one_peer_exponential_hears_one_at_powers_of_two(peers: int) -> None:
    topology = made({"kind": "one-peer-exponential", "peers": peers})
    hops = [1 << k for k in range((peers - 1).bit_length())] or [0]
    assert topology.schedule is not None
    assert topology.schedule.period == len(hops)
    assert topology.directed == (peers > 2)
    for t in range(2 * len(hops)):
        hop = hops[t % len(hops)]
        for i in range(peers):
            assert topology.sources(i, t) == (((i - hop) % peers,) if peers > 1 else ())
            assert topology.matrix(t)[i, i] == (0.5 if peers > 1 else 1.0)


def test_one_peer_hypercube_pairs_along_one_bit() -> None:
    topology = load("one-peer-hypercube")
    assert [topology.sources(5, t) for t in range(4)] == [(4,), (7,), (1,), (4,)]
    assert not topology.directed


@given(peers=st.integers(3, 40), s=st.integers(1, 8), seed=st.integers(0, 99), t=st.integers(0, 9))
def test_epidemic_receivers(peers: int, s: int, seed: int, t: int) -> None:
    assume(s < peers)
    local = made({"kind": "epidemic", "peers": peers, "s": s, "form": "local"}, seed)
    W = local.matrix(t)
    np.testing.assert_allclose(W.sum(axis=1), 1, rtol=0, atol=1e-14)
    assert ((W != 0).sum(axis=0) == s + 1).all()  # each sends to s others
    for row in W:  # and gives all that came, and itself, the same
        np.testing.assert_allclose(row[row != 0], 1 / (row != 0).sum(), rtol=0, atol=1e-14)
    assert local.stochastic == ("row" if s < peers - 1 else "doubly")
    if s * peers % 2 == 0:
        W = made({"kind": "epidemic", "peers": peers, "s": s}, seed).matrix(t)
        assert ((W != 0).sum(axis=0) == s + 1).all()
        assert ((W != 0).sum(axis=1) == s + 1).all()
        np.testing.assert_allclose(W[W != 0], 1 / (s + 1), rtol=0, atol=1e-14)


def test_epidemic_local_chooses_everybody_alike() -> None:
    topology = made({"kind": "epidemic", "peers": 6, "s": 2, "form": "local"})
    chosen = np.zeros((6, 6))
    for t in range(600):
        chosen += (topology.matrix(t) != 0) - np.eye(6)
    assert np.abs(chosen[~np.eye(6, dtype=bool)] / 600 - 0.4).max() < 0.08  # 2 of 5, four standard deviations


@pytest.mark.parametrize(("peers", "s"), [(2, 1), (8, 3), (9, 4), (16, 4), (7, 4), (64, 6), (3, 2)])
def test_default_receivers(peers: int, s: int) -> None:
    assert default_receivers(peers) == s
    assert len(made({"kind": "epidemic", "peers": peers}).sources(0, 0)) == s


@pytest.mark.parametrize("peers", [1, 2, 7, 8])
def test_random_matchings_are_maximal(peers: int) -> None:
    topology = made({"kind": "random-matching", "peers": peers})
    for t in range(10):
        met = [topology.sources(i, t) for i in range(peers)]
        assert sum(not one for one in met) == peers % 2
        assert all(topology.sources(one[0], t) == (i,) for i, one in enumerate(met) if one)


# ---- directed links ----------------------------------------------------------------------------------------

def test_the_directed_exponential_graph_is_that_of_the_paper() -> None:
    topology = load("directed-exponential", 6)
    W = topology.matrix()
    assert topology.sources(0, 0) == (2, 4, 5)  # from 4, 2 and 1 places before
    assert topology.receivers(0, 0) == (1, 2, 4)
    np.testing.assert_allclose(W[W != 0], 1 / 4, rtol=0, atol=1e-15)
    assert (topology.stochastic, topology.directed, topology.weights) == ("doubly", True, "out-degree")


def test_directed_edge_lists_share_out_by_out_degree() -> None:
    topology = made({"edges": [[0, 1], [1, 2], [2, 0], [0, 2]], "directed": True})
    assert topology.matrix().tolist() == [[1 / 3, 0, 1 / 2], [1 / 3, 1 / 2, 0], [1 / 3, 1 / 2, 1 / 2]]
    assert (topology.stochastic, topology.directed) == ("column", True)
    assert sorted(topology.graph.edges) == [(0, 1), (0, 2), (1, 2)]
    assert (topology.receivers(0, 3), topology.sources(0, 3)) == ((1, 2), (2,))


def test_directed_generators_of_networkx() -> None:
    topology = made({"kind": "paley_graph", "p": 7})
    assert (topology.directed, topology.stochastic, topology.size) == (True, "doubly", 7)
    drawn = made({"kind": "gnp_random_graph", "peers": 9, "p": 0.5, "directed": True}, seed=2)
    assert (drawn.directed, drawn.stochastic) == (True, "column")


# ---- sequences ---------------------------------------------------------------------------------------------

def test_a_sequence_takes_files_in_turn(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("graph: {kind: chain, peers: 8}\nweights: lazy\n", encoding="utf-8")
    (tmp_path / "both.yaml").write_text(
        "graph: {kind: sequence, files: [mine.yaml, one-peer-exponential], each: 2}\n", encoding="utf-8")
    topology = load(str(tmp_path / "both.yaml"))
    chain, hops = load(str(tmp_path / "mine.yaml")), load("one-peer-exponential")
    expected = [chain.matrix(), chain.matrix(), hops.matrix(0), hops.matrix(1), chain.matrix(), chain.matrix(),
                hops.matrix(2), hops.matrix(0), chain.matrix(), chain.matrix(), hops.matrix(1), hops.matrix(2)]
    assert topology.schedule is not None
    assert topology.schedule.period == len(expected)
    for t in range(24):
        assert np.array_equal(topology.matrix(t), expected[t % 12])
    assert (topology.size, topology.directed, topology.stochastic) == (8, True, "doubly")
    assert set(topology.graph.edges) == set(chain.graph.edges) | set(hops.graph.edges)
    again = parse(dict(topology.document), "elsewhere")  # the document names its files for every folder
    assert again.digest() == topology.digest()


def test_a_sequence_with_a_random_part_never_repeats() -> None:
    topology = made({"kind": "sequence", "files": ["ring", "random-matching"], "peers": 12}, seed=5)
    assert topology.schedule is not None
    assert topology.schedule.period is None
    assert np.array_equal(topology.matrix(3), load("random-matching", 12, seed=5).matrix(1))
    assert np.array_equal(topology.matrix(4), load("ring", 12).matrix())


@pytest.mark.parametrize(("graph", "message"), [
    ({}, "a sequence needs its topology files: add 'files:"),
    ({"files": []}, "needs its topology files"),
    ({"files": [1]}, "needs its topology files"),
    ({"files": ["ring"], "each": 0}, "each = 0 must be a whole number of exchanges, 1 or more"),
    ({"files": ["ring"], "each": True}, "each = True must be"),
    ({"files": ["ring"], "ech": 2}, "no parameter 'ech'; did you mean 'each'"),
    ({"files": ["rin"]}, "no topology 'rin'.*did you mean 'ring'"),
    ({"files": ["ring", "torus"]}, "torus.yaml has 16 peers and ring.yaml 8"),
    ({"files": ["ring", "hypercube"], "peers": 6}, "no hypercube of 6 peers"),
    ({"files": ["random-digraph", "epidemic-local"]}, "neither the rows nor the columns of all"),
])
def test_sequences_refused(graph: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        made({"kind": "sequence", **graph})


def test_a_sequence_of_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "self.yaml").write_text("graph: {kind: sequence, files: [self.yaml]}", encoding="utf-8")
    with pytest.raises(TopologyError, match=r"self\.yaml is a sequence itself"):
        load(str(tmp_path / "self.yaml"))


# ---- digests, counts and what is wrong ---------------------------------------------------------------------

def test_digests_cover_the_schedule() -> None:
    documents: list[dict[str, Any]] = [
        {"kind": "complete", "peers": 8}, {"kind": "epidemic", "peers": 8}, {"kind": "epidemic", "peers": 8, "seed": 1},
        {"kind": "epidemic", "peers": 8, "s": 2}, {"kind": "epidemic", "peers": 8, "form": "local"},
        {"kind": "random-matching", "peers": 8}, {"kind": "base", "peers": 8}, {"kind": "base", "peers": 8, "k": 2},
        {"kind": "one-peer-hypercube", "peers": 8}, {"kind": "one-peer-exponential", "peers": 8},
        {"kind": "exponential", "peers": 8}, {"kind": "directed-exponential", "peers": 8}, {"kind": "ring", "peers": 8},
        {"kind": "directed-ring", "peers": 8}, {"kind": "sequence", "files": ["ring", "star"]},
        {"kind": "sequence", "files": ["star", "ring"]}, {"kind": "sequence", "files": ["ring", "star"], "each": 2},
    ]
    assert len({made(one).digest() for one in documents}) == len(documents)
    assert all(made(one).digest() == made(one).digest() for one in documents)


@pytest.mark.parametrize("name", [*NAMES, "lazy"])
def test_clip_counts_weight_static_metropolis_only(name: str) -> None:
    topology = made({"kind": "ring", "peers": 8}, weights="lazy") if name == "lazy" else load(name)
    with pytest.raises(TopologyError, match=r"clip counts cannot weight the topology .*only static undirected"):
        topology.matrix(0, dict.fromkeys(range(topology.size), 5))


@pytest.mark.parametrize(("graph", "message"), [
    ({"kind": "base", "peers": 2, "k": 2}, r"no base of 2 peers, k 2: it needs more peers than k; the next .*: 3$"),
    ({"kind": "base", "peers": 8, "k": 0}, r"k = 0 must be a whole number, 1 to"),
    ({"kind": "base", "peers": 1}, r"more peers than k"),
    ({"kind": "one-peer-hypercube", "peers": 6}, r"no one-peer-hypercube of 6 peers: .*: 4 and 8$"),
    ({"kind": "epidemic", "peers": 4, "s": 4}, r"no epidemic of 4 peers, s 4: it needs more peers than s.*: 5$"),
    ({"kind": "epidemic", "peers": 5, "s": 3}, r"peers x s even; the next numbers that fit: 4 and 6$"),
    ({"kind": "epidemic", "peers": 5, "form": "central"}, r"form = 'central' must be one of oracle, local"),
    ({"kind": "epidemic", "peers": 5, "sed": 1}, r"no parameter 'sed'; did you mean 'seed'"),
    ({"kind": "one-peer-exponential", "peers": 8, "directed": True}, r"no parameter 'directed'; it has none"),
    ({"kind": "random-matching"}, r"needs the number of peers"),
    ({"kind": "random-matching", "peers": 8, "seed": -1}, r"seed = -1 must be"),
    ({"kind": "ring", "peers": 8, "directed": True}, r"no parameter 'directed'"),
    ({"edges": [[0, 1], [1, 2]], "directed": True}, r"not strongly connected: messages of peer 1 cannot reach peer 0;"),
    ({"edges": [[0, 1]], "directed": "yes"}, r"graph.directed = 'yes'"),
])
def test_refused(graph: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message) as caught:
        made(graph)
    assert "\n" not in str(caught.value)


def test_schedules_bring_their_own_weights() -> None:
    with pytest.raises(TopologyError, match="the schedule base has its own weights; leave the key 'weights' out"):
        made({"kind": "base", "peers": 8}, weights="metropolis")


def test_graphml_says_itself_whether_it_is_directed(tmp_path: Path) -> None:
    nx.write_graphml(nx.cycle_graph(4), tmp_path / "g.graphml")
    (tmp_path / "net.yaml").write_text("graph: {graphml: g.graphml, directed: true}", encoding="utf-8")
    with pytest.raises(TopologyError, match="directed = True contradicts its GraphML file"):
        load(str(tmp_path / "net.yaml"))


@pytest.mark.parametrize("name", ["one-peer-exponential", "one-peer-hypercube", "base-2", "base-3", "epidemic",
                                  "epidemic-local", "random-matching", "directed-ring", "random-digraph"])
def test_entries_are_those_of_the_matrix(name):
    schedule = load(name, 16).schedule
    for t in range(schedule.period or 5):
        W = entries_of(schedule, t)
        assert (W.to * 16 + W.source == np.sort(W.to * 16 + W.source)).all()
        np.testing.assert_array_equal(W.dense(), schedule.matrix(t))


def test_a_hundred_thousand_peers_agree_after_a_period_of_base_2():
    schedule = Base(100_000, 1)
    rows = np.random.Generator(np.random.Philox(1)).normal(size=(100_000, 2))
    mean = rows.mean(axis=0)
    for t in range(schedule.period):
        rows = entries_of(schedule, t).csr() @ rows
    assert np.abs(rows - mean).max() <= 1e-12


def test_random_schedules_of_very_many_peers_are_refused():
    with pytest.raises(TopologyError, match=r"may link any two of 2049 peers: take at most 2048"):
        load("random-matching", 2049)


@pytest.mark.parametrize(("rule", "most"), [("best-constant", 2048), ("fastest", 512)])
def test_rules_that_need_a_solver_are_refused_to_many_peers(rule, most):
    with pytest.raises(TopologyError, match=f"weights: {rule} are found by a solver .* at most {most} peers, not 3000"):
        RULES[rule](nx.cycle_graph(3000))


def test_a_dense_matrix_of_very_many_peers_is_refused():
    with pytest.raises(TopologyError, match=r"a dense matrix of 20000 peers is needed here, 3 GB"):
        metropolis(nx.cycle_graph(20_000))
