"""Gossip of trees: equal sets at all peers in any order of messages, with deaths and losses."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lockstep import run

from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.config import Config
from p2pser.gossip.agreement.flood import agree_on_cuts
from p2pser.gossip.algorithm import State
from p2pser.gossip.forest import Forest
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import load, parse
from p2pser.simulation.mixer import Faults, SimulatedMixer

PEERS, ROUNDS, CLASSES, DEPTH = 7, 9, 2, 2
NUMBERS = 3 * 2**DEPTH - 2
PLACES = PEERS * ROUNDS
CONFIG = Config().with_settings(["model.name=xgb", f"training.rounds={ROUNDS}", f"model.parameters.depth={DEPTH}"])
RING = parse({"graph": {"kind": "ring", "peers": PEERS}}, "ring")
TREE = parse({"graph": {"kind": "tree", "peers": PEERS}}, "tree")


class Growing:
    """Local work that fills a peer's place with numbers that depend on all trees that it holds."""

    def __init__(self, peers=range(PEERS)):
        self.peers = tuple(peers)
        self.clips = (5,) * len(self.peers)

    def train(self, state, round, **how):
        rows = state.rows["x"].clone()
        for b, i in enumerate(self.peers):
            sets = rows[b].view(PLACES, CLASSES, NUMBERS)
            seen = float(sets.double().sum())
            draw = np.random.default_rng(1000 * round + i)
            new = draw.normal(size=(CLASSES, NUMBERS)) + math.sin(seen)
            new[:, : 2**DEPTH - 1] = draw.integers(0, 50, (CLASSES, 2**DEPTH - 1))
            sets[round * PEERS + i] = torch.from_numpy(new.astype(np.float32))
        return rows


def method(topology=RING, config=CONFIG, **parameters):
    found = create("trees", parameters, config, topology)
    assert validate(found, config, topology) == ()
    return found


def start(peers=PEERS):
    return torch.zeros(peers, PLACES * CLASSES * NUMBERS)


def together(topology=RING, faults=None, dead=None, **parameters):
    """Simulate all rounds and the end; return the algorithm, the state after the rounds, the end and the mixer."""
    one = method(topology, **parameters)
    mixer = SimulatedMixer(topology, faults=faults, dead=dead, slots=one.slots, rounds=ROUNDS)
    state = run(one, State({"x": start()}), Growing(), mixer, ROUNDS)
    after = State({name: rows.clone() for name, rows in state.rows.items()})
    mixer.faults = None
    agree_on_cuts(mixer, ROUNDS, topology.graph)
    return one, after, one.finish(state, mixer, ROUNDS + 1, topology.graph, tuple(sorted(dead or ()))), mixer


def equal(rows):
    return torch.equal(rows, rows[:1].expand_as(rows))


@pytest.mark.parametrize("topology", [RING, TREE], ids=lambda one: one.name)
def test_after_every_round_all_hold_all_trees(topology):
    one = method(topology)
    mixer = SimulatedMixer(topology, slots=one.slots, rounds=ROUNDS)

    def look(round, state):
        assert equal(state.rows["x"])
        assert state.rows["held"].sum(1).tolist() == [(round + 1) * PEERS] * PEERS

    run(one, State({"x": start()}), Growing(), mixer, ROUNDS, after_round=look)
    assert one.slots == nx.diameter(topology.graph)


@pytest.mark.parametrize("topology", [RING, TREE], ids=lambda one: one.name)
def test_each_alone_equals_all_together(topology, each_alone):
    _, after, end, _ = together(topology)

    def alone(mixer):
        one = method(topology)
        state = run(one, State({"x": start(1)}), Growing(mixer.peers), mixer, ROUNDS)
        done = one.finish(state, mixer, ROUNDS + 1, topology.graph)
        assert (done.distance, done.converged) == (0.0, True)
        return state.rows["x"][0], done.rows[0]

    found = each_alone(topology, alone, slots=method(topology).slots)
    for i in range(PEERS):
        assert torch.equal(found[i][0], after.rows["x"][i])
        assert torch.equal(found[i][1], end.rows[i])


def test_a_checkpoint_keeps_all_that_matters(whole_and_resumed):
    whole, resumed = whole_and_resumed(method, start, Growing(), RING)
    for name, rows in whole.rows.items():
        assert torch.equal(rows, resumed.rows[name])
    assert whole.edges.keys() == resumed.edges.keys()
    for edge, kept in whole.edges.items():
        assert all(torch.equal(kept[name], resumed.edges[edge][name]) for name in kept)


