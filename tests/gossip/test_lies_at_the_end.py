"""One liar in the floods and in the consensus: it cannot make honest peers drop each other, nor disagree in silence."""

from __future__ import annotations

import math

import msgpack
import networkx as nx
import numpy as np
import pytest
import torch

from p2pser.gossip.agreement import consensus as final
from p2pser.gossip.agreement.consensus import consensus, living_slem, relative_norm
from p2pser.gossip.agreement.flood import agree_on_cuts, edges_of, flood_knowledge, ordered
from p2pser.gossip.agreement.stopping import UNDECIDED, Agreement, Trailer, decode_trailer, encode_trailer
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import Topology
from p2pser.wire.codec import Received

GRAPHS = {
    "ring": nx.cycle_graph(8),
    "ladder": nx.convert_node_labels_to_integers(nx.circular_ladder_graph(5)),
    "exponential": nx.circulant_graph(9, [1, 2, 4]),
    "complete": nx.complete_graph(5),
}
LIAR = 3


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


def everything_cut(graph: nx.Graph, message: Received, slot: int) -> Received:
    """The edges of all but its own are cut, it says, and ends."""
    return Received(message.sender, msgpack.packb([True, [], sorted(map(sorted, graph.edges))]))


def false_values(graph: nx.Graph, message: Received, slot: int) -> Received:
    """Everybody's value, false, before it can have come."""
    return Received(message.sender, msgpack.packb([False, [[i, b"false"] for i in graph], []]))


def false_in_time(graph: nx.Graph, message: Received, slot: int) -> Received:
    """A false value of each other peer, as soon as it can have come; and all other edges are cut."""
    away = nx.single_source_shortest_path_length(graph, LIAR)
    values = [[i, b"true %d" % i if i == LIAR else b"false"] for i in graph if away[i] <= slot]
    return Received(message.sender, msgpack.packb([False, values, sorted(map(sorted, graph.edges))]))


@pytest.mark.parametrize("lie", [everything_cut, false_values, false_in_time])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_liar_in_a_flood_makes_no_honest_peer_drop_another(name, lie, lying) -> None:
    graph = GRAPHS[name]
    mixer = lying(topology(graph), LIAR, None, None)
    mixer.lie = lambda at, dst, src, message: lie(graph, message, at.slot) if src == LIAR else message
    nodes = flood_knowledge(mixer, 0, {i: b"true %d" % i for i in graph}, graph)
    honest = [i for i in graph if i != LIAR]
    for i in honest:
        known, cut = nodes[i].reachable_values(), nodes[i].cut_edges()
        assert known.keys() >= set(honest)
        assert all(known[j] == b"true %d" % j for j in graph[i] if j != LIAR)
        assert cut <= edges_of(graph, [LIAR])
    assert all(edge[1] == LIAR for edge, _, _ in mixer.strikes)
    if lie is not false_in_time:
        assert {edge[0] for edge, _, _ in mixer.strikes} == set(graph[LIAR])


@pytest.mark.parametrize("name", GRAPHS)
def test_a_liar_in_the_flood_of_cuts_cuts_its_own_edges_at_most(name, lying) -> None:
    graph = GRAPHS[name]
    mixer = lying(topology(graph), LIAR, None, None)
    claimed = sorted(map(sorted, graph.edges))
    mixer.lie = lambda at, dst, src, message: (
        Received(src, msgpack.packb([False, [[LIAR, b""]], claimed])) if src == LIAR else message)
    cuts = agree_on_cuts(mixer, 0, graph)
    for i in set(graph) - {LIAR}:
        own = {ordered(i, j) for j in graph[i] if j != LIAR}
        assert not cuts[i] & own
        living = nx.Graph(graph)
        living.remove_edges_from(cuts[i])
        assert set(graph) - {LIAR} <= nx.node_connected_component(living, i)


def spoil_trailer(graph: nx.Graph, message: Received, at: int, **changes) -> Received:
    row = bytes(message.body)[: 8 * WIDTH]
    trailer = decode_trailer(memoryview(bytes(message.body)[8 * WIDTH :]), graph, at, LIAR)
    changed = trailer.__class__(**{**trailer.__dict__, **{k: make(trailer) for k, make in changes.items()}})
    return Received(message.sender, row + encode_trailer(changed, len(graph)))


WIDTH = 20
EVERYBODY = {name: (1 << len(graph)) - 1 for name, graph in GRAPHS.items()}

