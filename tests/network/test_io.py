"""The I/O threads of two or three peers in one process, joined by real sockets and proxies that misbehave."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from p2pser.base.errors import ConfigError, LocalProtocolError
from p2pser.network import events
from p2pser.network.handshakes import FAILURES_REPORTED
from p2pser.network.io import IOThread
from p2pser.network.states import Cause, State
from p2pser.network.stream import MAX_UNREAD
from p2pser.wire.messages import SETTLE_WINDOW, Phase, Progress

if TYPE_CHECKING:
    from network.conftest import Network

MIB = 1 << 20
Eventually = Callable[[Callable[[], bool], str], None]


def payload(seed: int, size: int = MIB) -> bytes:
    return random.Random(seed).randbytes(size)


def pair(network: Network, **options: Any) -> tuple[IOThread, IOThread]:
    a, b = network.peer(0, (1,), **options), network.peer(1, (0,), **options)
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    return a, b


def becomes(state: State) -> Callable[[events.Changed], bool]:
    return lambda event: event.after is state


def lost(network: Network, io: IOThread) -> list[int]:
    return [event.peer for event in network.so_far(io)
            if isinstance(event, events.Changed) and event.after is State.LOST]


def begin(*io: IOThread) -> None:
    """From here on nobody may leave and come back."""
    for one in io:
        one.begin()
        one.progress = Progress(0, 0, Phase.TRAIN, 0)


def test_two_peers_say_hello_and_are_up(network: Network) -> None:
    a = network.peer(0, (1,))
    assert a.states() == {1: "waiting"}
    b = network.peer(1, (0,))
    up = network.wait(a, events.Up)
    assert (up.peer, up.hello.clips, up.hello.labels) == (1, 2, ("a", "b"))
    assert network.wait(b, events.Up).hello.clips == 1
    assert (a.states(), b.states()) == ({1: "alive"}, {0: "alive"})


def test_rows_of_several_mebibytes_cross_both_ways(network: Network) -> None:
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


@pytest.mark.parametrize("change", [{"run": "other"}, {"labels": ("a", "c")}, {"topology": "u" * 16},
                                    {"settings": {"training.lr": 0.1}}, {"schema": "6" * 16}, {"initial": "2" * 16}])
def test_peers_that_do_not_fit_refuse_each_other_with_both_values(network: Network, change: dict[str, Any]) -> None:
    a, b = network.peer(0, (1,)), network.peer(1, (0,), hello=change)
    for io, other in ((a, 1), (b, 0)):
        by_us = network.find(io, events.Refused, lambda event: event.by_us)
        by_them = network.find(io, events.Refused, lambda event: not event.by_us)
        assert by_us.peer == by_them.peer == other
        assert "differ" in by_us.reason
        assert "differ" in by_them.reason
        assert not any(isinstance(event, events.Up) for event in network.so_far(io))
    assert a.states() == {1: "waiting"}


def test_a_key_that_is_not_admitted_is_told_on_both_sides(network: Network,
                                                          key_of: Callable[[int], Any]) -> None:
    """Peer 0 knows another key for peer 1 than peer 1 has; peer 1's own file is right."""
    a = network.peer(0, (1, 2), expects={1: key_of(99).public})
    b = network.peer(1, (0,))
    c = network.peer(2, (0,))
    refused = network.wait(b, events.Refused)
    assert not refused.by_us
    assert "does not admit the key of peer 1" in refused.reason
    told = network.find(a, events.Trouble, lambda event: "refused" in event.reason)
    assert key_of(1).public in told.reason
    doubt = network.find(a, events.Refused)
    assert doubt.by_us
    assert "does not hold the key of peer 1" in doubt.reason
    network.find(b, events.Trouble, lambda event: "wrong public key for this peer" in event.reason)
    # The third is not concerned.
    network.find(a, events.Up, lambda event: event.peer == 2)
    a.send([2], (0, 0), b"x")
    assert bytes(network.wait(c, events.Arrived).payload) == b"x"


def test_the_same_refusal_is_not_told_again_and_again(network: Network, key_of: Callable[[int], Any]) -> None:
    a = network.peer(0, (1,), expects={1: key_of(99).public})
    b = network.peer(1, (0,))
    network.wait(b, events.Refused)
    dealers = {id(b._connections._dealers.get(0))}
    while len(dealers) < 4:  # it is dialled again every second
        network.so_far(b)
        dealers.add(id(b._connections._dealers.get(0)))
    for io in (a, b):
        told = [event.reason for event in network.so_far(io) if isinstance(event, (events.Trouble, events.Refused))]
        assert len(told) == len(set(told))


