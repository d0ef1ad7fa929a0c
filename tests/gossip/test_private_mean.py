"""Federated averaging with a budget: clipped updates, draws and noise in a secure sum, and the end of the budget."""

from __future__ import annotations

import math
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from lockstep import run

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.agreement.budget import Budget
from p2pser.gossip.agreement.masks import FixedPoint
from p2pser.gossip.agreement.private_mean import contribution, private_mean
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Step
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import load
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.simulation.secrets import SeedSecrets

SIZE = 20_000
KEY = bytes(range(32))
SETTINGS = ["gossip.algorithm=secure-average", "privacy.epsilon=8", "privacy.unit=site", "training.rounds=6"]


def budget(*settings, peers=8):
    made = Budget.of(Config().with_settings([*SETTINGS, *settings]), peers)
    assert made is not None
    return made


def average(topology, *settings):
    config = Config().with_settings([*SETTINGS, *settings])
    algorithm = create("secure-average", {}, config, topology)
    validate(algorithm, config, topology)
    return algorithm


def unlimited(made):
    return replace(made, epsilon=math.inf)


class Pulling:
    """Local work of one unit each, which moves every parameter by ``by`` times the peer's place, and notes its rows."""

    def __init__(self, peers, by):
        self.by, self.units, self.clips, self.shapes, self.steps = by, [1] * peers, [1] * peers, (), 1

    def update(self, b, row, round, unit):
        return torch.full_like(row, self.by * (b + 1))


def test_the_total_that_peers_release_has_the_noise_of_all_of_them():
    where, made = load("ring", peers=8), budget()
    means = private_mean(SimulatedMixer(where), 0, {i: [np.zeros(SIZE)] for i in range(8)}, SIZE, made,
                         FixedPoint(32, 32.0, 8), where.graph, least=3)
    mean, peers = means[0]
    assert peers == 8
    assert all(np.array_equal(mean, other[0]) for other in means.values())
    # 8 shares, of which the multiplier counts the 5 that a minority of 3 does not know.
    expected = made.noise * made.norm * math.sqrt(8 / 5) / 8
    assert mean.std() == pytest.approx(expected, rel=0.02)
    assert abs(mean.mean()) < 4 * expected / math.sqrt(SIZE)


def test_a_dead_peers_share_is_missing_and_counted():
    where, made = load("ring", peers=8), budget()
    secrets = SeedSecrets(0)
    mixer = SimulatedMixer(where, dead={3: Step(0, 0)}, secrets=secrets)
    means = private_mean(mixer, 1, {i: [np.zeros(SIZE)] for i in range(8)}, SIZE, made,
                         FixedPoint(32, 32.0, 8), where.graph, least=3)
    mean, peers = means[0]
    assert peers == 7
    assert mean.std() == pytest.approx(made.noise * made.norm * math.sqrt(7 / 5) / 7, rel=0.02)
    assert secrets.given(0)[1].size == 7
    assert made.spent([7], 3) > made.spent([8], 3)


def test_updates_are_clipped_each_and_averaged_over_the_declared_units():
    where, made = load("ring", peers=4), unlimited(budget("privacy.noise=0.001", "privacy.norm=2", peers=4))
    long, short = np.full(4, 100.0), np.array([0.1, -0.2, 0.3, 0.0])
    means = private_mean(SimulatedMixer(where), 0, {0: [long], 1: [short], 2: [-long], 3: [long]}, 4, made,
                         FixedPoint(64, 32.0, 4), where.graph, least=3)
    assert np.abs(means[2][0] - (np.full(4, 1.0) + short) / 4).max() < 0.01


def test_units_are_drawn_at_the_rate_by_the_key_and_not_by_the_data():
    made = budget("privacy.sampling=0.25", "privacy.noise=0.0001")
    one, none = np.array([0.5]), np.array([0.0])
    taken = [contribution(KEY, round, [one] * 100, 1, made)[0] / made.scale / 0.5 for round in range(40)]
    again = [contribution(KEY, round, [one] * 60 + [none] * 40, 1, made)[0] / made.scale / 0.5 for round in range(40)]
    assert np.mean(taken) == pytest.approx(25.0, abs=4 * math.sqrt(100 * 0.25 * 0.75 / 40))
    assert np.std(taken) == pytest.approx(math.sqrt(18.75), rel=0.4)
    assert all(rest < whole + 0.5 for rest, whole in zip(again, taken))
    assert contribution(KEY[::-1], 0, [one] * 100, 1, made)[0] != contribution(KEY, 0, [one] * 100, 1, made)[0]


def test_the_same_input_has_the_same_noise_and_another_input_another():
    made = budget("privacy.noise=1")
    one, other = np.full(500, 0.01), np.full(500, 0.01)
    other[0] = 0.02
    first, again, changed = (contribution(KEY, 2, [update], 500, made) for update in (one, one, other))
    assert np.array_equal(first, again)
    # With equal noise all but one number would be equal.
    assert (first != changed).mean() > 0.99
    apart = (first - changed).std() / 2.0**made.log_scale
    assert apart == pytest.approx(math.sqrt(2), rel=0.2)


