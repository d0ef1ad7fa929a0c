"""Whom an I/O thread lets in, and what it tells where keys, files or addresses do not fit."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from io_pairs import Eventually

from p2pser.network import events
from p2pser.network.handshakes import FAILURES_REPORTED

if TYPE_CHECKING:
    from network.conftest import Network


@pytest.mark.parametrize("change", [{"run": "other"}, {"labels": ("a", "c")}, {"topology": "u" * 16},
                                    {"settings": {"training.lr": 0.1}}, {"schema": "6" * 16}, {"initial": (1.0, 0.25)}])
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


def test_the_same_refusal_is_not_told_again_and_again(network: Network, key_of: Callable[[int], Any],
                                                      eventually: Eventually) -> None:
    a = network.peer(0, (1,), expects={1: key_of(99).public})
    b = network.peer(1, (0,))
    network.wait(b, events.Refused)
    dealers = set()  # kept, since the id of a closed socket may be that of the next one

    def dialled() -> bool:
        network.so_far(b)
        dealers.add(b._connections._dealers.get(0))
        return len(dealers) >= 4

    eventually(dialled, "it is not dialled again every second")
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

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [connection.close() for connection in came])
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=answer, args=(other,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(other.shutdown, socket.SHUT_RDWR)  # else a failed test would wait for the thread for ever
        way.aim(other.getsockname()[1])
        a = network.peer(0, (1,))
        if says.startswith(b"SSH"):
            told = network.wait(a, events.Trouble)
            assert told.peer == 1
            assert f"{way.address} answers for peer 1, but in another protocol" in told.reason
        eventually(lambda: len(came) >= 2, "it is not dialled again")
        b = network.peer(1, (0,), dials=())
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
