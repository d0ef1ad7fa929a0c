"""Robust mixing: each rule by hand, refusals, one process a peer against one for all, resumed runs, hostile peers."""

from __future__ import annotations

import math

import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.attacks import ATTACKS, Attack, Hostile
from p2pser.gossip.mixer import Late, Outbox, Step
from p2pser.gossip.registry import create, validate
from p2pser.gossip.robust import NeighbourRow, ordered
from p2pser.graph.spec import parse
from p2pser.simulation.mixer import Faults, SimulatedMixer

NAMES = ["self-centred-clipping", "median", "trimmed-mean", "krum"]
GRAPH = parse({"graph": {"kind": "random-regular", "peers": 8, "degree": 4, "seed": 2}}, "test")
WIDTH = 11


def algorithm(name, parameters=None, config=None, topology=GRAPH):
    return create(name, parameters or {}, config or Config(), topology)


def start(size=8):
    return torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(0))


def heard(*values, weight=0.2):
    return [NeighbourRow(j + 1, weight, torch.tensor(value, dtype=torch.float64)) for j, value in enumerate(values)]


def combined(name, own, others, hostile=1, **parameters):
    return algorithm(name, parameters).combine(0, torch.tensor(own, dtype=torch.float64), others, hostile).tolist()


# ---- each rule by hand ---------------------------------------------------------------------------------------

def test_the_median_is_the_middle_row_or_the_middle_between_two():
    assert combined("median", [0.0, 5.0], heard([1.0, 9.0], [7.0, -2.0])) == [1.0, 5.0]
    assert combined("median", [0.0, 5.0], heard([1.0, 9.0], [7.0, -2.0], [3.0, 6.0])) == [2.0, 5.5]


@pytest.mark.parametrize("count", range(1, 12))
def test_rows_are_ordered_as_torch_sorts_them(count):
    rows = torch.randint(-5, 5, (count, 200), generator=torch.Generator().manual_seed(count)).float()  # many equal ones
    assert torch.equal(torch.stack(ordered(list(rows))), rows.sort(dim=0).values)


def test_the_trimmed_mean_leaves_out_the_extremes():
    assert combined("trimmed-mean", [0.0], heard([1.0], [2.0], [6.0], [-900.0])) == [1.0]
    assert combined("trimmed-mean", [0.0], heard([1.0], [2.0]), hostile=0) == [1.0]


def test_krum_takes_the_row_whose_closest_are_closest():
    # Scores of the two closest of five rows: 0 -> 1 + 4, 1 -> 1 + 1, 2 -> 1 + 4, 10 -> 64 + 81, 50 -> 1600 + 2304.
    assert combined("krum", [10.0], heard([0.0], [1.0], [2.0], [50.0])) == [1.0]
    assert combined("krum", [1.0], heard([1.0], [1.0], [9.0], [50.0])) == [1.0]


@pytest.mark.parametrize(("name", "others"), [("median", 1), ("trimmed-mean", 1), ("krum", 3)])
def test_with_too_few_rows_a_peer_keeps_its_own(name, others):
    assert combined(name, [4.0], heard(*[[900.0]] * others)) == [4.0]
    assert combined(name, [4.0], heard(*[[900.0]] * (others + 1))) == [900.0]


def test_flows_are_cut_to_the_radius():
    found = combined("self-centred-clipping", [0.0, 0.0], heard([3.0, 4.0], [0.0, 1.0]), radius=2.0)
    assert found == pytest.approx([0.2 * 3 * 2 / 5, 0.2 * 4 * 2 / 5 + 0.2])