@pytest.mark.parametrize("loss", [0.1, 0.5])
def test_what_is_lost_is_sent_again(loss):
    _, after, end, mixer = together(faults=Faults(loss=loss))
    assert mixer.lost > 0
    assert float(after.rows["held"].float().mean()) > 0.8
    assert end.converged
    assert equal(end.rows)
    assert bool((end.rows.view(PEERS, PLACES, -1) != 0).any(2).all())  # the trees of all peers are there


def test_the_living_end_with_one_set_and_what_the_dead_had_told():
    dead = {2: Step(3, 1), 5: Step(6, 0)}
    _, after, end, _ = together(dead=dead)
    living = [i for i in range(PEERS) if i not in dead]
    assert end.dead == (2, 5)
    parts = [[*living[:2], 6], [3, 4]]  # of the ring without 2 and 5
    for part in parts:
        assert equal(end.rows[part])
    held = (end.rows.view(PEERS, ROUNDS, PEERS, -1) != 0).any(3)
    assert held[0, :4, 2].all()  # its neighbours had received its tree of round 3
    assert not held[0, 4:, 2].any()
    assert held[0, :, 0].all()
    assert held[3, :, 3].all()
    assert not after.rows["held"][2, 4 * PEERS :].view(-1, PEERS)[:, 0].any()


def test_fewer_exchanges_end_with_the_same_trees_a_little_later():
    one, after, end, _ = together(exchanges=1)
    assert one.slots == 1
    assert not equal(after.rows["x"])
    assert end.converged
    assert equal(end.rows)
    assert bool((end.rows.view(PEERS, PLACES, -1) != 0).any(2).all())


def test_schedules_need_a_number_of_exchanges():
    matching = parse({"graph": {"kind": "random-matching", "peers": 8, "seed": 1}}, "matching")
    with pytest.raises(ConfigError, match=r"set gossip\.parameters\.exchanges"):
        method(matching)
    assert method(matching, exchanges=2).slots == 2
    with pytest.raises(ConfigError, match=r"the topology .* is directed"):
        method(load("directed-ring", peers=5), exchanges=2)


def test_on_matchings_all_end_with_all_trees():
    matching = parse({"graph": {"kind": "random-matching", "peers": PEERS + 1, "seed": 1}}, "matching")
    one = method(matching, exchanges=2)
    mixer = SimulatedMixer(matching, slots=one.slots, rounds=ROUNDS)
    places = (PEERS + 1) * ROUNDS
    state = State({"x": torch.zeros(PEERS + 1, places * CLASSES * NUMBERS)})

    class Plain(Growing):
        def train(self, state, round, **how):
            rows = state.rows["x"].clone()
            for b, i in enumerate(self.peers):
                rows[b].view(places, -1)[round * len(self.peers) + i] = 1 + i
            return rows

    state = run(one, state, Plain(range(PEERS + 1)), mixer, ROUNDS)
    end = one.finish(state, mixer, ROUNDS + 1, matching.graph)
    assert end.converged
    assert equal(end.rows)
    assert bool(end.rows.all())


