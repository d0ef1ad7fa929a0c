"""AD-PSGD: the two halves of a flow, repeated answers, checkpoints, refusals."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import KINDS, AsynchronousPeer, Message, MessageKind, Place, received, staleness
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology
from p2pser.run import checkpoint
from p2pser.wire import messages
from p2pser.wire.messages import Header, Progress


def algorithm(name: str, parameters: dict[str, float] | None = None) -> Any:
    return create(name, parameters or {}, Config(), Topology("ring", nx.cycle_graph(4), {}, "metropolis", {}))


def node(peer: int, neighbours: tuple[int, ...], values: list[float], **parameters: float) -> AsynchronousPeer:
    state = State({"x": torch.tensor([values], dtype=torch.float64)})
    return AsynchronousPeer(algorithm("ad-psgd", parameters), state, Place(peer, neighbours, 0))


def pair(**parameters: float) -> tuple[AsynchronousPeer, AsynchronousPeer]:
    return node(0, (1,), [0.0, 8.0], **parameters), node(1, (0,), [4.0, 0.0], **parameters)


def round_of(one: AsynchronousPeer, change: float = 0.0) -> list[Message]:
    return one.end(one.begin() + change)


def x(one: AsynchronousPeer) -> list[float]:
    return one.state.rows["x"][0].tolist()


def test_both_ends_take_half_of_the_difference_of_the_rows_as_sent():
    first, second = pair()
    (request,) = round_of(first)
    (reply,) = second.receive(request)
    assert x(second) == [2.0, 4.0]
    first.state.rows["x"] = first.state.rows["x"] + 100  # whatever happens meanwhile
    assert first.receive(reply) == []
    assert x(first) == [102.0, 104.0]
    assert not first.open


def test_the_weight_is_what_each_end_takes():
    first, second = pair(weight=0.25)
    (request,) = round_of(first)
    first.receive(*second.receive(request))
    assert (x(first), x(second)) == ([1.0, 6.0], [3.0, 2.0])


def test_copies_change_nothing_and_are_answered_alike():
    first, second = pair()
    (request,) = round_of(first)
    (reply,) = second.receive(request)
    second.state.rows["x"] = second.state.rows["x"] + 1
    before = x(second)
    (again,) = second.receive(request)
    assert bytes(again.payload) == bytes(reply.payload)
    assert x(second) == before
    first.receive(reply)
    once = x(first)
    first.receive(again)
    assert x(first) == once


def test_a_lost_answer_is_asked_for_again_with_the_row_as_it_was_sent():
    first, second = pair()
    (request,) = round_of(first)
    second.receive(request)  # the answer is lost
    assert round_of(first, 5.0) == []  # one exchange is open: no second
    (again,) = first.remind()
    assert (again.kind, again.number, again.attempt) == (MessageKind.REQUEST, request.number, 1)
    assert bytes(again.payload) == bytes(request.payload)
    first.receive(*second.receive(again))
    assert [a + b for a, b in zip(x(first), x(second))] == [4.0 + 5.0, 8.0 + 5.0]
    assert staleness(first.state).histogram[1] == 1


def test_an_older_request_is_no_longer_answered():
    first, second = pair()
    (old,) = round_of(first)
    first.receive(*second.receive(old))
    (new,) = round_of(first)
    first.receive(*second.receive(new))
    assert second.receive(old) == []


def test_neighbours_are_drawn_by_seed_and_clock_and_all_are_drawn():
    def drawn(seed: int) -> list[int]:
        one = AsynchronousPeer(algorithm("ad-psgd"), State({"x": torch.zeros(1, 2)}), Place(0, (1, 2, 5), seed))
        asked = []
        for _ in range(30):
            (request,) = round_of(one)
            asked.append(request.dst)
            one.receive(Message(request.dst, 0, MessageKind.REFUSAL, request.number))
        return asked

    assert drawn(1) == drawn(1) != drawn(2)
    assert set(drawn(1)) == {1, 2, 5}


def test_local_steps_count_whatever_came_meanwhile():
    first, second = pair()
    begun = second.begin().clone()
    (request,) = round_of(first)
    second.receive(request)
    second.end(begun + 10)
    assert x(second) == [12.0, 14.0]


def test_a_lost_neighbour_is_neither_waited_for_nor_asked_again():
    one = node(0, (1, 2), [1.0], bound=0)
    (request,) = round_of(one)
    assert one.held
    one.gone(request.dst)
    assert not one.held
    (other,) = round_of(one)
    assert other.dst == 3 - request.dst
    assert one.receive(Message(request.dst, 0, MessageKind.REPLY, request.number).with_row(torch.zeros(1))) == []
    one.gone(other.dst)
    assert round_of(one) == []


def test_no_local_step_begins_at_the_bound():
    one = node(0, (1,), [1.0], bound=1)
    round_of(one)
    round_of(one)
    with pytest.raises(LocalProtocolError, match="bound"):
        one.begin()


def test_a_checkpoint_goes_on_as_if_nothing_had_been(tmp_path):
    first, second = pair()
    (request,) = round_of(first)
    (reply,) = second.receive(request)
    for one in (first, second):
        checkpoint.save(tmp_path / str(one.place.peer), 1, one.state.rows, one.state.edges, {})
    rows, edges, _ = checkpoint.load(tmp_path / "0", 1)
    resumed = AsynchronousPeer(algorithm("ad-psgd"), State(rows, edges), first.place, 1)
    assert [bytes(one.payload) for one in resumed.remind()] == [bytes(request.payload)]
    resumed.receive(reply)
    first.receive(reply)
    assert torch.equal(resumed.state.rows["x"], first.state.rows["x"])
    assert resumed.report() == first.report()
    rows, edges, _ = checkpoint.load(tmp_path / "1", 1)
    answers = AsynchronousPeer(algorithm("ad-psgd"), State(rows, edges), second.place, 1).receive(request)
    assert [bytes(one.payload) for one in answers] == [bytes(reply.payload)]


def test_what_a_resume_undoes_at_one_end_is_counted_as_drift():
    first, second = pair()
    round_of(first)
    first.receive(Message(1, 0, MessageKind.REFUSAL, 1))
    (request,) = round_of(first)
    second.receive(request)  # number 2, applied, and all are killed: the common checkpoint is of round 1
    resumed = AsynchronousPeer(algorithm("ad-psgd"), second.state, second.place, 1)
    assert resumed.report()["drift"] == pytest.approx((2.0**2 + 4.0**2) ** 0.5)
    assert [one.kind for one in resumed.receive(request)] == [MessageKind.REPLY]


def test_a_snapshot_of_the_state_stays_as_it_was():
    first, second = pair()
    kept = second.state.edges
    (request,) = round_of(first)
    second.receive(request)
    assert kept == {}


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**28), st.sampled_from(MessageKind), st.lists(st.floats(width=32,
       allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_messages_travel_as_rows_of_the_wire(number, attempt, kind, values):
    row = torch.tensor([values], dtype=torch.float32)
    sent = Message(3, 4, kind, number, attempt).with_row(row[0])
    header = Header(messages.Kind.ROW, bytes(8), 3, 0, Progress(0, 0, 2, 0), sent.step.round, sent.step.slot,
                    codec=sent.codec, size=sent.size, total=len(sent.payload))
    header, payload = messages.decode(messages.encode(header, sent.payload))
    came = received(3, 4, Step(header.round, header.slot), payload, header.codec, header.size)
    assert (came.kind, came.number, came.attempt) == (kind, number, attempt)
    assert torch.equal(came.row(row), row)


def test_messages_that_do_not_fit_are_the_senders_fault():
    first, second = pair()
    (request,) = round_of(first)
    with pytest.raises(RemoteProtocolError, match="row of 3 numbers where 2 are due"):
        second.receive(Message(0, 1, MessageKind.REQUEST, 1).with_row(torch.zeros(3)))
    assert x(second) == [4.0, 0.0]
    with pytest.raises(RemoteProtocolError, match="kind 7"):
        received(0, 1, Step(0, KINDS - 1), b"", "", 0)
    with pytest.raises(LocalProtocolError, match="peer 0 received a message for peer 1"):
        first.receive(request)


def ring(weights: str = "metropolis") -> Topology:
    return Topology("ring", nx.cycle_graph(4), {}, weights, {})


@pytest.mark.parametrize(("parameters", "settings", "said"), [
    ({"weight": 0.0}, [], "weight = 0"),
    ({"weight": 0.6}, [], "at most 0.5"),
    ({"bound": -1}, [], "bound = -1"),
    ({}, ["gossip.weighting=clips"], "gossip.weighting=uniform"),
])
def test_what_has_no_meaning_is_refused(parameters, settings, said):
    with pytest.raises(ConfigError, match=said):
        algorithm("ad-psgd", parameters).validate(Config().with_settings(settings), ring())


def test_the_defaults_are_fine():
    assert list(algorithm("ad-psgd").validate(Config(), ring())) == []
