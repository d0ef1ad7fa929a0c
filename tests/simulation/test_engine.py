"""Whole runs in one process: what they measure, and that faults and forms change only what they should."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.evaluation import metrics
from p2pser.experiments.baselines import fedavg, local_only, pooled
from p2pser.features.normalisation import from_sums, sums
from p2pser.gossip.algorithm import Algorithm
from p2pser.gossip.mixer import Step
from p2pser.run.participant import Cohort, size_of
from p2pser.run.session import train_alone
from p2pser.simulation.churn import Churn
from p2pser.simulation.clock import Clock
from p2pser.simulation.engine import simulate
from p2pser.simulation.links import Line, Links
from p2pser.simulation.memory import needed
from p2pser.simulation.mixer import Faults
from p2pser.simulation.results import distance
from p2pser.simulation.scenario import Scenario


def test_a_run_learns_and_ends_with_one_model(made_up):
    config, topology, federation = made_up()
    run = simulate(config, topology, federation)
    assert [entry.round for entry in run.history] == list(range(1, 13))
    assert run.final.converged
    assert run.consensus_distance <= 1e-6
    assert metrics.uar_pooled(run.predictions) > 0.5
    last = run.history[-1]
    assert last.uar["worst"] <= last.uar["mean"] <= 1
    assert last.loss < run.history[0].loss
    assert last.bytes == 12 * 2 * 4 * run.schema.size
    assert run.bytes_final.tolist() == [run.bytes_final[0]] * 5
    assert len(run.final_distance) == run.final.exchanges


def test_a_private_run_sums_its_statistics_in_secret(made_up, monkeypatch):
    monkeypatch.setattr("p2pser.run.session.statistics", lambda *_, **__: pytest.fail("statistics by gossip"))
    config, topology, federation = made_up(5, "global", **{"gossip.algorithm": "secure-average", "training.rounds": 1})
    run = simulate(config, topology, federation)
    every = np.concatenate([examples.features for examples in federation.train.values()]).astype(np.float64)
    np.testing.assert_allclose(run.statistics.mean, every.mean(0), rtol=1e-9)
    assert run.statistics.count == len(every)


def test_the_same_call_gives_the_same_bits(made_up):
    assert torch.equal(simulate(*made_up()).rows, simulate(*made_up()).rows)


def test_exact_and_fast_agree(made_up):
    fast = simulate(*made_up(**{"training.rounds": 10}))
    exact = simulate(*made_up(**{"training.rounds": 10}), exact=True)
    assert float((fast.rows - exact.rows).norm() / exact.rows.norm()) <= 1e-5
    assert float((fast.row - exact.row).norm() / exact.row.norm()) <= 1e-5
    assert fast.final.exchanges == exact.final.exchanges
    # The trailers are all that the fast form's count leaves out.
    assert 0 <= (exact.bytes_final - fast.bytes_final).max() < 200 * exact.final.exchanges


def test_the_consensus_is_the_mean_of_the_last_rows(made_up):
    run = simulate(*made_up())
    mean = run.rows.double().mean(0)
    assert float((run.row - mean).norm() / mean.norm()) <= 1e-6


def test_clip_weights_give_the_clip_weighted_mean(made_up):
    config, topology, federation = made_up(**{"gossip.weighting": "clips"})
    run = simulate(config, topology, federation)
    pi = torch.tensor([float(len(federation.train[i])) for i in range(5)], dtype=torch.float64)
    mean = (pi / pi.sum()) @ run.rows.double()
    assert float((run.row - mean).norm() / mean.norm()) <= 2e-6
    assert run.slem != simulate(*made_up()).slem


@pytest.mark.parametrize("exact", [False, True])
def test_a_death_leaves_the_others_running(made_up, exact):
    config, topology, federation = made_up(6)
    run = simulate(config, topology, federation, Scenario(dead={2: 5}), exact=exact)
    assert run.living == (0, 1, 3, 4, 5)
    assert run.final.dead == (2,)
    assert run.final.converged
    assert run.consensus_distance <= 1e-6
    assert run.bytes_training[2] == 5 * 2 * 4 * run.schema.size
    assert len(run.peer_predictions) == 5


def test_late_rows_are_settled_and_counted(made_up):
    clean = simulate(*made_up(), exact=True)
    faulty = simulate(*made_up(), Scenario(faults=Faults(delay=0.1, longest=3)))
    assert faulty.messages_late > 0
    assert clean.messages_late == 0
    assert float((faulty.row - clean.row).norm() / clean.row.norm()) < 0.2


def test_a_round_may_pass_without_training(made_up, monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Sometimes(Algorithm):
        """Train in round 1 only."""

        def round(self, state, local, mixer, round):
            rows = local.train(state, round) if round == 1 else state.rows["x"]
            state.rows["x"] = mixer.mix(rows, Step(round, 0))
            return state

    monkeypatch.setitem(ALGORITHMS._registered, "sometimes", Sometimes)
    config, topology, federation = made_up(5)
    gossip = config.gossip.model_copy(update={"algorithm": "sometimes"})
    run = simulate(config.model_copy(update={"gossip": gossip}), topology, federation)
    assert [round.loss is None for round in run.history[:4]] == [True, False, True, True]


def test_global_statistics_are_found_by_gossip(made_up):
    run = simulate(*made_up(normalise="global"))
    everything = np.concatenate([one.features for one in run.federation.train.values()])
    expected = from_sums(sums(everything))
    assert np.allclose(run.statistics.mean, expected.mean, rtol=1e-9, atol=1e-9)
    assert np.allclose(run.statistics.std, expected.std, rtol=1e-9)
    assert run.statistics.count == pytest.approx(len(everything), rel=1e-9)


def test_a_federation_of_another_size_is_refused(made_up):
    config, topology, _ = made_up(5)
    with pytest.raises(ConfigError, match="partitioned over 4"):
        simulate(config, topology, made_up(4)[2])
    with pytest.raises(ConfigError, match="an honest peer must remain"):
        simulate(config, topology, made_up(5)[2], Scenario(dead=dict.fromkeys(range(5), 0)))
    with pytest.raises(ConfigError, match="there is no peer 5 that could die or be hostile: the peers are 0 to 4"):
        simulate(config, topology, made_up(5)[2], Scenario(dead={5: 0}))


def test_a_death_after_the_end_is_refused_and_not_counted(made_up):
    config, topology, federation = made_up(5)
    rounds = config.training.rounds
    simulate(config, topology, federation, Scenario(dead={2: rounds}))
    with pytest.raises(ConfigError, match=f"peer 2 cannot die before round {rounds + 1}: training.rounds = {rounds}"):
        simulate(config, topology, federation, Scenario(dead={2: rounds + 1}))


def test_the_consensus_distance_by_hand():
    rows = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert distance(rows, rows.mean(0)) == pytest.approx(0.5)


@pytest.mark.parametrize("normalise", ["none", "global"])
def test_baselines_stand_in_their_order(made_up, normalise):
    config, _, federation = made_up(5, normalise, **{"training.rounds": 20})
    together, alone = pooled(config, federation), local_only(config, federation)
    assert (len(together.predictions), len(alone.predictions)) == (1, 5)
    assert together.uar > alone.uar
    assert fedavg(config, federation).predictions is not None


def test_rows_late_in_the_last_round_are_settled_before_the_consensus(made_up):
    config, topology, federation = made_up(**{"training.rounds": 1})
    run = simulate(config, topology, federation, Scenario(faults=Faults(delay=0.4, longest=1)), exact=True)
    cohort = Cohort(config, federation, federation.train)
    cohort.prepare(cohort.sums()[0], topology.size)
    assert run.messages_late > 0
    assert torch.allclose(run.row, train_alone(cohort, 1).mean(0), rtol=0, atol=1e-6)


def test_a_round_is_timed_by_the_algorithms_clock(made_up):
    """Local steps of .15 s and messages of .2 s: one after the other, or beside each other."""
    clock = Clock(step_s=0.05, jitter=0.0, links=Links(Line(0.2, 1e12, 1e12)))
    seconds = {}
    for name in ("dfedavg", "overlap"):
        config, topology, federation = made_up(**{"gossip.algorithm": name})
        run = simulate(config, topology, federation, Scenario(clock=clock))
        seconds[name] = [run.history[0].seconds, run.history[-1].seconds]
    assert seconds["dfedavg"] == pytest.approx([0.35, 12 * 0.35], abs=1e-3)
    assert seconds["overlap"] == pytest.approx([0.2, 12 * 0.2], abs=1e-3)


def test_the_distance_of_clip_weighted_runs_is_to_the_clip_weighted_mean(made_up):
    config, topology, federation = made_up(**{"gossip.weighting": "clips", "training.rounds": 1})
    run = simulate(config, topology, federation)
    clips = torch.tensor([float(len(federation.train[i])) for i in range(5)])
    assert run.history[-1].distance == pytest.approx(distance(run.rows, clips @ run.rows / clips.sum()), rel=1e-5)


def test_bytes_of_the_rounds_and_of_the_end_are_counted_apart(made_up):
    config, topology, federation = made_up(**{"training.rounds": 40})
    run = simulate(config, topology, federation, exact=True)
    size = run.schema.size
    assert run.bytes_training.tolist() == [40 * 2 * 4 * size] * 5
    # Two neighbours, rows of float64 with a trailer, and a flood of the cut edges.
    assert 2 * 8 * size * (run.final.exchanges - 1) < run.bytes_final.min()
    assert run.bytes_final.max() < 2 * (8 * size + 150) * run.final.exchanges + 1000


@pytest.mark.parametrize(("peers", "settings"), [
    (7, {}), (7, {"gossip.weighting": "clips"}), (7, {"gossip.max_consensus_exchanges": 9}), (2, {})])
def test_a_run_ends_without_messages_as_it_does_with_them(made_up, monkeypatch, peers, settings):
    setting = made_up(peers, "global", **{"training.rounds": 2, **settings})
    with monkeypatch.context() as patch:
        patch.setattr("p2pser.simulation.engine._Simulator._foreseeable", False)
        played = simulate(*setting)
    for name in ("statistics", "agree_on_cuts", "consensus"):
        monkeypatch.setattr(f"p2pser.simulation.engine.{name}", lambda *_, **__: pytest.fail("messages"))
    computed = simulate(*setting)
    assert (computed.final.exchanges, computed.final.converged) == (played.final.exchanges, played.final.converged)
    assert computed.final_distance == pytest.approx(played.final_distance, rel=1e-3, abs=1e-15)
    assert computed.bytes_final.tolist() == played.bytes_final.tolist()
    assert computed.statistics.count == pytest.approx(played.statistics.count)
    torch.testing.assert_close(computed.row, played.row, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("scenario", "exact"), [
    (None, True), (Scenario(dead={2: 1}), False), (Scenario(faults=Faults(delay=0.5)), False)])
def test_the_end_is_played_where_it_cannot_be_known(made_up, monkeypatch, scenario, exact):
    monkeypatch.setattr("p2pser.simulation.engine.Foresight", lambda weights: pytest.fail("computed"))
    assert simulate(*made_up(7, **{"training.rounds": 2}), scenario, exact=exact).final.converged


def test_statistics_that_do_not_agree_are_told(made_up, monkeypatch):
    monkeypatch.setattr("p2pser.simulation.engine.MOST_EXCHANGES", 3)
    run = simulate(*made_up(9, "global", **{"training.rounds": 1}))
    assert any("did not agree on the statistics of features and targets in 3 exchanges" in note for note in run.notes)


def test_a_run_has_the_threads_of_its_settings(made_up):
    before, during = torch.get_num_threads(), []
    simulate(*made_up(**{"training.rounds": 1, "training.threads": before + 1}),
             observe=lambda round: during.append(torch.get_num_threads()))
    assert (during, torch.get_num_threads()) == ([before + 1], before)


def test_a_sample_of_the_peers_is_evaluated(made_up):
    setting = made_up(7, **{"training.rounds": 2})
    all_, some = simulate(*setting), simulate(*setting, sample=3)
    assert (len(all_.peer_outputs), len(some.peer_outputs)) == (7, 3)
    assert torch.equal(all_.rows, some.rows)
    each = [metrics.uar_pooled(outputs.predictions) for outputs in some.peer_outputs]
    assert some.history[-1].uar["mean"] == pytest.approx(np.mean(each))
    assert some.history[-1].uar["worst"] == min(each)
    assert "the figures of the peers' own models are of 3 peers, drawn by the seed" in some.notes
    assert simulate(*setting, sample=7).notes == all_.notes


def test_a_run_that_does_not_fit_in_memory_is_refused(made_up, monkeypatch):
    config, topology, federation = made_up(6)
    size = size_of(config, federation, 6)
    assert size == simulate(*made_up(6, **{"training.rounds": 0})).schema.size
    rows = 6 * size * (4 * 5 + 3 * 8)
    assert rows <= needed(config, topology, size) <= rows + 100_000
    monkeypatch.setattr("p2pser.base.memory.available", lambda: rows)
    with pytest.raises(ConfigError, match=r"6 peers of 131 parameters need about 0.0 GiB of memory, and 0.0 GiB"):
        simulate(config, topology, federation)


def test_peers_leave_and_come_back_by_the_simulated_time(made_up):
    """Local steps of .15 s a round: peer 1 is away from .5 s on, peer 3 for good; neighbours notice after 8 s."""
    config, topology, federation = made_up()
    clock = Clock(step_s=0.05, jitter=0.0, links=Links(Line(0.0, 1e12, 1e12)))
    churn = Churn({1: ((0.5, 9.0),), 3: ((0.5, math.inf),)})
    plain = simulate(config, topology, federation, Scenario(clock=clock))
    run = simulate(config, topology, federation, Scenario(clock=clock, churn=churn))
    assert run.living == (0, 1, 2, 4)
    assert [one.seconds for one in run.history[:4]] == pytest.approx([0.15, 0.3, 0.45, 0.6], abs=1e-3)
    assert run.history[-1].seconds == pytest.approx(plain.history[-1].seconds + 8.0, abs=0.2)
    # Rounds 4 (noticed after 8 s) and, at 8.75 s and 8.9 s, 5 and 6 are without peer 1.
    assert plain.messages_training[1] - run.messages_training[1] == 3 * 2
    assert run.final.converged
    with pytest.raises(ConfigError, match="give the scenario a clock"):
        simulate(config, topology, federation, Scenario(churn=churn))
    asynchronous = config.with_settings(["gossip.algorithm=ad-psgd"])
    with pytest.raises(ConfigError, match="take a synchronous algorithm"):
        simulate(asynchronous, topology, federation, Scenario(clock=clock, churn=churn))


def test_a_peer_is_away_by_the_second_whichever_was_asked_for_before():
    seconds = range(0, 3600, 7)
    forward, backward = Churn(per_hour=20, away_s=60, seed=2), Churn(per_hour=20, away_s=60, seed=2)
    away = [forward.away(5, second) for second in seconds]
    assert 20 < sum(away) < 400
    assert [backward.away(5, second) for second in reversed(seconds)] == away[::-1]