def test_the_adaptive_radius_is_that_of_the_closest_neighbours():
    method, four = algorithm("self-centred-clipping"), heard([1.0], [2.0], [3.0], [100.0])
    away = [float(one.row) for one in four]
    assert method.radius_of(0, four, away, 1) == pytest.approx(math.sqrt((1 + 4 + 9) * 0.2 / 0.2))
    assert method.radius_of(0, four, away, 2) == pytest.approx(math.sqrt((1 + 4) * 0.2 / 0.4))
    assert method.radius_of(0, four, away, 0) == math.inf
    assert method.radius_of(0, [], [], 1) == math.inf
    assert method.radius_of(0, four, [1.0, 2.0, 3.0, math.inf], 1) == pytest.approx(math.sqrt(14))
    uneven = [NeighbourRow(peer, weight, torch.zeros(1)) for peer, weight in ((1, 0.3), (2, 0.1), (3, 0.4))]
    # A weight of 0.4 may be hostile. The closest are 0.1 and 0.3; if the heaviest is closest, 0.1 and a part of 0.4.
    assert method.radius_of(0, uneven, [2.0, 1.0, 9.0], 1) == pytest.approx(math.sqrt((0.1 + 0.3 * 4) / 0.4))
    assert method.radius_of(0, uneven, [9.0, 1.0, 2.0], 1) == pytest.approx(math.sqrt((0.1 + 0.3 * 4) / 0.4))


def test_clipping_of_nobody_is_the_plain_average(waves):
    found = run(algorithm("self-centred-clipping", {"hostile": 0}), State({"x": start()}), waves(range(8)),
                SimulatedMixer(GRAPH), 4)
    plain = run(algorithm("dfedavg"), State({"x": start()}), waves(range(8)), SimulatedMixer(GRAPH, exact=True), 4)
    assert torch.equal(found.rows["x"], plain.rows["x"])


class Once:
    """A mixer of one peer with three neighbours that delivers given values."""

    peers, size = (0,), 5

    def __init__(self, values):
        self.values = values

    def post(self, at, out):
        pass

    def collect(self, at):
        mixer = SimulatedMixer(parse({"graph": {"kind": "star", "peers": 5}}, "test"))
        mixer.post(at, Outbox(rows=torch.stack([torch.zeros(2), *self.values])))
        inbox = mixer.collect(at)
        place = [e for e, dst in enumerate(inbox.dst.tolist()) if dst == 0]
        return type(inbox)(inbox.src[place], inbox.dst[place], inbox.weight[place],
                           [inbox.values[e] for e in place],
                           refused=tuple(edge for edge in inbox.refused if edge[0] == 0))


@pytest.mark.parametrize("wild", [math.nan, math.inf, -math.inf, 3.4e38])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_not_finite_never_come_through(name, wild):
    honest = torch.tensor([1.0, 2.0])
    values = [honest, honest, torch.tensor([1.0, wild]), honest]
    state = algorithm(name).round(State({"x": honest[None].clone()}), Still(), Once(values), 0)
    assert torch.equal(state.rows["x"], honest[None])


class Still:
    steps = 1

    def train(self, state, round, **_):
        return state.rows["x"].clone()


def test_a_row_that_is_not_finite_counts_as_one_hostile_neighbour():
    values = [torch.tensor([float(k), 0.0]) for k in (1, 2, 9)] + [torch.tensor([math.nan, 0.0])]
    state = State({"x": torch.zeros(1, 2)})
    found = algorithm("trimmed-mean").round(state, Still(), Once(values), 0).rows["x"]
    assert found[0].tolist() == [3.0, 0.0]  # the mean of 0, 1, 2, 9: no other peer is hostile


# ---- as any algorithm ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_each_alone_equals_the_exact_simulation_bit_for_bit(name, each_alone, waves):
    mixer = SimulatedMixer(GRAPH, exact=True)
    together = run(algorithm(name), State({"x": start()}), waves(mixer.peers), mixer, 6).rows["x"]
    alone = each_alone(GRAPH, lambda solo: run(algorithm(name), State({"x": start()[solo.peer :][:1].clone()}),
                                               waves(solo.peers), solo, 6).rows["x"])
    assert all(torch.equal(alone[i][0], together[i]) for i in range(8))
    assert torch.isfinite(together).all()


