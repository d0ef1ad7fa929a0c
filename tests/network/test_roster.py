"""What the training thread makes of the events about its neighbours: who is sent to, waited for, and broke off."""

from __future__ import annotations

import pytest

from p2pser.network import events
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress


class Told:
    """A roster of the neighbours 2, 4 and 7, of which 2 and 4 have come."""

    def __init__(self) -> None:
        self.roster = Roster((7, 2, 4))
        assert [self.greets(2, 0), self.greets(4, 0)] == [False, False]

    def greets(self, peer: int, incarnation: int, round: int = 3, phase: Phase = Phase.TRAIN,
               process: str = "") -> bool:
        hello = Hello("run", peer, incarnation, {}, "t", "s", (1.0,), ("a", "b"), 7, process=process)
        renewed = self.roster.up(events.Up(peer, hello, Progress(round, 0, phase, 0)))
        self.becomes(peer, State.PRESENT)
        return renewed

    def becomes(self, peer: int, state: State, now: float = 0.0) -> None:
        self.roster.changed(events.Changed(peer, self.roster.state(peer), state, Cause.TRAFFIC, f"now {state.value}"),
                            now)


@pytest.mark.parametrize(("state", "sent_to", "awaited"), [
    (State.PRESENT, True, True), (State.SUSPECT, True, True), (State.RETURNING, True, False),
    (State.LOST, False, False), (State.DONE, False, False), (State.BANNED, False, False), (State.ABSENT, True, True)])
def test_who_is_sent_to_and_who_is_waited_for(state: State, sent_to: bool, awaited: bool) -> None:
    told = Told()
    told.becomes(4, state, now=8.5)
    assert (told.roster.takes_part(4), told.roster.awaited(4)) == (sent_to, awaited)
    assert told.roster.lost() == ({} if sent_to else {4: f"now {state.value}"})
    assert told.roster.since(4) == 8.5
    assert told.roster.takes_part(2)


def test_after_the_rounds_one_that_returns_takes_no_part() -> None:
    told = Told()
    told.becomes(4, State.RETURNING)
    told.roster.rounds_over = True
    assert not told.roster.takes_part(4)
    assert told.roster.takes_part(2)
    assert told.roster.returning() == (4,)


def test_an_edge_breaks_off_once_and_by_a_loss_only() -> None:
    told = Told()
    told.becomes(2, State.SUSPECT)
    assert told.roster.breaks() == ([], [])
    told.becomes(2, State.LOST)
    assert told.roster.breaks() == ([2], [])
    assert told.roster.breaks() == ([], [])
    told.becomes(2, State.RETURNING)
    assert told.roster.breaks() == ([], [])
    assert told.greets(4, incarnation=1)
    assert not told.greets(4, incarnation=1)
    assert told.roster.breaks() == ([], [4])
    assert told.greets(4, incarnation=1, process="another")
    assert told.roster.breaks() == ([], [4])


def test_only_the_rounds_of_those_that_take_part_count() -> None:
    told = Told()
    told.becomes(2, State.LOST)
    assert told.roster.rounds() == {4: 3}
    told.becomes(2, State.RETURNING)
    told.roster.progressed(events.Progressed(2, Progress(9, 0, Phase.TRAIN, 0)))
    assert told.roster.rounds() == {2: 9, 4: 3}
    assert told.roster.training() == (2, 4)
    told.greets(7, 0, phase=Phase.CONSENSUS)
    assert (told.roster.training(), told.roster.ending()) == ((2, 4), (7,))
    assert told.roster.missing() == ()
