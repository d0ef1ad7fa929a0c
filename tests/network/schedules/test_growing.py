"""A later topology file under every algorithm, in the simulation of whole peers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pser.base.errors import P2PSERError
from p2pser.base.registries import ALGORITHMS
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology, load, parse
from p2pser.network.exchange import DeliveryStatus
from p2pser.network.meeting import CHANGE_WAIT
from p2pser.wire.messages import Phase
from schedules.faults import Fault, When
from schedules.growth import Growing
from schedules.schedule import DEAD_AFTER, algorithms, base

GRAPHS = ("ring", "tree", "directed-exponential", "server", "complete")


def grown(algorithm: str) -> tuple[Topology, Topology]:
    """Return a graph on which the algorithm runs, and the same with more peers, of epoch 1."""
    config = base(algorithm, "uniform")
    for name in GRAPHS:
        before, after = (load(name, peers=size) for size in ((5, 6) if name == "complete" else (4, 5)))
        try:
            for each in (before, after):
                validate(create(algorithm, {}, config, each), config, each)
        except P2PSERError:
            continue
        return before, replace(after, epoch=1)
    raise AssertionError(algorithm)


@pytest.mark.parametrize("algorithm", algorithms())
def test_every_algorithm_goes_on_with_one_more_peer(folder: Path, algorithm: str) -> None:
    before, after = grown(algorithm)
    one = Growing(4, folder, algorithm, before, after, rounds=12)

    def grow(growing: Growing) -> None:
        growing.give(range(before.size))
        growing.start(before.size)

    phase = Phase.TRAIN if ALGORITHMS[algorithm].asynchronous else Phase.EXCHANGE
    one.faults = [Fault(When(0.0, 1, phase, 3), "one more peer", grow)]
    one.run()
    assert not one.violations
    assert {i: machine.past[-1].ended[0] for i, machine in one.machines.items()} == \
        dict.fromkeys(range(after.size), "done")
    assert [machine.past[-1].exit_code for machine in one.machines.values()] == [0] * after.size
    assert all(any("goes on with epoch 1" in said for said in one.sentences(i)) for i in range(before.size))


RING = load("ring", peers=4)


def ring(peers: int, epoch: int, *retired: int) -> Topology:
    return parse({"graph": {"kind": "ring", "peers": peers}, "epoch": epoch, "retired": list(retired)}, "the file")


def played(folder: Path, after: Topology, *faults: Fault, algorithm: str = "dfedavg", before: Topology = RING,
           ) -> Growing:
    one = Growing(4, folder, algorithm, before, after, rounds=24)
    one.faults = list(faults)
    one.run()
    assert not one.violations
    return one


def exits(one: Growing) -> list[int | None]:
    return [machine.past[-1].exit_code for machine in one.machines.values() if machine.past]


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("algorithm", ["dfedavg", "gradient-tracking", "push-sum", "choco", "ad-psgd"])
def test_a_peer_leaves_for_good_with_the_file_or_told_by_its_neighbours(folder: Path, algorithm: str,
                                                                        told: bool) -> None:
    one = played(folder, ring(4, 1, 2), Fault(When(0.3), "2 leaves", lambda growing: growing.give(
        range(4) if told else (0, 1, 3))), algorithm=algorithm)
    assert exits(one) == [0] * 4
    ended = [machine.past[-1].ended for machine in one.machines.values()]
    assert [how for how, _ in ended] == ["done", "done", "interrupted", "done"]
    assert any("leaves the run for good" in said for said in one.sentences(2))
    assert {(ended[i][1]["agreed"], ended[i][1]["peers"]) for i in (0, 1, 3)} == {(3, 3)}


def test_one_that_gets_the_file_late_is_waited_for_and_named(folder: Path) -> None:
    def late(growing: Growing) -> None:
        assert not any("goes on with" in said for i in range(4) for said in growing.sentences(i))
        assert any("waits for peer 2" in said for said in growing.sentences(0))
        growing.give((2,))

    one = played(folder, ring(5, 1), Fault(When(0.3), "early", lambda growing: (
        growing.give((0, 1, 3)), growing.start(4))[1]), Fault(When(1.2), "late", late))
    assert exits(one) == [0] * 5
    assert any("joins the run" in said for said in one.sentences(4))
    assert all(any("goes on with epoch 1" in said for said in one.sentences(i)) for i in range(4))


def test_flows_that_the_last_round_of_a_change_leaves_at_one_end_are_drift(folder: Path) -> None:
    """Peer 0 takes the rows of peer 1 for too late, without a word, until the file takes effect."""
    def give(growing: Growing) -> None:
        exchange = growing.machines[0].process.mixer.exchange
        status = exchange._status

        def late(j: int, now: float) -> DeliveryStatus:
            return DeliveryStatus.GIVEN_UP if j == 1 else status(j, now)

        exchange._status = late
        exchange._past.own_for = lambda *_: None
        growing.machines[1].process.mixer.exchange.resend = list
        exchange.resend = list
        growing.give(range(4))

    one = played(folder, ring(4, 1), Fault(When(0.0, 1, Phase.EXCHANGE, 3), "a file", give))
    assert exits(one) == [0] * 4
    drifts = [machine.past[-1].ended[1]["drift"] for machine in one.machines.values()]
    assert drifts[1] > 1e-3
    assert (drifts[0], drifts[2], drifts[3]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seconds", [0.30, 0.35, 0.45, 0.6, 0.9])
def test_one_that_is_killed_about_the_change_comes_back_with_the_file(folder: Path, seconds: float) -> None:
    def kill(growing: Growing) -> None:
        growing.kill(1, False)
        growing.start_again(1, 1.0, "")

    one = Growing(4, folder, "dfedavg", RING, ring(5, 1), rounds=60)
    one.faults = [Fault(When(0.3), "grow", lambda growing: (growing.start(4), growing.give(range(4)))[1]),
                  Fault(When(seconds + 0.001), "kill 1", kill)]
    one.run()
    assert not one.violations
    assert exits(one) == [0] * 5


@pytest.mark.parametrize(("mover", "after"), [(0, 0.0), (1, 0.0), (1, 0.1)])
def test_one_that_is_killed_at_the_change_makes_the_others_wait_no_longer_than_a_lost_one(
        folder: Path, mover: int, after: float) -> None:
    """Peer 1 is killed in its last round before the change, between the two runs, or after its first HELLO."""
    one = Growing(4, folder, "dfedavg", RING, replace(load("complete", peers=4), epoch=1), rounds=60)
    one.faults = [Fault(When(0.3), "grow", lambda growing: growing.give(range(4)))]
    note, killed = one.world.note, list[float]()

    def hear(who: object, *what: object) -> None:
        note(who, *what)
        if who == mover and what[0] == "says" and "goes on with epoch 1" in str(what[1]):
            killed.append(one.world.now + after)
            one.world.after(after, lambda: one.kill(1, False))

    one.world.note = hear  # type: ignore[method-assign]
    one.run()
    began = [when for when, who, *what in one.world.trace if who in (0, 2, 3) and what[0] == "says"
             and "resumes at" in str(what[1])]
    assert len(killed) == 1
    assert len(began) == 3
    assert max(began) <= killed[0] + DEAD_AFTER + CHANGE_WAIT + 1.0
    assert [machine.past[-1].exit_code for i, machine in one.machines.items() if i != 1] == [3] * 3


def test_one_that_is_slow_at_the_change_is_waited_for(folder: Path) -> None:
    """Peer 2 needs more seconds for a round than a lost peer is waited for."""
    one = Growing(4, folder, "dfedavg", RING, replace(load("complete", peers=4), epoch=1), rounds=14)
    one.machines[2].pace = 5.0
    one.faults = [Fault(When(0.3), "grow", lambda growing: growing.give(range(4)))]
    one.run()
    assert not one.violations
    assert exits(one) == [0] * 4
    for i in range(4):
        assert any("goes on with epoch 1" in said for said in one.sentences(i))
        assert not any("joins the run" in said or "is DEAD" in said for said in one.sentences(i))


def test_a_file_that_is_read_before_the_run_has_begun_lets_it_begin_without_nobody(folder: Path) -> None:
    before = load("complete", peers=4)  # so that all wait for the late one
    one = Growing(4, folder, "dfedavg", before, replace(before, epoch=1), rounds=8)
    one._begins[3] = 4.0
    one.faults = [Fault(When(1.0), "a file for all", lambda growing: growing.give(range(4)))]
    one.run()
    assert not one.violations
    assert exits(one) == [0] * 4
    assert all(any("goes on with epoch 1" in said for said in one.sentences(i)) for i in range(3))
    assert all(any("starts with round 0" in said for said in one.sentences(i)) for i in range(4))


def test_two_files_of_one_epoch_change_nothing_until_a_higher_one_comes(folder: Path) -> None:
    def both(growing: Growing) -> None:
        growing.give((0, 1), ring(5, 1))
        growing.give((2, 3), replace(load("complete", peers=4), epoch=1))

    one = played(folder, ring(5, 2), Fault(When(0.3), "two files", both), Fault(When(1.2), "one file", lambda growing: (
        growing.give(range(4)), growing.start(4))[1]))
    assert all(any("has another topology file of epoch 1" in said for said in one.sentences(i)) for i in range(4))
    assert exits(one) == [0] * 5
    assert not any("goes on with epoch 1" in said for i in range(4) for said in one.sentences(i))


@pytest.mark.parametrize(("file", "words"), [
    (load("complete", peers=4), "write 'epoch: 1' into it"),
    (replace(load("complete", peers=3), epoch=1), "the file has no peer 3"),
    (replace(load("star", peers=4), epoch=1, hub=0), "the hub is None in this run and 0 in the file"),
])
def test_a_file_that_does_not_fit_costs_a_sentence(folder: Path, file: Topology, words: str) -> None:
    one = played(folder, RING, Fault(When(0.3), "a bad file", lambda growing: growing.give(range(4), file)))
    assert exits(one) == [0] * 4
    assert any(words in said and "goes on with the topology that it has" in said for said in one.sentences(3))
