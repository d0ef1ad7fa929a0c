"""Push-sum: one process a peer against one for all, resumed runs, messages, refusals."""

from __future__ import annotations

import pytest
import torch
from lockstep import run

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import parse
from p2pser.simulation.mixer import SimulatedMixer

GRAPHS = {
    "digraph": parse({"graph": {"kind": "random-digraph", "peers": 6, "seed": 4}}, "test"),
    "one-peer": parse({"graph": {"kind": "one-peer-exponential", "peers": 6}}, "test"),
    "local": parse({"graph": {"kind": "epidemic", "peers": 6, "form": "local"}}, "test"),
    "star": parse({"graph": {"kind": "star", "peers": 6}}, "test"),
}


def start(size=6):
    return torch.randn(size, 11, generator=torch.Generator().manual_seed(0))


def pushing(weighting="clips"):
    config = Config().with_settings([f"gossip.weighting={weighting}"])
    return create("push-sum", {}, config, GRAPHS["digraph"])


@pytest.mark.parametrize("graph", GRAPHS)
def test_each_alone_equals_the_exact_simulation_bit_for_bit(graph, each_alone, waves):
    where = GRAPHS[graph]
    mixer = SimulatedMixer(where, exact=True)
    together = run(pushing(), State({"x": start()}), waves(mixer.peers), mixer, 6)

    def one(solo):
        return run(pushing(), State({"x": start()[solo.peer :][:1].clone()}), waves(solo.peers), solo, 6)

    alone = each_alone(where, one)
    for key, rows in together.rows.items():
        assert all(torch.equal(alone[i].rows[key][0], rows[i]) for i in range(6)), key
    assert together.rows["x"].dtype == torch.float32


@pytest.mark.parametrize("graph", GRAPHS)
def test_resumed_from_a_checkpoint_equals_uninterrupted(graph, whole_and_resumed, waves):
    whole, resumed = whole_and_resumed(pushing, start, waves(range(6)), GRAPHS[graph])
    assert all(torch.equal(resumed.rows[key], rows) for key, rows in whole.rows.items())
    assert all(torch.equal(resumed.edges[e][key], one) for e, kept in whole.edges.items() for key, one in kept.items())


def test_the_state_of_a_rounds_start_is_not_changed_by_the_round(waves):
    method, mixer = pushing(), SimulatedMixer(GRAPHS["digraph"])
    state = run(method, State({"x": start()}), waves(range(6)), mixer, 2)
    before = State(dict(state.rows), state.edges)
    rows = {key: one.clone() for key, one in before.rows.items()}
    edges = {edge: {key: one.clone() for key, one in kept.items()} for edge, kept in before.edges.items()}
    method.round(state, waves(range(6)), mixer, 2)
    assert all(torch.equal(before.rows[key], one) for key, one in rows.items())
    assert before.edges.keys() == edges.keys()
    assert all(torch.equal(before.edges[e][key], one) for e, kept in edges.items() for key, one in kept.items())


def test_a_message_is_a_float64_row_with_its_weight_to_each_receiver(waves):
    mixer = SimulatedMixer(GRAPHS["one-peer"])
    run(pushing(), State({"x": start()}), waves(range(6)), mixer, 5)
    assert mixer.messages_sent.tolist() == [5] * 6
    assert mixer.bytes_sent.tolist() == [5 * 8 * 12] * 6


@pytest.mark.parametrize("value", [b"", torch.zeros(11).double(), torch.zeros(12), -torch.ones(12).double(),
                                   torch.full((12,), float("nan")).double()])
def test_a_wrong_message_is_a_strike_and_adds_no_mass(value, waves, lying):
    mixer = lying(GRAPHS["star"], 0, 3, value)
    state = pushing("uniform").round(State({"x": start()}), waves(range(6)), mixer, 0)
    assert [edge for edge, _, _ in mixer.strikes] == [(3, 0)]
    assert float(state.rows["mass"][3, -1]) == 0.5
    assert "had" not in state.edges[3, 0]


def test_a_later_sum_that_takes_mass_back_or_is_not_plausible_beside_its_weight_is_refused(waves, lying):
    for spoil in (lambda m: m * 0.1, lambda m: torch.cat([m[:-1] + 1e9, m[-1:]]), lambda m: m * 1e9):
        mixer, method = SimulatedMixer(GRAPHS["star"]), pushing("uniform")
        state = method.round(State({"x": start()}), waves(range(6)), mixer, 0)
        mixer = lying(GRAPHS["star"], 0, 3, spoil)
        state = method.round(state, waves(range(6)), mixer, 1)
        assert [edge for edge, _, _ in mixer.strikes] == [(3, 0)]
        assert float(state.rows["mass"][:, -1].min()) > 0
        assert torch.isfinite(state.rows["x"]).all()


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_topology_will_do(graph, weighting):
    config = Config().with_settings(["gossip.algorithm=push-sum", f"gossip.weighting={weighting}"])
    assert validate(create("push-sum", {}, config, GRAPHS[graph]), config, GRAPHS[graph]) == ()


def test_receivers_of_a_step_share_the_mass(waves):
    mixer = SimulatedMixer(GRAPHS["star"])
    state = run(pushing("uniform"), State({"x": start()}), waves(range(6)), mixer, 1)
    degrees = torch.tensor([5.0, *[1.0] * 5])
    shares = 1 / (degrees + 1)
    assert torch.allclose(state.rows["mass"][0, -1], shares.sum().double())
    assert torch.allclose(state.rows["mass"][1, -1], (shares[0] + shares[1]).double())
    assert mixer.receivers(0, Step(0, 0)) == (1, 2, 3, 4, 5)
