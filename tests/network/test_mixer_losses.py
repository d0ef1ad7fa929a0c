"""The network's Mixer during a run: neighbours that leave, die, hang or are slow."""

from __future__ import annotations

import time
from collections.abc import Callable

import networkx as nx
import torch
from mixer_peers import Peers, connect, row, topology_of, training
from torch import Tensor

from p2pser.gossip.mixer import Step
from p2pser.network import events
from p2pser.network.exchange import DeliveryStatus
from p2pser.network.mixer import NetworkMixer
from p2pser.network.states import State
from p2pser.wire.messages import Phase


def test_one_that_leaves_is_left_out_from_then_on(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(3))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    peers.together(*(lambda m=m: m.mix(row(m.me), Step(0, 0)) for m in mixers))
    peers.pool.submit(mixers[2].io.close, "interrupted", 60.0)
    peers.together(*(lambda m=m: m.mix(row(m.me), Step(1, 0)) for m in mixers[:2]))
    assert mixers[1].lost == {2: "interrupted"}
    assert mixers[0].lost == {}
    assert mixers[1].left_out == [(Step(1, 0), 2, DeliveryStatus.LOST)]


def test_a_dead_one_holds_the_others_up_for_its_time_only(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(3))
    mixers = peers.all(topology)
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)
    for edge in ((1, 2), (2, 1)):
        peers.network.proxies[edge].stalled = True

    def dies() -> None:
        for me, other in ((1, 2), (2, 1)):
            peers.network.fall_silent(mixers[me].io, other, State.LOST)

    peers.together(dies, *(lambda m=m: m.mix(row(m.me), Step(0, 0)) for m in mixers))
    for me, other in ((1, 2), (2, 1)):
        assert [one.peer for one in peers.had(me, events.Changed) if one.after is State.LOST] == [other]
    assert mixers[0].left_out == []  # nobody far away is concerned
    # A last message that arrives after its loss makes the peer return, and it is given up again.
    assert [(at, peer) for at, peer, _ in mixers[1].left_out] == [(Step(0, 0), 2)]


def test_a_row_that_is_still_arriving_is_waited_for_beyond_the_round_timeout(peers: Peers) -> None:
    """400 kB over a line that carries 80 kB a second: five seconds, in which neither end makes other progress."""
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology, round_timeout=2.0)
    peers.together(lambda: connect(a), lambda: connect(b))
    training(a, b)
    for edge in peers.network.proxies:
        peers.network.proxies[edge].rate = 80_000.0
    before = time.monotonic()
    peers.together(*(lambda m=m: m.mix(row(m.me, size=100_000), Step(0, 0)) for m in (a, b)))
    assert time.monotonic() - before > 4.0
    assert a.left_out == b.left_out == []
    assert any(event.part for event in peers.had(0, events.Progressed))


def test_one_that_gets_nowhere_is_given_up_and_settled_when_it_comes(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    """Peer 1's training thread hangs; its I/O thread answers all the time, so it is not dead."""
    topology = topology_of(nx.path_graph(2))
    a, b = peers.all(topology)
    peers.together(lambda: connect(a), lambda: connect(b))
    training(a, b)
    zero = row(0, dtype=torch.float64)
    one = row(1, dtype=torch.float64)
    a.exchange.awaited.round_timeout = 0.5
    left = a.mix(zero, Step(0, 0))
    a.exchange.awaited.round_timeout = 30.0
    assert torch.equal(left, zero)
    assert a.left_out == [(Step(0, 0), 1, DeliveryStatus.GIVEN_UP)]
    right = b.mix(one, Step(0, 0))
    assert not torch.equal(right, one)
    eventually(lambda: a.io._neighbours[1].stream.delivered == 1, "the late row does not come")
    left, right = peers.together(lambda: a.mix(left, Step(1, 0)), lambda: b.mix(right, Step(1, 0)))
    torch.testing.assert_close(left + right, zero + one, rtol=1e-14, atol=1e-14)
    assert a.exchange.messages_late == 1
    assert a.exchange.drift == b.exchange.drift == 0.0


def test_who_waits_for_a_slow_one_is_not_given_up_itself(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    """Peer 2 trains for long and says so; peer 1 waits for it, and peer 0, which has its first row, for its second."""
    topology, now = topology_of(nx.path_graph(3)), [0.0]
    mixers = peers.all(topology, round_timeout=3.0, clock=lambda: now[0])
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)

    def slowly() -> Tensor:
        for k in range(6):  # more than anybody's patience with one who gets nowhere
            heard = len(peers.had(0, events.Progressed))
            now[0] += 0.8

            def told(k: int = k, heard: int = heard) -> bool:
                mixers[2].local_step(2, k)  # one of several that follow each other quickly may not be told of
                return len(peers.had(0, events.Progressed)) > heard

            eventually(told, "peer 1 does not tell of progress")
        return twice(mixers[2])

    def twice(mixer: NetworkMixer) -> Tensor:
        return mixer.mix(mixer.mix(row(mixer.me), Step(0, 0)), Step(1, 0))

    peers.together(slowly, *(lambda m=m: twice(m) for m in mixers[:2]))
    assert [mixer.left_out for mixer in mixers] == [[], [], []]


def test_who_was_left_behind_jumps_to_the_others_round(
        peers: Peers, eventually: Callable[[Callable[[], bool], str], None]) -> None:
    topology, now = topology_of(nx.complete_graph(3)), [0.0]
    mixers = peers.all(topology, round_timeout=2.0, clock=lambda: now[0])
    peers.together(*(lambda m=m: connect(m) for m in mixers))
    training(*mixers)

    def ahead(mixer: NetworkMixer) -> Tensor:
        x = row(mixer.me)
        for k in range(6):
            x = mixer.mix(x, Step(k, 0))
        return x

    def patience_ends() -> None:
        links = (mixers[0].io._neighbours[1], mixers[1].io._neighbours[0])
        eventually(lambda: all(link.stream.read == 1 for link in links), "the rows of the two do not come")
        eventually(lambda: all(any(one.peer == 2 and one.progress.phase == Phase.TRAIN
                                   for one in peers.had(me, events.Progressed)) for me in (0, 1)),
                   "the two do not hear that the third trains")
        now[0] = 2.0

    peers.together(patience_ends, *(lambda m=m: ahead(m) for m in mixers[:2]))
    slow = mixers[2]
    eventually(lambda: all(slow.io._neighbours[j].stream.delivered == 6 for j in (0, 1)), "their rows do not come")
    slow.mix(row(2), Step(0, 0))  # their rows of this step are there
    assert slow.next_round(0) == 5
    assert [status for _, _, status in slow.left_out] == []
    for mixer in mixers[:2]:
        assert {(peer, status) for _, peer, status in mixer.left_out} == {(2, DeliveryStatus.GIVEN_UP)}
