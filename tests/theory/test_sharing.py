"""Mixing of parts of rows, against its theorems: means over holders, contraction on the holders' own graph."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.gossip.agreement.consensus import consensus, living_slem
from p2pser.gossip.mixer import Step
from p2pser.gossip.partial import Parts
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology
from p2pser.graph.spectral import slem, stationary
from p2pser.simulation.mixer import Faults, SimulatedMixer

WIDTHS = (0.25, 0.25, 0.5, 1.0, 1.0, 0.5, 0.25, 1.0)
SIZE = 40
HELD = {width: torch.arange(SIZE) < int(width * SIZE) for width in (0.25, 0.5, 1.0)}
SHARED = torch.arange(SIZE) % 10 != 9
"""Every tenth entry is not shared."""
GRAPH = nx.convert_node_labels_to_integers(nx.cycle_graph(8))
GRAPH.add_edges_from([(4, 7), (2, 5)])


def topology(graph: nx.Graph = GRAPH) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


def parts(widths=WIDTHS, shared=SHARED, compact=False) -> Parts:
    return Parts(widths, HELD, shared, compact=compact)


def start(some: Parts) -> torch.Tensor:
    x = torch.randn(8, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x * torch.stack([some.held(i) for i in range(8)])


def mean_over_holders(x: torch.Tensor, some: Parts, share: np.ndarray | None = None) -> torch.Tensor:
    weight = some.mixed().double() * torch.from_numpy(np.ones(8) if share is None else share)[:, None]
    return (x * weight).sum(0) / weight.sum(0).clamp_min(1e-300)


@pytest.mark.parametrize("faults", [None, Faults(delay=0.3, longest=3, until=30)])
@pytest.mark.parametrize("counts", [None, {i: 5 + 7 * (i % 3) for i in range(8)}])
def test_each_entrys_mean_over_its_holders_is_conserved(counts, faults):
    some = parts()
    mixer = SimulatedMixer(topology(), parts=some, counts=counts, faults=faults)
    share = None if counts is None else stationary(metropolis(GRAPH, counts))
    x = start(some)
    before = mean_over_holders(x, some, share)
    for k in range(40):
        x = mixer.mix(x, Step(k, 0))
    assert (mixer.late > 0) == (faults is not None)
    assert mixer.lost == 0
    torch.testing.assert_close(mean_over_holders(x, some, share), before, rtol=0, atol=1e-12)


def test_what_nobody_shares_and_what_a_peer_lacks_stay_as_they_were():
    some = parts()
    x = start(some)
    mixed = SimulatedMixer(topology(), parts=some).mix(x, Step(0, 0))
    local = ~some.mixed()
    assert torch.equal(mixed[local], x[local])
    assert not torch.equal(mixed[~local], x[~local])


def test_each_widths_entries_contract_as_the_gap_of_its_holders_graph_says():
    some = parts(shared=torch.ones(SIZE, dtype=torch.bool))
    mixer, x, W = SimulatedMixer(topology(), parts=some), start(some), metropolis(GRAPH)
    for k in range(12):
        after = mixer.mix(x, Step(k, 0))
        for low, high, width in ((0, 10, 0.25), (10, 20, 0.5), (20, 40, 1.0)):
            holders = [i for i, own in enumerate(WIDTHS) if own >= width]
            restricted = W[np.ix_(holders, holders)]
            restricted[np.diag_indices(len(holders))] += 1 - restricted.sum(1)
            then, now = x[holders, low:high], after[holders, low:high]
            torch.testing.assert_close(now, torch.from_numpy(restricted) @ then)
            assert (now - now.mean(0)).norm() <= slem(restricted) * (then - then.mean(0)).norm() * (1 + 1e-12)
        x = after


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_all_are_whole_it_is_plain_mixing_bit_for_bit(dtype):
    whole = parts((1.0,) * 8, torch.ones(SIZE, dtype=torch.bool))
    assert whole.plain
    x = start(whole).to(dtype)
    plain, partly = SimulatedMixer(topology(), exact=True), SimulatedMixer(topology(), parts=whole)
    for k in range(10):
        x, other = plain.mix(x, Step(k, 0)), partly.mix(x, Step(k, 0))
        assert torch.equal(x, other)


def test_rows_side_by_side_are_each_mixed_in_part():
    some = parts()
    x, y = start(some), start(some).flip(0) * some.mixed()
    together = SimulatedMixer(topology(), parts=some).mix(torch.cat([x, y], 1), Step(0, 0))
    apart = [SimulatedMixer(topology(), parts=some).mix(one, Step(0, 0)) for one in (x, y)]
    assert torch.equal(together, torch.cat(apart, 1))


@pytest.mark.parametrize("compact", [False, True])
def test_peers_send_no_entry_that_the_neighbour_lacks_or_that_stays_at_home(compact):
    some = parts(compact=compact)
    for i, j in GRAPH.to_directed().edges:
        row = torch.full((int(some.held(i).sum()) if compact else SIZE,), float(i))
        assert len(some.cut(i, j, row)) == int((some.held(i) & some.held(j) & SHARED).sum())
        own = torch.full((int(some.held(j).sum()) if compact else SIZE,), float(j))
        taken = some.fit(j, i, own, some.cut(i, j, row))
        common = some.held(i) & some.held(j) & SHARED
        expected = torch.where(common, float(i), float(j))
        assert torch.equal(taken, expected[some.held(j)] if compact else expected)
    mixer = SimulatedMixer(topology(), parts=parts())
    mixer.mix(start(parts()), Step(0, 0))
    sent = [sum(8 * int((HELD[WIDTHS[i]] & HELD[WIDTHS[j]] & SHARED).sum()) for j in GRAPH[i]) for i in range(8)]
    assert mixer.bytes_sent.tolist() == sent


@pytest.mark.parametrize("counts", [None, {i: 5 + 7 * (i % 3) for i in range(8)}])
def test_the_final_consensus_gives_each_entry_its_holders_mean(counts):
    some = parts()
    x = start(some)
    share = None if counts is None else stationary(metropolis(GRAPH, counts))
    rate = living_slem(topology(), counts, (), 0, some.groups())
    assert rate >= living_slem(topology(), counts, (), 0)
    mixer = SimulatedMixer(topology(), parts=some, counts=counts)
    final = consensus(mixer, x, 0, topology(), 1e-10, slem=rate, parts=some)
    assert final.converged
    mixed, expected = some.mixed(), mean_over_holders(x, some, share).expand(8, SIZE)
    torch.testing.assert_close(final.rows[mixed], expected[mixed], rtol=0, atol=1e-8)
    assert torch.equal(final.rows[~mixed], x[~mixed])


def test_the_consensus_bounds_the_difference_between_any_two_holders():
    # Along a chain of holders every edge is close while the ends are far: the bound counts the whole way.
    graph = nx.path_graph(12)
    held = {0.5: torch.arange(4) < 2, 1.0: torch.ones(4, dtype=torch.bool)}
    some = Parts((1.0,) * 9 + (0.5,) * 3, held, torch.ones(4, dtype=torch.bool), compact=False)
    x = torch.arange(12.0, dtype=torch.float64)[:, None] * 1e-4 + 1
    x = x.expand(12, 4) * torch.stack([some.held(i) for i in range(12)])
    where = topology(graph)
    final = consensus(SimulatedMixer(where, parts=some), x, 0, where, 1e-3, slem=living_slem(where, None, (), 0),
                      parts=some)
    gaps = [some.measure(i)(final.rows[i], torch.where(some.held(i) & some.held(j), final.rows[j], final.rows[i]))
            for i in range(12) for j in range(12)]
    assert max(gaps) <= final.distance * (1 + 1e-9) <= 1e-3
