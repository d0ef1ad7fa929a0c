"""Outsiders without a key, and floods, against the I/O threads of real peers: other neighbours notice nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from crowds import HALF_A_GREETING, crowd

from p2pser.network import events, sockets
from p2pser.network.admission import GREETING, GUESTS
from p2pser.network.descriptors import received
from p2pser.network.io import IOThread
from p2pser.network.keys import KeyPair
from p2pser.network.rates import Quota
from p2pser.network.states import State
from p2pser.wire import hello
from p2pser.wire.messages import Header, Kind, Phase, Progress, encode, encode_body, encode_reason

if TYPE_CHECKING:
    from network.conftest import Network

Eventually = Callable[[Callable[[], bool], str], None]
KeyOf = Callable[[int], KeyPair]


def port(io: IOThread) -> int:
    assert io.endpoint is not None
    return int(io.endpoint.rpartition(":")[2])


@contextlib.contextmanager
def neighbour(io: IOThread, own: KeyPair, theirs: KeyPair, routing_id: bytes = b"",
              by: str | None = None) -> Iterator[zmq.Socket[bytes]]:
    """A connection that has a neighbour's key and does not follow the protocol; ``by``: through a proxy."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one = context.socket(zmq.DEALER)
    one.linger = 0
    one.sndhwm = 0
    one.curve_serverkey = theirs.public.encode()
    one.curve_publickey, one.curve_secretkey = own.public.encode(), own.secret.encode()
    if routing_id:
        one.setsockopt(zmq.ROUTING_ID, routing_id)
    one.connect(by or f"tcp://127.0.0.1:{port(io)}")
    try:
        yield one
    finally:
        one.close(0)
        context.term()


def message(kind: Kind, sender: int, number: int = 0, payload: bytes = b"") -> bytes:
    return encode(Header(kind, hello.run_id("run"), sender, 0, Progress(-(2**31), 0, Phase.START, 0), slot=number),
                  payload)


def rows_cross(network: Network, a: IOThread, b: IOThread, ids: tuple[int, int], number: int) -> None:
    a.send([ids[1]], (0, number), b"there")
    b.send([ids[0]], (0, number), b"back")
    for io in (a, b):
        network.wait(io, events.Arrived, lambda event: event.header.slot == number)


def lost(network: Network, *io: IOThread) -> list[events.Event]:
    return [event for one in io for event in network.so_far(one)
            if isinstance(event, events.Changed) and event.before is not State.REFUSED
            and event.after in (State.ABSENT, State.LOST, State.DONE)]


def can_open() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("says", [b"", HALF_A_GREETING], ids=["silent", "half a greeting"])
def test_a_crowd_of_outsiders_is_kept_small_and_a_neighbour_gets_in(network: Network, eventually: Eventually,
                                                                    says: bytes) -> None:
    """1,000 connections held again and again: few stay, a neighbour that only dials comes while they do."""
    a, b = network.peer(0, (1, 2), dials=(1,)), network.peer(1, (0,))
    for io in (a, b):
        network.wait(io, events.Up)
    before = descriptors()
    with crowd(port(a), 1000, says) as held:
        told = network.wait(a, events.Trouble, lambda event: "strangers" in event.reason)
        assert told.peer is None
        assert "127.0.0.1" in told.reason
        c = network.peer(2, (0,))
        network.wait(c, events.Up)
        network.find(a, events.Up, lambda event: event.peer == 2)
        rows_cross(network, a, b, (0, 1), 0)
        rows_cross(network, a, c, (0, 2), 1)
        # The crowd's ends are descriptors of this process too, and change all the time.
        eventually(lambda: descriptors() - before - len(held) < 3 * GUESTS, "the crowd is not kept small")
    assert not lost(network, a, b, c)
    assert len([event for event in network.so_far(a) if isinstance(event, events.Trouble)]) < 5