def test_a_tunnel_whose_far_end_is_not_there_yet_is_no_wrong_key(network: Network, eventually: Eventually) -> None:
    """It takes connections and closes them; the peer that it leads to comes later, and is admitted then."""
    tunnel = network.proxy(0, 1)
    with socket.socket() as nobody:  # holds a port at which nothing listens
        nobody.bind(("127.0.0.1", 0))
        tunnel.aim(nobody.getsockname()[1])
        a = network.peer(0, (1,))
        told = network.wait(a, events.Trouble)
        assert told.peer == 1
        assert tunnel.address in told.reason
        assert "start the peer" in told.reason
        eventually(lambda: a._connections._handshakes.count(1) >= 2 * FAILURES_REPORTED, "it is not dialled again")
        b = network.peer(1, (0,), dials=())
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    a.send([1], (0, 0), b"x")
    assert bytes(network.wait(b, events.Arrived).payload) == b"x"
    for io in (a, b):
        assert not any(isinstance(event, events.Refused) for event in network.so_far(io))
    assert not any(isinstance(event, events.Trouble) for event in network.so_far(b))


@pytest.mark.parametrize("says", [b"SSH-2.0-other\r\n", b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)],
                         ids=["another protocol", "ZeroMQ without keys"])
def test_where_another_program_listened_is_dialled_again(network: Network, eventually: Eventually, says: bytes) -> None:
    """The peer comes to that address later: it is reached, though ZeroMQ itself had given up."""
    way = network.proxy(0, 1)
    came: list[socket.socket] = []

    def answer(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                came.append(server.accept()[0])
                came[-1].sendall(says)

    with socket.create_server(("127.0.0.1", 0)) as other:
        thread = threading.Thread(target=answer, args=(other,))
        thread.start()
        way.aim(other.getsockname()[1])
        a = network.peer(0, (1,))
        if says.startswith(b"SSH"):
            told = network.wait(a, events.Trouble)
            assert told.peer == 1
            assert f"{way.address} answers for peer 1, but in another protocol" in told.reason
        eventually(lambda: len(came) >= 2, "it is not dialled again")
        b = network.peer(1, (0,), dials=())
        other.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in came:
        connection.close()
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    a.send([1], (0, 0), b"x")
    assert bytes(network.wait(b, events.Arrived).payload) == b"x"


def test_keys_that_are_wrong_both_ways_are_told_on_both_sides(network: Network,
                                                              key_of: Callable[[int], Any]) -> None:
    a = network.peer(0, (1,), expects={1: key_of(98).public})
    b = network.peer(1, (0,), expects={0: key_of(99).public})
    for io, other in ((a, 1), (b, 0)):
        refused = network.find(io, events.Refused, lambda event: event.by_us)
        assert refused.peer == other
        assert "does not hold the key" in refused.reason


# Connections that break -------------------------------------------------------------------------------------


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
    a, b = pair(network, dead_after=60.0, suspect_after=50.0)
    for proxy in network.proxies.values():
        proxy.stalled = True
    for k in range(40):
        a.send([1], (0, k), payload(k, 256 * 1024))
    link = a._neighbours[1]
    eventually(lambda: not a._commands, "the commands are not obeyed")
    eventually(lambda: len(link.stream._rows) == SETTLE_WINDOW, "other rows wait than the newest")
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


def test_a_ping_is_answered_while_a_large_row_is_under_way_at_a_megabit(network: Network) -> None:
    a, b = pair(network, suspect_after=15.0, dead_after=30.0)
    for proxy in network.proxies.values():
        proxy.rate = 125_000.0
    begin(a, b)
    size = MIB
    a.send([1], (0, 0), payload(1, size))
    network.wait(a, events.Progressed)  # b's first CREDIT: the row is under way
    for beat in range(1, 4):
        a.progress = Progress(0, beat, Phase.TRAIN, 0)
        b.ping(0)
        # Chunks carry what was so when they were posted: this news can only come with the answer.
        network.wait(b, events.Progressed, lambda event, beat=beat: event.progress.slot == beat)  # type: ignore[misc]
        assert b._neighbours[0].stream.receiver.total < size * 3 / 4
    assert not any(isinstance(event, events.Arrived) for event in network.so_far(b))
    assert b.states() == {0: "alive"}
    for proxy in network.proxies.values():
        proxy.rate = None
    assert bytes(network.wait(b, events.Arrived).payload) == payload(1, size)


# Coming, leaving, dying -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dials", ["both", "0", "1"])
def test_bye_tells_the_reason_after_all_rows(network: Network, dials: str) -> None:
    a = network.peer(0, (1,), dials=(1,) if dials != "1" else ())
    b = network.peer(1, (0,), dials=(0,) if dials != "0" else ())
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    begin(a, b)
    a.send([1], (0, 0), payload(1, 2 * MIB))
    a.close("done", flush=20.0)
    assert bytes(network.wait(b, events.Arrived).payload) == payload(1, 2 * MIB)
    left = network.wait(b, events.Changed, lambda event: event.cause is Cause.DONE)
    assert (left.peer, left.reason) == (0, "done")
    assert b.states() == {0: "left"}
    assert network.seen[id(b)].index(left) == len(network.seen[id(b)]) - 1
    with pytest.raises(LocalProtocolError, match="I/O thread has ended"):
        a.send([1], (0, 1), b"x")


def test_silence_is_suspect_then_lost_and_the_first_message_brings_it_back(network: Network) -> None:
    a = network.peer(0, (1,), dead_after=2.0)
    b = network.peer(1, (0,), dead_after=60.0, suspect_after=1.0)
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    begin(a, b)
    for proxy in network.proxies.values():
        proxy.stalled = True
    assert network.wait(a, events.Changed, becomes(State.SUSPECT)).silence >= 1.0
    assert network.wait(a, events.Changed, becomes(State.LOST)).silence >= 2.0
    assert a.states() == {1: "dead"}
    network.wait(b, events.Changed, becomes(State.SUSPECT))
    for proxy in network.proxies.values():
        proxy.stalled = False
    network.wait(a, events.Changed, becomes(State.RETURNING))  # although b has nothing to send but PINGs
    assert "goes on without peer 1" in network.wait(b, events.Changed, becomes(State.RETURNING)).reason
    b.progress = Progress(4, 0, Phase.TRAIN, 0)
    for round, state in ((-1, {1: "returning"}), (0, {1: "present"})):  # a message of the set-up shows nothing
        b.send([0], (round, 0), b"x")
        network.wait(a, events.Arrived)
        assert {j: one.state.value for j, one in a._neighbours.items()} == state


def test_a_suspect_that_speaks_again_is_back(network: Network) -> None:
    a, b = pair(network, dead_after=60.0)
    begin(a, b)
    for proxy in network.proxies.values():
        proxy.stalled = True
    network.wait(a, events.Changed, becomes(State.SUSPECT))
    for proxy in network.proxies.values():
        proxy.stalled = False
    assert network.wait(a, events.Changed, becomes(State.PRESENT)).peer == 1
    assert a.states() == {1: "alive"}


def test_before_the_run_a_neighbour_may_die_and_come_back(network: Network) -> None:
    a, b = pair(network)
    b.close("interrupted", flush=0.0)
    assert network.wait(a, events.Changed, becomes(State.ABSENT)).reason == "interrupted"
    c = network.peer(1, (0,), hello={"incarnation": 1})
    assert network.wait(a, events.Up).hello.incarnation == 1
    network.wait(c, events.Up)
    a.send([1], (0, 0), payload(1))
    c.send([0], (0, 0), payload(2))
    assert bytes(network.wait(c, events.Arrived).payload) == payload(1)
    assert bytes(network.wait(a, events.Arrived).payload) == payload(2)


def test_during_the_run_a_neighbour_that_was_started_again_is_refused(network: Network) -> None:
    a, b = pair(network)
    begin(a, b)
    b.send([0], (0, 0), b"x")
    network.wait(a, events.Arrived)
    c = network.peer(1, (0,), hello={"incarnation": 1})  # its first life still seems to go on
    assert "lets no peer join" in network.wait(c, events.Refused, lambda e: not e.by_us).reason
    assert network.wait(a, events.Changed, becomes(State.LOST)).cause is Cause.RESTART


@pytest.mark.parametrize("died", [True, False], ids=["dead", "not yet missed"])
def test_into_an_open_run_a_neighbour_that_was_started_again_comes_back(network: Network, died: bool) -> None:
    a, b = pair(network, dead_after=1.5 if died else 60.0)
    begin(a, b)
    a.admit(True)
    b.send([0], (0, 0), payload(1))
    network.wait(a, events.Arrived)
    a.send([1], (0, 0), payload(2))  # of its former life: nobody is to get it
    if died:
        for proxy in network.proxies.values():
            proxy.stalled = True
        network.wait(a, events.Changed, becomes(State.LOST))
        for proxy in network.proxies.values():
            proxy.stalled = False
    c = network.peer(1, (0,), hello={"incarnation": 1})
    if not died:
        assert "started again" in network.wait(a, events.Changed, becomes(State.LOST)).reason
    back = network.wait(a, events.Up)
    assert (back.peer, back.hello.incarnation) == (1, 1)
    assert network.wait(c, events.Up).progress.phase == Phase.TRAIN
    a.drop(1, "a word about its former life", 0)  # which the training thread may say late
    a.send([1], (1, 0), payload(3))
    c.send([0], (1, 0), payload(4))
    assert bytes(network.wait(c, events.Arrived).payload) == payload(3)
    assert bytes(network.find(a, events.Arrived, lambda event: event.header.round == 1).payload) == payload(4)
    assert a.states() == {1: "alive"}
    a.progress = Progress(9, 0, Phase.CONSENSUS, 0)
    a.admit(False)
    d = network.peer(1, (0,), hello={"incarnation": 2})  # at the end a peer may always come for the model
    network.wait(a, events.Changed, becomes(State.RETURNING))
    network.wait(d, events.Up)


def test_an_older_life_of_a_neighbour_is_refused(network: Network) -> None:
    a = network.peer(0, (1,))
    network.peer(1, (0,), hello={"incarnation": 5})
    network.wait(a, events.Up)
    old = network.peer(1, (0,), hello={"incarnation": 4})
    assert "incarnation 5" in network.wait(old, events.Refused, lambda event: not event.by_us).reason


def test_who_only_checks_takes_no_part_and_takes_nothing_away(network: Network) -> None:
    """A check in the name of a neighbour that can only dial must not receive that neighbour's rows."""
    a, b = network.peer(0, (1,), dials=()), network.peer(1, (0,))
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    check = network.peer(1, (0,), hello={"role": "check", "incarnation": 2**32 - 1}, listen=False)
    network.wait(check, events.Up)
    check.ping(0)
    network.wait(check, events.Ponged)
    a.send([1], (0, 0), payload(1))
    assert bytes(network.wait(b, events.Arrived).payload) == payload(1)
    assert [event.hello.role for event in network.so_far(a) if isinstance(event, events.Up)] == ["peer"]


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


# Starting and closing: that no thread, socket or file is left is checked after every test (tests/conftest.py) ------


def test_a_port_that_is_taken_is_a_config_error(network: Network) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        io = network.peer(0, (1,), start=False)
        io.endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="already taken"):
            io.start()
        io.close("failed", flush=0.0)


