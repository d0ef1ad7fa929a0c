"""SparseLoCo over a tree: each change reaches each peer once, rows agree, and lost messages are made good halfway."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from courses import at_rest, run_until
from lockstep import run

from p2pser.config import Config
from p2pser.gossip import shared_rows
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Breaks
from p2pser.gossip.registry import create
from p2pser.graph.spec import load, parse
from p2pser.run.rounds import mend
from p2pser.simulation.mixer import Faults, SimulatedMixer


def topology(graph):
    return parse({"graph": {"edges": [list(edge) for edge in graph.edges]}}, "test")


TREES = {"chain": nx.path_graph(6), "star": nx.star_graph(6), "binary": nx.balanced_tree(2, 2)}


class Given:
    """Local work whose changes are given for the first rounds, and nothing afterwards; they are noted."""

    steps = 1

    def __init__(self, size, width, rounds, seed=0):
        draw = torch.Generator().manual_seed(seed)
        self.changes = torch.randn(rounds, size, width, generator=draw, dtype=torch.float64)

    def train(self, state, round):
        return state.rows["x"] + (self.changes[round] if round < len(self.changes) else 0)


@pytest.mark.parametrize("tree", TREES)
def test_uncompressed_each_change_reaches_each_peer_once_as_late_as_its_path_is_long(tree):
    graph = TREES[tree]
    size, far = len(graph), dict(nx.all_pairs_shortest_path_length(graph))
    work, rounds = Given(size, 5, 9), 9
    state = run(create("sparse-loco", {"share": 1.0, "bits": 32}, Config(), topology(graph)),
                State({"x": torch.zeros(size, 5, dtype=torch.float64)}), work, SimulatedMixer(topology(graph)), rounds)
    for i in range(size):
        expected = sum(work.changes[: rounds - max(0, far[i][j] - 1), j].sum(0) for j in range(size)) / size
        assert float((state.rows["x"][i] - expected).abs().max()) <= 1e-12


@pytest.mark.parametrize("parameters", [{"share": 0.1}, {"share": 0.1, "bits": 8}, {"share": 0.02, "rate": 0.5}],
                         ids=str)
@pytest.mark.parametrize("tree", TREES)
def test_compressed_the_rows_tend_linearly_to_the_sum_of_the_mean_changes(tree, parameters):
    where, size = topology(TREES[tree]), len(TREES[tree])
    work = Given(size, 100, 8)
    method, expected = create("sparse-loco", parameters, Config(), where), work.changes.mean(1).sum(0)
    expected = parameters.get("rate", 1.0) * expected
    off = []

    def reached(round, state):
        off.append(float((state.rows["x"] - expected).norm()))
        return off[-1] < 1e-6

    run_until(reached, method, State({"x": torch.zeros(size, 100, dtype=torch.float64)}), work, SimulatedMixer(where),
              6000)
    assert off[-1] < 1e-6, f"{off[-1]:.1e} after {len(off)} rounds"
    assert len(off) <= 4 * next(k for k, value in enumerate(off) if k > 8 and value < 1e-2)


def test_of_a_row_of_a_speech_model_it_sends_a_two_hundredth(quadratics):
    ring, size = load("ring", peers=6), 44_740
    mixer = SimulatedMixer(ring)
    run(create("sparse-loco", {}, Config(), ring), State({"x": torch.zeros(6, size, dtype=torch.float64)}),
        Given(6, size, 1), mixer, 1)
    assert max(mixer.bytes_sent.tolist()) < 2 * 4 * size / 200


@pytest.mark.parametrize("parameters", [{"share": 1.0, "bits": 32}, {"share": 0.25}], ids=["whole", "compressed"])
def test_unlike_peers_end_near_the_optimum_the_nearer_the_lower_the_rate(quadratics, parameters):
    ring, off = load("ring", peers=6), {}
    for lr in (0.1, 0.025):
        problem = quadratics(6, 20, lr=lr)
        state = run_until(at_rest(), create("sparse-loco", parameters, Config(), ring), State({"x": problem.start()}),
                          problem.local, SimulatedMixer(ring), 250)
        off[lr] = float((state.rows["x"] - problem.optimum).abs().max())
    assert off[0.025] < 0.4 * off[0.1] < 0.1


def test_lost_messages_cost_time_but_no_change(quadratics):
    where, size = topology(TREES["binary"]), 7
    work, mixer = Given(size, 30, 40), SimulatedMixer(where, faults=Faults(loss=0.1, delay=0.05, until=60))
    state = run(create("sparse-loco", {"share": 0.2}, Config(), where),
                State({"x": torch.zeros(size, 30, dtype=torch.float64)}), work, mixer, 250)
    assert mixer.lost > 20
    assert float((state.rows["x"] - work.changes.mean(1).sum(0)).abs().max()) <= 1e-9


def test_one_that_begins_afresh_meets_its_neighbours_halfway():
    where = topology(nx.path_graph(3))
    method, mixer = create("sparse-loco", {"share": 0.5}, Config(), where), SimulatedMixer(where)
    work = Given(3, 10, 6)
    state = run(method, State({"x": torch.zeros(3, 10, dtype=torch.float64)}), work, mixer, 6)
    x = state.rows["x"].clone()
    x[2] = 1.0
    state.rows["x"] = x
    state.edges[2, 1] = shared_rows.apart()
    mend(method, state, mixer, Breaks(reset=((1, 2),)))
    state = run(method, state, work, mixer, 200, 6)
    assert float((state.rows["x"] - state.rows["x"][0]).abs().max()) <= 1e-12
    assert float((state.rows["x"][0] - (x[0] + 1) / 2).norm()) < float((x[0] - 1).norm()) / 2
