"""Peers that die, or are cut off, and come back: every algorithm goes on to the point of its theorem.

A peer comes back either with its memory (it was cut off) or afresh (it was started again with a neighbour's
parameters), as in the network.
"""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from courses import run_until

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Breaks, Edges, Step
from p2pser.gossip.registry import create
from p2pser.graph.spec import load, parse
from p2pser.run.rounds import mend
from p2pser.simulation.mixer import SimulatedMixer

GRAPHS = {"ring": nx.cycle_graph(8), "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3, periodic=True)),
          "chain": nx.path_graph(6)}
DIES, RETURNS = 40, 100
NEAR = 1e-8


def topology(name):
    return parse({"graph": {"edges": [list(edge) for edge in GRAPHS[name].edges]}}, "test")


class One:
    """The mixer as a newcomer has it: it hosts that peer only."""

    def __init__(self, mixer, peer):
        self.mixer, self.peers, self.size = mixer, (peer,), mixer.size

    def edges(self, at):
        edges = self.mixer.edges(at)
        own = edges.dst == self.peers[0]
        return Edges(edges.src[own], edges.dst[own], edges.weight[own])


def begin_afresh(algorithm, state, mixer, peer, host):
    """Give ``peer`` the parameters of ``host`` and nothing else; its neighbours begin anew with it."""
    fresh = State({"x": state.rows["x"][host : host + 1].clone()})
    algorithm.on_join(fresh, One(mixer, peer))
    if "mass" in state.rows:  # made in the first round
        prior = state.rows["prior"][peer : peer + 1]
        fresh.rows |= {"prior": prior, "mass": torch.cat([prior * fresh.rows["x"], prior], dim=1)}
    for name in state.rows:
        state.rows[name] = state.rows[name].clone()
        state.rows[name][peer] = fresh.rows[name][0]
    state.edges = {edge: kept for edge, kept in state.edges.items() if edge[0] != peer} | fresh.edges
    mend(algorithm, state, mixer, Breaks(reset=tuple((j, peer) for j in mixer.topology.neighbours(peer))))


def course(name, problem, where, rounds, away, *, afresh, after=None, reached=lambda state: False, **parameters):
    """Return the state after ``rounds``; away: {peer: (first round away, first round back, host)}.

    reached : is asked some rounds after the last return, and every ten rounds; the course ends where it holds.
    """
    algorithm = create(name, parameters, Config(), where)
    mixer = SimulatedMixer(where, dead={i: Step(first, 0) for i, (first, _, _) in away.items()},
                           back={i: back for i, (_, back, _) in away.items() if back is not None},
                           slots=algorithm.slots, rounds=rounds)

    def before_round(round, state):
        for peer, (_, back, host) in away.items():
            if round == back and afresh:
                begin_afresh(algorithm, state, mixer, peer, host)

    last = max(back or first for first, back, _ in away.values())

    def after_round(round, state):
        if after is not None:
            after(round, state, mixer.dead_at(Step(round, 0)))

    return run_until(lambda round, state: round > last + 20 and round % 10 == 0 and reached(state), algorithm,
                     State({"x": problem.start()}), problem.local, mixer, rounds, before_round=before_round,
                     after_round=after_round, breaks=mixer.breaks)


def off(state, optimum, peers=slice(None)):
    """The largest distance of a parameter of these peers from the optimum."""
    return float((state.rows["x"][peers] - optimum).abs().max())


def sums_of(name, state):
    """What must sum to 0 over the living, by peer."""
    rows = state.rows
    return {"gradient-tracking": lambda: rows["y"] - rows["gradient"], "k-gt": lambda: rows["c"],
            "d2": lambda: rows["x"] - rows["psi"]}[name]()


TRACKERS = [("d2", 1), ("gradient-tracking", 1), ("k-gt", 5)]
AWAY = {"alone": {3: (DIES, RETURNS, 2)}, "neighbours": {2: (DIES, RETURNS, 1), 3: (DIES + 7, RETURNS + 40, 4)}}


@pytest.mark.parametrize("afresh", [False, True], ids=["cut off", "afresh"])
@pytest.mark.parametrize(("graph", "away"), [("ring", "alone"), ("torus", "neighbours"), ("chain", "alone")])
@pytest.mark.parametrize(("name", "steps"), TRACKERS)
def test_trackers_reach_the_optimum_of_all_that_are_there(quadratics, name, steps, graph, away, afresh):
    where = topology(graph)
    problem = quadratics(where.size, lr=0.1, steps=steps)
    worst = 0.0

    def after(round, state, dead):
        nonlocal worst
        there = [i for i in range(where.size) if i not in dead]
        worst = max(worst, float(sums_of(name, state)[there].sum(0).abs().max()))

    state = course(name, problem, where, 1800, AWAY[away], afresh=afresh, after=after,
                   reached=lambda state: off(state, problem.optimum) <= NEAR)
    assert worst <= 1e-11
    assert off(state, problem.optimum) <= NEAR


