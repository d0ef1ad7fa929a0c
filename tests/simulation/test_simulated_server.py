"""Whole runs with a hub, in one process: the baseline, and what a peer without clips is to them."""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.experiments.baselines import fedavg, local_only, pooled
from p2pser.features.federation import no_examples
from p2pser.gossip.algorithm import State
from p2pser.graph.spec import Topology
from p2pser.run.participant import Cohort
from p2pser.simulation.clock import Clock
from p2pser.simulation.engine import simulate
from p2pser.simulation.links import Line, Links
from p2pser.simulation.scenario import Scenario


@pytest.fixture
def served(made_up):
    """Return a function: (config, topology, federation) of a hub, peer 0, and five clients that hold the clips."""

    def make(algorithm: str = "fedavg", normalise: str = "none", **settings: object):
        config, _, federation = made_up(5, normalise, **{"gossip.algorithm": algorithm, **settings})
        train = {0: no_examples((12,)), **{i + 1: examples for i, examples in federation.train.items()}}
        topology = Topology("server", nx.star_graph(5), {}, "metropolis", {}, hub=0)
        return config, topology, dataclasses.replace(federation, train=train)

    return make


def test_fedavg_of_all_clients_is_gossip_over_the_complete_graph(made_up) -> None:
    """Whose mixing matrix is 1/N: the exact mean after each round."""
    config, _, federation = made_up()
    complete = simulate(config, Topology("complete", nx.complete_graph(5), {}, "metropolis", {}), federation)
    server = fedavg(config, federation)
    assert float((server.row - complete.row).norm() / complete.row.norm()) <= 1e-5
    assert torch.equal(server.rows, server.rows[:1].expand_as(server.rows))
    assert torch.equal(server.row, server.rows[0])
    assert [one.loss for one in server.history] == pytest.approx([one.loss for one in complete.history], abs=1e-5)
    # A client sends its row and its count once a round, the hub its row to each.
    D = server.schema.size
    assert server.bytes_training.tolist() == [12 * 4 * (D + 1)] * 5 + [12 * 4 * D * 5]


def test_a_federation_with_a_hub_keeps_it(served) -> None:
    config, topology, federation = served()
    ours, baseline = simulate(config, topology, federation), fedavg(config, federation)
    assert torch.equal(ours.row, baseline.row)
    assert baseline.topology.hub == 0
    assert len(local_only(config, federation).predictions) == 5


def test_baselines_do_not_see_the_hub(served, made_up) -> None:
    with_hub, without = served(normalise="global"), made_up(5, "global")
    assert pooled(with_hub[0], with_hub[2]).uar == pooled(without[0], without[2]).uar


@pytest.mark.parametrize("weighting", ["uniform", "clips"])
def test_the_server_weighs_as_it_is_told(served, weighting) -> None:
    config, topology, federation = served(**{"gossip.weighting": weighting, "training.rounds": 1})
    cohort = Cohort(config, federation, federation.train)
    work, initial = cohort.prepare_alone(None), cohort.initial()
    trained = work.train(State({"x": initial}), 0, only=range(1, 6)).double()
    n = [0.0, *(len(federation.train[i]) if weighting == "clips" else 1.0 for i in range(1, 6))]
    expected = (torch.tensor(n, dtype=torch.float64)[:, None] * trained).sum(0) / sum(n)
    assert torch.allclose(simulate(config, topology, federation).row.double(), expected, atol=1e-7)
    assert torch.equal(trained[0], initial[0].double())
    assert np.isnan(work.losses[0])


def test_fedprox_is_fedavg_with_a_proximal_term(served) -> None:
    """The stronger it pulls back to the server's model, the less the clients drift from it in a round."""
    moved = []
    for mu in (0.0, 1.0, 10.0):
        settings = {"training.proximal": mu, "training.momentum": 0, "training.local_steps": 20, "training.rounds": 1}
        config, topology, federation = served(**settings)
        start = Cohort(config, federation, federation.train).initial()[0]
        moved.append(float((simulate(config, topology, federation).row - start).norm()))
    assert moved[0] > 1.2 * moved[1] > 1.2 * 1.2 * moved[2] > 0


@pytest.mark.parametrize("algorithm", ["fedavg", "fedopt", "scaffold"])
def test_features_are_scaled_by_the_clients_clips_and_all_end_with_the_servers_model(served, algorithm) -> None:
    settings = {"training.momentum": 0, "training.lr": 0.3, "gossip.parameters.sample": 0.6}
    run = simulate(*served(algorithm, "global", **settings))
    everything = np.concatenate([one.features for one in run.federation.train.values()])
    assert np.allclose(run.statistics.mean, everything.mean(0), atol=1e-6)
    assert run.statistics.count == pytest.approx(len(everything))
    assert run.final.converged
    assert torch.equal(run.row, run.rows[0])
    assert all(np.isfinite(entry.loss) for entry in run.history)
    assert run.history[-1].distance <= 1e-6


def test_exact_and_fast_are_one_here(served) -> None:
    """There is no product of matrices in a server's round."""
    assert torch.equal(simulate(*served(), exact=True).rows, simulate(*served()).rows)


def test_the_clock_counts_the_clients_steps_and_one_way_at_a_time(served) -> None:
    config, topology, federation = served(**{"training.local_steps": 3, "training.rounds": 2})
    clock = Clock(step_s=1.0, slow={0: 50.0, 2: 2.0}, jitter=0.0, links=Links(Line(0.25, 1e12, 1e12)))
    run = simulate(config, topology, federation, Scenario(clock=clock))
    # The hub waits for its slowest client, then all wait for it: two latencies a round, and no steps of the hub's.
    assert [one.seconds for one in run.history] == pytest.approx([6.5, 13.0], abs=1e-3)


def test_all_end_with_their_hub_and_go_on_without_a_client(served) -> None:
    with pytest.raises(P2PSERError, match=r"the hub, peer 0, is lost, and no other peer .* round 3 of 12"):
        simulate(*served(), Scenario(dead={0: 3}))
    run = simulate(*served(), Scenario(dead={2: 3}))
    assert run.living == (0, 1, 3, 4, 5)
    assert torch.equal(run.rows[0], run.rows[5])
    with pytest.raises(P2PSERError, match="no client is left"):
        simulate(*served(), Scenario(dead=dict.fromkeys(range(1, 6), 3)))


def test_a_hub_that_was_dealt_clips_is_refused(served, made_up) -> None:
    config, topology, _ = served()
    with pytest.raises(ConfigError, match="peer 0 is a hub, which trains nothing"):
        simulate(config, topology, made_up(6)[2])
