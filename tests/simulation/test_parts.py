"""Whole runs of peers that exchange parts of their rows: what each ends with, and which runs are refused."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from peer_widths import ALONE, TOGETHER, WHOLE, among, measure, table, tabulate

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.evaluation.metrics import uar_pooled
from p2pser.experiments.baselines import fedavg, local_only, pooled
from p2pser.gossip.attacks import Attack
from p2pser.graph.spec import Topology, load
from p2pser.simulation.engine import simulate
from p2pser.simulation.mixer import Faults
from p2pser.simulation.scenario import Scenario

WIDTHS = "0.25*2,0.5,1*2"


def test_each_width_ends_with_one_model_and_the_narrow_ones_are_parts_of_the_wide_ones(made_up):
    config, topology, federation = made_up(**{"model.width": WIDTHS, "model.hidden": [32]})
    run = simulate(config, topology, federation)
    assert run.widths == (0.25, 0.25, 0.5, 1.0, 1.0)
    assert run.final.converged
    rows = run.final.rows
    for i, width in enumerate(run.widths):
        held = run.networks[width].held
        assert not rows[i][~held].any()
        torch.testing.assert_close(rows[i][held], rows[4][held], rtol=1e-5, atol=1e-7)
    assert run.consensus_distance < 1e-6
    assert run.schema == run.networks[1.0].schema
    torch.testing.assert_close(run.row, rows[4].float())
    said = [uar_pooled(one.predictions) for one in run.final_outputs]
    assert said[0] == said[1]
    assert said[3] == said[4] == uar_pooled(run.outputs.predictions)
    assert min(said) > 0.5
    sizes = [len(run.networks[width].start) for width in run.widths]
    # On the ring each sends a neighbour what the narrower of the two has.
    sent = [4 * 12 * sum(min(sizes[i], sizes[j]) for j in ((i - 1) % 5, (i + 1) % 5)) for i in range(5)]
    assert run.bytes_training.tolist() == sent


def test_peers_that_are_all_narrow_are_as_peers_with_a_small_model_and_send_no_more(made_up):
    config, topology, federation = made_up(**{"model.width": 0.5})
    run = simulate(config, topology, federation)
    assert run.schema.size == 12 * 4 + 4 + 4 * 3 + 3 == len(run.row)
    assert run.bytes_training.tolist() == [12 * 2 * 4 * run.schema.size] * 5


@pytest.mark.parametrize(("share", "local"), [("body", "head"), ("upper", "hidden.0"), ("[head.*]", "hidden.0")])
def test_what_is_not_shared_stays_each_peers_own(made_up, share, local):
    config, topology, federation = made_up(**{"gossip.share": share})
    run = simulate(config, topology, federation)
    assert run.final.converged
    assert run.outputs is None
    assert run.history[-1].uar["consensus"] is None
    assert len(run.final_outputs) == 5
    ends = [dict(run.schema.views(row.float())) for row in run.final.rows]
    for name, value in ends[0].items():
        alike = [bool(torch.allclose(value, end[name], rtol=1e-5, atol=1e-8)) for end in ends[1:]]
        assert alike == [not name.startswith(local)] * 4
    shared = sum(value.numel() for name, value in ends[0].items() if not name.startswith(local))
    assert run.bytes_training.tolist() == [12 * 2 * 4 * shared] * 5


def test_faults_and_deaths_leave_each_entrys_mean_where_it_was(made_up):
    config, topology, federation = made_up(**{"model.width": WIDTHS, "gossip.share": "upper"})
    late = simulate(config, topology, federation, Scenario(faults=Faults(delay=0.3, longest=3)))
    assert late.messages_late > 0
    assert late.final.converged
    dead = simulate(config, topology, federation, Scenario(dead={1: 6}))
    assert dead.final.dead == (1,)
    assert dead.final.converged
    assert dead.living == (0, 2, 3, 4)


@pytest.mark.parametrize("method", ["quasi-global-momentum", "k-gt", "overlap", "multi-step", "d2", "noloco", "gasloc"])
def test_algorithms_that_only_mix_run_with_parts(made_up, method):
    plain = {"training.momentum": 0, "training.schedule": "constant", "training.lr": 0.1}
    steps = {"training.local_steps": 1} if method == "d2" else {}
    config, topology, federation = made_up(
        **{"model.width": WIDTHS, "gossip.algorithm": method, **plain, **steps, "training.rounds": 25})
    run = simulate(config, topology, federation)
    assert run.final.converged
    held = run.networks[0.25].held
    torch.testing.assert_close(run.final.rows[0][held], run.final.rows[4][held], rtol=1e-5, atol=1e-8)
    assert run.history[-1].loss < run.history[0].loss


def test_personal_models_fit_their_peers_clips_better(made_up):
    config, topology, federation = made_up(**{"model.width": WIDTHS, "training.fine_tune": 60,
                                              "training.fine_tune_lr": 0.1})
    run = simulate(config, topology, federation)
    assert run.personal.shape == run.rows.shape
    assert len(run.personal_outputs) == 5
    for i in range(5):
        network, examples = run.networks[run.widths[i]], federation.train[i]
        right = []
        for row in (run.final.rows[i].float(), run.personal[i]):
            network.schema.bind(network.module, network.own(row))
            with torch.no_grad():
                said = network.module.eval()(torch.from_numpy(examples.features)).argmax(1).numpy()
            right.append(float(np.mean(said == examples.labels)))
        assert right[1] >= right[0]


def test_baselines_train_each_peers_own_size_and_the_largest_for_all(made_up):
    config, _, federation = made_up(**{"model.width": "0.25*4,1", "gossip.share": "body"})
    assert len(local_only(config, federation).predictions) == 5
    assert len(pooled(config, federation).predictions) == 1
    assert fedavg(config, federation).schema.size == 12 * 8 + 8 + 8 * 3 + 3


def test_runs_whose_widths_cannot_learn_from_each_other_are_refused(made_up):
    config, topology, federation = made_up(**{"model.width": "1,0.5,1,0.5,0.5"})
    with pytest.raises(TopologyError, match=r"peer 0 of the topology 'ring' can reach the others of model\.width 1"):
        simulate(config, topology, federation)
    config, topology, federation = made_up(**{"model.width": WIDTHS})
    with pytest.raises(ConfigError, match=r"gossip.algorithm=choco .*peers of different width.*dfedavg"):
        simulate(config.with_settings(["gossip.algorithm=choco"]), topology, federation)
    with pytest.raises(ConfigError, match="need symmetric mixing matrices"):
        simulate(config, load("directed-ring", 5), federation)
    with pytest.raises(ConfigError, match="3 peers, and there are 5"):
        simulate(config.with_settings(["model.width=0.25,0.5,1"]), topology, federation)
    with pytest.raises(ConfigError, match="hostile"):
        simulate(config, topology, federation, Scenario(hostile={0: Attack("sign-flip")}))
    with pytest.raises(ConfigError, match="matches no parameter"):
        simulate(config.with_settings(["gossip.share=tail.*"]), topology, federation)
    with pytest.raises(ConfigError, match="leaves no parameter to share"):
        simulate(config.with_settings(["model.hidden=[]", "gossip.share=body", "model.width=1"]), topology, federation)
    with pytest.raises(ConfigError, match="cannot be combined"):
        simulate(config.with_settings(["gossip.share=body,upper"]), topology, federation)


def test_what_sizes_gain_is_measured_against_each_size_among_its_own_kind(made_up):
    results = []
    for fold in range(2):
        config, topology, federation = made_up(
            **{"model.width": WIDTHS, "training.rounds": 4, "corpus.fold": fold, "seed": 0})
        results.append(measure(config, topology, federation))
    assert list(results[0]["predicted"]) == [TOGETHER, ALONE, WHOLE]
    assert results[0]["peers"] == {"0.25": 2, "0.5": 1, "1.0": 2}
    rows = tabulate(results)
    assert [row["width"] for row in rows] == [0.25, 0.5, 1.0]
    for row in rows:
        assert row["gain"]["mean"] == pytest.approx(row["together"] - row["own_kind"])
    assert table(rows).count("\n") == 5
    with pytest.raises(ConfigError, match="several widths"):
        measure(config.with_settings(["model.width=1"]), topology, federation)


def test_peers_of_a_kind_that_is_in_pieces_are_put_on_a_ring():
    ring = Topology("ring", nx.cycle_graph(6), {}, "metropolis", {})
    assert sorted(among(ring, [0, 1, 2]).graph.edges) == [(0, 1), (1, 2)]
    assert nx.is_connected(among(ring, [0, 2, 4]).graph)
