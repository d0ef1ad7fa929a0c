"""Simulated runs of boosted trees, with their baselines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2pser.base.errors import ConfigError
from p2pser.experiments.baselines import fedavg, local_only, pooled, voting
from p2pser.gossip.attacks import Attack
from p2pser.simulation.engine import simulate
from p2pser.simulation.mixer import Faults
from p2pser.simulation.scenario import Scenario

pytest.importorskip("xgboost", reason="the extra trees is not installed")

TREES = {"model.name": "xgb", "training.rounds": 6, "model.parameters.columns": 0.5}


def test_all_peers_hold_one_ensemble_after_every_round(made_up):
    config, topology, federation = made_up(**TREES)
    run = simulate(config, topology, federation)
    assert [one.distance for one in run.history] == [0.0] * 6
    assert torch.equal(run.rows, run.row.expand_as(run.rows))
    assert run.config.model.parameters["held"] == 6 * 5
    assert run.schema.entries[0][1] == (30, 3, 22)
    assert run.final.converged
    assert run.consensus_distance == run.final.distance == 0.0
    last = run.history[-1]
    assert last.uar["consensus"] == last.uar["mean"] == last.uar["worst"]
    assert last.loss < run.history[0].loss
    assert last.bytes < 4 * run.schema.size * 2  # all trees once over each link, in few bytes


def test_trees_between_peers_are_better_than_each_alone(made_up):
    config, topology, federation = made_up(**TREES)
    ours = simulate(config, topology, federation).history[-1].uar["consensus"]
    alone, everything, votes = (one(config, federation) for one in (local_only, pooled, voting))
    assert [len(one.outputs) for one in (alone, everything, votes)] == [5, 1, 1]
    assert alone.uar + 0.05 < ours <= everything.uar + 0.1
    assert votes.uar > alone.uar


def test_votes_are_the_mean_of_probabilities(made_up):
    config, _, federation = made_up(**TREES)
    alone, votes = local_only(config, federation).predictions, voting(config, federation).predictions[0]
    each = [np.exp(one.logits) / np.exp(one.logits).sum(1, keepdims=True) for one in alone]
    np.testing.assert_allclose(np.exp(votes.logits), np.mean(each, axis=0))
    assert np.array_equal(votes.predicted, np.mean(each, axis=0).argmax(1))


@pytest.mark.parametrize("normalise", ["global", "none"])
def test_each_normalisation(made_up, normalise):
    config, topology, federation = made_up(normalise=normalise, **TREES)
    assert simulate(config, topology, federation).final.converged
    assert local_only(config, federation).uar > 0.3


def test_the_dead_leave_their_trees(made_up):
    config, topology, federation = made_up(**TREES)
    run = simulate(config, topology, federation, Scenario(dead={2: 3}))
    assert run.living == (0, 1, 3, 4)
    grown = (run.row.view(6, 5, -1) != 0).any(2)
    assert grown[:, 2].tolist() == [True] * 3 + [False] * 3
    assert grown[:, [0, 1, 3, 4]].all()
    living = run.final.rows[list(run.living)]
    assert torch.equal(living, living[:1].expand_as(living))
    assert run.final.dead == (2,)
    assert run.consensus_distance == 0.0


def test_losses_are_made_good(made_up):
    config, topology, federation = made_up(**TREES)
    run = simulate(config, topology, federation, Scenario(faults=Faults(loss=0.3)))
    assert bool((run.row.view(30, -1) != 0).any(1).all())
    assert run.final.converged
    assert torch.equal(run.final.rows, run.row.expand_as(run.final.rows))


def test_what_has_no_meaning_is_refused(made_up):
    config, topology, federation = made_up(**TREES)
    with pytest.raises(ConfigError, match="averages parameters"):
        fedavg(config, federation)
    with pytest.raises(ConfigError, match="no rows that hostile peers could replace"):
        simulate(config, topology, federation, Scenario(hostile={1: Attack("sign-flip")}))
