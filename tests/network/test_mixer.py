"""The network's Mixer: what it mixes, with whole and with shared parts of a model, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import networkx as nx
import pytest
import torch
from mixer_peers import SCHEMA, Peers, connect, row, topology_of, training
from torch import Tensor

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.agreement.flood import flood_knowledge
from p2pser.gossip.mixer import Mixer, Outbox, Step
from p2pser.gossip.partial import Parts
from p2pser.graph.spec import parse
from p2pser.network import events
from p2pser.network.exchange import DeliveryStatus
from p2pser.network.mixer import NetworkMixer
from p2pser.simulation.mixer import SimulatedMixer

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clips", [None, (3, 50, 7, 7)])
def test_mixing_equals_the_simulators_bit_for_bit(peers: Peers, dtype: torch.dtype,
                                                  clips: tuple[int, ...] | None) -> None:
    topology = topology_of(nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)]))
    mixers = [peers.make(topology, i, clips=clips and clips[i], hello={"clips": clips[i] if clips else 1})
              for i in range(4)]
    peers.together(*(lambda m=m: connect(m) for m in mixers))

    def rounds(mixer: NetworkMixer) -> Tensor:
        x = row(mixer.me, dtype=dtype)
        for k in range(5):
            x = mixer.mix(x, Step(k, 0))
        return x

    mixed = peers.together(*(lambda m=m: rounds(m) for m in mixers))
    simulated = SimulatedMixer(topology, exact=True, counts=dict(enumerate(clips)) if clips else None)
    xs = torch.cat([row(i, dtype=dtype) for i in range(4)])
    for k in range(5):
        xs = simulated.mix(xs, Step(k, 0))
    assert torch.equal(torch.cat(mixed), xs)
    for mixer in mixers:
        edges, expected = mixer.edges(Step(0, 0)), simulated.edges(Step(0, 0))
        mine = expected.dst == mixer.me
        assert torch.equal(edges.weight, expected.weight[mine])
        assert torch.equal(edges.src, expected.src[mine])
        assert mixer.left_out == []
        assert mixer.payload_posted == 5 * len(mixer.neighbours) * SCHEMA.size * mixed[0].element_size()


@pytest.mark.parametrize("graph", [
    {"kind": "one-peer-exponential", "peers": 4}, {"kind": "directed-ring", "peers": 4},
    {"kind": "random-matching", "peers": 4}, {"kind": "epidemic", "peers": 4, "form": "local", "s": 1},
])
def test_on_a_schedule_each_exchange_mixes_with_its_own_matrix(peers: Peers, graph: dict[str, Any]) -> None:
    topology = parse({"graph": graph}, "test")
    mixers = peers.all(topology, slots=2, rounds=3)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    simulated = SimulatedMixer(topology, exact=True, slots=2, rounds=3)

    def rounds(mixer: NetworkMixer) -> Tensor:
        x = row(mixer.me)
        for k in range(4):  # the last one is no training any more: the undirected graph, both ways
            for slot in range(2):
                x = mixer.mix(x, Step(k, slot))
        return x

    mixed = peers.together(*(lambda m=m: rounds(m) for m in mixers))
    xs = torch.cat([row(i) for i in range(4)])
    for k in range(4):
        for slot in range(2):
            xs = simulated.mix(xs, Step(k, slot))
            expected = simulated.edges(Step(k, slot))
            for mixer in mixers:
                mine, edges = expected.dst == mixer.me, mixer.edges(Step(k, slot))
                assert torch.equal(edges.src, expected.src[mine])
                assert torch.equal(edges.weight, expected.weight[mine])
                assert mixer.receivers(mixer.me, Step(k, slot)) == simulated.receivers(mixer.me, Step(k, slot))
    assert torch.equal(torch.cat(mixed), xs)
    assert [mixer.payload_posted for mixer in mixers] == simulated.bytes_sent.tolist()
    assert [mixer.left_out for mixer in mixers] == [[]] * 4


def test_nobody_runs_ahead_of_one_that_only_listens(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    """In a directed ring peer 4 sends to peer 5, which hangs, and hears from it through all the others only."""
    topology = parse({"graph": {"kind": "directed-ring", "peers": 6}}, "test")
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    done: dict[int, int] = dict.fromkeys(range(6), 0)
    furthest = {5: 2, 0: 2, 1: 3, 2: 4, 3: 4, 4: 3}  # without the window peers 3 and 4 get to 5 and 6
    pause, seen = threading.Event(), []

    def rounds(mixer: NetworkMixer) -> None:
        for k in range(8):
            if mixer.me == 5 and k == 2:
                eventually(lambda: done == furthest, f"the others do not get as far as they may: {done}")
                pause.wait(0.5)
                seen.append(dict(done))
            mixer.mix(row(mixer.me), Step(k, 0))
            done[mixer.me] = k + 1

    peers.together(*(lambda m=m: rounds(m) for m in mixers))
    assert seen == [furthest]
    assert set(done.values()) == {8}
    assert [mixer.left_out for mixer in mixers] == [[]] * 6


@pytest.mark.parametrize(("ahead", "after"), [(2, 1), (3, 2)])
def test_on_a_schedule_nobody_jumps_for_a_neighbour_that_may_be_ahead(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None], ahead: int, after: int) -> None:
    topology = parse({"graph": {"kind": "directed-ring", "peers": 2}}, "test")
    mixers = peers.all(topology, round_timeout=0.5)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    for k in range(ahead):
        mixers[0].mix(row(0), Step(k, 0))
    eventually(lambda: mixers[1].io._neighbours[0].stream.delivered == ahead, "its rows do not come")
    mixers[1].mix(row(1), Step(0, 0))
    assert mixers[1].next_round(0) == after


def test_column_stochastic_exchanges_do_not_mix_rows(peers: Peers) -> None:
    topology = parse({"graph": {"kind": "random-digraph", "peers": 4, "seed": 1}}, "test")
    assert topology.stochastic == "column"
    mixer = peers.make(topology, 0)
    with pytest.raises(LocalProtocolError, match="do not sum to 1"):
        mixer.mix(row(0), Step(0, 0))


def test_messages_of_bytes_reach_who_they_are_for(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(3))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))

    def send(mixer: NetworkMixer) -> list[Any]:
        mixer.post(Step(-3, 0), Outbox(edges={(mixer.me, j): b"%d to %d" % (mixer.me, j) for j in mixer.neighbours}))
        return list(mixer.collect_messages(Step(-3, 0), lambda edge, message: bytes(message.octets(6))).values)

    got = peers.together(*(lambda m=m: send(m) for m in mixers))
    assert got == [[b"1 to 0"], [b"0 to 1", b"2 to 1"], [b"1 to 2"]]


def test_a_flood_reaches_everybody(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(4))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))

    def tell(mixer: Mixer) -> Any:
        me = mixer.peers[0]
        return flood_knowledge(mixer, -3, {me: b"%d" % me}, topology.graph)[me].reachable_values()

    got = peers.together(*(lambda m=m: tell(m) for m in mixers))
    assert got == [{i: b"%d" % i for i in range(4)}] * 4


def test_a_row_may_be_changed_as_soon_as_it_is_posted(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology)
    peers.together(lambda: connect(a), lambda: connect(b))
    mine = row(1)
    kept = mine.clone()
    a.post(Step(0, 0), Outbox(rows=mine))
    mine.zero_()
    b.post(Step(0, 0), Outbox(rows=row(2)))
    assert torch.equal(torch.as_tensor(b.collect(Step(0, 0)).values[0]), kept[0])
    assert torch.equal(torch.as_tensor(a.collect(Step(0, 0)).values[0]), row(2)[0])


WIDTHS = (0.5, 1.0, 1.0, 0.5)
HELD = {0.5: torch.arange(SCHEMA.size) % 2 == 0, 1.0: torch.ones(SCHEMA.size, dtype=torch.bool)}
SHARED = torch.arange(SCHEMA.size) != 0


def parts_of(compact: bool) -> Parts:
    return Parts(WIDTHS, HELD, SHARED, compact=compact)


def own_row(i: int, times: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.cat([row(10 * i + k, dtype=dtype)[:, HELD[WIDTHS[i]]] for k in range(times)], 1)


def test_peers_of_different_width_mix_as_in_the_simulator_and_send_only_what_both_have(peers: Peers) -> None:
    topology = topology_of(nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)]))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    simulated = SimulatedMixer(topology, exact=True, parts=parts_of(False))
    for times in (1, 2):  # two rows side by side, as gradient tracking sends them
        def rounds(mixer: NetworkMixer, times: int = times) -> Tensor:
            mixer.share(parts_of(True))
            x = own_row(mixer.me, times)
            for k in range(4):
                x = mixer.mix(x, Step(10 * times + k, 0))
            return x

        mixed = peers.together(*(lambda m=m: rounds(m) for m in mixers))
        held = [HELD[width].repeat(times) for width in WIDTHS]
        xs = torch.zeros(4, times * SCHEMA.size)
        for i in range(4):
            xs[i, held[i]] = own_row(i, times)[0]
        for k in range(4):
            xs = simulated.mix(xs, Step(10 * times + k, 0))
        assert all(torch.equal(mixed[i][0], xs[i, held[i]]) for i in range(4))
    assert [mixer.payload_posted for mixer in mixers] == simulated.bytes_sent.tolist()


def test_a_part_that_comes_late_is_settled(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology)
    peers.together(lambda: connect(a), lambda: connect(b))
    training(a, b)
    for mixer in (a, b):
        mixer.share(parts_of(True))
    zero, one = own_row(0, dtype=torch.float64), own_row(1, dtype=torch.float64)
    a.exchange.awaited.round_timeout = 0.5
    left = a.mix(zero, Step(0, 0))
    a.exchange.awaited.round_timeout = 30.0
    assert a.left_out == [(Step(0, 0), 1, DeliveryStatus.GIVEN_UP)]
    right = b.mix(one, Step(0, 0))
    eventually(lambda: a.io._neighbours[1].stream.delivered == 1, "the late row does not come")
    left, right = peers.together(lambda: a.mix(left, Step(1, 0)), lambda: b.mix(right, Step(1, 0)))
    common = HELD[0.5]
    torch.testing.assert_close(left + right[:, common], zero + one[:, common], rtol=1e-14, atol=1e-14)
    assert torch.equal(right[:, ~common], one[:, ~common])
    assert not torch.equal(left, zero)
    assert torch.equal(left[:, 0], zero[:, 0])  # the first entry is not shared
    assert a.exchange.messages_late == 1
    assert a.exchange.drift == b.exchange.drift == 0.0


GOOD = bytes(row(0).numpy().tobytes())


@pytest.mark.parametrize("wrong", [
    [(GOOD, "no-such", row(0).numel()), (GOOD[:-1], "f4", row(0).numel()), (bytes(4), "f4", 1)],
    [(bytes(17), "random-k", 2**32 - 1), (b"hello", "", 0), (b"\xff" * len(GOOD), "f4", row(0).numel())],
])
def test_a_row_that_is_not_what_is_due_is_struck_and_missing(peers: Peers, wrong: list[tuple[bytes, str, int]]) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology)
    peers.together(lambda: connect(a), lambda: connect(b))
    training(a, b)
    a.io.send([1], (0, 0), bytes(4), codec="f4", size=1, schema=b"another!")
    for k, (payload, form, numbers) in enumerate(wrong, 1):
        a.io.send([1], (k, 0), payload, codec=form, size=numbers)
        b.post(Step(k, 0), Outbox(rows=row(1)))
        inbox = b.collect(Step(k, 0))
        assert (list(inbox.values), inbox.missing, inbox.refused) == ([], ((1, 0),), ((1, 0),))
    a.post(Step(9, 0), Outbox(rows=row(0)))
    b.post(Step(9, 0), Outbox(rows=row(1)))
    assert len(b.collect(Step(9, 0)).values) == 1
    while len(strikes := peers.had(1, events.Struck)) < 4:
        b.listen(None)
    assert [event.strikes for event in strikes] == [1, 2, 3, 4]
    assert [status for _, _, status in b.left_out] == [DeliveryStatus.REFUSED] * 3
