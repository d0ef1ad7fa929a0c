"""Schedules of whole peers: the same seed gives the same run, and no run breaks what must hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2pser.wire.messages import Phase
from schedules.command import kind, lines
from schedules.faults import Fault, When
from schedules.schedule import DEAD_AFTER, TOPOLOGIES, Schedule, algorithms

AT_ONCE = 10
"""Schedules of one test."""
PATIENT = 1
"""A seed whose peers wait for each other without limit."""


def played(folder: Path, *them: Fault, algorithm: str = "dfedavg", topology: str = "ring",
           rounds: int | None = None, seed: int = 4) -> Schedule:
    """Run a schedule with these faults, and no others; rounds : R, default: by the seed."""
    one = Schedule(seed, folder, algorithm, topology, faults=False)
    if rounds is not None:
        one.rounds, one.config = rounds, one.config.with_settings([f"training.rounds={rounds}"])
    one.faults = list(them)
    return one.run()


def test_the_same_seed_gives_the_same_trace(folder: Path) -> None:
    first, second = (list(lines(Schedule(7, folder).run())) for _ in range(2))
    assert len(first) > 300
    assert first == second


def test_other_seeds_give_other_traces(folder: Path) -> None:
    assert list(lines(Schedule(2, folder, "dfedavg", "ring").run())) != \
        list(lines(Schedule(3, folder, "dfedavg", "ring").run()))


@pytest.mark.parametrize("seed", range(len(algorithms())))
def test_without_faults_every_algorithm_ends_with_one_model(folder: Path, seed: int) -> None:
    one = Schedule(seed, folder, faults=False).run()
    assert not one.violations
    assert all(machine.past[-1].ended[0] == "done" for machine in one.machines.values()), str(one)
    assert one.algorithm == algorithms()[seed]


@pytest.mark.parametrize("first", range(0, 4 * AT_ONCE, AT_ONCE))
def test_with_faults_nobody_waits_for_good_and_there_is_one_model(folder: Path, first: int) -> None:
    broken = {}
    for seed in range(first, first + AT_ONCE):
        if violations := Schedule(seed, folder).run().violations:
            broken[f"scripts/schedules --seed {seed} --trace"] = violations
    assert not broken


@pytest.mark.parametrize("seed", [134, 326, 339, 355, 369, 387, 300682, 301002, 301004, 301045])
def test_schedules_that_broke_once(folder: Path, seed: int) -> None:
    assert not Schedule(seed, folder).run().violations


@pytest.mark.parametrize("seed", [300075, 300107, 411663])
def test_schedules_with_a_liar_that_broke_once(folder: Path, seed: int) -> None:
    assert not Schedule(seed, folder, hostile=True).run().violations


def test_one_that_was_left_behind_does_not_wait_for_good_when_all_others_have_failed(folder: Path) -> None:
    """They were too few for a secure sum without it, and so they would be each time they were started again."""
    one = Schedule(303608, folder, "secure-average").run()
    assert not one.violations
    assert any("begins anew" in line for line in lines(one))


@pytest.mark.parametrize("phase", [Phase.SETUP, Phase.TRAIN, Phase.EXCHANGE, Phase.CONSENSUS])
def test_a_connection_that_breaks_in_any_phase_costs_nothing(folder: Path, phase: Phase) -> None:
    one = played(folder, Fault(When(0.002, 1, phase), "reset 1",
                               lambda schedule: [schedule.network.reset(1, j) for j in schedule.machines] and None))
    assert not one.violations
    assert {machine.past[-1].exit_code for machine in one.machines.values()} == {0}


@pytest.mark.parametrize("phase", [Phase.SETUP, Phase.EXCHANGE, Phase.CONSENSUS, Phase.END])
def test_one_that_is_killed_in_any_phase_and_started_again_has_a_model(folder: Path, phase: Phase) -> None:
    def kill(schedule: Schedule) -> None:
        assert schedule.kill(2, False)
        schedule.start_again(2, 1.0, "")

    one = played(folder, Fault(When(0.0, 2, phase), "kill 2", kill))
    assert not one.violations
    assert one.machines[2].past[-1].ended[0] == "done"


def test_one_that_is_lost_and_comes_back_twice_is_sent_a_state_each_time_and_there_is_one_model(folder: Path) -> None:
    def kill(schedule: Schedule) -> None:
        assert schedule.kill(2, False)
        schedule.start_again(2, 1.5 * DEAD_AFTER, "")

    one = played(folder, *(Fault(When(0.0, 2, Phase.EXCHANGE, round), f"kill 2 in round {round}", kill)
                           for round in (3, 5)), rounds=160)
    assert not one.violations
    assert [machine.past[-1].exit_code for machine in one.machines.values()] == [0] * len(one.machines)
    assert len(one.machines[2].past) == 3


def killed(seconds: float, way: str) -> Callable[[Schedule], None]:
    """Return what kills the hub, and starts it again after so long."""
    def kill(schedule: Schedule) -> None:
        assert schedule.kill(0, False)
        schedule.start_again(0, seconds, way)

    return kill


@pytest.mark.parametrize(("algorithm", "round", "what"), [
    ("fedavg", 3, killed(0.5 * DEAD_AFTER, "")), ("fedopt", 3, killed(3 * DEAD_AFTER, "")),
    ("scaffold", 4, killed(3 * DEAD_AFTER, "empty")), ("fedavg", 6, killed(3 * DEAD_AFTER, "fresh")),
    ("fedopt", 0, killed(0.5 * DEAD_AFTER, "empty")),
    ("scaffold", 2, lambda schedule: schedule.stop(0, 3 * DEAD_AFTER))])
def test_clients_wait_for_a_hub_that_comes_back(
        folder: Path, algorithm: str, round: int, what: Callable[[Schedule], None]) -> None:
    one = played(folder, Fault(When(0.002, 0, Phase.EXCHANGE, round), "the hub", what), algorithm=algorithm,
                 topology="server", rounds=7)
    assert not one.violations
    assert [machine.past[-1].exit_code for machine in one.machines.values()] == [0] * len(one.machines)
    assert all(len(machine.past) == 1 for i, machine in one.machines.items() if i != 0)


@pytest.mark.parametrize(("algorithm", "topology", "seed", "slower"), [
    ("push-sum", "directed-ring", 5, 1), ("push-sum", "directed-ring", 11, 1), ("dfedavg", "ring", 0, 6)])
def test_one_that_comes_back_long_before_the_end_is_in_it_and_no_flow_is_lost(
        folder: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, topology: str, seed: int, slower: int) -> None:
    def kill(schedule: Schedule) -> None:
        assert schedule.kill(2, False)
        schedule.machines[2].pace *= slower  # the others are rounds ahead when its first row comes
        schedule.start_again(2, 1.1 * DEAD_AFTER, "")

    monkeypatch.setitem(TOPOLOGIES, topology, (5,))
    one = played(folder, Fault(When(0.0, 2, Phase.EXCHANGE, 2), "kill 2", kill), algorithm=algorithm,
                 topology=topology, rounds=60, seed=seed)
    assert not one.violations
    assert [(process.exit_code, process.ended[1]["drift"]) for process in (
        machine.past[-1] for machine in one.machines.values())] == 5 * [(0, 0.0)]


@pytest.mark.parametrize("seed", [2, 4, 6])
def test_a_cut_that_is_longer_than_the_settle_window_loses_no_flow(folder: Path, seed: int) -> None:
    """Of the exchange in which the cut comes, one end has the other's row already."""
    one = Schedule(seed, folder, "dfedavg", "ring", faults=False)
    one.rounds, one.config = 60, one.config.with_settings(["training.rounds=60"])
    pairs = [(i, j) for i, j in one.topology.graph.to_directed().edges if (i in (1, 2)) != (j in (1, 2))]
    for machine in one.machines.values():
        machine.pace = 0.4
    one.faults = [Fault(When(0.0, 2, Phase.EXCHANGE, 10), "cut 1 and 2 off",
                        lambda schedule: schedule.cut(pairs, 4 * DEAD_AFTER, False))]
    one.run()
    assert not one.violations
    assert [(machine.past[-1].exit_code, machine.past[-1].ended[1]["drift"])
            for machine in one.machines.values()] == [(0, 0.0)] * len(one.machines)


def test_a_wait_ends_at_its_deadline_to_the_last_bit(folder: Path) -> None:
    """Fake time stands still in a wait of no length."""
    assert not Schedule(300202, folder).run().violations


@pytest.mark.parametrize("phase", [Phase.EXCHANGE, Phase.CONSENSUS])
def test_one_that_was_stopped_while_the_others_came_to_the_end_takes_their_model(folder: Path, phase: Phase) -> None:
    one = played(folder, Fault(When(0.0, 2, phase, 6), "stop 2", lambda schedule: schedule.stop(2, 3 * DEAD_AFTER)))
    assert not one.violations
    assert [machine.past[-1].exit_code for machine in one.machines.values()] == [3, 3, 0, 3, 3]  # all have it then
    assert one.machines[2].past[-1].ended[1]["handed_over_by"] == [1, 3]


def test_a_peer_that_others_wait_for_and_that_never_comes_is_a_hang(folder: Path) -> None:
    one = Schedule(PATIENT, folder, "dfedavg", "ring", faults=False)
    assert one.config.network.start_timeout is None
    one.machines[0].start = lambda fresh=False: None  # type: ignore[method-assign]
    one.run()
    assert [kind(what) for what in one.violations] == ["hang in START, waiting for not started"]
