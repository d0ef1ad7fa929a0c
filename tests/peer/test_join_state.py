"""The state of a run under way: what is asked, answered, compared and refused. No network: the mixer is a stand-in."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
import torch
from carriers import Carrier
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.graph.spec import load
from p2pser.network import events
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.peer.join_state import Joining, JoinState, call_fields
from p2pser.peer.parcels import ASK, FACTS, KINDS, ROW, SUMS
from p2pser.run.setup import JOIN, RollCall
from p2pser.wire.codec import DENSE
from p2pser.wire.messages import Header, Kind, Phase, Progress

RING = load("ring", peers=4)
ROUNDS, PATIENCE, GRACE = 9, 60.0, 6.0
CLIPS = {0: 7, 1: 8, 2: 9, 3: 10}
TRAINS = Progress(4, 0, Phase.TRAIN, 0)
WAITS = Progress(-(2**31), 0, Phase.START, 0)


class Mixer(Carrier):
    """Peer 0 with the neighbours 1 and 3. It carries nothing, and its time goes on where somebody waits."""

    def __init__(self) -> None:
        super().__init__(JOIN, (1, 3), 20.0)
        self.io = SimpleNamespace(progress=TRAINS)
        self.afresh: list[int] = []
        self.goes_on: Callable[[float], object] = lambda now: None
        """Called with the time after each second of waiting."""
        self.endless = False
        """Whether it may wait without a bound."""

    def training(self) -> tuple[int, ...]:
        return self.roster.training()

    def apart(self, peer: int, reason: str) -> None:
        self.afresh.append(peer)

    def listen(self, timeout: float | None = 0.0) -> None:
        timeout = 1.0 if timeout is None and self.endless else timeout
        assert timeout is not None, "it would wait for ever"
        assert self.now < 200.0, "it waits without a bound"
        assert timeout > 0, "it does not wait"
        self.now += min(timeout, 1.0)
        self.goes_on(self.now)


class Peer:
    """Peer 0 of a ring of four, and what its neighbours 1 and 3 do."""

    def __init__(self) -> None:
        self.mixer = Mixer()
        self.joining = Joining(self.mixer, RING, ROUNDS, sums=(3,), like=torch.zeros(3), patience=PATIENCE,  # type: ignore[arg-type]
                               grace=GRACE, clock=lambda: self.mixer.now)

    def comes(self, peer: int, incarnation: int = 0, progress: Progress = TRAINS) -> None:
        hello: Any = SimpleNamespace(incarnation=incarnation, process=incarnation)
        up = events.Up(peer, hello, progress)
        self.mixer.roster.up(up)
        self.joining.observe(up)
        self.changes(peer, State.ABSENT, State.PRESENT, Cause.HELLO)

    def changes(self, peer: int, before: State, after: State, cause: Cause) -> None:
        change = events.Changed(peer, before, after, cause)
        self.mixer.roster.changed(change, self.mixer.now)
        self.joining.observe(change)

    def goes_on(self, peer: int, round: int) -> None:
        self.mixer.roster.progressed(events.Progressed(peer, Progress(round, 0, Phase.TRAIN, 0)))

    def hear(self, peer: int, slot: int, payload: bytes, form: str = "", size: int = 0) -> None:
        header = Header(Kind.ROW, bytes(8), peer, 0, TRAINS, round=JOIN, slot=slot, codec=form, size=size)
        self.mixer.take(peer, header, memoryview(payload))

    def part(self, peer: int, slot: int, row: Tensor) -> None:
        self.hear(peer, slot, bytes(DENSE.encode(row)), DENSE.wire_name(row), row.numel())

    def sends(self, peer: int, round: int = 4, sums: tuple[float, ...] = (5.0, 2.0, 40.0), **call: Any) -> None:
        self.hear(peer, FACTS, fields(round=round, **call))
        self.part(peer, SUMS, torch.tensor(sums, dtype=torch.float64))
        self.part(peer, ROW, torch.tensor([1.0, 2.0, float(peer)]))

    def asked(self) -> list[int]:
        return [peer for peer, slot, _ in self.mixer.sent if slot % KINDS == ASK]

    def answer(self) -> None:
        self.joining.answer(5, RollCall(2, CLIPS, frozenset()), torch.tensor([5.0, 2.0, 40.0], dtype=torch.float64),
                            torch.ones(3), None)


def fields(**changed: Any) -> bytes:
    packed: bytes = msgpack.packb({"round": 4, **call_fields(RollCall(2, CLIPS, frozenset({(0, 3)}), {1: 0.5})),
                                   **changed})
    return packed


@pytest.fixture
def peer() -> Peer:
    return Peer()


def received(peer: Peer) -> JoinState:
    state = peer.joining.receive()
    assert state is not None
    return state


def test_every_neighbour_that_trains_is_asked_once_an_incarnation(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3, progress=Progress(-3, 0, Phase.SETUP, 0))
    peer.comes(1)
    assert peer.asked() == [1]
    peer.comes(1, incarnation=1)
    assert peer.asked() == [1, 1]


def test_two_that_agree_are_believed_at_once_and_the_earlier_round_counts(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3)
    peer.sends(1, round=7)
    peer.sends(3, round=5)
    state = received(peer)
    assert (state.sender, state.round, state.differing, state.x.tolist()) == (1, 5, (), [1.0, 2.0, 1.0])
    assert state.senders == (1, 3)
    assert state.call == RollCall(2, CLIPS, frozenset({(0, 3)}), {1: 0.5})
    assert peer.mixer.now == 20.0


def test_a_second_state_is_waited_for_with_a_bound(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3)
    peer.sends(3)
    assert received(peer).sender == 3
    assert peer.mixer.now == 20.0 + PATIENCE


def test_one_that_claims_to_train_and_sends_nothing_keeps_no_peer_for_good_for_which_others_wait(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3, progress=WAITS)
    peer.mixer.goes_on = lambda now: peer.goes_on(1, int(now))
    assert peer.joining.receive(longest=50.0) is None
    assert peer.mixer.now == 70.0


def test_a_newcomer_waits_for_the_end_of_long_rounds_where_no_neighbour_waits_for_it(peer: Peer) -> None:
    peer.comes(1)
    peer.mixer.endless = True
    peer.mixer.goes_on = lambda now: peer.sends(1) if now == 150.0 else None
    state = peer.joining.receive(longest=50.0)
    assert state is not None
    assert peer.mixer.now == 150.0


@pytest.mark.parametrize("other", [{"sums": (5.0, 2.1, 40.0)}, {"resume": 3}, {"clips": {0: 7, 1: 8, 2: 9, 3: 11}}])
def test_states_of_different_runs_are_told(peer: Peer, other: dict[str, Any]) -> None:
    for neighbour in (1, 3):
        peer.comes(neighbour)
    peer.sends(1)
    peer.sends(3, **other)
    assert (received(peer).sender, received(peer).differing, received(peer).senders) == (1, (3,), (1,))


def test_a_sum_near_zero_agrees_with_its_last_bits_of_another_machine(peer: Peer) -> None:
    for neighbour in (1, 3):
        peer.comes(neighbour)
    peer.sends(1, sums=(5.0, 1e-14, 40.0))
    peer.sends(3, sums=(5.0, -3e-14, 40.0 + 1e-12))
    assert (received(peer).sender, received(peer).differing) == (1, ())


def test_the_state_that_two_send_wins_over_that_of_a_third(peer: Peer) -> None:
    peer.mixer.roster = Roster((1, 2, 3))
    for neighbour in (1, 2, 3):
        peer.comes(neighbour)
    peer.sends(1, round=1, sums=(5.0, 2.5, 40.0))
    peer.sends(2, round=6)
    peer.sends(3, round=7)
    state = received(peer)
    assert (state.sender, state.round, state.differing) == (2, 6, (1,))


@pytest.mark.parametrize("changed", [
    {"round": -1}, {"round": ROUNDS + 1}, {"round": True}, {"round": "4"}, {"resume": ROUNDS + 1}, {"resume": -1},
    {"clips": {9: 1}}, {"clips": {0: -1}}, {"clips": {0: 2**53}}, {"clips": [1]}, {"widths": {0: 1.5}},
    {"widths": {0: 0.0}}, {"widths": {0: 1}}, {"cut": [[0, 2]]}, {"cut": [[0, 1, 2]]}, {"cut": 5}, {"cut": [[[], 1]]}])
def test_a_roll_call_that_cannot_be_is_refused(peer: Peer, changed: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError, match="peer 3 sent a join state") as caught:
        peer.hear(3, FACTS, fields(**changed))
    assert caught.value.peer == 3


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff"])
def test_bytes_that_are_no_roll_call_are_refused(peer: Peer, payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        peer.hear(3, FACTS, payload)


@pytest.mark.parametrize(("slot", "row"), [
    (SUMS, torch.ones(5, dtype=torch.float64)), (SUMS, torch.ones(3)), (ROW, torch.ones(4)), (ROW, torch.ones(0)),
    (ROW, torch.ones(3, dtype=torch.float64)), (ROW, torch.tensor([0.0, math.nan, 0.0])), (7, torch.ones(3)),
    (SUMS, torch.tensor([0.0, 1.0, math.inf], dtype=torch.float64))])
def test_a_row_that_is_not_what_is_due_is_refused_and_the_next_state_counts(peer: Peer, slot: int, row: Tensor) -> None:
    peer.comes(3)
    with pytest.raises(RemoteProtocolError):
        peer.part(3, slot, row)
    peer.sends(3)
    assert received(peer).sender == 3


def test_a_state_that_does_not_fit_the_model_is_forgotten_and_costs_its_sender(peer: Peer) -> None:
    peer.comes(3)
    peer.sends(3)
    peer.joining.refuse(received(peer), "another width")
    assert peer.mixer.struck == [3]
    peer.mixer.roster.changed(events.Changed(3, State.PRESENT, State.LOST, Cause.DEATH), 21.0)
    assert peer.joining.receive() is None


def test_a_state_is_sent_once_an_incarnation_and_nobody_waits_for_its_receiver(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3, progress=WAITS)
    peer.joining.joined()
    for _ in range(3):
        peer.hear(3, ASK, b"")
        peer.answer()
    slots = [(to, slot) for to, slot, _ in peer.mixer.sent if slot != ASK]
    assert slots == [(3, FACTS), (3, SUMS), (3, ROW)]
    assert 3 in peer.mixer.afresh
    assert 1 not in peer.mixer.afresh
    peer.comes(3, incarnation=1, progress=WAITS)
    peer.hear(3, ASK, b"")
    peer.answer()
    assert len([slot for _, slot, _ in peer.mixer.sent if slot != ASK]) == 6


def test_a_further_request_is_answered_in_steps_of_its_own(peer: Peer) -> None:
    peer.comes(3, progress=WAITS)
    peer.joining.joined()
    for number in (0, 1, 1):
        peer.hear(3, KINDS * number + ASK, b"")
        peer.answer()
    assert [slot for _, slot, _ in peer.mixer.sent] == [FACTS, SUMS, ROW, KINDS + FACTS, KINDS + SUMS, KINDS + ROW]


def test_one_that_is_away_when_it_would_be_answered_is_answered_when_it_is_back(peer: Peer) -> None:
    peer.joining.joined()
    peer.joining.newcomers({1})
    peer.comes(3, progress=WAITS)
    peer.hear(3, ASK, b"")
    peer.changes(3, State.PRESENT, State.LOST, Cause.DEATH)
    peer.answer()
    assert peer.mixer.sent == []
    peer.changes(3, State.LOST, State.RETURNING, Cause.TRAFFIC)
    peer.comes(1, progress=WAITS)
    peer.answer()
    peer.answer()
    assert [(to, slot) for to, slot, _ in peer.mixer.sent] == [
        (to, slot) for to in (1, 3) for slot in (FACTS, SUMS, ROW)]


def test_one_that_trains_meanwhile_is_sent_no_state(peer: Peer) -> None:
    peer.comes(3, progress=WAITS)
    peer.joining.joined()
    peer.hear(3, ASK, b"")
    peer.goes_on(3, 4)
    peer.answer()
    assert peer.mixer.sent == []
    assert peer.mixer.afresh == [3]


def test_a_neighbour_that_was_away_is_asked_again(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3)
    peer.changes(3, State.PRESENT, State.ABSENT, Cause.DEATH)
    assert peer.asked() == [1, 3]
    peer.changes(3, State.ABSENT, State.PRESENT, Cause.TRAFFIC)
    assert [(to, slot) for to, slot, _ in peer.mixer.sent] == [(1, ASK), (3, ASK), (3, KINDS + ASK)]


def test_an_answer_that_is_owed_is_lost_after_a_while_and_asked_for_again(peer: Peer) -> None:
    peer.comes(3)
    peer.mixer.goes_on = lambda now: peer.goes_on(3, 4 + int(now - 20)) or (
        now == 33 and peer.changes(3, State.PRESENT, State.LOST, Cause.DEATH))
    assert peer.joining.receive() is None
    assert peer.asked() == [3, 3]  # in round 4 and, having begun round 6 at 22 s, at 28 s


@pytest.mark.parametrize(("rounds", "waits"), [((4, 5, 5, 5), PATIENCE), ((4, 5, 6, 6), 2 + GRACE)])
def test_a_second_state_is_waited_for_until_it_is_lost(peer: Peer, rounds: tuple[int, ...], waits: float) -> None:
    peer.comes(1)
    peer.comes(3)
    peer.sends(3)
    peer.mixer.goes_on = lambda now: peer.goes_on(1, rounds[min(int(now - 20), 3)])
    assert received(peer).sender == 3
    assert peer.mixer.now == 20.0 + waits


def test_a_second_state_of_which_a_part_has_come_is_waited_for(peer: Peer) -> None:
    peer.comes(1)
    peer.comes(3)
    peer.sends(3)
    peer.hear(1, FACTS, fields(round=6))
    peer.mixer.goes_on = lambda now: peer.goes_on(1, 8)
    assert received(peer).sender == 3
    assert peer.mixer.now == 20.0 + PATIENCE


def test_a_request_in_another_form_is_refused_and_not_answered(peer: Peer) -> None:
    peer.comes(3)
    peer.joining.joined()
    with pytest.raises(RemoteProtocolError, match="another form"):
        peer.hear(3, ASK, b"please")
    peer.answer()
    assert [slot for _, slot, _ in peer.mixer.sent if slot != ASK] == []
    assert peer.mixer.afresh == []


def test_a_neighbour_that_is_banned_is_not_waited_for(peer: Peer) -> None:
    peer.comes(1)
    for neighbour, before in ((1, State.PRESENT), (3, State.ABSENT)):
        peer.changes(neighbour, before, State.BANNED, Cause.STRUCK_OUT)
    assert peer.joining.receive(endless=True) is None
    assert not peer.joining.left_alone  # none may come


def test_neighbours_that_are_all_lost_are_waited_for_twice_the_patience(peer: Peer) -> None:
    peer.mixer.endless, peer.mixer.goes_on = True, lambda now: None
    for neighbour in (1, 3):
        peer.changes(neighbour, State.ABSENT, State.LOST, Cause.BEGIN)
    assert peer.joining.receive(endless=True) is None
    assert peer.mixer.now == 20.0 + 2 * PATIENCE
    assert peer.joining.left_alone
    peer.comes(3, incarnation=1)
    assert not peer.joining.left_alone


def test_a_neighbour_that_is_lost_is_waited_for_though_another_is_banned(peer: Peer) -> None:
    def comes_back(now: float) -> None:
        if now == 130.0:
            peer.comes(3, incarnation=1)
            peer.sends(3)

    peer.mixer.endless, peer.mixer.goes_on = True, comes_back
    peer.changes(1, State.ABSENT, State.BANNED, Cause.STRUCK_OUT)
    peer.changes(3, State.ABSENT, State.LOST, Cause.BEGIN)
    state = peer.joining.receive(endless=True)
    assert state is not None
    assert state.sender == 3