TRAILERS = {
    "done at once": lambda graph, everybody: {"done": lambda t: max(-1, t.exchange - 1)},
    "all agree, at once": lambda graph, everybody: {
        "done": lambda t: max(-1, t.exchange - 1),
        "floods": lambda t: tuple((k, 0.0, everybody) for k in range(max(0, t.exchange - 8), t.exchange))},
    "no difference": lambda graph, everybody: {"floods": lambda t: tuple((k, 0.0, b) for k, _, b in t.floods)},
    "all is cut": lambda graph, everybody: {"cut": lambda t: frozenset(ordered(*e) for e in graph.edges)},
    "far apart for ever": lambda graph, everybody: {
        "floods": lambda t: tuple((k, math.inf, b) for k, _, b in t.floods)},
}


@pytest.mark.parametrize("lie", TRAILERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_liar_in_the_consensus_makes_no_honest_peers_differ_in_silence(name, lie, lying) -> None:
    graph, changes = GRAPHS[name], TRAILERS[lie](GRAPHS[name], EVERYBODY[name])
    mixer = lying(topology(graph), LIAR, None, None)
    mixer.lie = lambda at, dst, src, message: (
        spoil_trailer(graph, message, at.slot, **changes) if src == LIAR else message)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(WIDTH, generator=draw) + 0.3 * torch.randn(len(graph), WIDTH, generator=draw)
    honest = [i for i in graph if i != LIAR]
    end = consensus(mixer, x, 0, topology(graph), 1e-6, slem=living_slem(topology(graph), None, (), 0),
                    max_exchanges=200)
    spread = max(relative_norm(end.rows[i], end.rows[j]) for i in honest for j in honest)
    assert torch.isfinite(end.rows).all()
    assert spread <= 1e-6 or not end.converged
    if lie != "far apart for ever":
        assert spread <= 1e-6
        assert set(end.dead) <= {LIAR}


class TwoFaced:
    """A liar that moves its last neighbour's row far away when all others agree, and hides that from its first one."""

    def __init__(self, graph: nx.Graph, when: int) -> None:
        self._graph, self._when, self._told = graph, when, dict.fromkeys(graph, ())
        self._away = nx.single_source_shortest_path_length(graph, LIAR)
        self._deceived, self._moved = min(graph[LIAR]), max(graph[LIAR])

    def __call__(self, at: Step, dst: int, src: int, message: Received) -> Received:
        if src != LIAR:
            trailer = decode_trailer(memoryview(bytes(message.body)[8 * WIDTH :]), self._graph, at.slot, src)
            self._told[src] = trailer.floods
            return message
        row, trailer = message.body[: 8 * WIDTH], message.body[8 * WIDTH :]
        if dst == self._moved and at.slot == self._when - 1:
            row = (np.frombuffer(row) + 1000.0).tobytes()
        if dst == self._deceived:
            floods = tuple((k, worst, sum(1 << i for i, away in self._away.items() if away < at.slot - k))
                           for k, worst, _ in self._told[dst] if k < at.slot)
            trailer = encode_trailer(Trailer(at.slot, UNDECIDED, floods, frozenset()), len(self._graph))
        return Received(LIAR, bytes(row) + bytes(trailer))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_two_faced_liar_brings_about_no_two_models_with_agreement(name, lying, monkeypatch) -> None:
    graph, plain = GRAPHS[name], final._result
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(WIDTH, generator=draw) + 0.3 * torch.randn(len(graph), WIDTH, generator=draw)

    def ends(lie) -> list[Agreement]:
        mixer, ended = lying(topology(graph), LIAR, None, None), []
        mixer.lie = lie
        with monkeypatch.context() as patch:
            patch.setattr(final, "_result", lambda y, nodes, *rest: ended.extend(nodes) or plain(y, nodes, *rest))
            final.consensus(mixer, x, 0, topology(graph), 1e-6, slem=living_slem(topology(graph), None, (), 0),
                            max_exchanges=200)
        return ended

    honest = ends(lambda at, dst, src, message: message)
    assert all(node.agreed for node in honest)
    deceived = ends(TwoFaced(graph, honest[0].done))
    agreed = [node.adopted for node in deceived if node.agreed and node.peer != LIAR]
    assert all(relative_norm(one, other) <= 1e-6 for one in agreed for other in agreed), \
        [(node.peer, node.done, node.agreed) for node in deceived]
