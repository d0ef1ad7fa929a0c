"""Federated averaging by secure sums: the mean of all rows to the last bit, and the newest total at the end."""

from __future__ import annotations

import math
import struct

import msgpack
import networkx as nx
import numpy as np
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.config import Config
from p2pser.gossip.agreement.flood import most_slots
from p2pser.gossip.agreement.masks import digest
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import load
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.secrets import SeedSecrets
from p2pser.wire.codec import Received


def rows(peers: int) -> torch.Tensor:
    return torch.randn(peers, 7, generator=torch.Generator().manual_seed(5))


def average(topology, *settings, **parameters):
    config = Config().with_settings(["gossip.algorithm=secure-average", *settings])
    algorithm = create("secure-average", parameters, config, topology)
    assert validate(algorithm, config, topology) == ()
    return algorithm


class Resting:
    """Local work that changes nothing."""

    def __init__(self, clips):
        self.clips, self.shapes, self.steps = clips, (), 1

    def train(self, state, round, *, rows=None, **_):
        return (state.rows["x"] if rows is None else rows).clone()


def test_a_round_ends_with_the_mean_at_all_peers_to_the_last_bit(topology_of):
    where = topology_of(nx.random_labeled_tree(9, seed=2))
    end = run(average(where), State({"x": rows(9)}), Resting([1] * 9), SimulatedMixer(where), 1)
    assert torch.equal(end.rows["x"], end.rows["x"][:1].expand(9, 7))
    assert (end.rows["x"][0] - rows(9).mean(0)).abs().max() < 2e-7
    assert end.rows["last"].tolist() == [[0, 9]] * 9


def test_clips_weigh_inside_the_sum_up_to_the_most(topology_of):
    where, clips = topology_of(nx.cycle_graph(5)), [0, 10, 300, 20, 5000]
    method = average(where, "gossip.weighting=clips")
    end = run(method, State({"x": rows(5)}), Resting(clips), SimulatedMixer(where), 1)
    weights = torch.tensor([0.0, 10, 300, 20, 1000])
    assert (end.rows["x"][3] - weights @ rows(5) / weights.sum()).abs().max() < 2e-6


@pytest.mark.parametrize("peers", [5, 40])
def test_the_mean_does_not_depend_on_the_secrets(waves, peers):
    where = load("ring", peers=peers)
    ends = [run(average(where), State({"x": rows(peers)}), waves(range(peers)),
                SimulatedMixer(where, secrets=SeedSecrets(seed)), 2).rows["x"] for seed in (0, 1)]
    assert torch.equal(*ends)


def test_peers_alone_have_the_bits_of_a_simulation(waves, each_alone, topology_of):
    where, secrets = topology_of(nx.path_graph(4)), SeedSecrets(3)
    together = run(average(where), State({"x": rows(4)}), waves(range(4)), SimulatedMixer(where), 3)

    def work(mixer):
        mixer.secrets = secrets
        own = rows(4)[mixer.peer : mixer.peer + 1]
        return run(average(where), State({"x": own}), waves([mixer.peer]), mixer, 3).rows["x"][0]

    apart = each_alone(where, work)
    assert torch.equal(torch.stack([apart[i] for i in range(4)]), together.rows["x"])


def test_whole_and_resumed_are_equal(whole_and_resumed, waves, topology_of):
    where = topology_of(nx.cycle_graph(5))
    whole, resumed = whole_and_resumed(lambda: average(where), lambda: rows(5), waves(range(5)), where)
    assert whole.rows.keys() == resumed.rows.keys() == {"x", "own", "last"}
    assert all(torch.equal(whole.rows[name], resumed.rows[name]) for name in whole.rows)


def test_a_dropped_round_keeps_the_last_total_and_trains_on_from_its_own_row(waves, topology_of):
    where = topology_of(nx.cycle_graph(5))
    root_dies = Step(1, 4 * 5 + 4 + 2)
    mixer = SimulatedMixer(where, dead={0: root_dies})
    method, work = average(where), waves(range(5))
    before = run(method, State({"x": rows(5)}), work, SimulatedMixer(where), 1)
    dropped = run(method, State({"x": rows(5)}), work, mixer, 2)
    assert torch.equal(dropped.rows["x"][1:], before.rows["x"][1:])
    assert (dropped.rows["own"][1:] != dropped.rows["x"][1:]).any(1).all()
    after = run(method, State({"x": rows(5)}), work, SimulatedMixer(where, dead={0: root_dies}), 3)
    assert after.rows["last"][1:].tolist() == [[2, 4]] * 4
    assert torch.equal(after.rows["x"][1:], after.rows["x"][1:2].expand(4, 7))


