"""Every algorithm between whole peers: the simulator's bits, and the same after all were killed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, PEERS, of, settings, topology

from p2pser.base.registries import ALGORITHMS
from p2pser.features.federation import Federation, no_examples
from p2pser.gossip.agreement import statistics
from p2pser.gossip.algorithm import State
from p2pser.gossip.registry import create
from p2pser.models.calibrated import Calibrated
from p2pser.models.directory import Card, read_card
from p2pser.models.directory import load as load_model
from p2pser.models.rows import Schema
from p2pser.peer.telemetry import read
from p2pser.run.calibration import LOST, STOPPED
from p2pser.run.checkpoint import load as load_checkpoint
from p2pser.run.participant import together
from p2pser.simulation.engine import simulate
from p2pser.wire.messages import Phase, Progress
from schedules import schedule, stand_ins
from schedules.data import SIZE, examples
from schedules.faults import Fault, When
from schedules.schedule import Schedule

EVERYBODY = range(PEERS)
ROUNDS, DEATH = 8, 5
"""In this round of peer 0 all are killed; the peer farthest from it may be three rounds behind."""


@dataclass(frozen=True)
class End:
    """How a peer's last process ended, what it remembers after the last round, and its model."""

    exit_code: int | None
    summary: dict[str, Any]
    state: State
    row: torch.Tensor


class Play(Schedule):
    """A case between whole peers, with the faults that are given and no others."""

    def __init__(self, name: str, folder: Path, *faults: Fault) -> None:
        super().__init__(0, folder, "dfedavg", "ring", faults=False)
        self.algorithm, self.topology, self.rounds = of(name), topology(name), ROUNDS
        self.config = self.config.with_settings([*settings(name), f"training.rounds={ROUNDS}"])
        self.faults = list(faults)
        self.ends: dict[int, End] = {}
        for machine in self.machines.values():
            machine.pace = 0.001

    def data_of(self, me: int) -> Federation:
        how = self.config.features.normalise
        return replace(super().data_of(me), normalise="none" if how == "auto" else how)

    def look(self) -> None:
        """Keep what the peers have on their disks."""
        for i, machine in self.machines.items():
            process, place = machine.past[-1], self.folder / "run" / f"peer-{i}"
            assert process.ended is not None
            assert process.ended[0] == "done", process.ended
            assert [event for event in read(place / "events.jsonl") if event["kind"] == "struck"] == []
            rows, edges, _ = load_checkpoint(place / "checkpoint", ROUNDS)
            module, _ = load_model(place / "model")
            self.ends[i] = End(process.exit_code, process.ended[1], State(rows, edges),
                               Schema.of(module).flatten(module))

    def simulated(self, *, exact: bool) -> Any:
        """The simulator's run of the same."""
        each = [self.data_of(i) for i in EVERYBODY]
        return simulate(self.config, self.topology, replace(
            each[0], train={i: one.train[i] for i, one in enumerate(each)},
            held=tuple(one.held[i] for i, one in enumerate(each)),
            held_out={i: examples for one in each for i, examples in one.held_out.items()}), exact=exact)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    monkeypatch.setitem(schedule.TOPOLOGIES, "ring", (PEERS,))
    monkeypatch.setattr(schedule, "judge", lambda played: played.look())
    monkeypatch.setattr(stand_ins, "COARSE", statistics.TOLERANCE)
    return folder


def test_every_algorithm_is_here() -> None:
    assert {of(name) for name in CASES} == {name for name, kind in ALGORITHMS.items() if not kind.asynchronous}


@pytest.mark.parametrize("name", CASES)
def test_network_and_simulator_have_the_same_bits_also_after_all_were_killed(name: str, folder: Path) -> None:
    whole = Play(name, folder)
    whole.run()
    method = create(whole.algorithm, whole.config.gossip.parameters, whole.config, whole.topology)
    exact, fast = (whole.simulated(exact=exact) for exact in (True, False))
    for end in whole.ends.values():
        assert end.exit_code == end.summary["drift"] == 0
        assert [one for one in end.summary["left_out"] if one[0][0] < ROUNDS] == end.summary["peers_dead"] == []
        assert end.summary["consensus"] == (method.consensus or method.one_model)
        assert (end.summary["consensus_distance"] is not None) == end.summary["consensus"]
    assert max(end.summary["consensus_exchanges"] for end in whole.ends.values()) == exact.final.exchanges
    trained, rows = (torch.cat([method.model(whole.ends[i].state) for i in EVERYBODY]),
                     torch.stack([whole.ends[i].row for i in EVERYBODY]))
    assert torch.equal(trained, exact.rows)
    assert torch.equal(rows, exact.final.rows.to(torch.float32))
    assert float(torch.linalg.vector_norm(fast.rows - trained) / torch.linalg.vector_norm(trained)) < 1e-5
    if method.served:
        assert torch.equal(trained, trained[:1].expand_as(trained))  # the server's model, which no consensus changes
        assert torch.equal(rows, trained)

    torn = Play(name, folder, Fault(When(0.0, 0, Phase.EXCHANGE, DEATH), "kill all", kill_all))
    torn.run()
    assert [len(machine.past) for machine in torn.machines.values()] == [2] * PEERS
    for i in EVERYBODY:
        one, other = whole.ends[i], torn.ends[i]
        assert_same(one.state.rows, other.state.rows)
        assert one.state.edges.keys() == other.state.edges.keys()
        for edge, kept in one.state.edges.items():
            assert_same(kept, other.state.edges[edge])
        assert torch.equal(one.row, other.row)


