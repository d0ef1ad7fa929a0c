"""The ways into a run, with stand-ins for the network and the session: who joins, who resumes, and from which round."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from p2pser.base.errors import P2PSERError
from p2pser.gossip.mixer import Step
from p2pser.network.exchange import DeliveryStatus
from p2pser.peer import entrance
from p2pser.peer.entrance import Entrance
from p2pser.peer.growth import Anew
from p2pser.peer.join_state import JoinState
from p2pser.run.setup import ROLL_CALL, STATISTICS, RollCall
from p2pser.wire.messages import Phase, Progress

CLIPS = {0: 7, 1: 8, 3: 10}
SUMS = torch.tensor([5.0, 2.0], dtype=torch.float64)
SKIPPED = (Step(ROLL_CALL, 1), 3, DeliveryStatus.SKIPPED)


def state(sender: int, round: int = 6) -> JoinState:
    return JoinState(sender, round, RollCall(2, {1: 8, 3: 10}, frozenset()), SUMS, torch.tensor([1.0, float(sender)]))


class Peer:
    """Peer 0 with the neighbours 1 and 3. What it does is in ``done``; the test sets what the others say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, Any]] = []
        self.call = RollCall(0, CLIPS, frozenset())
        self.states: list[JoinState] = []
        self.left_out: list[tuple[Step, int, DeliveryStatus]] = []
        self.trains: tuple[int, ...] = ()
        self.ends: tuple[int, ...] = ()
        self.returning: tuple[int, ...] = ()
        self.misfit: set[int] = set()
        self.now, self.waits = 50.0, 0
        monkeypatch.setattr(entrance, "roll_call", self._called)
        monkeypatch.setattr(entrance, "mend", lambda algorithm, state, mixer, breaks: self._do("mended", breaks.reset))
        network = SimpleNamespace(start_timeout=None, refused_wait=None, round_timeout=30.0)
        session = SimpleNamespace(
            config=SimpleNamespace(network=network, training=SimpleNamespace(rounds=9),
                                   gossip=SimpleNamespace(weighting="clips", algorithm="dfedavg")),
            topology=SimpleNamespace(hub=None, schedule=None),
            algorithm=SimpleNamespace(asynchronous=False, served=False),
            cohort=SimpleNamespace(participants=[SimpleNamespace(examples=range(7), width=1.0)]),
            share=self._share, fitted=self._fitted,
            statistics=lambda cut: self._do("statistics", cut) or SUMS)
        mixer = SimpleNamespace(
            me=0, neighbours=(1, 3), left_out=self.left_out,
            io=SimpleNamespace(clock=lambda: self.now, admit=lambda admits, **_: self._do("admits", admits)),
            connect=lambda *_: self._do("connects", None), training=lambda: self.trains, listen=self._listen,
            enter=lambda phase, round: None, begin=lambda joining: self._do("begins", joining),
            next_round=lambda round: max(round + 1, 8), exchange=SimpleNamespace(carried=lambda: "open exchanges"),
            roster=SimpleNamespace(ending=lambda: self.ends, here=lambda: frozenset({1, 3}),
                                   returning=lambda: self.returning, progress=lambda j: Progress(11, 0, Phase.END, 0)))
        joining = SimpleNamespace(
            set_up=lambda: None, joined=lambda: self._do("joined", None), receive=self._receive,
            newcomers=lambda peers: self._do("serves", set(peers)),
            refuse=lambda it, why: self._do("refuses", it.sender), left_alone=False)
        self.joining = joining
        checkpoints = SimpleNamespace(
            reach=None, folder="folder", ended_after=None, available=lambda: [4],
            load=lambda round: (f"state of {round}", SUMS, True),
            set_aside_after=lambda start: self._do("sets aside after", start) or [])
        reporter = SimpleNamespace(
            telemetry=SimpleNamespace(rewind=lambda start: self._do("rewinds to", start)), say=lambda sentence: None,
            waiting=lambda sentence: None, event=lambda kind, **_: None,
            tell=lambda kind, text, **_: self._do(kind, None))
        waits = SimpleNamespace(meeting=lambda sentence, helps: None, met=lambda: None)
        scaling = SimpleNamespace(own=None, called=lambda call: call, heard=self._heard)
        self.entrance = Entrance(session, mixer, joining, checkpoints, reporter, waits,
                                 scaling)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        return [name for name, _ in self.done]

    def _do(self, name: str, what: Any) -> None:
        self.done.append((name, what))

    def _share(self, call: RollCall) -> None:
        if len(set(call.widths.values())) > 1:
            raise P2PSERError("widths differ")
        self._do("shares", dict(call.clips))

    def _called(self, *given: Any, **_: Any) -> RollCall:
        self._do("calls the roll", given[4])
        return self.call

    def _receive(self, expected: Any = (), *, endless: bool = False, longest: float) -> JoinState | None:
        self._do("receives from", set(expected))
        return self.states.pop(0) if self.states else None

    def _heard(self, call: RollCall, sums: torch.Tensor) -> None:
        if call.normalise != self.call.normalise:
            raise P2PSERError("scaled in another way")

    def _fitted(self, sender: int, row: torch.Tensor) -> torch.Tensor:
        if sender in self.misfit:
            raise P2PSERError("another model")
        return row

    def _listen(self, timeout: float) -> None:
        self.waits += 1
        assert self.waits < 100, "it waits without a bound"
        self.now += timeout


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Peer:
    return Peer(monkeypatch)