@pytest.mark.parametrize("name", NAMES)
def test_resumed_from_a_checkpoint_equals_uninterrupted(name, whole_and_resumed, waves):
    whole, resumed = whole_and_resumed(lambda: algorithm(name), start, waves(range(8)), GRAPH)
    assert torch.equal(resumed.rows["x"], whole.rows["x"])
    assert resumed.rows.keys() == {"x"}


@pytest.mark.parametrize("name", NAMES)
def test_lost_and_late_rows_move_nobody(name, waves):
    x = start()
    late = (Late((0, 1), Step(3, 0), 0.2, torch.zeros(WIDTH), torch.full((WIDTH,), 1e9)),)
    state, method = State({"x": x}), algorithm(name)
    method.settle(state, late, range(8))
    assert torch.equal(state.rows["x"], start())
    mixer = SimulatedMixer(GRAPH, faults=Faults(loss=0.2, delay=0.3, seed=1), dead={3: Step(2, 0)})
    found = run(method, State({"x": x}), waves(range(8)), mixer, 12).rows["x"]
    assert torch.isfinite(found).all()
    assert float(found.abs().max()) <= float(x.abs().max()) + 12 * 0.1


# ---- refusals ------------------------------------------------------------------------------------------------

def refused(name, topology=GRAPH, weighting="uniform", **parameters):
    config = Config().with_settings([f"gossip.algorithm={name}", f"gossip.weighting={weighting}"])
    with pytest.raises(ConfigError) as caught:
        list(validate(algorithm(name, parameters), config, topology))
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_meaning_is_refused(name):
    assert "hostile = -1 must be 0 or more" in refused(name, hostile=-1)
    assert "has 5: take a graph of degree" in refused(name, hostile=3)
    assert "gossip.weighting=uniform" in refused(name, weighting="clips")
    assert "peer 0 has 2" in refused(name, parse({"graph": {"kind": "chain", "peers": 5}}, "test"))
    matching = parse({"graph": {"kind": "random-matching", "peers": 8}}, "test")
    assert "take a static undirected graph" in refused(name, matching)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.inf, math.nan])
def test_a_radius_that_is_not_above_0_is_refused(radius):
    assert "radius" in refused("self-centred-clipping", radius=radius)


@pytest.mark.parametrize(("name", "hostile", "fits"), [("median", 2, True), ("median", 3, False),
                                                        ("krum", 1, True), ("krum", 2, False)])
def test_the_fewest_rows(name, hostile, fits):
    if fits:
        assert list(algorithm(name, {"hostile": hostile}).validate(Config(), GRAPH)) == []
    else:
        assert f"tolerates b = {hostile}" in refused(name, hostile=hostile)


def test_clipping_warns_beyond_its_bound_and_prints_it():
    (warning,) = algorithm("self-centred-clipping").validate(Config(), GRAPH)
    assert "may have a weight of 0.2" in warning
    assert "sufficient, not necessary" in warning
    complete = parse({"graph": {"kind": "complete", "peers": 24}}, "test")
    assert list(algorithm("self-centred-clipping").validate(Config(), complete)) == []


# ---- hostile peers -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "sent"), [
    ("sign-flip", lambda rows: -rows[5]),
    ("same-value", lambda rows: torch.ones(WIDTH)),
    ("a-little-is-enough", lambda rows: rows.mean(0) - 1.5 * rows.std(0, correction=0)),
    ("inner-product", lambda rows: -0.1 * rows.mean(0)),
])
def test_what_each_attack_sends(name, sent):
    """Peer 5 is hostile and knows the other rows; its own row is the honest one."""
    mixer, rows = Hostile(SimulatedMixer(GRAPH), {5: Attack(name)}), start()
    honest = torch.cat([rows[:5], rows[6:]])
    mixer.post(Step(0, 0), Outbox(rows=rows))
    inbox = mixer.collect(Step(0, 0))
    expected = sent(rows) if name == "sign-flip" else sent(honest)
    for src, value in zip(inbox.src.tolist(), inbox.values):
        assert torch.allclose(value, expected if src == 5 else rows[src], atol=1e-6)
    assert torch.equal(rows, start())