def test_at_the_end_all_take_the_newest_total(topology_of):
    where = topology_of(nx.path_graph(4))
    x = torch.stack([torch.full((7,), float(k)) for k in (1, 2, 2, 3)])
    last = torch.tensor([[4, 4], [5, 3], [5, 3], [5, 4]])
    state = State({"x": x, "own": rows(4), "last": last})
    final = average(where).finish(state, SimulatedMixer(where), 9, where.graph)
    assert final.converged
    assert final.distance == 0
    assert final.rows.tolist() == [[3.0] * 7] * 4


@pytest.mark.parametrize(("round", "number", "taken"), [
    (5, 7.0, True), (5, 8.0, True), (5, 9.0, True), (9, math.nan, False), (9, math.inf, False), (9, 1e9, False),
    (10**6, 7.0, True)])
def test_no_liar_has_a_row_taken_at_the_end_that_others_contradict_or_that_is_no_total(
        lying, topology_of, round, number, taken):
    """Another row of the same age, of a later round with numbers that no total has, or of a round that never was."""
    where, liar = topology_of(nx.cycle_graph(5)), 4
    forged = np.full(7, number, "<f4").tobytes()
    name = struct.pack(">iI", round, 10**9) + digest(forged)

    def lie(at, dst, src, message):
        if src != liar:
            return message
        final, values, cut = msgpack.unpackb(message.body, use_list=False)
        own = name if at.slot < most_slots(where.graph) else forged
        return Received(src, msgpack.packb([final, [(i, own if i == liar else value) for i, value in values], cut]))

    mixer = lying(where, liar, None, None)
    mixer.lie = lie
    state = State({"x": torch.full((5, 7), 2.0), "own": rows(5), "last": torch.tensor([[5, 5]] * 5)})
    final = average(where, "training.rounds=10").finish(state, mixer, 11, where.graph)
    assert final.rows[:liar].tolist() == [[2.0] * 7] * liar
    assert final.converged == taken
    assert {edge[1] for edge, _, _ in mixer.strikes} == (set() if round == 5 else {liar})


def test_where_all_hold_the_same_total_the_end_sends_no_row(topology_of):
    where = topology_of(nx.cycle_graph(6))
    state = State({"x": torch.ones(6, 100_000), "own": torch.ones(6, 100_000), "last": torch.tensor([[3, 6]] * 6)})
    mixer = SimulatedMixer(where)
    assert average(where).finish(state, mixer, 9, where.graph).converged
    assert mixer.bytes_sent.max() < 10_000


def test_without_any_total_each_keeps_its_own_row_and_none_agree(topology_of):
    where = topology_of(nx.path_graph(4))
    mixer = SimulatedMixer(where, dead={2: Step(-9, 0)})
    method = average(where)
    state = run(method, State({"x": rows(4)}), Resting([1] * 4), mixer, 2)
    final = method.finish(state, mixer, 3, where.graph, (2,))
    assert not final.converged
    assert final.sought
    assert torch.equal(final.rows[0], rows(4)[0].double())


def test_rows_that_are_not_finite_end_the_run(topology_of):
    where = topology_of(nx.cycle_graph(3))
    with pytest.raises(P2PSERError, match="no longer finite in round 0"):
        run(average(where), State({"x": rows(3) / 0}), Resting([1] * 3), SimulatedMixer(where), 1)


def test_clipped_parameters_are_told(topology_of):
    told = []
    where = topology_of(nx.cycle_graph(3))
    mixer = SimulatedMixer(where, secrets=SeedSecrets(0, lambda peer, round, what: told.append((peer, what))))
    end = run(average(where, bound=1.0), State({"x": torch.full((3, 7), 2.0)}), Resting([1] * 3), mixer, 1)
    assert end.rows["x"].tolist() == [[1.0] * 7] * 3
    assert told[0] == (0, "7 parameters beyond 1 were clipped in the sum: raise gossip.parameters.bound")


@pytest.mark.parametrize(("topology", "parameters", "settings", "says"), [
    ("base-2", {}, (), "directed or changes"), ("ring", {"bits": 16}, (), "bits of 32 or 64"),
    ("ring", {"bound": 0.0}, (), "a bound above 0"), ("ring", {}, ("privacy.least=9",), "over at least 9 peers"),
    ("ring", {"most_clips": 2_000_000}, ("gossip.weighting=clips",), "set gossip.parameters.bits=64")])
def test_runs_in_which_it_has_no_meaning_are_refused(topology, parameters, settings, says):
    with pytest.raises(ConfigError, match=says):
        average(load(topology, peers=8), *settings, **parameters)
