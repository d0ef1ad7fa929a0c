"""Staleness-weighted gossip: running sums, weights, returned mass, refusals."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch

from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import AsynchronousPeer, Message, MessageKind, Place, staleness
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology
from p2pser.run import checkpoint


def algorithm(name: str, parameters: dict[str, float] | None = None) -> Any:
    return create(name, parameters or {}, Config(), Topology("ring", nx.cycle_graph(4), {}, "metropolis", {}))


def node(peer: int, neighbours: tuple[int, ...], value: float, start: int = 0, **parameters: float) -> AsynchronousPeer:
    state = State({"x": torch.full((1, 2), value, dtype=torch.float32)})
    return AsynchronousPeer(algorithm("stale-gossip", parameters), state, Place(peer, neighbours, 0), start)


def round_of(one: AsynchronousPeer, change: float = 0.0) -> list[Message]:
    return one.end(one.begin() + change)


def mass(one: AsynchronousPeer) -> list[float]:
    return one.state.rows["mass"][0].tolist()


def test_equal_shares_go_out_and_are_taken_when_the_round_is_done():
    first, second = node(0, (1,), 4.0, decay=0.0), node(1, (0,), 0.0, decay=0.0)
    (push,) = round_of(first)
    assert mass(first) == [2.0, 2.0, 0.5]
    assert second.receive(push) == []
    assert mass(second) == [0.0, 0.0, 1.0]
    round_of(second)
    assert mass(second) == [1.0, 1.0, 0.75]  # half of [2, 2, 1.5]
    assert second.state.rows["x"][0].tolist() == pytest.approx([4 / 3, 4 / 3])
    assert second.state.rows["x"].dtype == torch.float32


def test_the_staler_the_less_is_taken_at_once():
    first, second = node(0, (1,), 4.0), node(1, (0,), 0.0, fresh=1)
    (push,) = round_of(first)
    for _ in range(3):
        round_of(second)
    before = mass(second)
    second.receive(push)  # it has seen nothing of second's 3 rounds, and second is about to end its 4th
    second.end(second.begin())
    taken = push.row(torch.zeros(1, 4, dtype=torch.float64))[0, :-1] / (1 + 0.5 * 3)
    assert mass(second) == pytest.approx(((torch.tensor(before, dtype=torch.float64) + taken) / 2).tolist())
    assert staleness(second.state).histogram[4] == 1


def test_what_was_left_is_taken_later():
    first, second = node(0, (1,), 4.0), node(1, (0,), 0.0, fresh=0)
    second.receive(*round_of(first))
    kept = []
    for _ in range(10):
        round_of(second)
        edge = second.state.edges[1, 0]
        kept.append(float((edge["heard"] - edge["taken"])[0, -1]))
    assert kept == sorted(kept, reverse=True)
    assert 0 <= kept[-1] < 0.02


def test_lost_copied_and_reordered_pushes_change_nothing():
    def story(order: list[int]) -> list[float]:
        first, second = node(0, (1,), 4.0, decay=0.0), node(1, (0,), 0.0, decay=0.0)
        pushes = [push for _ in range(4) for push in round_of(first)]
        for k in order:
            second.receive(pushes[k])
        second.end(second.begin())
        return mass(second)

    assert story([0, 1, 2, 3]) == story([3]) == story([2, 3, 0, 0, 1, 3]) == story([3, 1])
    assert story([2]) != story([3])


def test_what_is_staler_than_the_bound_goes_home():
    first, second = node(0, (1,), 4.0, bound=2, decay=0.0), node(1, (0,), 0.0, bound=2, decay=0.0)
    (push,) = round_of(first)
    for _ in range(3):
        sent = round_of(second)
    second.receive(push)
    before = mass(second)
    sent = round_of(second)
    assert mass(second) == before  # neither taken nor pushed: first has shown nothing for more than the bound
    assert second.report()["refused"] == 1
    first.receive(*sent)
    round_of(first)
    total = [a + b for a, b in zip(mass(first), mass(second))]
    onway = first.state.edges[0, 1]["pushed"] - second.state.edges[1, 0]["taken"]
    assert total[-1] + float(onway[0, -1]) == pytest.approx(2.0)


def test_a_silent_neighbour_gets_no_more_than_it_could_still_take():
    one = node(0, (1,), 4.0, bound=3)
    for _ in range(50):
        round_of(one)
    assert mass(one)[-1] == pytest.approx(0.5**3)
    assert one.state.rows["x"].tolist() == [[4.0, 4.0]]


def test_local_steps_change_the_model_by_what_they_say():
    one = node(0, (1,), 4.0)
    round_of(one)
    round_of(one, 1.5)
    assert one.state.rows["x"].tolist() == [[5.5, 5.5]]


def test_a_lost_neighbour_takes_its_edge_with_it():
    one = node(0, (1, 2), 1.0)
    round_of(one)
    one.gone(1)
    assert [push.dst for push in round_of(one)] == [2]
    assert one.receive(Message(1, 0, MessageKind.PUSH, 5).with_row(torch.zeros(4, dtype=torch.float64))) == []


def test_a_resume_starts_from_the_models_and_counts_what_was_on_the_edges(tmp_path):
    first, second = node(0, (1,), 4.0), node(1, (0,), 0.0)
    second.receive(*round_of(first))
    checkpoint.save(tmp_path, 0, second.state.rows, second.state.edges, {})
    rows, edges, _ = checkpoint.load(tmp_path, 0)
    model = rows["x"].clone()
    resumed = AsynchronousPeer(algorithm("stale-gossip"), State(rows, edges), second.place, 0)
    assert float(resumed.state.rows["mass"][0, -1]) == 1.0
    assert resumed.state.rows["mass"][0, :-1].tolist() == pytest.approx(resumed.state.rows["x"][0].tolist())
    assert not torch.equal(resumed.state.rows["x"], model)  # what was there and fresh is taken
    (push,) = round_of(first)
    assert resumed.receive(push) == []
    round_of(resumed)
    assert sum(staleness(resumed.state).histogram) == 2


def test_pushes_that_do_not_fit_are_the_senders_fault():
    one = node(0, (1,), 4.0)
    with pytest.raises(RemoteProtocolError, match="row of 2 numbers where 4 are due"):
        one.receive(Message(1, 0, MessageKind.PUSH, 1).with_row(torch.zeros(2)))
    for echo in (7.0, -1.0, float("nan")):
        with pytest.raises(RemoteProtocolError, match=r"acknowledged round|not finite"):
            one.receive(Message(1, 0, MessageKind.PUSH, 1).with_row(torch.tensor([0, 0, 0, echo], dtype=torch.float64)))


@pytest.mark.parametrize(("parameters", "settings", "said"), [
    ({"decay": -0.5}, [], "decay = -0.5"),
    ({"decay": float("nan")}, [], "decay = nan"),
    ({"fresh": -1}, [], "fresh = -1"),
    ({"bound": -1}, [], "bound = -1"),
    ({}, ["gossip.weighting=clips"], "gossip.weighting=uniform"),
])
def test_what_has_no_meaning_is_refused(parameters, settings, said):
    topology = Topology("ring", nx.cycle_graph(4), {}, "metropolis", {})
    with pytest.raises(ConfigError, match=said):
        list(algorithm("stale-gossip", parameters).validate(Config().with_settings(settings), topology))
