"""Theorem 7: asynchronous gossip conserves its mean or mass in any order of events, never deadlocks, and applies
nothing staler than its bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p2pser.config import Config
from p2pser.gossip.algorithm import State
from p2pser.gossip.algorithms.stale_gossip import StaleGossip
from p2pser.gossip.asynchronous import Asynchronous, AsynchronousPeer, Message, MessageKind, Place, staleness
from p2pser.gossip.registry import create
from p2pser.graph.spec import Topology
from p2pser.simulation.clock import preset
from p2pser.simulation.events import Events
from p2pser.simulation.mixer import Faults

D = 3
GRAPHS = {"ring": nx.cycle_graph(6), "triangle": nx.complete_graph(3), "star": nx.star_graph(5),
          "pair": nx.path_graph(2)}
ACTIONS = st.lists(st.tuples(st.sampled_from(["train", "begin", "deliver", "copy", "lose", "remind"]),
                             st.integers(0, 1000)), max_size=120)
HARD = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def start(size: int) -> torch.Tensor:
    return torch.randn(size, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


def ad_psgd(**parameters: float) -> Any:
    return create("ad-psgd", parameters, Config(), topology(GRAPHS["ring"]))


def stale_gossip(**parameters: float) -> Any:
    return create("stale-gossip", parameters, Config(), topology(GRAPHS["ring"]))


@contextmanager
def recorded_weights() -> Iterator[list[float]]:
    """Record the weight of a peer of stale gossip (push-sum) whenever it has taken mass from its edges.

    The first is the weight by which its local change counts.
    """
    weights: list[float] = []
    take = StaleGossip._take

    def recording(self: StaleGossip, state: State, clock: int, decay: float) -> None:
        take(self, state, clock, decay)
        weights.append(float(state.rows["mass"][0, -1]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StaleGossip, "_take", recording)
        yield weights


class Stage:
    """Peers and the messages between them, delivered in the order of a test's actions."""

    def __init__(self, algorithm: Asynchronous, graph: nx.Graph) -> None:
        self.x = start(len(graph))
        self.nodes = [
            AsynchronousPeer(algorithm, State({"x": self.x[i : i + 1].clone()}), Place(i, tuple(sorted(graph[i])), 7))
            for i in graph]
        self.way: list[Message] = []
        self.changes = torch.zeros(D, dtype=torch.float64)
        """The sum of what local steps added to the rows, times the weight of the peer (push-sum)."""

    def act(self, action: str, pick: int) -> None:
        node = self.nodes[pick % len(self.nodes)]
        if action == "begin" and node.start is None and not node.held:
            node.begin()
        elif action == "train" and (node.start is not None or not node.held):
            before = node.begin() if node.start is None else node.start
            change = 0.1 * torch.sin(torch.arange(D, dtype=torch.float64) + pick)[None]
            with recorded_weights() as weights:
                self.way += node.end(before + change)
            self.changes += (weights[0] if weights else 1.0) * change[0]
        elif action == "remind":
            self.way += node.remind()
        elif self.way:
            at = pick % len(self.way)
            message = self.way[at] if action == "copy" else self.way.pop(at)
            if action != "lose":
                self.way += self.nodes[message.dst].receive(message)

    def drain(self) -> None:
        """Deliver all messages, with reminders for those that were lost."""
        for _ in range(20):
            for node in self.nodes:
                self.way += node.remind()
            while self.way:
                message = self.way.pop(0)
                self.way += self.nodes[message.dst].receive(message)
            if not any(node.open for node in self.nodes):
                return
        pytest.fail("an exchange stays open although everything arrives")


