"""Simulated time: what rounds cost, and asynchronous peers on the event heap."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.base.errors import ConfigError, LocalProtocolError
from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.algorithms.ad_psgd import ADPSGD
from p2pser.gossip.asynchronous import Asynchronous, Message, Place, staleness
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology
from p2pser.simulation.clock import Clock, preset
from p2pser.simulation.engine import simulate
from p2pser.simulation.events import Events
from p2pser.simulation.links import Line, Links
from p2pser.simulation.mixer import Faults
from p2pser.simulation.scenario import Scenario

STEPS = 5


class Pull:
    """Local steps towards a peer's own centre."""

    steps = STEPS
    clips = (1,)

    def __init__(self, centre: float) -> None:
        self.centre = centre

    def lr(self, round: int) -> float:
        return 0.05

    def gradient(self, rows: torch.Tensor, round: int, step: int = 0) -> torch.Tensor:
        return rows - self.centre

    def train(self, state: State, round: int, *, rows: torch.Tensor, correction=None, only=None) -> torch.Tensor:
        for step in range(self.steps):
            rows = rows - self.lr(round) * self.gradient(rows, round, step)
        return rows


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


RING = topology(nx.cycle_graph(6))


def ad_psgd(**parameters: float) -> Any:
    return create("ad-psgd", parameters, Config(), RING)


def stale_gossip(**parameters: float) -> Any:
    return create("stale-gossip", parameters, Config(), RING)


def events(algorithm: Asynchronous, clock: Clock, rounds: int = 40, **options: object) -> Events:
    start = torch.zeros(6, 4, dtype=torch.float64)
    return Events(algorithm, start, [Pull(float(i)) for i in range(6)], RING, clock, rounds, **options)


def test_a_presets_name_is_looked_up_and_times_are_checked():
    with pytest.raises(ConfigError, match="did you mean 'wan'"):
        preset("wam")
    with pytest.raises(ConfigError, match=r"slow\[2\] is 0"):
        Clock(slow={2: 0})
    with pytest.raises(ConfigError, match="cannot be negative"):
        Clock(jitter=-1)


def test_a_round_takes_its_steps_and_a_slow_peer_longer():
    clock = Clock(step_s=0.1, slow={1: 5.0}, jitter=0.0)
    assert clock.compute(0, 3, STEPS) == pytest.approx(0.5)
    assert clock.compute(1, 3, STEPS) == pytest.approx(2.5)
    drawn = [Clock(jitter=0.2).compute(0, round, 1) for round in range(2000)]
    assert np.std(np.log(drawn)) == pytest.approx(0.2, rel=0.1)
    assert drawn[7] == Clock(jitter=0.2).compute(0, 7, 1)


@pytest.mark.parametrize("algorithm", [ad_psgd(), stale_gossip()], ids=["ad-psgd", "stale-gossip"])
def test_nobody_waits_for_a_straggler(algorithm):
    run = events(algorithm, preset("wan", slow={0: 5.0}))
    run.run()
    fast = [run.finished[i] for i in range(1, 6)]
    assert max(fast) <= 40 * STEPS * 0.05 * 1.15
    assert run.finished[0] >= 3.5 * max(fast)
    assert run.idle_s.sum() == 0


@pytest.mark.parametrize("algorithm", [ad_psgd(), stale_gossip()], ids=["ad-psgd", "stale-gossip"])
def test_the_same_run_twice_is_the_same(algorithm):
    def once(seed: int) -> tuple[torch.Tensor, list[float], int]:
        run = events(algorithm, preset("lan", slow={2: 3.0}, seed=seed), faults=Faults(loss=0.1, delay=0.1, seed=seed))
        run.run()
        return run.rows, list(run.finished.values()), int(run.traffic.payload_sent.sum())

    first, second, other = once(0), once(0), once(1)
    assert torch.equal(first[0], second[0])
    assert first[1:] == second[1:]
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("algorithm", [ad_psgd(), stale_gossip()], ids=["ad-psgd", "stale-gossip"])
def test_all_learn_what_no_peer_has_alone(algorithm):
    run = events(algorithm, preset("lan"), rounds=120)
    seen = []
    run.run(lambda peer: seen.append(peer))
    assert len(seen) == 6 * 120
    assert float(run.rows.mean()) == pytest.approx(2.5, abs=0.3)  # the mean of the centres 0 .. 5
    assert float((run.rows - run.rows.mean()).abs().max()) < 1.5


def test_push_sum_does_not_favour_the_fast_and_pairwise_averaging_does():
    def mean(algorithm: Asynchronous) -> float:
        run = events(algorithm, preset("lan", slow={5: 5.0}), rounds=150)
        taken = []
        run.run(lambda peer: taken.append(float(run.rows.mean())), until=40.0)
        return float(np.mean(taken[-200:]))

    fair = mean(stale_gossip(decay=0.0))
    skewed = mean(ad_psgd())
    print(f"mean of the models, all alike 2.5: push-sum {fair:.3f}, AD-PSGD {skewed:.3f}")
    assert fair == pytest.approx(2.5, abs=0.12)
    assert skewed < 2.3


