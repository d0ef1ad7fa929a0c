"""Neighbours that leave, die and come back, over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from io_pairs import MIB, Eventually, becomes, begin, pair, payload

from p2pser.base.errors import LocalProtocolError
from p2pser.network import connections, events
from p2pser.network.neighbour import Contact
from p2pser.network.states import Cause, State
from p2pser.wire.messages import Kind, Phase, Progress

if TYPE_CHECKING:
    from network.conftest import Network


@pytest.mark.parametrize("dials", ["both", "0", "1"])
def test_bye_tells_the_reason_after_all_rows(network: Network, dials: str) -> None:
    a = network.peer(0, (1,), dials=(1,) if dials != "1" else ())
    b = network.peer(1, (0,), dials=(0,) if dials != "0" else ())
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    begin(network, a, b)
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
    a, b = pair(network)
    begin(network, a, b)
    for proxy in network.proxies.values():
        proxy.stalled = True
    network.fall_silent(a, 1, State.LOST)
    assert 60.0 > network.wait(a, events.Changed, becomes(State.SUSPECT)).silence >= 50.0
    assert network.wait(a, events.Changed, becomes(State.LOST)).silence >= 60.0
    network.fall_silent(b, 0, State.SUSPECT)
    network.wait(b, events.Changed, becomes(State.SUSPECT))
    for proxy in network.proxies.values():
        proxy.stalled = False
    network.wait(a, events.Changed, becomes(State.RETURNING))  # although b has nothing to send but PINGs
    assert "goes on without peer 1" in network.wait(b, events.Changed, becomes(State.RETURNING)).reason
    b.progress = Progress(4, 0, Phase.TRAIN, 0)
    b.send([0], (-1, 0), b"x")
    network.wait(a, events.Arrived)
    assert not any(isinstance(event, events.Changed) and event.before is State.RETURNING  # a row of the set-up
                   for event in network.so_far(a))
    b.send([0], (0, 0), b"x")
    assert network.wait(a, events.Changed, becomes(State.PRESENT)).cause is Cause.ROW


@pytest.mark.parametrize("dials", ["both", "0", "1"])
def test_what_was_lost_while_a_neighbour_was_lost_takes_no_room_when_it_is_back(
        network: Network, eventually: Eventually, dials: str) -> None:
    a = network.peer(0, (1,), dials=(1,) if dials != "1" else ())
    b = network.peer(1, (0,), dials=(0,) if dials != "0" else ())
    network.wait(a, events.Up)
    network.wait(b, events.Up)
    begin(network, a, b)
    for proxy in network.proxies.values():
        proxy.stalled = True
    for io, other in ((a, 1), (b, 0)):
        before = io.traffic()[other].payload_sent
        io.send([other], (0, 0), payload(other, MIB // 4))
        eventually(lambda io=io, other=other, before=before: io.traffic()[other].payload_sent > before,  # type: ignore[misc]
                   "nothing leaves")
    for io, other in ((a, 1), (b, 0)):
        network.fall_silent(io, other, State.LOST)
        network.wait(io, events.Changed, becomes(State.LOST))
    for proxy in network.proxies.values():
        proxy.cut()
        proxy.stalled = False
    for io in (a, b):
        network.wait(io, events.Changed, becomes(State.RETURNING))
    for io, other in ((a, 1), (b, 0)):
        io.send([other], (1, 0), payload(10 + other))
    for io, other in ((a, 1), (b, 0)):
        came = network.wait(io, events.Arrived, lambda event: event.header.round == 1)
        assert bytes(came.payload) == payload(10 + 1 - other)
    for io, other in ((a, 1), (b, 0)):
        eventually(lambda io=io, other=other: io._neighbours[other].stream._sender.outstanding < 8192,  # type: ignore[misc]
                   "what was lost counts as in flight for good")


def test_a_suspect_that_speaks_again_is_back(network: Network) -> None:
    a, b = pair(network)
    begin(network, a, b)
    for proxy in network.proxies.values():
        proxy.stalled = True
    network.fall_silent(a, 1, State.SUSPECT)
    network.wait(a, events.Changed, becomes(State.SUSPECT))
    for proxy in network.proxies.values():
        proxy.stalled = False
    assert network.wait(a, events.Changed, becomes(State.PRESENT)).peer == 1
    assert a.states() == {1: "alive"}


def test_a_hello_that_arrives_after_the_bye_over_the_other_connection_brings_nothing_back(
        network: Network, eventually: Eventually, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = network.peer(0, (1,)), network.peer(1, (0,), dials=())
    network.wait(a, events.Up)
    b.ping(0)
    eventually(lambda: 0 in b._connections._carrier, "the accepted connection carries nothing")
    late = network.proxy(1, 0)
    b.replace_contacts([Contact(0, late.address, b._neighbours[0].contact.key)])
    network.wait(a, events.Agreed)
    late.stalled = True
    b._command(b._protocol.control.greet, b._neighbours[0], Kind.HELLO,
               connections._by_dealer(b._connections._dealers[0]))
    b.close("interrupted", flush=20.0)
    assert network.wait(a, events.Changed, becomes(State.ABSENT)).reason == "interrupted"
    link, answers = a._neighbours[1], []
    greeted = link.greeted
    monkeypatch.setattr(link, "greeted", lambda *given: answers.append(greeted(*given)) or answers[-1])
    late.stalled = False
    eventually(lambda: bool(answers), "the HELLO does not arrive")
    assert answers == [("", [])]
    assert a.states() == {1: "waiting"}


def test_before_the_run_a_neighbour_may_die_and_come_back(network: Network) -> None:
    a, b = pair(network)
    b.close("interrupted", flush=20.0)
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
    begin(network, a, b)
    b.send([0], (0, 0), b"x")
    network.wait(a, events.Arrived)
    c = network.peer(1, (0,), hello={"incarnation": 1})  # its first life still seems to go on
    assert "lets no peer join" in network.wait(c, events.Refused, lambda e: not e.by_us).reason
    assert network.wait(a, events.Changed, becomes(State.LOST)).cause is Cause.RESTART


@pytest.mark.parametrize("died", [True, False], ids=["dead", "not yet missed"])
def test_into_an_open_run_a_neighbour_that_was_started_again_comes_back(network: Network, died: bool) -> None:
    a, b = pair(network)
    begin(network, a, b)
    a.admit(True)
    b.send([0], (0, 0), payload(1))
    network.wait(a, events.Arrived)
    a.send([1], (0, 0), payload(2))  # of its former life: nobody is to get it
    if died:
        for proxy in network.proxies.values():
            proxy.stalled = True
        network.fall_silent(a, 1, State.LOST)
        network.wait(a, events.Changed, becomes(State.LOST))
        for proxy in network.proxies.values():
            proxy.stalled = False
    c = network.peer(1, (0,), hello={"incarnation": 1})
    if not died:
        assert "restarted" in network.wait(a, events.Changed, becomes(State.LOST)).reason
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