def test_where_nobody_has_begun_all_begin_and_nothing_of_an_earlier_life_stays(peer: Peer) -> None:
    entry = peer.entrance.enter()
    assert (entry.call, entry.start, entry.state, entry.joined) == (peer.call, 0, None, False)
    assert ("rewinds to", 0) in peer.done
    assert ("sets aside after", 0) in peer.done
    assert "joined" in peer.names()


def test_one_that_names_an_impossible_width_does_not_end_the_run_of_the_others(peer: Peer) -> None:
    peer.call = RollCall(0, CLIPS, frozenset(), {0: 1.0, 1: 1.0, 3: 0.5})
    assert peer.entrance.enter().call.widths == {0: 1.0, 1: 1.0, 3: 1.0}
    assert peer.names().count("refused_answer") == 1


@pytest.mark.parametrize("widths", [{0: 0.5, 1: 1.0, 3: 1.0}, {0: 1.0, 3: 0.5}])
def test_a_width_that_most_do_not_have_or_as_many_as_not_ends_a_run(peer: Peer, widths: dict[int, float]) -> None:
    peer.call = RollCall(0, CLIPS, frozenset(), widths)
    with pytest.raises(P2PSERError, match="widths differ"):
        peer.entrance.enter()


def test_from_a_common_checkpoint_all_resume_and_what_came_after_it_is_set_aside(peer: Peer) -> None:
    peer.call = RollCall(4, CLIPS, frozenset(), newcomers=frozenset({3}))
    entry = peer.entrance.enter()
    assert (entry.start, entry.state, entry.joined) == (4, "state of 4", False)
    assert [what for what in peer.done if what[0] in ("rewinds to", "sets aside after", "mended", "serves")] == [
        ("serves", {3}), ("mended", ((0, 3),)), ("rewinds to", 4), ("sets aside after", 4)]


def test_a_peer_without_the_checkpoint_waits_for_those_that_have_it_and_serves_the_other_newcomers(peer: Peer) -> None:
    peer.call = RollCall(4, CLIPS, frozenset(), newcomers=frozenset({0, 3}))
    peer.states = [state(1, round=4)]
    entry = peer.entrance.enter()
    assert (entry.joined, entry.call.clips) == (True, CLIPS)
    assert ("receives from", {1}) in peer.done
    assert ("serves", {0, 3}) in peer.done
    assert "rewinds to" not in peer.names()


