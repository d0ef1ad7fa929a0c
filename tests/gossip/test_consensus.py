"""The final consensus: rows of one exchange at all peers, the conserved mean, deaths."""

from __future__ import annotations

import msgpack
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.consensus import _Framed, _Reader, chebyshev, consensus, living_slem, relative_norm
from p2pser.gossip.agreement.flood import edges_of
from p2pser.gossip.agreement.stopping import Agreement, Reach, Trailer, decode_trailer, encode_trailer, most_bytes
from p2pser.gossip.mixer import BLOCK, Step
from p2pser.graph.spec import Topology
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.wire.codec import Received


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


def rows(size: int, width: int = 50, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(width, generator=draw) + 0.2 * torch.randn(size, width, generator=draw)


def spread(x: torch.Tensor) -> float:
    """Return the largest relative difference between any two rows."""
    return max(relative_norm(a, b) for a in x for b in x)


GRAPHS = {
    "ring": nx.cycle_graph(8),
    "chain": nx.path_graph(6),
    "star": nx.star_graph(6),
    "complete": nx.complete_graph(5),
    "two": nx.path_graph(2),
    "one": nx.empty_graph(1),
    "hypercube": nx.convert_node_labels_to_integers(nx.hypercube_graph(3)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_ends_within_tolerance_on_the_mean(name):
    top = topology(GRAPHS[name])
    x = rows(top.size)
    found = consensus(SimulatedMixer(top), x, 5, top, 1e-6, slem=living_slem(top, None, (), 0))
    assert found.converged
    assert found.dead == ()
    assert found.rows.dtype == torch.float64
    assert spread(found.rows) <= found.distance + 1e-15 <= 1e-6 + 1e-15
    mean = x.double().mean(0)
    assert torch.allclose(found.rows.mean(0), mean, rtol=0, atol=1e-13)


@given(size=st.integers(2, 12), seed=st.integers(0, 10**6), tolerance=st.sampled_from([1e-3, 1e-6, 1e-10]))
@settings(max_examples=40, deadline=None)
def test_random_graphs(size, seed, tolerance):
    graph = nx.compose(nx.random_labeled_tree(size, seed=seed), nx.gnp_random_graph(size, 0.2, seed=seed))
    top = topology(graph)
    found = consensus(SimulatedMixer(top), rows(size, seed=seed), 0, top, tolerance, slem=living_slem(top, None, (), 0))
    assert found.converged
    assert spread(found.rows) <= tolerance


@pytest.mark.parametrize("name", ["ring", "star", "complete", "two"])
def test_alone_all_adopt_the_same_exchange_bit_for_bit(name, each_alone):
    top = topology(GRAPHS[name])
    x = rows(top.size)
    slem = living_slem(top, None, (), 0)
    together = consensus(SimulatedMixer(top), x, 0, top, 1e-6, slem=slem)
    alone = each_alone(top, lambda mixer: consensus(mixer, x[mixer.peer :][:1], 0, top, 1e-6, slem=slem))
    for i, found in alone.items():
        assert torch.equal(found.rows[0], together.rows[i])
        assert found.converged


@pytest.mark.parametrize("exchange", [0, 3, 11, 20])
def test_a_death_on_the_way_stops_nobody(exchange, each_alone):
    top = topology(nx.cycle_graph(8))
    x = rows(8)
    slem = living_slem(top, None, (), 0)
    dead = {3: Step(0, exchange)}
    alone = each_alone(top, lambda m: consensus(m, x[m.peer :][:1], 0, top, 1e-6, slem=slem), dead=dead)
    assert sorted(alone) == [0, 1, 2, 4, 5, 6, 7]
    assert all(found.converged and found.dead == (3,) for found in alone.values())
    assert spread(torch.cat([alone[i].rows for i in sorted(alone)])) <= 1e-6


def test_the_dead_known_before_are_left_out_and_the_chain_is_accelerated():
    top = topology(nx.cycle_graph(12))
    x = rows(12)
    cut = edges_of(top.graph, {3})
    slem = living_slem(top, None, cut, 0)
    mixer = SimulatedMixer(top, dead={3: Step(-1, 0)})
    found = consensus(mixer, x, 0, top, 1e-6, slem=slem, cut=cut)
    others = [i for i in range(12) if i != 3]
    assert found.dead == (3,)
    assert spread(found.rows[others]) <= 1e-6
    assert torch.allclose(found.rows[others].mean(0), x[others].double().mean(0), rtol=0, atol=1e-12)
    slow = consensus(SimulatedMixer(top, dead={3: Step(-1, 0)}), x, 0, top, 1e-6, slem=0.0)
    assert found.exchanges < slow.exchanges / 2


def test_a_cut_star_ends_at_once_for_each_leaf(each_alone):
    top = topology(nx.star_graph(4))
    found = each_alone(
        top,
        lambda m: consensus(m, torch.full((1, 3), float(m.peer)), 0, top, 1e-6, slem=0.8),
        dead={0: Step(0, 0)},
    )
    assert {i: c.rows[0, 0].item() for i, c in found.items()} == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}


def test_clip_weights_keep_the_clip_weighted_mean():
    top = topology(nx.cycle_graph(6))
    counts = {0: 10, 1: 20, 2: 5, 3: 8, 4: 30, 5: 12}
    x = rows(6)
    found = consensus(SimulatedMixer(top, counts=counts), x, 0, top, 1e-8, slem=living_slem(top, counts, (), 0))
    pi = torch.tensor([counts[i] for i in range(6)], dtype=torch.float64)
    pi /= pi.sum()
    assert found.converged
    assert torch.allclose(found.rows[0], pi @ x.double(), rtol=0, atol=1e-7)


def test_given_up_after_max_exchanges():
    top = topology(nx.cycle_graph(20))
    found = consensus(SimulatedMixer(top), rows(20), 0, top, 1e-9, slem=living_slem(top, None, (), 0), max_exchanges=12)
    assert not found.converged
    assert found.exchanges == 12


def test_a_row_that_is_not_finite_never_converges():
    top = topology(nx.cycle_graph(4))
    x = rows(4)
    x[2, 0] = float("nan")
    assert not consensus(SimulatedMixer(top), x, 0, top, 1e-6, slem=1 / 3, max_exchanges=30).converged


def test_a_message_is_made_where_the_row_is_and_a_longer_trailer_costs_a_copy():
    row = torch.tensor([[1.5, -2.0, 3.0]], dtype=torch.float32)
    framed = _Framed(row)
    short, long = framed.message(0, b"short"), framed.message(0, b"x" * 2000)
    assert short[24:] == b"short"
    assert long[24:] == b"x" * 2000
    assert np.frombuffer(short[:24], "<f8").tolist() == np.frombuffer(long[:24], "<f8").tolist() == [1.5, -2.0, 3.0]
    assert np.shares_memory(np.frombuffer(short[:24], "<f8"), framed.rows.numpy())


def test_the_difference_of_long_rows_is_that_of_its_blocks():
    draw = torch.Generator().manual_seed(3)
    own, other = torch.randn(2, 3 * BLOCK + 7, generator=draw, dtype=torch.float64)
    assert relative_norm(own, other) == pytest.approx(float((own - other).norm() / own.norm()), rel=1e-12)
    assert relative_norm(own[:BLOCK], other[:BLOCK]) == float((own[:BLOCK] - other[:BLOCK]).norm() / own[:BLOCK].norm())
    assert relative_norm(own, own) == 0.0


def test_observe_sees_every_exchange_and_the_input_is_not_changed():
    top = topology(nx.cycle_graph(5))
    x, seen = rows(5), []
    before = x.clone()
    found = consensus(SimulatedMixer(top), x, 0, top, 1e-6, slem=0.54, observe=lambda k, y: seen.append((k, spread(y))))
    assert [k for k, _ in seen] == list(range(found.exchanges))
    assert seen[-1][1] < 1e-5 < seen[0][1]
    assert torch.equal(x, before)


def test_chebyshev_weights():
    omega = chebyshev(0.0, 0.5, 0)
    assert omega == 1.0
    omega = chebyshev(omega, 0.5, 1)
    assert omega == pytest.approx(1 / (1 - 0.125))
    for k in range(2, 60):
        omega = chebyshev(omega, 0.5, k)
    assert omega == pytest.approx(2 / (1 + np.sqrt(1 - 0.25)))
    assert chebyshev(1.3, 0.0, 7) == 1.0


entries = st.tuples(st.integers(0, 8), st.floats(0, allow_nan=False), st.integers(0, 2**8 - 1))


@given(
    done=st.integers(-1, 8),
    floods=st.lists(entries, max_size=6),
    cut=st.frozensets(st.sampled_from([(0, 1), (0, 7), (3, 4)])),
)
def test_trailers_come_back(done, floods, cut):
    trailer = Trailer(9, done, tuple(floods), cut)
    assert decode_trailer(memoryview(encode_trailer(trailer, 8)), nx.cycle_graph(8), 9, 1) == trailer


@given(st.binary(max_size=80))
def test_any_bytes_are_a_trailer_or_refused(data):
    try:
        exchange = decode_trailer(memoryview(data), nx.cycle_graph(8), 3, 1).exchange
    except RemoteProtocolError:
        exchange = 3
    assert exchange == 3


@pytest.mark.parametrize(
    "document",
    [
        [2, -1, [], []],
        [3, 3, [], []],
        [3, -2, [], []],
        [3, -1, [[3, 0.0, b"\0"]], []],
        [3, -1, [[1, float("nan"), b"\0"]], []],
        [3, -1, [[1, -1.0, b"\0"]], []],
        [3, -1, [[1, 1.0, b"\0\0"]], []],
        [3, -1, [], [[0, 4]]],
        [3, -1, []],
        5,
    ],
)
def test_wrong_trailers_are_refused(document):
    with pytest.raises(RemoteProtocolError):
        decode_trailer(memoryview(msgpack.packb(document)), nx.cycle_graph(8), 3, 1)


def test_a_trailer_that_covers_us_with_less_than_our_own_difference_is_refused():
    one = Agreement(0, Reach(nx.cycle_graph(8)), 1e-6)
    one.start(4, 2.5, torch.zeros(3))
    with pytest.raises(RemoteProtocolError, match="smaller difference than our own of exchange 4"):
        one.check(Trailer(7, -1, ((4, 2.4, 0b11),), frozenset()), 1)
    one.check(Trailer(7, -1, ((4, 2.5, 0b11),), frozenset()), 1)
    one.check(Trailer(7, -1, ((4, 0.1, 0b10),), frozenset()), 1)  # our own has not reached it
    one.check(Trailer(7, -1, ((4, 2.4, 0b11),), frozenset({(0, 1)})), 1)  # it has given us up


def test_a_trailer_that_is_longer_than_any_is_refused_unread():
    graph = nx.cycle_graph(8)
    read = _Reader(torch.ones(1, 5), {0: 0}, graph, 3, {0: Agreement(0, Reach(graph), 1e-6)}, None, None,
                   lambda exchange, edge, row: "")
    longest = 5 * 8 + most_bytes(graph)
    with pytest.raises(RemoteProtocolError, match=f"{longest + 1} bytes where at most {longest} are due"):
        read((0, 1), Received(1, bytes(longest + 1)))
    every = Trailer(9, -1, tuple((k, 0.5, 255) for k in range(9)), frozenset(tuple(sorted(e)) for e in graph.edges))
    assert len(encode_trailer(every, 8)) <= most_bytes(graph)