@HARD
@given(st.sampled_from(sorted(GRAPHS)), st.integers(0, 3), ACTIONS)
def test_ad_psgd_keeps_the_mean_through_any_interleaving(graph, bound, actions):
    stage = Stage(ad_psgd(bound=bound), GRAPHS[graph])
    for action, pick in actions:
        stage.act(action, pick)
    stage.drain()
    found = sum(node.state.rows["x"][0] for node in stage.nodes)
    assert float((found - stage.x.sum(0) - stage.changes).abs().max()) <= 1e-12
    assert all(staleness(node.state).max <= bound for node in stage.nodes)
    assert not any(node.held for node in stage.nodes), "a peer could never go on"


def mass(stage: Stage) -> torch.Tensor:
    """Return the total mass: of the peers, and on the edges (pushed, not yet taken)."""
    total = sum(node.state.rows["mass"][0] for node in stage.nodes)
    for node in stage.nodes:
        for (i, j), kept in node.state.edges.items():
            total = total + kept["pushed"][0] - stage.nodes[j].state.edges[j, i]["taken"][0]
    return total


@HARD
@example("star", 1, 0.0, [("train", 0), ("train", 344), ("deliver", 1), ("train", 74)])  # refuses what is too old
@given(st.sampled_from(sorted(GRAPHS)), st.integers(0, 4), st.sampled_from([0.0, 0.5, 2.0]), ACTIONS)
def test_stale_gossip_keeps_its_mass_through_any_interleaving(graph, bound, decay, actions):
    stage = Stage(stale_gossip(decay=decay, fresh=1, bound=bound), GRAPHS[graph])
    for action, pick in actions:
        stage.act(action, pick)
        found = mass(stage)
        assert float(found[-1]) == pytest.approx(len(stage.nodes), abs=1e-12)
        assert float((found[:-1] - stage.x.sum(0) - stage.changes).abs().max()) <= 1e-12
    assert all(float(node.state.rows["mass"][0, -1]) > 0 for node in stage.nodes)
    assert all(staleness(node.state).max <= bound for node in stage.nodes)


class Idle:
    """Local work without any step, for consensus alone."""

    steps = 5
    clips = (1,)

    def lr(self, round: int) -> float:
        return 0.0

    def train(self, state: State, round: int, *, rows: torch.Tensor, correction=None, only=None) -> torch.Tensor:
        return rows.clone()


FAULTS = Faults(loss=0.2, delay=0.3, duplication=0.2, longest=3)


def run(algorithm: Asynchronous, graph: nx.Graph, network: str, faults: Faults | None, rounds: int) -> Events:
    events = Events(algorithm, start(len(graph)), [Idle()] * len(graph), topology(graph),
                    preset(network, slow={1: 5.0}), rounds, faults=faults)
    events.run()
    return events


def furthest(rows: torch.Tensor, mean: torch.Tensor) -> float:
    return float((rows - mean).norm(dim=1).max() / mean.norm())


def expected_contraction(graph: nx.Graph) -> float:
    """Return the factor of the expected square distance to the mean in an exchange of a random pair, 1 - lambda_2 / 2.

    lambda_2 is the second eigenvalue of the mean Laplacian of the pairs. The initiator is any peer, its partner any of
    its neighbours. S. Boyd, A. Ghosh, B. Prabhakar, D. Shah, "Randomized Gossip Algorithms", IEEE Transactions on
    Information Theory 2006.
    """
    size = len(graph)
    laplacian = np.zeros((size, size))
    for i, j in nx.to_directed(graph).edges:
        pair = np.zeros(size)
        pair[[i, j]] = 1, -1
        laplacian += np.outer(pair, pair) / (size * graph.degree(i))
    return float(1 - np.linalg.eigvalsh(laplacian)[1] / 2)


PLACES = pytest.mark.parametrize(("name", "faults", "network"), [
    pytest.param(name, FAULTS if lossy else None, network, id=f"{name}-{'lossy' if lossy else 'whole'}-{network}")
    for name, lossy, network in [
        ("ring", False, "lan"), ("ring", True, "wan"), ("ring", False, "phone"),
        ("star", True, "lan"), ("star", False, "wan"), ("star", True, "phone"),
        ("triangle", False, "lan"), ("triangle", True, "wan"), ("triangle", True, "phone")]])