def test_one_that_claims_to_train_and_sends_no_state_keeps_no_peer_from_the_start(peer: Peer) -> None:
    peer.trains = (1,)
    entry = peer.entrance.enter()
    assert not entry.joined
    assert peer.names().count("receives from") == 1
    assert peer.names().index("begins") < peer.names().index("calls the roll")


def test_a_run_under_way_is_joined_in_the_round_of_the_others_with_our_own_clips(peer: Peer) -> None:
    peer.trains, peer.states = (1, 3), [state(1)]
    entry = peer.entrance.enter()
    assert (entry.start, entry.joined, dict(entry.call.clips)) == (8, True, CLIPS)
    assert entry.state is not None
    assert entry.state.rows["x"].tolist() == [[1.0, 1.0]]
    assert ("sets aside after", 8) in peer.done
    assert ("begins", True) in peer.done
    assert "calls the roll" not in peer.names()


def test_a_state_that_no_other_neighbour_has_confirmed_is_reported_as_such(peer: Peer) -> None:
    said = list[str]()
    peer.entrance.reporter.say = said.append  # type: ignore[method-assign]
    peer.trains, peer.states = (1,), [replace(state(1), senders=(1,))]
    assert peer.entrance.enter().joined
    assert said[-1] == "peer 0 takes the state of peer 1 alone, which no other neighbour has confirmed"
    peer.states = [replace(state(1), senders=(1, 3))]
    assert peer.entrance.enter().joined
    assert "peer 0 waits" in said[-1]


def test_the_roll_call_names_our_clips_only_where_they_weigh(peer: Peer) -> None:
    peer.entrance.enter()
    peer.entrance.session.config.gossip.weighting = "uniform"
    peer.entrance.enter()
    assert [what for name, what in peer.done if name == "calls the roll"] == [7, None]


def test_a_peer_that_joins_names_no_clips_where_they_do_not_weigh(peer: Peer) -> None:
    peer.entrance.session.config.gossip.weighting = "uniform"
    peer.trains, peer.states = (1,), [JoinState(1, 6, RollCall(2, {}, frozenset()), SUMS, torch.tensor([1.0, 1.0]))]
    assert dict(peer.entrance.enter().call.clips) == {}


def test_a_state_that_does_not_fit_costs_its_sender_only(peer: Peer) -> None:
    peer.trains, peer.misfit, peer.states = (1, 3), {1}, [state(1), state(3)]
    entry = peer.entrance.enter()
    assert ("refuses", 1) in peer.done
    assert entry.state is not None
    assert entry.state.rows["x"].tolist() == [[1.0, 3.0]]


def test_a_state_of_a_run_that_scales_in_another_way_costs_its_sender_only(peer: Peer) -> None:
    peer.trains, peer.states = (1, 3), [replace(state(1), call=RollCall(2, CLIPS, frozenset(), normalise="global")),
                                        state(3)]
    assert peer.entrance.enter().joined
    assert ("refuses", 1) in peer.done


def test_whom_the_others_left_behind_in_the_roll_call_joins_them(peer: Peer) -> None:
    peer.left_out.append(SKIPPED)
    peer.states = [state(3)]
    peer.entrance.mixer.training = iter([(), (3,), (3,)]).__next__  # type: ignore[method-assign]
    assert peer.entrance.enter().joined
    assert "statistics" not in peer.names()


@pytest.mark.parametrize("left_out", [SKIPPED, (Step(STATISTICS, 0), 3, DeliveryStatus.SKIPPED),
                                      (Step(ROLL_CALL, 1), 3, DeliveryStatus.LOST)])
def test_where_nobody_trains_a_neighbour_that_went_on_in_the_set_up_still_waits(
        peer: Peer, left_out: tuple[Step, int, DeliveryStatus]) -> None:
    peer.left_out.append(left_out)
    entry = peer.entrance.enter()
    assert (entry.start, entry.joined) == (0, False)
    assert "receives from" not in peer.names()