def test_a_dead_peer_is_neither_waited_for_nor_heard():
    run = events(ad_psgd(bound=1), preset("lan", jitter=0.0), dead={2: 10})
    run.run()
    assert run.living == (0, 1, 3, 4, 5)
    assert run.nodes[2].clock == 10
    assert all(run.nodes[i].clock == 40 for i in run.living)
    assert run.nodes[1].place.neighbours == (0,)
    # At the bound its neighbours hold until they know: 8 seconds at most, each.
    assert 0 < run.idle_s.sum() <= 16 + 1e-9


def test_a_run_can_be_looked_at_in_between():
    run = events(ad_psgd(), preset("lan"))
    run.run(until=3.0)
    assert run.now <= 3.0
    half = [node.clock for node in run.nodes]
    assert all(8 <= clock <= 14 for clock in half)
    run.run()
    assert {node.clock for node in run.nodes} == {40}


class Mute(ADPSGD):
    """Answers nothing and asks nothing again: what must be found out."""

    def receive(self, state: State, place: Place, clock: int, message: Message) -> list[Message]:
        return []

    def remind(self, state: State, place: Place, clock: int) -> list[Message]:
        return []

    def ready(self, state: State, place: Place, clock: int) -> list[Message]:
        said = super().ready(state, place, clock)
        return said if place.peer == 0 else []


def test_a_deadlock_is_an_error():
    run = events(Mute(context=ad_psgd().context, bound=0), preset("lan"))
    run._watch = lambda i, size: None
    with pytest.raises(LocalProtocolError, match=r"peers \[0, 1, 2, 3, 4, 5\] wait for ever"):
        run.run()


def test_an_answer_waits_for_the_end_of_a_local_step_only():
    clock = Clock(step_s=1.0, slow={0: 5.0}, jitter=0.0, links=Links(Line(0.01)))
    run = Events(ad_psgd(), torch.zeros(2, 4), [Pull(0.0), Pull(1.0)], topology(nx.path_graph(2)), clock, 3)
    # The request of 5.0 s comes at 5.01, during peer 0's second step (5 s to 10 s); the answer during a step of peer 1.
    run.run(until=10.9)
    assert run.nodes[1].open
    assert staleness(run.nodes[0].state).histogram[0] == 1
    assert run.nodes[0].clock == 0
    run.run(until=11.1)
    assert not run.nodes[1].open
    assert staleness(run.nodes[1].state).histogram[1] == 1


@pytest.mark.parametrize("name", ["ad-psgd", "stale-gossip"])
def test_a_whole_run_learns_as_well_as_in_lock_step(made_up, name):
    config, ring, federation = made_up(peers=5, **{"training.rounds": 20})
    lock_step = simulate(config, ring, federation)
    run = simulate(config.with_settings([f"gossip.algorithm={name}"]), ring, federation)
    assert run.history[-1].uar["consensus"] >= lock_step.history[-1].uar["consensus"] - 0.06
    assert len(run.history) == 20
    assert run.final.converged
    assert run.asynchronous["open"] == 0
    assert run.asynchronous["staleness"]["max"] <= run.asynchronous["staleness"]["bound"]
    assert sum(run.asynchronous["staleness"]["histogram"]) >= 5 * 20
    assert run.bytes_training.min() > 0


def test_with_a_straggler_asynchronous_rounds_take_a_fraction_of_the_seconds(made_up):
    config, ring, federation = made_up(peers=5)
    clock = preset("wan", slow={0: 5.0})

    def seconds(name: str) -> float:
        run = simulate(config.with_settings([f"gossip.algorithm={name}"]), ring, federation, Scenario(clock=clock))
        ends = [round.seconds for round in run.history]
        assert ends == sorted(ends)
        return ends[-4]

    waiting = seconds("dfedavg")
    assert seconds("overlap") <= waiting
    assert seconds("ad-psgd") < 0.4 * waiting
    assert seconds("stale-gossip") < 0.4 * waiting


def test_a_whole_run_goes_on_without_the_dead(made_up):
    config, ring, federation = made_up(peers=5, **{"gossip.algorithm": "ad-psgd"})
    run = simulate(config, ring, federation, Scenario(dead={2: 4}))
    assert run.living == (0, 1, 3, 4)
    assert len(run.history) == 12
    assert run.final.converged


@pytest.mark.parametrize("network", ["lan", "phone"])
def test_last_bits_of_the_exponential_do_not_change_the_order_of_events(network, monkeypatch):
    """numpy computes exp by other instructions on other processors, to other last bits."""
    faults = Faults(loss=0.1, delay=0.3)

    def end() -> tuple[torch.Tensor, list[float]]:
        run = events(ad_psgd(), preset(network, slow={1: 5.0}), rounds=60, faults=faults)
        run.run()
        return run.rows, list(run.finished.values())

    (rows, finished), exp = end(), np.exp
    for direction in (-np.inf, np.inf):
        monkeypatch.setattr(np, "exp", lambda x, towards=direction: np.nextafter(exp(x), towards))
        other_rows, other_finished = end()
        assert torch.equal(other_rows, rows)
        assert other_finished == finished