"""Each graph on each network, and both whole and lossy; each network whole and lossy."""


@PLACES
def test_ad_psgd_converges_on_consensus_alone(name, faults, network):
    graph = GRAPHS[name]
    # A request is repeated about seven rounds after a loss: lossy links complete half as many exchanges per round.
    events = run(ad_psgd(), graph, network, faults, 150 if faults is None else 300)
    mean = start(len(graph)).mean(0)
    exchanges = sum(sum(staleness(node.state).histogram) for node in events.nodes) // 2
    assert furthest(events.rows.mean(0)[None], mean) <= 1e-12
    assert furthest(events.rows, mean) <= 1e-6
    # The square root of the expected square is contraction^(exchanges / 2); half of that exponent leaves a margin for
    # chance and for stale rows, and 1e-12 is what rounding leaves.
    assert furthest(events.rows, mean) <= max(1e-12, expected_contraction(graph) ** (exchanges / 4))
    assert all(node.report()["open"] == 0 and node.report()["drift"] == 0 for node in events.nodes)


@PLACES
def test_stale_gossip_converges_on_consensus_alone(name, faults, network):
    events = run(stale_gossip(), GRAPHS[name], network, faults, 150)
    mean = start(len(GRAPHS[name])).mean(0)
    total = sum(node.state.rows["mass"][0, -1] for node in events.nodes)
    drift = sum(node.report()["drift"] for node in events.nodes)
    assert abs(float(total) - len(events.nodes)) <= 1e-9 + drift
    assert furthest(events.rows, mean) <= 1e-6


@HARD
@given(st.integers(0, 2**31), st.sampled_from(sorted(GRAPHS)), st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 1),
       st.integers(0, 3), st.booleans())
def test_every_schedule_of_events_drains(seed, graph, loss, delay, duplication, bound, pairs):
    faults = Faults(loss=loss, delay=delay, duplication=duplication, seed=seed)
    algorithm = ad_psgd(bound=bound) if pairs else stale_gossip(bound=bound)
    events = run(algorithm, GRAPHS[graph], "wan", faults, 6)  # raises where it deadlocks
    assert {node.clock for node in events.nodes} == {6}
    assert all(staleness(node.state).max <= bound for node in events.nodes)
    assert not any(node.open for node in events.nodes)


def test_an_exchange_at_the_bound_is_refused_by_both_ends():
    stage = Stage(ad_psgd(bound=2), GRAPHS["pair"])
    before = [node.state.rows["x"].clone() for node in stage.nodes]
    first = stage.nodes[0]
    (request,) = first.end(first.begin())
    for _ in range(2):
        assert first.end(first.begin()) == []
    assert first.held
    (withdrawal,) = first.remind()
    assert withdrawal.kind is MessageKind.WITHDRAW
    (refusal,) = stage.nodes[1].receive(withdrawal)
    assert [one.kind for one in stage.nodes[1].receive(request)] == [MessageKind.REFUSAL]  # it overtook the withdrawal
    assert first.receive(refusal) == []
    assert not first.held
    assert [torch.equal(node.state.rows["x"], x) for node, x in zip(stage.nodes, before)] == [True, True]
    assert first.report()["refused"] == 1


def test_a_withdrawal_that_comes_too_late_applies_at_both_ends():
    stage = Stage(ad_psgd(bound=1), GRAPHS["pair"])
    first, second = stage.nodes
    (request,) = first.end(first.begin())
    second.receive(request)  # the answer is lost
    assert first.end(first.begin()) == []
    (withdrawal,) = first.remind()
    (answer,) = second.receive(withdrawal)
    assert answer.kind is MessageKind.REPLY
    first.receive(answer)
    assert torch.allclose(first.state.rows["x"], second.state.rows["x"], atol=1e-15)
    assert staleness(first.state).histogram == (0, 1)