def test_one_whose_neighbours_all_began_before_it_came_joins_them_though_none_trains_yet(peer: Peer) -> None:
    peer.left_out += [(Step(ROLL_CALL, 0), j, DeliveryStatus.GIVEN_UP) for j in (1, 3)]
    peer.returning, peer.states = (1, 3), [state(3)]
    entry = peer.entrance.enter()
    assert (entry.start, entry.joined) == (8, True)
    assert "statistics" not in peer.names()


def test_one_that_waits_for_a_state_admits_neighbours_that_are_started_again(peer: Peer) -> None:
    peer.call, peer.states = RollCall(4, CLIPS, frozenset(), newcomers=frozenset({0})), [state(1)]
    peer.entrance.enter()
    assert peer.names().index("admits") < peer.names().index("receives from")


def test_the_roll_call_and_the_statistics_admit_no_neighbour_that_is_started_again(peer: Peer) -> None:
    peer.entrance.enter()
    assert peer.names()[-1] == "admits"
    assert peer.names().count("admits") == 1


def test_one_of_whose_neighbours_some_began_before_it_came_begins_with_the_others(peer: Peer) -> None:
    peer.left_out.append((Step(ROLL_CALL, 0), 1, DeliveryStatus.GIVEN_UP))
    peer.returning = (1,)
    entry = peer.entrance.enter()
    assert (entry.start, entry.joined, entry.call) == (0, False, peer.call)


def test_one_that_trains_alone_and_sends_no_state_keeps_no_peer_from_beginning_with_the_others(peer: Peer) -> None:
    peer.left_out.append(SKIPPED)
    peer.entrance.mixer.training = iter([(), (3,)]).__next__  # type: ignore[method-assign]
    entry = peer.entrance.enter()
    assert (entry.start, entry.joined, entry.call) == (0, False, peer.call)
    assert "receives from" in peer.names()


def test_a_joining_peer_whose_neighbours_send_nothing_ends_with_a_sentence(peer: Peer) -> None:
    peer.call = RollCall(4, CLIPS, frozenset(), newcomers=frozenset({0}))
    with pytest.raises(P2PSERError, match="start this peer again"):
        peer.entrance.enter()


@pytest.mark.parametrize("newcomers", [frozenset({0}), frozenset()])
def test_one_that_asks_for_a_state_when_all_have_left_begins_anew(peer: Peer, newcomers: frozenset[int]) -> None:
    """Otherwise neighbours that are started again set it apart, and may be too few without it."""
    peer.call, peer.joining.left_alone = RollCall(4, CLIPS, frozenset(), newcomers=newcomers), True
    if not newcomers:  # it was left behind in the roll call
        peer.left_out.append(SKIPPED)
        peer.entrance.mixer.training = iter([(), (3,)]).__next__  # type: ignore[method-assign]
    with pytest.raises(Anew) as begun:
        peer.entrance.enter()
    assert str(begun.value) == "it begins anew"
    assert begun.value.does == "begins anew, since all of its neighbours have left"
    assert (begun.value.past, begun.value.expected) == ("open exchanges", None)


def test_a_state_whose_senders_have_come_to_their_end_is_not_trained_on_before_their_model_is_waited_for(
        peer: Peer) -> None:
    peer.call, peer.states = RollCall(4, CLIPS, frozenset(), newcomers=frozenset({0})), [state(1)]
    peer.entrance.mixer.roster.ending = lambda: (1,) if not peer.states else ()  # type: ignore[method-assign]
    assert peer.entrance.enter().joined
    assert peer.now == 80.0


def test_for_a_model_that_is_never_handed_over_a_peer_waits_with_a_bound(peer: Peer) -> None:
    peer.ends = (3,)
    entry = peer.entrance.enter()
    assert (entry.start, peer.now) == (0, 80.0)
    assert peer.names()[:2] == ["connects", "connects"]
