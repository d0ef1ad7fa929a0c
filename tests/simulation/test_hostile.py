"""Simulated runs with hostile peers and with algorithms that end without a consensus."""

from __future__ import annotations

import math

import networkx as nx
import pytest
import torch

from p2pser.base.errors import ConfigError
from p2pser.gossip.attacks import ATTACKS, Attack
from p2pser.graph.spec import Topology
from p2pser.simulation.engine import simulate
from p2pser.simulation.scenario import Scenario

COMPLETE = Topology("complete", nx.complete_graph(7), {}, "metropolis", {})


def with_hostile(made_up, algorithm, attack, strength=None, **settings):
    config, _, federation = made_up(7, **{"gossip.algorithm": algorithm, **settings})
    return simulate(config, COMPLETE, federation, Scenario(hostile={5: Attack(attack, strength)}))


def test_what_is_measured_is_measured_over_the_honest(made_up):
    run = with_hostile(made_up, "dfedavg", "sign-flip")
    assert run.hostile == (5,)
    assert run.living == (0, 1, 2, 3, 4, 6)
    assert len(run.peer_predictions) == 6
    honest = run.rows[list(run.living)]
    assert run.consensus_distance < 1e-6  # on a complete graph they all hear the same
    assert float((honest - run.rows[5]).norm()) > 1e-3


def test_with_hostile_peers_there_is_no_final_consensus(made_up):
    run = with_hostile(made_up, "dfedavg", "sign-flip")
    assert torch.equal(run.row, run.rows[0])
    assert run.final.exchanges == 0
    assert not run.final.converged
    assert math.isnan(run.final.distance)
    assert run.final_distance == ()


@pytest.mark.parametrize("algorithm", ["self-centred-clipping", "median", "trimmed-mean", "krum"])
def test_robust_rules_end_without_a_consensus_too(made_up, algorithm):
    config, _, federation = made_up(7, **{"gossip.algorithm": algorithm})
    run = simulate(config, COMPLETE, federation)
    assert torch.equal(run.row, run.rows[0])
    assert run.final.exchanges == 0
    exact = simulate(config, COMPLETE, federation, exact=True)
    assert torch.equal(exact.rows, run.rows)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_take_the_average_further_from_its_honest_run_than_the_median(made_up, attack):
    config, _, federation = made_up(7, **{"gossip.algorithm": "median"})
    honest = simulate(config, COMPLETE, federation)

    def off(algorithm):
        run = with_hostile(made_up, algorithm, attack)
        return float((run.rows[0] - honest.rows[0]).norm() / honest.rows[0].norm())

    assert (median := off("median")) < 1
    if attack != "a-little-is-enough":  # which the average bears as well on a complete graph
        assert off("dfedavg") > median


def test_hostile_peers_are_seeded(made_up):
    first, second = (with_hostile(made_up, "median", "large-norm") for _ in range(2))
    assert torch.equal(first.rows, second.rows)
    other = with_hostile(made_up, "dfedavg", "large-norm", 3.0)
    assert not torch.equal(with_hostile(made_up, "dfedavg", "large-norm", 4.0).rows, other.rows)


@pytest.mark.parametrize(("algorithm", "said"), [
    ("ad-psgd", "exchanges no rows that hostile peers could replace"),
    ("push-sum", "a different message over each edge"),
])
def test_algorithms_without_rows_to_replace_are_refused(made_up, algorithm, said):
    with pytest.raises(ConfigError, match=said):
        with_hostile(made_up, algorithm, "sign-flip")


def test_an_honest_peer_must_remain(made_up):
    config, _, federation = made_up(7)
    with pytest.raises(ConfigError, match="an honest peer must remain"):
        simulate(config, COMPLETE, federation,
                 Scenario(dead={0: 1}, hostile=dict.fromkeys(range(1, 7), Attack("sign-flip"))))
    with pytest.raises(ConfigError, match="there is no peer 9"):
        simulate(config, COMPLETE, federation, Scenario(hostile={9: Attack("sign-flip")}))
