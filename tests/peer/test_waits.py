"""What a peer says while it waits: for whom, where, since when, and what helps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pser.config import Config
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import load
from p2pser.network import events
from p2pser.network.awaited import Awaited
from p2pser.network.exchange import Exchange
from p2pser.network.roster import Roster
from p2pser.network.states import Cause, State
from p2pser.peer.reporter import Reporter
from p2pser.peer.telemetry import Telemetry, read
from p2pser.peer.waits import Waits
from p2pser.wire.messages import Phase, Progress


class Waiting:
    """Peer 0 of a ring of four, with what it says; peer 1 dials it."""

    def __init__(self, folder: Path) -> None:
        self.now, self.said = 1000.0, list[str]()
        topology = folder / "four.yaml"
        topology.write_text("name: four\ngraph: {kind: ring, peers: 4}\npeers:\n  1: {address: none}\n"
                            "  3: {address: 'tcp://192.0.2.3:5700'}\n")
        self.roster = Roster((1, 3))
        self.exchange = Exchange(0, self.roster, Awaited(60.0))
        self.io = type("IO", (), {"progress": Progress(6, 0, Phase.EXCHANGE, 0)})
        self.telemetry = Telemetry(folder)
        self.waits = Waits(Config(), load(str(topology), None, 0), 0, self, Reporter(  # type: ignore[arg-type]
            0, self.telemetry, self.said.append, lambda: None, lambda: self.now), lambda: self.now)

    def at(self, now: float) -> list[str]:
        """What is said on a look at this time."""
        before, self.now = len(self.said), now
        self.waits.look_up()
        return self.said[before:]

    def begins(self, step: Step) -> None:
        self.exchange.begin(step)
        self.exchange.post(step, None, {})
        assert self.exchange.finish(self.now) is None


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Waiting]:
    one = Waiting(tmp_path)
    yield one
    one.telemetry.close()


def test_the_start_names_addresses_and_is_said_again_now_and_then(peer: Waiting) -> None:
    peer.waits.meeting("waiting for peers 1, 3", "; help")
    assert peer.said == ["peer 0 is waiting for peers 1, 3 (it dials us, tcp://192.0.2.3:5700); help"]
    assert peer.at(1014.9) == []
    (again,) = peer.at(1016.0)
    assert again.startswith("peer 0 is still waiting for peers 1, 3 (it dials us, tcp://192.0.2.3:5700), since ")
    assert "--check" in again
    assert peer.at(1615.0) == []
    assert len(peer.at(1616.1)) == 1
    peer.waits.met()
    assert peer.at(9000.0) == []


def test_a_round_that_lasts_much_longer_than_those_before_is_told_once_with_whom_it_waits_for(peer: Waiting) -> None:
    for round in range(6):
        peer.waits.round_over(round, 3.0)
    for j, progress in ((1, Progress(6, 0, Phase.EXCHANGE, 9)), (3, Progress(5, 0, Phase.TRAIN, 2))):
        peer.roster.changed(events.Changed(j, State.ABSENT, State.PRESENT, Cause.HELLO), peer.now)
        peer.roster.progressed(events.Progressed(j, progress))
        peer.exchange.awaited.progress(j, progress, peer.now)
    peer.begins(Step(6, 0))
    peer.exchange.deliver(1, Step(6, 0), peer.exchange, (), peer.now)  # type: ignore[arg-type]
    assert peer.at(1014.9) == []  # five times the usual three seconds, which is more than dead_after
    (told,) = peer.at(1016.0)
    assert told.startswith("peer 0 is waiting in round 7 since ")
    assert "for peer 3 at tcp://192.0.2.3:5700 (it trains in round 6): p2pser status" in told
    assert peer.at(1040.0) == []
    (event,) = read(peer.telemetry.folder / "events.jsonl")
    assert (event["kind"], event["round"], event["peers"]) == ("waiting", 6, [3])
    assert event["waits_for"] == {"3": "it trains in round 6"}
    peer.exchange.deliver(3, Step(6, 0), peer.exchange, (), peer.now)  # type: ignore[arg-type]
    assert peer.exchange.finish(peer.now) is not None
    peer.waits.round_over(6, 102.0)
    assert peer.said[-1] == "peer 0: round 7 is over, after 1 min 42 s"
    assert peer.at(1055.0) == []  # it trains: no exchange is under way


def test_before_the_first_round_is_over_nothing_is_usual_yet(peer: Waiting) -> None:
    peer.roster.changed(events.Changed(3, State.ABSENT, State.PRESENT, Cause.HELLO), peer.now)
    peer.roster.changed(events.Changed(3, State.PRESENT, State.SUSPECT, Cause.SILENCE), peer.now)
    peer.io.progress = Progress(-3, 0, Phase.SETUP, 0)  # type: ignore[attr-defined]
    peer.begins(Step(-3, 0))
    assert peer.at(1060.0) == []
    (told,) = peer.at(1062.0)
    assert "waiting before the first round" in told
    assert "peer 3 at tcp://192.0.2.3:5700 (silent; before that, it has not reported how far it is)" in told


def test_a_neighbour_that_makes_all_rounds_long_is_named_with_its_share_now_and_then(peer: Waiting) -> None:
    def rounds(number: int, seconds: float, alone: float) -> list[str]:
        before = len(peer.said)
        for round in range(number):
            peer.now += seconds
            peer.roster.alone[3] += alone
            peer.roster.alone[1] += 0.5
            peer.waits.round_over(round, seconds)
        return peer.said[before:]

    peer.roster.alone[3] = 500.0  # before the first round
    assert rounds(19, 10.0, 3.3) == []  # less than half of the time
    (said,) = rounds(20, 10.0, 9.0)
    assert said.startswith("peer 0 finds peer 3 at tcp://192.0.2.3:5700 slow: 50% of the time of the last 20 rounds "
                           "were waits for it alone. p2pser status at that site says ")
    assert said.endswith("where it reports no progress for 1 min 0 s (network.round_timeout)")
    assert len(rounds(60, 10.0, 9.0)) == 1  # ten minutes
    assert rounds(90, 0.1, 0.09) == []  # a quick exchange is mostly a wait
    (first, second) = [one for one in read(peer.telemetry.folder / "events.jsonl") if one["kind"] == "slow"]
    assert (first["peer"], second["share"], second["rounds"]) == (3, 0.9, 20)