@pytest.mark.parametrize("endpoint", ["tcp://999.1.1.1:5700", "nonsense", "tcp://192.0.2.1:0"])
def test_an_address_that_cannot_be_listened_on_is_a_config_error(network: Network, endpoint: str) -> None:
    io = network.peer(0, (1,), start=False)
    io.endpoint = endpoint
    with pytest.raises(ConfigError, match="cannot listen"):
        io.start()


@pytest.mark.parametrize("endpoint", ["tcp://localhost:0", "tcp://[::1]:0", "tcp://*:0"])
def test_the_usual_names_of_this_machine_can_be_listened_on(network: Network, endpoint: str) -> None:
    if "::1" in endpoint:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    io = network.peer(0, (1,), start=False)
    io.endpoint = endpoint
    io.start()
    assert io.endpoint
    assert not io.endpoint.endswith(":0")


@pytest.mark.parametrize(("address", "key"), [("tcp://nowhere", None),
                                              ("tcp://127.0.0.1:1", "#" * 40)])
def test_a_neighbour_that_cannot_be_dialled_is_a_config_error(network: Network, address: str,
                                                              key: str | None) -> None:
    io = network.peer(0, (1,), start=False)
    neighbour = io._neighbours[1].contact
    object.__setattr__(neighbour, "address", address)
    if key is not None:
        object.__setattr__(neighbour, "key", key)
    with pytest.raises(ConfigError):
        io.start()


def test_links_that_were_never_started_close(network: Network) -> None:
    io = network.peer(0, (1,), start=False)
    io.close("failed", flush=0.0)
    io.close("failed", flush=0.0)


def test_a_thread_that_ends_before_it_is_woken_is_closed_all_the_same(network: Network) -> None:
    """An earlier wake-up may make it obey the last command, and close its sockets, before that one's own wake-up."""
    io = network.peer(0, (1,))

    class Obeyed(deque[Any]):
        def append(self, command: Any) -> None:
            super().append(command)
            io._wake_end.send(b"!")
            io._thread.join(30.0)

    io._commands = Obeyed()
    io.close("failed", flush=0.0)
    assert not io._thread.is_alive()


def test_a_bug_in_the_thread_reaches_the_training_thread(network: Network) -> None:
    a = network.peer(0, (1,))

    def broken(peer: int) -> None:
        raise ZeroDivisionError("a bug")

    a._command(broken, 1)
    with pytest.raises(ZeroDivisionError):
        network.wait(a, events.Failed)
