"""The secure sum over a mixer: exact, the same everywhere, one a round, whoever dies."""

from __future__ import annotations

import msgpack
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.gossip.agreement.flood import most_slots
from p2pser.gossip.agreement.secure_sum import secure_sum, spanning_tree
from p2pser.gossip.mixer import Step
from p2pser.gossip.secrets import NONCE
from p2pser.graph.spec import Topology
from p2pser.simulation.mixer import Faults, SimulatedMixer
from p2pser.simulation.secrets import SeedSecrets
from p2pser.wire.codec import Received

SIZE, CHUNK = 11, 4


def random_graph(size: int, seed: int) -> nx.Graph:
    graph = nx.random_labeled_tree(size, seed=seed)
    graph.add_edges_from(nx.gnp_random_graph(size, 0.15, seed=seed).edges)
    return graph


def topology(graph: nx.Graph) -> Topology:
    return Topology("test", graph, {}, "metropolis", {})


def inputs_of(peers, round: int = 0) -> dict[int, np.ndarray]:
    """Inputs whose subsets have different sums: 1, then powers of two by peer, then noise."""
    draws = {i: np.random.default_rng([i, round]).integers(0, 2**32, SIZE, dtype=np.uint32) for i in peers}
    for i, row in draws.items():
        row[:2] = 1, 1 << i
    return draws


def roster_of(total: np.ndarray) -> set[int]:
    return {i for i in range(32) if int(total[1]) >> i & 1}


def check(totals, given_inputs, living) -> None:
    """Every total is the exact sum over a roster, all totals of a round over disjoint rosters."""
    rosters = {}
    for i, total in totals.items():
        if total is not None and i in living:
            roster = frozenset(roster_of(total))
            assert len(roster) == total[0] >= 3
            assert (total == sum(given_inputs[j] for j in roster)).all()
            rosters[i] = roster
    for one in rosters.values():
        assert all(one == other or not one & other for other in rosters.values())


