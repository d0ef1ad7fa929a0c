"""The simulated mixer on schedules, directed graphs and other weights: step by step what the topology says."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.base.errors import LocalProtocolError, TopologyError
from p2pser.gossip.mixer import Outbox, Step, mix_by_flows
from p2pser.graph.mixing import metropolis
from p2pser.graph.spec import Topology, parse
from p2pser.simulation.mixer import KEPT, Faults, SimulatedMixer
from p2pser.wire.messages import SETTLE_WINDOW

CHANGING = [("one-peer-exponential", 8, {}), ("base", 7, {"k": 1}), ("epidemic", 6, {"s": 2}),
            ("epidemic", 6, {"form": "local"}), ("random-matching", 7, {}), ("directed-ring", 5, {})]


def topology(kind: str, peers: int, **parameters: object) -> Topology:
    return parse({"graph": {"kind": kind, "peers": peers, **parameters}}, "test")


def rows(size: int) -> torch.Tensor:
    return torch.randn(size, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("kind", "peers", "parameters"), CHANGING)
@pytest.mark.parametrize("exact", [False, True])
def test_each_step_mixes_with_its_own_matrix(kind, peers, parameters, exact):
    where = topology(kind, peers, **parameters)
    mixer, x = SimulatedMixer(where, exact=exact, slots=3, rounds=4), rows(peers)
    sent = np.zeros(peers, dtype=np.int64)
    for round in range(4):
        for slot in range(3):
            W = where.matrix(round * 3 + slot)
            expected = torch.from_numpy(W.copy()) @ x
            x = mixer.mix(x, Step(round, slot))
            assert torch.allclose(x, expected, rtol=1e-12, atol=1e-13)
            sent += (W != 0).sum(0) - (W.diagonal() != 0)
    assert mixer.messages_sent.tolist() == sent.tolist()
    assert mixer.bytes_sent.tolist() == (sent * 8 * 30).tolist()


@pytest.mark.parametrize(("kind", "peers", "parameters"), CHANGING)
def test_sources_and_receivers_of_a_step_are_the_topologys(kind, peers, parameters):
    where = topology(kind, peers, **parameters)
    mixer = SimulatedMixer(where)
    for t in range(5):
        edges = mixer.edges(Step(t, 0))
        pairs = list(zip(edges.dst.tolist(), edges.src.tolist()))
        assert pairs == [(i, j) for i in range(peers) for j in where.sources(i, t)]
        assert all(mixer.receivers(i, Step(t, 0)) == where.receivers(i, t) for i in range(peers))


@pytest.mark.parametrize("kind", ["one-peer-exponential", "directed-ring"])
def test_setup_and_the_end_go_both_ways_with_metropolis_weights(kind):
    where, x = topology(kind, 8), rows(8)
    mixer = SimulatedMixer(where, rounds=10, exact=True)
    plain = SimulatedMixer(Topology("plain", nx.Graph(where.graph), {}, "metropolis", {}), exact=True)
    for at in (Step(-3, 0), Step(10, 0), Step(11, 7)):
        assert torch.equal(mixer.mix(x, at), plain.mix(x, at))
        assert torch.equal(mixer.edges(at).weight, plain.edges(at).weight)
    assert not torch.equal(mixer.mix(x, Step(9, 0)), plain.mix(x, Step(9, 0)))


@pytest.mark.parametrize("rule", ["lazy", "max-degree", "best-constant"])
def test_other_weight_rules_hold_in_training_only(rule):
    where = parse({"graph": {"kind": "chain", "peers": 6}, "weights": rule}, "test")
    mixer, x = SimulatedMixer(where, rounds=2), rows(6)
    assert torch.allclose(mixer.mix(x, Step(1, 0)), torch.from_numpy(where.matrix().copy()) @ x)
    assert torch.allclose(mixer.mix(x, Step(2, 0)), torch.from_numpy(metropolis(where.graph)) @ x)


def test_an_algorithm_that_weighs_itself_leaves_the_clips_to_the_end():
    where, counts, x = topology("one-peer-exponential", 4), {0: 1, 1: 2, 2: 3, 3: 4}, rows(4)
    with pytest.raises(TopologyError, match="clip counts"):
        SimulatedMixer(where, counts=counts)
    mixer = SimulatedMixer(where, counts=counts, own_weights=True, rounds=1)
    assert torch.allclose(mixer.mix(x, Step(0, 0)), torch.from_numpy(where.matrix(0).copy()) @ x)
    assert torch.allclose(mixer.mix(x, Step(1, 0)), torch.from_numpy(metropolis(where.graph, counts)) @ x)


def test_rows_are_not_mixed_where_the_rows_of_w_do_not_sum_to_one():
    where = topology("random-digraph", 8, seed=1)
    mixer = SimulatedMixer(where)
    for exact in (False, True):
        mixer.exact = exact
        with pytest.raises(LocalProtocolError, match="do not sum to 1"):
            mixer.mix(rows(8), Step(0, 0))


def test_the_dead_are_left_out_of_their_steps():
    where = topology("one-peer-exponential", 4)
    mixer, x = SimulatedMixer(where, dead={2: Step(1, 0)}), rows(4)
    assert mixer.receivers(1, Step(0, 0)) == (2,)
    assert mixer.receivers(0, Step(1, 0)) == ()
    assert mixer.receivers(2, Step(1, 0)) == ()
    mixer.post(Step(1, 0), Outbox(rows=x))
    assert mixer.collect(Step(1, 0)).missing == ((0, 2), (2, 0))
    fast, exact = (SimulatedMixer(where, dead={2: Step(1, 0)}, exact=exact).mix(x, Step(1, 0))
                   for exact in (False, True))
    assert torch.allclose(fast, exact)
    assert torch.equal(exact[[0, 2]], x[[0, 2]])
    assert torch.allclose(exact[1], 0.5 * (x[1] + x[3]))


@pytest.mark.parametrize(("kind", "parameters"), [("one-peer-exponential", {}), ("epidemic", {"s": 2}),
                                                  ("random-matching", {}), ("base", {"k": 1})])
def test_late_rows_keep_the_mean_with_the_weights_of_their_own_exchange(kind, parameters):
    where, x = topology(kind, 8, **parameters), rows(8)
    start = x
    mixer = SimulatedMixer(where, faults=Faults(delay=0.3, longest=SETTLE_WINDOW - 1, until=60))
    for round in range(60 + SETTLE_WINDOW):
        x = mixer.mix(x, Step(round, 0))
    assert mixer.late > 50
    assert mixer.lost == 0
    assert float((x.mean(0) - start.mean(0)).abs().max()) <= 1e-13


def test_a_random_schedules_exchanges_are_not_kept_for_ever():
    mixer = SimulatedMixer(topology("random-matching", 5))
    x = rows(5)
    for round in range(3 * KEPT):
        x = mixer.mix(x, Step(round, 0))
    assert len(mixer._graphs) <= KEPT
    assert float((x - x.mean(0)).abs().max()) < 1e-6


def test_a_message_posted_in_one_round_is_collected_in_the_next():
    where = topology("one-peer-exponential", 4)
    mixer, x = SimulatedMixer(where), rows(4)
    mixer.post(Step(0, 0), Outbox(rows=x))
    mixer.post(Step(1, 0), Outbox(rows=2 * x))
    assert mixer.collect(Step(0, 0)).src.tolist() == [3, 0, 1, 2]
    assert mixer.collect(Step(1, 0)).src.tolist() == [2, 3, 0, 1]
    assert torch.allclose(mix_by_flows(mixer, x, Step(2, 0)), torch.from_numpy(where.matrix(2).copy()) @ x)