def test_every_tree_set_crosses_every_link_at_most_once_each_way():
    one, _, _, mixer = together()
    tree = 4 + CLASSES * (6 * (2**DEPTH - 1) + 4 * 2**DEPTH)
    words = ROUNDS * one.slots * 2 * (12 + PLACES // 8 + 1)
    final = 40 * 2 * PEERS * (24 + PLACES // 8 + 1 + 8)
    assert mixer.bytes_sent.max() <= 2 * PLACES * tree + words + final


@given(st.data())
def test_any_order_of_deliveries_gives_the_same_set(data):
    draw = np.random.default_rng(0)
    full = draw.integers(1, 9, (12, CLASSES, NUMBERS)).astype(np.float32)
    messages = []
    for _ in range(6):
        places = np.array(data.draw(st.lists(st.booleans(), min_size=12, max_size=12)))
        sender = Forest(places.astype(np.uint8), full * places[:, None, None], DEPTH)
        messages.append((places, sender.message(places)))
    order = data.draw(st.permutations(range(6)))
    again = data.draw(st.lists(st.sampled_from(range(6)), max_size=4))
    forest = Forest(np.zeros(12, dtype=np.uint8), np.zeros_like(full), DEPTH)
    for k in [*order, *again]:
        came = forest.read(messages[k][1], 1)
        forest.take(came)
        assert np.array_equal(came.known, messages[k][0])
    union = np.any([places for places, _ in messages], axis=0)
    assert np.array_equal(forest.held, union)
    assert np.array_equal(forest.sets, full * union[:, None, None])


def test_the_first_that_came_to_a_place_stays_and_the_end_tells_that_sets_differ():
    one = method()
    mixer = SimulatedMixer(RING, slots=one.slots, rounds=ROUNDS)
    state = run(one, State({"x": start()}), Growing(), mixer, ROUNDS)
    state.rows["x"][3, 7] += 1  # peer 3 holds another tree
    end = one.finish(state, mixer, ROUNDS + 1, RING.graph)
    assert not end.converged
    assert math.isnan(end.distance)


def test_trees_of_rounds_to_come_are_refused():
    forest = Forest(np.zeros(12, dtype=np.uint8), np.zeros((12, CLASSES, NUMBERS), dtype=np.float32), DEPTH)
    every = np.ones(12, dtype=bool)
    message = Forest(every.astype(np.uint8), np.ones((12, CLASSES, NUMBERS), dtype=np.float32), DEPTH).message(every)
    with pytest.raises(RemoteProtocolError, match="peer 4 sent trees of rounds that have not begun"):
        forest.read(message, 4, until=11)
    assert not forest.held.any()


@pytest.mark.parametrize(("round", "place", "refused"), [
    (0, PEERS - 1, False), (0, PEERS, True), (2, 3 * PEERS - 1, False), (2, 3 * PEERS, True),
])
def test_a_round_takes_trees_of_rounds_that_have_begun_and_no_others(round, place, refused, lying):
    held = np.zeros(PLACES, dtype=np.uint8)
    held[place] = 1
    claim = Forest(held, np.ones((PLACES, CLASSES, NUMBERS), dtype=np.float32), DEPTH).message(held == 1)
    one = method()
    state = State({"x": start()})
    one.begin(state, SimulatedMixer(RING))
    mixer = lying(RING, 0, 1, claim, slots=one.slots, rounds=ROUNDS)
    state = one.round(state, Growing(), mixer, round)
    assert state.rows["held"][1, place] == (not refused)
    assert [(edge, at.slot) for edge, at, _ in mixer.strikes] == [((1, 0), slot) for slot in range(one.slots)] * refused
    assert all("peer 0 sent trees of rounds that have not begun" in reason for _, _, reason in mixer.strikes)


def test_the_mean_of_ensembles_is_their_union():
    one = method()
    rows = start(2).view(2, PLACES, -1)
    rows[0, 3], rows[1, 3], rows[1, 4] = 2, 2, 5
    mean = one.mean(rows.view(2, -1), torch.tensor([0.5, 0.5])).view(PLACES, -1)
    assert (mean[3] == 2).all()
    assert (mean[4] == 5).all()
    assert mean.count_nonzero() == 2 * CLASSES * NUMBERS


@pytest.mark.parametrize(("settings", "says"), [
    (("gossip.algorithm=dfedavg",), "averages parameters, and model.name=xgb has none: set gossip.algorithm=trees"),
    (("gossip.algorithm=ad-psgd",), "averages parameters"),
    (("gossip.algorithm=choco",), "averages parameters"),
    (("model.name=mlp", "model.parameters={}", "gossip.algorithm=trees"), "spreads trees, and model.name=mlp has none"),
    (("gossip.weighting=clips",), "gossip.weighting=uniform"),
    (("gossip.parameters.exchanges=-1",), "exchanges = -1 must be 0 or more"),
    (("gossip.share=body",), "gossip.share"),
])
def test_what_has_no_meaning_is_refused(settings, says):
    config = CONFIG.with_settings(settings)
    with pytest.raises(ConfigError, match=says):
        validate(create(config.gossip.algorithm, config.gossip.parameters, config, RING), config, RING)


def test_a_server_has_no_use_for_trees():
    config = CONFIG.with_settings(["gossip.algorithm=fedavg"])
    server = load("server", peers=4)
    with pytest.raises(ConfigError, match=r"model\.name=xgb has none"):
        validate(create("fedavg", {}, config, server), config, server)