def test_when_the_hub_dies_the_next_candidate_averages_at_all_that_live(folder: Path) -> None:
    """Between whole peers: all living ends have the same row before the final consensus, which has nothing to do."""
    play = Death("hubs", folder, Fault(When(0.0, 0, Phase.EXCHANGE, 3), "kill the hub",
                                       lambda schedule: schedule.kill(0, False)))
    play.run()
    rows = torch.cat([play.ends[i].state.rows["x"] for i in EVERYBODY if i])
    assert torch.equal(rows, rows[:1].expand_as(rows))
    assert all(play.ends[i].summary["peers_dead"] == [0] for i in EVERYBODY if i)
    assert all((i, 0) in play.ends[i].state.edges for i in EVERYBODY if i)


class Death(Play):
    """A case in which peer 0 dies."""

    def look(self) -> None:
        whole, self.machines = self.machines, {i: one for i, one in self.machines.items() if i}
        super().look()
        self.machines = whole


class Held(Play):
    """A case in which all peers but the first hold two speakers out of training; the last one only relays and scores.
    """

    def __init__(self, name: str, folder: Path, *faults: Fault, settings: tuple[str, ...] = ()) -> None:
        super().__init__(name, folder, *faults)
        self.config = self.config.with_settings(["training.held_out=0.2", *settings])
        self.cards: dict[int, Card] = {}

    def data_of(self, me: int) -> Federation:
        its, (one, other) = super().data_of(me), (examples(100 + 2 * me + k, 12 + me) for k in range(2))
        train = {me: no_examples((SIZE,))} if me == PEERS - 1 else its.train
        return replace(its, train=train, held_out={me: together([one, other])} if me else {})

    def look(self) -> None:
        super().look()
        self.cards = {i: read_card(self.folder / "run" / f"peer-{i}" / "model")[0] for i in EVERYBODY}


@pytest.mark.parametrize(("name", "settings"), [
    ("dfedavg on base-2", ("features.normalise=none",)), ("fedavg", ()),
    ("secure-average", ("features.normalise=speaker",))])
def test_network_and_simulator_calibrate_alike(name: str, settings: tuple[str, ...], folder: Path) -> None:
    play = Held(name, folder, settings=settings)
    play.run()
    found = play.simulated(exact=True).calibrated
    speakers, numbers = 2 * (PEERS - 1), 6 if "features.normalise=speaker" in settings else 1
    assert found.how == f"{speakers} speakers whom {PEERS - 1} peers held out of training"
    assert (len(found.heard), len(found.sets)) == (numbers, numbers)
    assert play.simulated(exact=False).calibrated.how == found.how
    for i, end in play.ends.items():
        assert Calibrated.read(end.summary) == found, i
        card = play.cards[i]
        assert (card.temperature, card.heard, card.sets) == (found.temperature, found.heard, found.sets)
        assert card.training["calibration"] == found.how
        assert [one for one in end.summary["left_out"] if one[0][0] >= ROUNDS] == []


@pytest.mark.parametrize(("number", "how"), [
    (1, LOST),
    (2, f"{2 * (PEERS - 1)} speakers whom {PEERS - 1} peers held out of training; a peer was lost before the figures "
        "were summed")])
def test_a_death_during_the_calibration_loses_no_model(number: int, how: str, folder: Path) -> None:
    play = Held("dfedavg", folder)
    at, heard, killed = ROUNDS + 2 + number, play._progressed, []

    def progressed(peer: int, progress: Progress) -> None:
        heard(peer, progress)
        if peer == 2 and (progress.round, progress.slot) == (at, 3) and not killed:
            killed.append(peer)
            play.later(0.0, lambda: play.kill(2, False) and play.start_again(2, 30.0, ""))

    play._progressed = progressed  # type: ignore[method-assign]
    play.run()
    assert killed
    rows = torch.stack([play.ends[i].row for i in EVERYBODY])
    assert torch.equal(rows, play.simulated(exact=True).final.rows.to(torch.float32))
    assert [play.cards[i].training["calibration"] for i in EVERYBODY] == [STOPPED if i == 2 else how for i in EVERYBODY]
    assert len({play.cards[i].temperature for i in EVERYBODY if i != 2}) == 1
    assert all(card.heard == card.sets == () for card in play.cards.values())
    assert [end.exit_code for end in play.ends.values()] == [0] * PEERS


def kill_all(schedule: Schedule) -> None:
    for peer in EVERYBODY:
        assert schedule.kill(peer, False)
        schedule.start_again(peer, 1.0 + 0.1 * peer, "")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name