@given(size=st.integers(3, 14), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_all_hold_the_exact_sum(size, seed):
    graph = random_graph(size, seed)
    mixer = SimulatedMixer(topology(graph), secrets=SeedSecrets(seed))
    given_inputs = inputs_of(range(size))
    totals = secure_sum(mixer, 0, given_inputs, graph, least=3, chunk=CHUNK)
    assert all((totals[i] == sum(given_inputs.values())).all() for i in graph)
    assert not mixer.strikes


@pytest.mark.parametrize("graph", [nx.cycle_graph(7), nx.star_graph(5), nx.path_graph(6), nx.complete_graph(4),
                                   random_graph(9, 3)])
def test_alone_nobody_waits_for_one_who_ended(graph, each_alone):
    given_inputs = inputs_of(graph)

    def work(mixer):
        mixer.secrets = SeedSecrets(1)
        own = {mixer.peer: given_inputs[mixer.peer]}
        return secure_sum(mixer, 2, own, graph, least=3, chunk=CHUNK)[mixer.peer]

    totals = each_alone(topology(graph), work)
    assert all((totals[i] == sum(given_inputs.values())).all() for i in graph)


@given(size=st.integers(3, 10), seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=150, deadline=None)
def test_whoever_dies_whenever_no_two_totals_of_a_round_share_an_input(size, seed, data):
    graph = random_graph(size, seed)
    last = most_slots(graph) + 2 * size + 3 + size
    victims = data.draw(st.sets(st.integers(0, size - 1), max_size=max(1, size // 2)))
    slots = st.one_of(st.integers(0, size + 2), st.integers(most_slots(graph), last))
    dead = {i: Step(0, data.draw(slots)) for i in sorted(victims)}
    mixer = SimulatedMixer(topology(graph), dead=dead, secrets=SeedSecrets(seed))
    first, second = inputs_of(graph), inputs_of(graph, 1)
    living = set(graph) - victims
    check(secure_sum(mixer, 0, first, graph, least=3, chunk=CHUNK), first, living)
    totals = secure_sum(mixer, 1, second, graph, least=3, chunk=CHUNK)
    check(totals, second, living)
    for part in nx.connected_components(graph.subgraph(living)):
        for i in part:
            assert (totals[i] is not None) == (len(part) >= 3)
            assert totals[i] is None or roster_of(totals[i]) == part


@given(size=st.integers(3, 9), seed=st.integers(0, 10**6), loss=st.sampled_from([0.02, 0.2]))
@settings(max_examples=60, deadline=None)
def test_lost_messages_cost_a_round_and_never_a_wrong_total(size, seed, loss):
    graph = random_graph(size, seed)
    mixer = SimulatedMixer(topology(graph), faults=Faults(loss=loss, seed=seed), secrets=SeedSecrets(seed))
    for round in range(2):
        given_inputs = inputs_of(graph, round)
        check(secure_sum(mixer, round, given_inputs, graph, least=3, chunk=CHUNK), given_inputs, set(graph))


def test_the_total_of_one_that_dies_on_its_way_down_is_passed_on_by_the_others():
    graph = nx.cycle_graph(7)  # the root is 0, its last children are 3 and 4
    down = most_slots(graph) + 3 + 1
    mixer = SimulatedMixer(topology(graph), dead={1: Step(0, down)})
    given_inputs = inputs_of(graph)
    totals = secure_sum(mixer, 0, given_inputs, graph, least=3, chunk=SIZE)
    living = set(graph) - {1}
    assert all((totals[i] == sum(given_inputs.values())).all() for i in living)


def test_a_root_that_dies_with_the_total_costs_the_round():
    graph = nx.star_graph(4)
    up = most_slots(graph) + 1
    mixer = SimulatedMixer(topology(nx.wheel_graph(5)), dead={0: Step(0, up)})
    totals = secure_sum(mixer, 0, inputs_of(graph), nx.wheel_graph(5), least=3, chunk=SIZE)
    assert [totals[i] for i in range(1, 5)] == [None] * 4


def test_a_round_is_summed_over_one_roster_only_even_by_peers_that_begin_again():
    graph = nx.complete_graph(5)
    secrets, told = SeedSecrets(0), []
    secrets.tell = lambda peer, round, what: told.append((peer, round, what))
    mixer = SimulatedMixer(topology(graph), secrets=secrets)
    whole = secure_sum(mixer, 4, inputs_of(graph), graph, least=3)
    again = SimulatedMixer(topology(graph), secrets=secrets)
    same = secure_sum(again, 4, inputs_of(graph), graph, least=3)
    assert all((same[i] == whole[i]).all() for i in graph)
    fewer = SimulatedMixer(topology(graph), secrets=secrets, dead={2: Step(-9, 0)})
    assert secure_sum(fewer, 4, inputs_of(graph), graph, least=3)[0] is None
    assert (0, 4, "this round was summed over other peers or inputs before, and is not summed again") in told
    assert secure_sum(fewer, 5, inputs_of(graph), graph, least=3)[0][0] == 4
    other = inputs_of(graph)
    other[3][2] += 1
    assert secure_sum(SimulatedMixer(topology(graph), secrets=secrets), 4, other, graph, least=3)[0] is None


def test_fewer_peers_than_the_least_are_refused_in_a_sentence():
    told = []
    secrets = SeedSecrets(0, lambda peer, round, what: told.append((peer, round, what)))
    graph = nx.path_graph(5)
    mixer = SimulatedMixer(topology(graph), secrets=secrets, dead={2: Step(-9, 0)})
    totals = secure_sum(mixer, 0, inputs_of(graph), graph, least=3)
    assert set(totals.values()) == {None}
    assert told[0] == (0, 0, "2 peers reach each other, and no sum of fewer than 3 is made (privacy.least)")


def test_a_disk_that_keeps_no_record_costs_the_round():
    class Full(SeedSecrets):
        def give(self, peer, round, given):
            return peer != 3

    graph = nx.cycle_graph(5)
    mixer = SimulatedMixer(topology(graph), secrets=Full(0))
    assert set(secure_sum(mixer, 0, inputs_of(graph), graph, least=3).values()) == {None}


def test_peers_that_hold_other_keys_of_each_other_make_no_total():
    class Other(SeedSecrets):
        def shared(self, peer, other):
            return bytes(32) if peer == 3 else super().shared(peer, other)

    told = []
    graph = nx.cycle_graph(5)
    secrets = Other(0, lambda peer, round, what: told.append(what))
    totals = secure_sum(SimulatedMixer(topology(graph), secrets=secrets), 0, inputs_of(graph), graph, least=3)
    assert set(totals.values()) == {None}
    assert "peers hold different keys" in told[0]


@pytest.mark.parametrize("body", [b"\7", b"\2" * 45, bytes(60), b"x" * 10_000, lambda body: bytes(body)[:-1]])
def test_a_message_of_another_form_is_a_strike_or_missing_and_never_a_wrong_total(lying, body):
    graph = nx.cycle_graph(6)
    mixer = lying(topology(graph), 4, None, body)
    given_inputs = inputs_of(graph)
    totals = secure_sum(mixer, 0, given_inputs, graph, least=3, chunk=CHUNK)
    check(totals, given_inputs, set(graph) - {4})
    assert mixer.strikes
    assert {edge[1] for edge, _, _ in mixer.strikes} == {4}


@pytest.mark.parametrize("word", [b"\1", b"\2" + bytes(4 * SIZE), b"\2" + b"\xff" * 4 * SIZE])
def test_one_that_lies_in_the_closing_gives_nobody_a_total_that_cannot_be_one(lying, word):
    graph = nx.complete_graph(4)
    mixer = lying(topology(graph), 0, None, b"")
    closing = most_slots(graph) + 2 * 4 + 3
    mixer.lie = lambda at, dst, src, message: (
        Received(0, word) if src == 0 and at.slot >= closing else Received(0, b"") if src == 0 else message)
    given_inputs = inputs_of(graph)
    check(secure_sum(mixer, 0, given_inputs, graph, least=3, chunk=CHUNK), given_inputs, {1, 2, 3})


@pytest.mark.parametrize(("graph", "seen"), [(nx.cycle_graph(6), {4}), (nx.grid_2d_graph(2, 3), {3, 5}),
                                             (nx.complete_graph(4), set())])
def test_one_that_tells_each_neighbour_another_nonce_keeps_the_round_from_its_total_and_each_peer_says_so(
        lying, graph, seen):
    told: dict[int, str] = {}
    graph, liar = nx.convert_node_labels_to_integers(graph), 1
    mixer = lying(topology(graph), liar, None, None,
                  secrets=SeedSecrets(0, lambda peer, round, what: told.setdefault(peer, what)))

    def lie(at: Step, dst: int, src: int, message: Received) -> Received:
        if src != liar or at.slot >= most_slots(graph):
            return message
        final, values, cut = msgpack.unpackb(bytes(message.body))
        told_nonce = bytes([dst]) * NONCE
        return Received(liar, msgpack.packb([final, [[i, told_nonce + value[NONCE:] if i == liar else value]
                                                     for i, value in values], cut]))

    mixer.lie = lie
    totals = secure_sum(mixer, 0, inputs_of(graph), graph, least=3, chunk=CHUNK)
    assert set(totals.values()) == {None}
    assert told.keys() == set(graph)
    assert all(what.startswith("this round has no total: ") for what in told.values())
    assert {i for i, what in told.items() if "random numbers came from peer 1 by different ways" in what} - {1} == seen
    assert not mixer.strikes


@given(size=st.integers(1, 14), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_tree_spans_by_shortest_paths_from_a_centre(size, seed):
    graph = random_graph(size, seed)
    tree = spanning_tree(tuple(graph), frozenset(graph.edges))
    assert tree.height == nx.radius(graph)
    assert len(tree.parent) == size - 1
    assert all(graph.has_edge(*edge) for edge in tree.parent.items())
    assert all(tree.depth[parent] == tree.depth[i] - 1 for i, parent in tree.parent.items())
    assert sorted(i for peer in graph for i in tree.children(peer)) == sorted(tree.parent)


def test_a_ring_sends_two_rows_a_peer():
    graph = nx.cycle_graph(20)
    mixer = SimulatedMixer(topology(graph))
    rows = {i: np.ones(50_000, dtype=np.uint32) for i in graph}
    secure_sum(mixer, 0, rows, graph, least=3)
    assert 1.9 < mixer.bytes_sent.mean() / (4 * 50_000) < 2.1