def test_large_sums_take_64_bits():
    where = load("ring", peers=8)
    assert average(where).numbers.bits == 32
    assert average(where, "privacy.unit=clip", "privacy.units=8000").numbers.bits == 64


def test_a_run_moves_by_the_clipped_mean_and_all_peers_hold_the_same_bits():
    where = load("ring", peers=5)
    algorithm = average(where, "privacy.noise=0.0001", "privacy.norm=3")
    object.__setattr__(algorithm, "budget", unlimited(algorithm.budget))
    end = run(algorithm, State({"x": torch.zeros(5, 4)}), Pulling(5, 0.1), SimulatedMixer(where), 2)
    assert torch.equal(end.rows["x"], end.rows["x"][:1].expand(5, 4))
    assert (end.rows["x"] - 2 * 0.3).abs().max() < 0.01
    assert end.rows["last"].tolist() == [[1, 5]] * 5
    assert torch.equal(end.rows["own"], end.rows["x"])


def test_whole_and_resumed_are_equal(whole_and_resumed):
    where = load("ring", peers=5)
    whole, resumed = whole_and_resumed(lambda: average(where, "training.rounds=20"), lambda: torch.zeros(5, 7),
                                       Pulling(5, 0.01), where)
    assert torch.equal(whole.rows["x"], resumed.rows["x"])


def test_training_ends_when_the_budget_is_spent():
    where, told = load("ring", peers=5), []
    secrets = SeedSecrets(0, lambda peer, round, what: told.append((round, what)))
    algorithm, mixer = average(where, "privacy.noise=2"), SimulatedMixer(where, secrets=secrets)
    seen = []
    run(algorithm, State({"x": torch.zeros(5, 3)}), Pulling(5, 0.1), mixer, 100,
        after_round=lambda round, state: seen.append(round))
    made = algorithm.budget
    assert made.spent([5] * len(seen), made.colluding) <= 8.0 < made.spent([5] * (len(seen) + 1), made.colluding)
    assert told == [(len(seen), "the budget (privacy.epsilon=8) is spent, so that training ends here")]
    report = algorithm.budget_report(mixer)
    assert report["rounds"] == len(seen)
    assert report["epsilon_model"] < report["epsilon_neighbour"] <= 8.0


def test_a_sum_over_fewer_peers_than_the_budget_allows_is_not_made():
    where, told = load("complete", peers=5), []
    secrets = SeedSecrets(0, lambda peer, round, what: told.append(what))
    mixer = SimulatedMixer(where, dead={3: Step(5, 0), 4: Step(5, 0)}, secrets=secrets)
    algorithm = average(where)
    end = run(algorithm, State({"x": torch.zeros(5, 3)}), Pulling(5, 0.1), mixer, 6)
    assert end.rows["last"][:3].tolist() == [[4, 5]] * 3
    assert "a sum over 3 peers would reveal more than is left of the budget (privacy.epsilon)" in told
    assert algorithm.budget_report(mixer)["rounds"] == 5
    assert max(secrets.given(0)) == 4


def test_a_dropped_round_keeps_x_and_counts():
    where, secrets = load("ring", peers=5), SeedSecrets(0)
    root_dies = Step(1, 4 * 5 + 4 + 2)
    mixer = SimulatedMixer(where, dead={0: root_dies}, secrets=secrets)
    algorithm = average(where)
    end = run(algorithm, State({"x": torch.zeros(5, 3)}), Pulling(5, 0.1), mixer, 2)
    assert torch.equal(end.rows["x"][1:], end.rows["own"][1:])
    assert end.rows["last"][1:].tolist() == [[0, 5]] * 4
    assert {round: one.size for round, one in secrets.given(2).items()} == {0: 5, 1: 5}


@pytest.mark.parametrize(("settings", "words"), [
    (["gossip.algorithm=dfedavg"], "set gossip.algorithm=secure-average"),
    (["gossip.algorithm=d-psgd", "training.momentum=0", "training.local_steps=1"], "privacy.epsilon needs sums"),
    (["gossip.weighting=clips"], "set gossip.weighting=uniform"),
    (["training.balance=weights"], "set training.balance=none"),
    (["training.task=both"], "set training.task=classes"),
    (["model.name=svm"], "set model.name=mlp"),
    (["privacy.unit=speaker", "privacy.units=9", "training.own_classes=true"], "set training.own_classes=false"),
])
def test_settings_that_tell_more_than_is_counted_are_refused(settings, words):
    where, config = load("ring", peers=5), Config().with_settings([*SETTINGS, *settings])
    with pytest.raises(ConfigError, match=words):
        validate(create(config.gossip.algorithm, {}, config, where), config, where)


def test_a_single_path_graph_works_too(topology_of):
    where = topology_of(nx.path_graph(4))
    end = run(average(where), State({"x": torch.zeros(4, 5)}), Pulling(4, 0.1), SimulatedMixer(where), 1)
    assert end.rows["last"].tolist() == [[0, 4]] * 4
