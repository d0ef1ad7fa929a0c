"""The I/O threads of two or three peers in one process, joined by real sockets and proxies that misbehave."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from io_pairs import MIB, Eventually, begin, lost, pair, payload

from p2pser.network import events
from p2pser.network.neighbour import DIALLED
from p2pser.network.states import State
from p2pser.network.stream import MAX_UNREAD
from p2pser.wire.messages import SETTLE_WINDOW, Phase, Progress

if TYPE_CHECKING:
    from network.conftest import Network


def test_two_peers_say_hello_and_are_up(network: Network) -> None:
    a = network.peer(0, (1,))
    assert a.states() == {1: "waiting"}
    b = network.peer(1, (0,))
    up = network.wait(a, events.Up)
    assert (up.peer, up.hello.clips, up.hello.labels) == (1, 2, ("a", "b"))
    assert network.wait(b, events.Up).hello.clips == 1
    assert (a.states(), b.states()) == ({1: "alive"}, {0: "alive"})


def test_users_see_five_states(network: Network) -> None:
    io = network.peer(0, (1,), start=False)
    seen = {}
    for state in State:
        io._neighbours[1].state = state
        seen[state.value] = io.states()[1]
    assert seen == {"absent": "waiting", "refused": "waiting", "present": "alive", "suspect": "suspect",
                    "lost": "dead", "returning": "alive", "done": "left", "banned": "left"}


def test_rows_of_several_mebibytes_cross_both_ways(network: Network, eventually: Eventually) -> None:
    a, b = pair(network)
    for k in range(3):
        a.send([1], (0, k), payload(k, 3 * MIB), codec="f4", size=7, schema=b"12345678",
               unmixed=lambda peer: ((0, 0),))
        b.send([0], (0, k), payload(10 + k, 3 * MIB))
    for k in range(3):
        there, here = network.wait(b, events.Arrived), network.wait(a, events.Arrived)
        assert (there.header.round, there.header.slot, there.header.codec, there.header.size) == (0, k, "f4", 7)
        assert there.header.unmixed == ((0, 0),)
        assert bytes(there.payload) == payload(k, 3 * MIB)
        assert bytes(here.payload) == payload(10 + k, 3 * MIB)
    eventually(lambda: a.traffic()[1].payload_sent >= 9 * MIB, "the last chunk is not counted")  # only once it has left
    traffic = a.traffic()[1]
    assert traffic.payload_sent == 9 * MIB
    assert traffic.payload_sent < traffic.bytes_sent < 1.01 * traffic.payload_sent


def test_one_dialled_connection_is_enough(network: Network) -> None:
    a, b = network.peer(0, (1,)), network.peer(1, (0,), dials=())
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    b.send([0], (0, 0), payload(1))
    a.send([1], (0, 0), payload(2))
    assert bytes(network.wait(a, events.Arrived).payload) == payload(1)
    assert bytes(network.wait(b, events.Arrived).payload) == payload(2)


@pytest.mark.parametrize(("dials", "cuts"), [
    ("both", [(0, 1)]), ("both", [(1, 0)]), ("both", [(0, 1), (1, 0)]), ("0", [(0, 1)]), ("1", [(1, 0)])])
def test_what_a_broken_connection_loses_is_sent_again_once(network: Network, eventually: Eventually, dials: str,
                                                           cuts: list[tuple[int, int]]) -> None:
    a = network.peer(0, (1,), dials=(1,) if dials != "1" else ())
    b = network.peer(1, (0,), dials=(0,) if dials != "0" else ())
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    proxies = list(network.proxies.values())
    for k in range(4):
        for proxy in proxies:
            proxy.rate = 4e6
        before = sum(proxy.forwarded for proxy in proxies)
        # In lock-step: an exchange's rows are there before the next begins.
        a.send([1], (0, k), payload(k, 2 * MIB))
        b.send([0], (0, k), payload(100 + k, 2 * MIB))
        for edge in cuts:
            eventually(lambda before=before: sum(proxy.forwarded for proxy in proxies) > before + 100_000,  # type: ignore[misc]
                       "nothing passes")
            network.proxies[edge].cut()
        for proxy in proxies:
            proxy.rate = None
        there = network.wait(b, events.Arrived)
        here = network.wait(a, events.Arrived)
        assert (there.header.slot, here.header.slot) == (k, k)
        assert bytes(there.payload) == payload(k, 2 * MIB)
        assert bytes(here.payload) == payload(100 + k, 2 * MIB)
    for io in (a, b):
        arrived = [event.header.slot for event in network.so_far(io) if isinstance(event, events.Arrived)]
        assert arrived == [0, 1, 2, 3]
        assert not any(isinstance(event, events.Refused) for event in network.so_far(io))
        assert not lost(network, io)


def test_credits_that_were_lost_with_the_other_connection_are_told_again(network: Network,
                                                                         eventually: Eventually) -> None:
    """Rows go by the connection that peer 0 dialled, credits come by the one that peer 1 dialled."""
    a, b = pair(network)
    for io, other in ((a, 1), (b, 0)):
        at = io._connections
        eventually(lambda at=at, other=other: other in at._dialled - at._hello_due, "it is not dialled")  # type: ignore[misc]
        network.ask(io, lambda at=at, other=other: at._carrier.update({other: DIALLED}))  # type: ignore[misc]
    network.proxies[1, 0].stalled = True  # credits wait there
    a.send([1], (0, 0), payload(1, 4 * MIB))
    link = a._neighbours[1]
    eventually(lambda: link.stream._sender.outstanding >= link.stream._sender.window, "the window is never full")
    network.proxies[1, 0].cut()
    network.proxies[1, 0].stalled = False
    assert bytes(network.wait(b, events.Arrived).payload) == payload(1, 4 * MIB)


def test_a_new_connection_of_one_that_only_accepts_gets_what_the_old_one_lost(network: Network,
                                                                              eventually: Eventually) -> None:
    """Peer 1 dials, peer 0 answers on that connection only: it learns of the break from the new one's HELLO."""
    a, b = network.peer(0, (1,), dials=()), network.peer(1, (0,))
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    proxy = network.proxies[1, 0]
    proxy.stalled = True
    sent = a.traffic()[1].payload_sent
    a.send([1], (0, 0), payload(1, MIB // 4))
    eventually(lambda: a.traffic()[1].payload_sent > sent, "nothing leaves")
    proxy.cut()
    proxy.stalled = False
    assert bytes(network.wait(b, events.Arrived).payload) == payload(1, MIB // 4)
    a.send([1], (0, 1), payload(2, 4 * MIB))
    assert bytes(network.wait(b, events.Arrived).payload) == payload(2, 4 * MIB)


def test_a_neighbour_that_stops_reading_costs_bounded_memory(network: Network, eventually: Eventually) -> None:
    a, b = pair(network)
    for proxy in network.proxies.values():
        proxy.stalled = True
    for k in range(40):
        a.send([1], (0, k), payload(k, 256 * 1024))
    link = a._neighbours[1]
    eventually(lambda: not a._commands, "the commands are not obeyed")
    # One fewer where all rows are queued before the first chunk leaves: the row that is sent was among them.
    eventually(lambda: len(link.stream._rows) in (SETTLE_WINDOW - 1, SETTLE_WINDOW), "other rows wait than the newest")
    assert link.stream._sender.outstanding <= 512 * 1024
    for proxy in network.proxies.values():
        proxy.stalled = False
    last = network.wait(b, events.Arrived, lambda event: event.header.slot == 39)
    assert bytes(last.payload) == payload(39, 256 * 1024)


def test_what_the_training_thread_does_not_look_at_is_bounded(network: Network, eventually: Eventually) -> None:
    a, b = pair(network)
    for k in range(MAX_UNREAD + 10):
        a.send([1], (0, k), b"%d" % k)
        eventually(lambda: a._neighbours[1].stream.idle and not a._commands, "the queue is not sent")
    eventually(lambda: b._neighbours[0].stream.receiver.total >= sum(len(b"%d" % k) for k in range(MAX_UNREAD + 10)),
               "not everything came")
    waiting = [event for event in network.so_far(b) if isinstance(event, events.Arrived)]
    assert len(waiting) == MAX_UNREAD


def test_a_ping_is_answered_while_a_large_row_is_under_way_at_a_megabit(network: Network,
                                                                        eventually: Eventually) -> None:
    """The row takes longer than the wait for an answer."""
    a, b = pair(network)
    begin(network, a, b)
    for proxy in network.proxies.values():
        proxy.rate = 125_000.0
    size = 8 * MIB
    a.send([1], (0, 0), payload(1, size))
    eventually(lambda: b._neighbours[0].stream.receiver.total > 0, "the row is not under way")
    for beat in range(1, 4):
        a.progress = Progress(0, beat, Phase.TRAIN, 0)
        b.ping(0)
        # Chunks carry what was so when they were posted: this news can only come with the answer.
        network.wait(b, events.Progressed, lambda event, beat=beat: event.progress.slot == beat)  # type: ignore[misc]
        # An answer waits for what is under way before it: about half a second's bytes.
        assert network.ask(a, lambda: a._neighbours[1].stream._sender.outstanding) <= MIB // 4
    assert not any(isinstance(event, events.Arrived) for event in network.so_far(b))
    assert b.states() == {0: "alive"}
    for proxy in network.proxies.values():
        proxy.rate = None
    assert bytes(network.wait(b, events.Arrived).payload) == payload(1, size)


def test_strangers_at_the_port_disturb_nobody(network: Network) -> None:
    a, b = pair(network)
    assert a.endpoint is not None
    for garbage in (b"", b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 40):
        with socket.create_connection(("127.0.0.1", int(a.endpoint.rpartition(":")[2]))) as stranger:
            stranger.sendall(garbage)
    b.send([0], (0, 0), payload(3))
    assert bytes(network.wait(a, events.Arrived).payload) == payload(3)


def test_a_row_beyond_the_limit_is_trouble_and_not_memory(network: Network) -> None:
    a, b = network.peer(0, (1,)), network.peer(1, (0,), max_row_bytes=1000)
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    a.send([1], (0, 0), bytes(2000))
    assert "at most 1000" in network.wait(b, events.Struck).reason
    a.send([1], (0, 1), bytes(10))
    assert network.wait(b, events.Arrived).header.slot == 1
