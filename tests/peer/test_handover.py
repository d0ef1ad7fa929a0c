"""The model handed over: who asks, what is compared, and what of it is refused. No network: the mixer is a stand-in."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgpack
import pytest
import torch
from handing_over import CALL, HAS_A_MODEL, ROUNDS, SIZE, TRAINS, Peer, end

from p2pser.base.errors import P2PSERError, RemoteProtocolError
from p2pser.gossip.agreement.consensus import no_consensus
from p2pser.network import events
from p2pser.network.states import Cause, State
from p2pser.peer.handover import ANSWERS, GREETING, PATIENCE, ModelTaken
from p2pser.peer.outcome import Outcome
from p2pser.peer.parcels import ASK, FACTS, KINDS, ROW, SUMS
from p2pser.wire.codec import codec
from p2pser.wire.messages import Phase, Progress


@pytest.fixture
def peer() -> Peer:
    return Peer()


def taken(peer: Peer) -> Outcome:
    with pytest.raises(ModelTaken) as caught:
        peer.look()
    return caught.value.outcome


def test_two_neighbours_at_the_end_are_asked_once_and_compared(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3)
    peer.look()
    peer.look()
    assert peer.asked() == [1, 3]
    peer.answers(1, end(1, 2, 3))
    peer.look()
    assert peer.mixer.alarm == 50 + PATIENCE
    peer.answers(3, end(1, 2, 3 + 1e-9))
    outcome = taken(peer)
    assert outcome.givers == (1, 3)
    assert outcome.row.tolist() == [1, 2, 3]
    assert (outcome.final.distance, outcome.final.exchanges, outcome.final.dead) == (1e-9, 12, (0,))
    assert outcome.call.clips == CALL.clips
    assert "takes the model of peers 1 and 3" in peer.said[0]
    peer.look()  # it asks for nothing more


def test_a_neighbour_that_was_away_is_asked_again_but_not_more_often_than_it_answers(peer: Peer) -> None:
    for _ in range(5):
        peer.comes(1)
        peer.look()
        peer.goes(1, Cause.DEATH)
        peer.mixer.roster.changed(events.Changed(1, State.ABSENT, State.PRESENT, Cause.TRAFFIC), peer.mixer.now)
        peer.look()
    assert [slot for _, slot, _ in peer.mixer.sent] == [ASK, KINDS + ASK, 2 * KINDS + ASK]


def test_one_neighbour_alone_is_enough_where_nobody_else_comes(peer: Peer) -> None:
    peer.comes(1)
    peer.look()
    peer.answers(1, end(1, 2, 3))
    peer.look()
    assert peer.mixer.alarm == 50 + GREETING
    peer.mixer.now += GREETING
    assert taken(peer).givers == (1,)
    assert "no other neighbour has confirmed" in peer.said[0]


def test_the_time_to_look_again_is_over_with_what_it_was_for(peer: Peer) -> None:
    peer.comes(1)
    peer.look()
    peer.answers(1, end(1, 2, 3))
    peer.look()
    assert peer.mixer.alarm == 50 + GREETING
    peer.comes(1, Progress(0, 0, Phase.START, 0), incarnation=1)  # it forgets its model
    peer.look()
    assert peer.mixer.alarm is None


def test_a_second_neighbour_that_never_answers_is_waited_for_with_a_bound(peer: Peer) -> None:
    for j in (1, 2, 3):
        peer.comes(j, HAS_A_MODEL if j != 2 else Progress(ROUNDS + 1, 4, Phase.CONSENSUS, 0))
    peer.look()
    assert peer.asked() == [1, 3]
    peer.answers(1, end(1, 2, 3))
    peer.mixer.now += PATIENCE - 0.1
    peer.look()
    peer.look()
    peer.mixer.now += PATIENCE
    assert taken(peer).givers == (1,)


def test_models_that_differ_are_not_taken(peer: Peer) -> None:
    for j in (1, 2):
        peer.comes(j)
    peer.look()
    peer.answers(1, end(1, 2, 3))
    peer.answers(2, end(1, 2, 4))
    peer.look()
    peer.mixer.now += PATIENCE
    with pytest.raises(P2PSERError, match="peers 1 and 2 hand over different models") as caught:
        peer.look()
    assert caught.value.exit_code == 1


def test_models_may_differ_by_as_much_as_the_consensus_leaves() -> None:
    peer = Peer(tolerance=1e-3)
    for j in (1, 3):
        peer.comes(j)
    peer.look()
    peer.answers(1, end(1, 2, 3))
    peer.answers(3, end(1, 2, 3.003))
    assert taken(peer).givers == (1, 3)


def test_the_model_of_two_wins_over_that_of_a_third(peer: Peer) -> None:
    for j in (1, 2, 3):
        peer.comes(j)
    peer.look()
    peer.answers(1, end(9, 9, 9))
    peer.answers(2, end(1, 2, 3))
    peer.answers(3, end(1, 2, 3))
    assert taken(peer).givers == (2, 3)


def given_beside_training(peer: Peer) -> None:
    """Peer 1 hands its model over, and is left alone with it for long, while peer 2 trains."""
    peer.comes(1)
    peer.comes(2, TRAINS)
    peer.look()
    peer.answers(1, end(1, 2, 3))
    peer.look()
    peer.mixer.now += 10 * PATIENCE
    peer.look()


def test_a_peer_that_trains_with_others_does_not_end_on_the_word_of_one(peer: Peer) -> None:
    peer.mixer.io.progress = TRAINS
    given_beside_training(peer)
    peer.goes(2, Cause.DEATH)
    peer.mixer.now += GREETING
    assert taken(peer).givers == (1,)


def test_before_it_begins_a_peer_does_not_end_on_the_word_of_one_while_another_trains(peer: Peer) -> None:
    """Nor takes its model; where the other has not begun either, the one may be the only peer that was not killed."""
    given_beside_training(peer)
    assert not peer.said
    peer.comes(2, Progress(0, 0, Phase.START, 0), incarnation=1)
    assert taken(peer).givers == (1,)
    assert "takes the model of peer 1 alone, which no other neighbour has confirmed" in peer.said[0]


def test_who_takes_part_in_the_end_asks_for_nothing(peer: Peer) -> None:
    peer.mixer.io.progress = Progress(ROUNDS + 1, 2, Phase.CONSENSUS, 0)
    peer.comes(1)
    peer.look()
    assert peer.asked() == []


ALONE, SOME = (1, 2, 3), (0, 3)


@pytest.mark.parametrize(("own", "theirs", "takes"), [(ALONE, SOME, True), (ALONE, (0, 2, 3), False),
                                                      ((2, 3), SOME, False)])
def test_who_agreed_with_nobody_takes_the_model_of_neighbours_that_agreed_with_others(
        own: tuple[int, ...], theirs: tuple[int, ...], takes: bool) -> None:
    peer = Peer()
    peer.comes(1)
    peer.comes(2, Progress(3, 0, Phase.TRAIN, 0))
    peer.look()
    peer.answers(1, end(1, 2, 3, dead=theirs))
    peer.mixer.io.progress = Progress(ROUNDS + 1, 2, Phase.END, 0)
    if takes:
        with pytest.raises(ModelTaken) as caught:
            peer.hand.left_out(end(9, 9, 9, dead=own), 500.0)
        assert caught.value.outcome.row.tolist() == [1, 2, 3]
    else:
        peer.hand.left_out(end(9, 9, 9, dead=own), 500.0)
    assert peer.mixer.now <= 50 + 2 * PATIENCE


@pytest.mark.parametrize(("own", "theirs", "takes"), [
    ((0, 3), (1,), True), ((1, 3), (0, 2), False), ((0, 2), (1, 3), True), ((3,), (3,), False)])
def test_a_finished_peer_that_asks_takes_the_model_of_more_peers_or_of_the_lower_id(
        own: tuple[int, ...], theirs: tuple[int, ...], takes: bool) -> None:
    peer = Peer()
    peer.mixer.io.progress = HAS_A_MODEL
    peer.hand.offer(end(9, 9, 9, dead=own), None, ask=True)
    peer.comes(1)
    peer.look()
    assert peer.asked() == [1]
    assert peer.hand.unanswered()
    peer.answers(1, end(1, 2, 3, dead=theirs))
    peer.look()
    peer.mixer.now += GREETING
    if takes:
        assert taken(peer).row.tolist() == [1, 2, 3]
    else:
        peer.look()
        assert not peer.hand.unanswered()


def test_for_neighbours_that_report_progress_without_end_the_waiting_has_a_bound(peer: Peer) -> None:
    peer.comes(1, Progress(ROUNDS + 1, 0, Phase.CONSENSUS, 0))
    peer.mixer.io.progress = Progress(ROUNDS + 1, 2, Phase.END, 0)

    def another_exchange() -> None:
        slot = int(peer.mixer.now)
        peer.mixer.roster.progressed(events.Progressed(1, Progress(ROUNDS + 1, slot, Phase.CONSENSUS, 0)))

    peer.mixer.look_up = another_exchange
    peer.hand.left_out(end(9, 9, 9, dead=ALONE), 500.0)
    assert peer.mixer.now == 550.0


def test_peers_that_keep_models_of_their_own_are_not_compared(peer: Peer) -> None:
    for j in (1, 2):
        peer.comes(j)
    peer.look()
    for j in (1, 2):
        row = torch.full((1, SIZE), float(j), dtype=torch.float64)
        peer.answers(j, Outcome(no_consensus(row, (0,)), CALL, torch.ones(2, dtype=torch.float64)))
    outcome = taken(peer)
    assert outcome.row.tolist() == [1, 1, 1]
    assert not outcome.final.sought


@pytest.mark.parametrize(("slot", "payload", "form", "size"), [
    (FACTS, b"\xc1", "", 0), (FACTS, b"", "", 0), (FACTS, msgpack.packb([1]), "", 0),
    (SUMS, bytes(24), "f8", 3), (ROW, bytes(32), "f8", 4), (ROW, bytes(16), "f8", 3), (ROW, bytes(12), "f4", 3),
    (ROW, bytes(3), "random-k", 10**9), (7, b"please", "", 0), (ROW, bytes(codec("f8").encode(torch.tensor(
        [1.0, math.nan, 2.0], dtype=torch.float64))), "f8", 3),
])
def test_parts_of_another_form_are_refused(peer: Peer, slot: int, payload: bytes, form: str, size: int) -> None:
    peer.comes(1)
    peer.look()
    with pytest.raises(RemoteProtocolError) as caught:
        peer.hear(1, slot, payload, form, size)
    assert caught.value.peer == 1


@pytest.mark.parametrize("changed", [
    {"dead": [9]}, {"dead": ["a"]}, {"distance": -1.0}, {"distance": "x"}, {"exchanges": 2**40}, {"exchanges": True},
    {"converged": 1}, {"call": {}}, {"call": 3}, {"dead": 5},
    {"call": {"resume": 0, "clips": {math.inf: 3}, "widths": {}, "cut": []}}])
def test_facts_that_cannot_be_are_refused(peer: Peer, changed: dict[str, Any]) -> None:
    peer.comes(1)
    peer.look()
    good = end(1, 2, 3)
    peer.hear(1, FACTS, msgpack.packb({**good.fields(), **changed}))
    peer.hear(1, SUMS, bytes(codec("f8").encode(good.sums)), "f8", 2)
    with pytest.raises(RemoteProtocolError, match="of another form"):
        peer.hear(1, ROW, bytes(codec("f8").encode(good.row)), "f8", 3)
    peer.look()
    assert peer.mixer.alarm is None


def test_a_model_that_nobody_asked_for_and_requests_without_end_are_refused(peer: Peer) -> None:
    peer.comes(1, Progress(0, 0, Phase.START, 0))
    with pytest.raises(RemoteProtocolError, match="this peer has not asked for"):
        peer.hear(1, FACTS, b"")
    peer.hand.offer(end(1, 2, 3), None)
    for _ in range(3):
        peer.hear(1, ASK, b"")
    assert peer.hand.answered == 3
    with pytest.raises(RemoteProtocolError, match="too often"):
        peer.hear(1, ASK, b"")
    assert [slot for _, slot, _ in peer.mixer.sent] == [FACTS, SUMS, ROW] * 3
    peer.comes(1, Progress(0, 0, Phase.START, 0), incarnation=1)
    peer.hear(1, ASK, b"")


def test_one_that_is_started_again_and_again_is_served_but_keeps_no_peer_for_good(peer: Peer) -> None:
    peer.hand.offer(end(1, 2, 3), None)
    for incarnation in range(9):
        peer.comes(1, Progress(0, 0, Phase.START, 0), incarnation)
        peer.hear(1, ASK, b"")
        assert peer.hand.answered == min(incarnation + 1, ANSWERS)
    peer.comes(2, Progress(0, 0, Phase.START, 0))
    peer.hear(2, ASK, b"")
    assert peer.hand.answered == ANSWERS + 1
    assert len(peer.mixer.sent) == 3 * 10


def test_a_request_that_comes_early_is_answered_once_there_is_a_model(peer: Peer) -> None:
    peer.comes(2, Progress(0, 0, Phase.START, 0))
    peer.hear(2, ASK, b"")
    assert peer.mixer.sent == []
    peer.hand.offer(end(1, 2, 3), None)
    assert [(to, slot) for to, slot, _ in peer.mixer.sent] == [(2, FACTS), (2, SUMS), (2, ROW)]


def test_neighbours_lack_a_model_until_they_say_otherwise(peer: Peer) -> None:
    assert peer.hand.lacking() == (1, 2, 3)
    peer.comes(1)
    peer.comes(2, Progress(ROUNDS + 1, 0, Phase.END, 0))
    peer.goes(3, Cause.DONE)
    assert peer.hand.lacking() == (2,)
    peer.hand.observe(events.Progressed(2, HAS_A_MODEL))
    assert peer.hand.lacking() == ()
    peer.comes(1, Progress(0, 0, Phase.START, 0), incarnation=1)
    assert peer.hand.lacking() == (1,)


def test_one_that_takes_a_model_stays_for_a_neighbour_that_is_here_without_one(peer: Peer) -> None:
    """Neighbour 3 was killed before it had its model, though the account names it among those that took part."""
    peer.comes(1)
    peer.comes(3, Progress(-(2**31), 0, Phase.START, 0))
    peer.look()
    peer.answers(1, end(1, 2, 3))
    peer.look()
    peer.mixer.now += GREETING
    peer.hand.offer(taken(peer), None)
    assert peer.hand.lacking() == (3,)


def test_one_that_is_started_again_with_a_model_from_others_serves_all_neighbours(peer: Peer) -> None:
    peer.hand.offer(replace(end(1, 2, 3), givers=(1,)), None)
    assert peer.hand.lacking() == (1, 2, 3)