def test_a_large_norm_is_drawn_by_seed_and_exchange():
    def sent(seed, round):
        mixer = Hostile(SimulatedMixer(GRAPH), dict.fromkeys((1, 5), Attack("large-norm", 50.0)), seed)
        mixer.post(Step(round, 0), Outbox(rows=start()))
        inbox = mixer.collect(Step(round, 0))
        return {src: value for src, value in zip(inbox.src.tolist(), inbox.values) if src in (1, 5)}

    first = sent(0, 0)
    assert float(first[5].norm()) == pytest.approx(50, rel=1e-5)
    assert torch.equal(first[1], first[5])
    assert torch.equal(first[5], sent(0, 0)[5])
    assert not torch.equal(first[5], sent(0, 1)[5])
    assert not torch.equal(first[5], sent(1, 0)[5])


def test_hostile_peers_mix_into_their_own_rows():
    mixer, rows = Hostile(SimulatedMixer(GRAPH), {5: Attack("same-value", 7.0)}), start()
    mixed = mixer.mix(rows, Step(0, 0))
    plain = SimulatedMixer(GRAPH).mix(rows, Step(0, 0))
    poisoned = rows.clone()
    poisoned[5] = 7.0
    expected = SimulatedMixer(GRAPH).mix(poisoned, Step(0, 0))
    expected[5] = plain[5]
    assert torch.allclose(mixed, expected, atol=1e-6)
    assert mixer.peers == tuple(range(8))
    assert mixer.size == 8
    assert mixer.receivers(0, Step(0, 0)) == GRAPH.neighbours(0)
    assert len(mixer.edges(Step(0, 0)).src) == 32


def test_alone_a_hostile_peer_knows_what_its_neighbours_sent_last(each_alone):
    sent = {}

    def one(solo):
        mixer = Hostile(solo, {5: Attack("inner-product", 1.0)})
        method = algorithm("median")
        found = run(method, State({"x": start()[solo.peer :][:1].clone()}), Still(), mixer, 2).rows["x"]
        if solo.peer == 5:
            sent.update({at.round: solo.bus.posts[5, at][GRAPH.neighbours(5)[0]] for _, at in list(solo.bus.posts)
                         if (5, at) in solo.bus.posts})
        return found

    each_alone(GRAPH, one)
    assert torch.allclose(sent[0], -start()[5])  # it has received no row yet and knows its own only
    assert torch.allclose(sent[1], -start()[list(GRAPH.neighbours(5))].mean(0), atol=1e-6)


def test_attacks_are_refused_where_they_make_no_sense():
    with pytest.raises(ConfigError, match="did you mean 'sign-flip'"):
        Attack("sign-flipp")
    mixer = Hostile(SimulatedMixer(GRAPH), {5: Attack("sign-flip")})
    with pytest.raises(ConfigError, match="a different message over each edge"):
        mixer.post(Step(0, 0), Outbox(edges={(0, 1): b""}))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", NAMES)
def test_under_attack_honest_rows_stay_among_the_honest(name, attack):
    """Without local work no coordinate leaves the range of the honest rows; under most attacks plain averages do."""
    rows, honest = start(), [0, 1, 2, 3, 4, 6, 7]
    mixer = Hostile(SimulatedMixer(GRAPH), {5: Attack(attack)})
    found = run(algorithm(name), State({"x": rows}), Still(), mixer, 20).rows["x"][honest]
    span = rows[honest].max(0).values - rows[honest].min(0).values
    assert ((found >= rows[honest].min(0).values - 0.5 * span) & (found <= rows[honest].max(0).values + 0.5 * span)
            ).all()