@pytest.mark.parametrize(("name", "steps"), TRACKERS)
def test_without_a_peer_they_reach_the_optimum_of_the_others(quadratics, name, steps):
    where = topology("ring")
    problem = quadratics(8, lr=0.1, steps=steps)
    others = [0, 1, 2, 4, 5, 6, 7]
    optimum = (problem.A * problem.C)[others].sum(0) / problem.A[others].sum(0)
    state = course(name, problem, where, 3500, {3: (DIES, None, None)}, afresh=False,
                   reached=lambda state: off(state, optimum, others) <= NEAR)
    assert float((optimum - problem.optimum).abs().max()) > 1e-2
    assert off(state, optimum, others) <= NEAR


AVERAGING = [("dfedavg", {}), ("d-psgd", {}), ("overlap", {}),
             ("multi-step", {"exchanges": 3}), ("multi-step", {"exchanges": 3, "chebyshev": True}),
             ("choco", {"compressor": "top-k", "share": 0.5}), ("choco", {"compressor": "8-bit"}),
             ("power-gossip", {"iterations": 2}), ("mosaic", {"exchanges": 2})]


@pytest.mark.parametrize("afresh", [False, True], ids=["cut off", "afresh"])
@pytest.mark.parametrize("away", sorted(AWAY))
@pytest.mark.parametrize(("name", "parameters"), AVERAGING, ids=str)
def test_averages_conserve_the_mean_from_the_return_on(quadratics, name, parameters, away, afresh):
    """After a few rounds the peers take no more local steps: the rows tend to their mean after the last return."""
    where = topology("ring")
    problem = quadratics(8, 12, lr=0.4)
    problem.local.shapes = ((3, 4),)
    gone = {i: (first - DIES + 5, back - RETURNS + 20, host) for i, (first, back, host) in AWAY[away].items()}
    last = max(back for _, back, _ in gone.values())
    means = {}

    def after(round, state, dead):
        means[round] = state.rows["x"].mean(0)
        if round == 4:
            problem.local.rate = 0.0
            assert float((state.rows["x"] - means[4]).norm()) > 0.1

    state = course(name, problem, where, 500, gone, afresh=afresh, after=after,
                   reached=lambda state: off(state, state.rows["x"].mean(0)) <= 1e-9, **parameters)
    end = max(means)
    # Copies need three exchanges until both ends know each other's again; a flow of one end is taken back by then.
    assert float((means[last + 3] - means[end]).abs().max()) <= 1e-12
    assert float((state.rows["x"] - means[end]).abs().max()) <= 1e-8
    assert afresh or away == "neighbours" or float((means[end] - means[4]).abs().max()) <= 1e-12


@pytest.mark.parametrize("afresh", [False, True], ids=["cut off", "afresh"])
@pytest.mark.parametrize("kind", ["random-digraph", "directed-exponential", "one-peer-exponential", "ring"])
def test_push_sum_has_no_mass_twice(quadratics, kind, afresh):
    where = parse({"graph": {"kind": kind, "peers": 8, **({"seed": 1} if kind == "random-digraph" else {})}}, "test") \
        if kind != "ring" else topology("ring")
    x = torch.randn(8, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    problem = quadratics(8, 7, lr=0.0)
    problem.start = lambda: x.clone()
    lowest, weights = 1.0, {}

    def after(round, state, dead):
        nonlocal lowest
        there = [i for i in range(8) if i not in dead]
        lowest = min(lowest, float(state.rows["mass"][there, -1].min()))
        weights[round] = float(state.rows["mass"][there, -1].sum())

    state = course("push-sum", problem, where, 300, {3: (15, 40, where.neighbours(3)[0])}, afresh=afresh, after=after)
    found = state.rows["x"]
    assert lowest > 0
    assert float((found - found[0]).abs().max()) <= 1e-9
    assert (found[0] >= x.min(0).values).all()
    assert (found[0] <= x.max(0).values).all()
    if afresh:  # what was with the dead one, or on its way to it, is gone, and the new one counts as one
        assert 6 < weights[299] < 9
        assert weights[299] == pytest.approx(weights[39] + 1, abs=1e-9)
    else:
        assert weights[299] == pytest.approx(8, abs=1e-9)
        assert float((found[0] - x.mean(0)).abs().max()) <= 1e-9


@pytest.mark.parametrize("afresh", [False, True], ids=["cut off", "afresh"])
def test_relay_counts_everybody_once_again(quadratics, afresh):
    where = load("tree", peers=7)
    problem = quadratics(7, lr=0.05)
    state = course("relay", problem, where, 1800, {3: (DIES, RETURNS, where.neighbours(3)[0])}, afresh=afresh,
                   reached=lambda state: off(state, problem.optimum) <= NEAR)
    assert off(state, problem.optimum) <= NEAR


@pytest.mark.parametrize("afresh", [False, True], ids=["cut off", "afresh"])
def test_a_client_that_comes_back_to_its_server(quadratics, afresh):
    where = load("server", peers=6)
    problem = quadratics(6, lr=0.1, steps=3)
    clients = [i for i in range(6) if i != where.hub]
    optimum = (problem.A * problem.C)[clients].sum(0) / problem.A[clients].sum(0)
    gone = clients[2]
    state = course("scaffold", problem, where, 1500, {gone: (DIES, RETURNS, where.hub)}, afresh=afresh,
                   reached=lambda state: off(state, optimum) <= NEAR)
    assert off(state, optimum) <= NEAR