def test_a_connection_in_its_handshake_is_not_cut_for_a_crowd(network: Network, eventually: Eventually,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour behind the crowd's own address; here a greeting alone stands for it."""
    a = network.peer(0, (1,), dials=())
    admission = a._connections._listener.admission
    cut: list[int] = []
    surplus = admission.surplus
    monkeypatch.setattr(admission, "surplus", lambda: cut.extend(new := surplus()) or new)
    with socket.create_connection(("127.0.0.1", port(a))) as one:
        one.sendall(b"\xff" + bytes(7) + b"\x01\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32))
        eventually(lambda: admission.guests == 1, "the connection is not accepted")
        (guest,) = network.ask(a, lambda: admission.guests_of("127.0.0.1"))
        eventually(lambda: received(guest) >= GREETING, "the greeting does not come")
        with crowd(port(a), 1000):
            network.wait(a, events.Trouble, lambda event: "strangers" in event.reason)
            eventually(lambda: len(cut) > 16, "few are cut")
    assert guest not in cut


def test_a_peer_outlives_a_crowd_that_takes_every_descriptor(network: Network, eventually: Eventually) -> None:
    """Its limit is raised no further: a crowd comes while 100 descriptors are left, and the peer has work to do."""
    a, b = network.peer(0, (1,)), network.peer(1, (0,), dials=())
    for io in (a, b):
        network.wait(io, events.Up)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        outsiders: list[socket.socket] = []
        stack.callback(lambda: [one.close() for one in outsiders])
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        # The crowd is of this process too: its ends are made first, then the limit leaves 100 for the peer.
        for _ in range(400):
            outsiders.append(socket.socket())
            outsiders[-1].setblocking(False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 100, hard))
        for one in outsiders:
            one.connect_ex(("127.0.0.1", port(a)))
        network.wait(a, events.Trouble, lambda event: "strangers" in event.reason)
        rows_cross(network, a, b, (0, 1), 0)
        eventually(can_open, "no descriptor is left for a checkpoint")
        for one in outsiders:
            assert one.fileno() >= 0  # the crowd has not gone by itself
    rows_cross(network, a, b, (0, 1), 9)
    assert not lost(network, a, b)


def test_one_key_cannot_hold_many_connections(network: Network, key_of: KeyOf, eventually: Eventually) -> None:
    a, b = network.peer(0, (1, 2), dials=(1,)), network.peer(1, (0,))
    network.wait(b, events.Up)
    before = descriptors()
    with contextlib.ExitStack() as stack:
        for number in range(40):
            one = stack.enter_context(neighbour(a, key_of(2), key_of(0)))
            one.send(message(Kind.PING, 2, number))
        assert descriptors() > before
        admission = a._connections._listener.admission
        eventually(lambda: len(network.ask(a, lambda: admission.of(2))) in range(1, 5), "its connections were not cut")
        rows_cross(network, a, b, (0, 1), 0)


@pytest.mark.parametrize("first", [True, False], ids=["after another", "as the first"])
def test_a_message_of_ever_more_parts_is_cut_and_its_sender_named(network: Network, key_of: KeyOf,
                                                                  first: bool) -> None:
    """ZeroMQ keeps the parts until the last has come: 480 MB of one message."""
    a, b = network.peer(0, (1, 2), dials=(1,)), network.peer(1, (0,))
    network.wait(b, events.Up)
    part = memoryview(bytes(60000))
    before = resident()
    way = network.proxy(2, 0)
    way.rate = 30e6  # on a busy machine seconds may pass before the I/O thread looks
    with neighbour(a, key_of(2), key_of(0), by=way.address) as one:
        if first:
            one.send(message(Kind.PING, 2))
            one.recv()
        for _ in range(8000):
            one.send(part, zmq.SNDMORE, copy=False)
        one.send(b"end")
        told = network.wait(a, events.Struck)
        assert told.peer == 2
        assert "ever more parts" in told.reason
        rows_cross(network, a, b, (0, 1), 0)
    assert resident() - before < 200  # some tens where the I/O thread looks ten times a second


def test_a_message_of_two_parts_is_an_offence(network: Network, key_of: KeyOf) -> None:
    a = network.peer(0, (2,), dials=())
    with neighbour(a, key_of(2), key_of(0)) as one:
        one.send_multipart([message(Kind.PING, 2), b"more"])
        told = network.wait(a, events.Struck)
    assert told == events.Struck(2, "a message has 2 frames, not one", 1)


@pytest.mark.parametrize("kind", ["ping", "hello", "refused", "junk"])
def test_a_flood_of_a_neighbour_leaves_the_thread_free(network: Network, key_of: KeyOf, kind: str,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread comes back to its other duties after some messages, answers with measure, and tells little."""
    a, b = network.peer(0, (1, 2), dials=(1,), start=False), network.peer(1, (0,))
    taken = [0]
    """Number of messages in each turn of the thread."""
    turn, receive = a.turn, a._protocol.received

    def received(*message: Any) -> None:
        taken[-1] += 1
        receive(*message)

    monkeypatch.setattr(a, "turn", lambda: taken.append(0) or turn())
    monkeypatch.setattr(a._protocol, "received", received)
    network.start(a)
    began, quota = time.monotonic(), Quota()._bucket
    for j in (1, 2):
        network.proxy(j, 0).aim(port(a))
    network.wait(b, events.Up)
    make: dict[str, Callable[[int], bytes]] = {
        "ping": lambda n: message(Kind.PING, 2, n),
        "hello": lambda n: message(Kind.HELLO, 2, 0, encode_body({**a._protocol.control.hello.body(), "peer": 2,
                                                                  "topology": f"{n:016x}"})),
        "refused": lambda n: message(Kind.REFUSED, 2, n, encode_reason(f"reason {n}")),
        "junk": lambda n: b"\x05\x00junk%d" % n}
    with neighbour(a, key_of(2), key_of(0)) as one:
        one.setsockopt(zmq.SNDTIMEO, 1000)
        with contextlib.suppress(zmq.Again):  # it is banned meanwhile
            for number in range(20000):
                one.send(make[kind](number))
        told = network.wait(a, events.Struck)
        rows_cross(network, a, b, (0, 1), 0)
        answers = 0
        while one.poll(500):
            one.recv()
            answers += 1
    assert told.peer == 2
    assert kind == "junk" or told.reason == "a flood of messages: most are left unanswered"
    assert answers <= quota.burst + quota.rate * (time.monotonic() - began)
    assert max(taken) <= 128  # 64 of the listener, and of the connection to peer 1
    assert len([event for event in network.so_far(a) if isinstance(event, events.Trouble | events.Refused)]) < 60


def test_a_socket_is_read_in_turns() -> None:
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        near.bind("inproc://turns")
        far.connect("inproc://turns")
        for _ in range(100):
            far.send(b"x")
        assert [len(list(sockets.received(near))) for _ in range(3)] == [64, 36, 0]


def test_no_id_of_a_connection_gets_the_messages_of_another(network: Network, key_of: KeyOf) -> None:
    """A neighbour that gives itself the routing id of another's connection gets nothing, and ends nothing."""
    a, b = network.peer(0, (1, 2), dials=()), network.peer(1, (0,))
    network.wait(b, events.Up)
    identity = a._connections._accepted[1]
    with neighbour(a, key_of(2), key_of(0), b"claimed") as first:
        first.send(message(Kind.PING, 2))
        assert first.recv()
        with neighbour(a, key_of(2), key_of(0), b"claimed") as second:
            second.send(message(Kind.PING, 2))
            rows_cross(network, a, b, (0, 1), 0)
            assert not second.poll(200)
    assert a._connections._accepted[1] == identity


def test_two_processes_with_one_key_are_told_and_the_first_stays(network: Network, eventually: Eventually) -> None:
    """Two folders, or two machines: both count their starts from 0."""
    a, first = network.peer(0, (1,)), network.peer(1, (0,), hello={"process": "first"})
    for io in (a, first):
        network.wait(io, events.Up)
    eventually(lambda: 1 in a._connections._dialled - a._connections._hello_due, "the first is dialled")
    second = network.peer(1, (0,), hello={"process": "second"})
    assert "runs twice" in network.wait(second, events.Refused, lambda event: not event.by_us).reason
    assert "runs twice" in network.wait(a, events.Refused, lambda event: event.by_us).reason
    assert "runs twice" in network.wait(first, events.Trouble).reason
    rows_cross(network, a, first, (0, 1), 0)
    assert (a.states(), first.states()) == ({1: "alive"}, {0: "alive"})
    assert not lost(network, a, first)
    first.close("interrupted", flush=5.0)
    network.wait(a, events.Up)  # the second tries again, and is the only one now
    eventually(lambda: second.states() == {0: "alive"}, "the second stays refused")
    rows_cross(network, a, second, (0, 1), 1)


def test_a_neighbours_word_in_anothers_name_is_a_strike(network: Network, key_of: KeyOf) -> None:
    a = network.peer(0, (1, 2), dials=())
    with neighbour(a, key_of(2), key_of(0)) as one:
        one.send(message(Kind.PING, 1))
        told = network.wait(a, events.Struck)
    assert (told.peer, told.reason) == (2, "peer 2 sent a message in peer 1's name")


def test_a_recorded_connection_cannot_be_played_again(network: Network, key_of: KeyOf, eventually: Eventually) -> None:
    a = network.peer(0, (2,), dials=())
    recorded = bytearray()
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        context = stack.enter_context(zmq.Context())
        one = stack.enter_context(context.socket(zmq.DEALER))
        one.linger = 0
        one.curve_serverkey = key_of(0).public.encode()
        one.curve_publickey, one.curve_secretkey = key_of(2).public.encode(), key_of(2).secret.encode()
        one.connect(f"tcp://127.0.0.1:{door.getsockname()[1]}")
        one.send(message(Kind.PING, 2))
        door.settimeout(60)
        near = stack.enter_context(door.accept()[0])
        far = stack.enter_context(socket.create_connection(("127.0.0.1", port(a))))
        for way in (near, far):
            way.setblocking(False)

        def answered() -> bool:
            for source, sink in ((near, far), (far, near)):
                with contextlib.suppress(BlockingIOError):
                    data = source.recv(65536)
                    sink.sendall(data)
                    recorded.extend(data if source is near else b"")
            return bool(one.poll(10))

        eventually(answered, "no PONG comes")
    with socket.create_connection(("127.0.0.1", port(a)), timeout=30) as again:
        again.sendall(recorded)
        while again.recv(65536):
            pass  # until the peer has closed it
    assert not [event for event in network.so_far(a) if isinstance(event, events.Up | events.Struck)]


def resident() -> int:
    """Memory of this process [MiB]."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20
