"""The network's Mixer at the start: for whom it waits, with whom it goes on, and what ends the waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

import networkx as nx
import pytest
import torch
from mixer_peers import Peers, connect, row, topology_of

from p2pser.base.errors import LocalProtocolError, P2PSERError, RefusedError
from p2pser.gossip.mixer import Step
from p2pser.network import events
from p2pser.network.exchange import DeliveryStatus

Eventually = Callable[[Callable[[], bool], str], None]


def test_connect_says_for_whom_it_waits(peers: Peers, eventually: Eventually) -> None:
    topology = topology_of(nx.star_graph(2))
    hub = peers.make(topology, 0)
    said: list[str] = []
    waiting = peers.pool.submit(connect, hub, None, 0.0, said)
    eventually(lambda: bool(said), "it says nothing")
    first = peers.make(topology, 1)
    connect(first)
    peers.network.find(peers.make(topology, 2).io, events.Up)
    waiting.result(timeout=90)
    assert said[0].startswith("waiting for peer")
    assert sorted(hub.hellos) == [1, 2]


def test_start_timeout_goes_on_with_those_who_came(peers: Peers) -> None:
    topology = topology_of(nx.star_graph(2))
    hub, leaf = peers.make(topology, 0), peers.make(topology, 1)
    connect(leaf)
    while not peers.had(0, events.Changed):
        hub.listen(None)
    connect(hub, start_timeout=0.2)
    assert hub.exchange.awaited.start_timeout == 0.2
    assert hub.lost == {2: "peer 2 did not start in time"}
    assert hub.unreachable() == {2}
    x, y = peers.together(lambda: hub.mix(row(0), Step(0, 0)), lambda: leaf.mix(row(1), Step(0, 0)))
    torch.testing.assert_close(x, row(0) + (row(1) - row(0)) / 3)
    torch.testing.assert_close(y, row(1) + (row(0) - row(1)) / 3)
    assert hub.left_out == [(Step(0, 0), 2, DeliveryStatus.LOST)]


def test_nobody_came_is_an_error_that_names_them(peers: Peers) -> None:
    hub = peers.make(topology_of(nx.star_graph(2)), 0)
    with pytest.raises(P2PSERError, match="start peers 1, 2"):
        connect(hub, start_timeout=0.2)


def test_whom_nobody_admits_is_refused(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(2))
    a, b = peers.make(topology, 0), peers.make(topology, 1, hello={"labels": ("x", "y")})
    for mixer in (a, b):
        with pytest.raises(RefusedError, match="label lists differ"):
            connect(mixer, refused_wait=30.0)


def test_one_that_was_refused_may_come_back_corrected(peers: Peers, eventually: Eventually) -> None:
    topology = topology_of(nx.star_graph(2))
    hub, good = peers.make(topology, 0), peers.make(topology, 1)
    said: list[str] = []
    waiting = peers.pool.submit(connect, hub, None, 30.0, said)
    connect(good)
    bad = peers.make(topology, 2, hello={"settings": {"training.lr": 7.0}})
    with pytest.raises(RefusedError, match=r"training\.lr differ"):
        connect(bad)
    eventually(lambda: any(event.by_us for event in peers.had(0, events.Refused)), "it is not refused by the hub")
    bad.io.close("failed", flush=0.0)
    connect(peers.make(topology, 2, hello={"incarnation": 1}))
    waiting.result(timeout=90)
    assert hub.lost == {}
    assert hub.hellos[2].incarnation == 1


def test_without_one_that_stays_wrong_the_others_go_on(peers: Peers) -> None:
    topology = topology_of(nx.star_graph(2))
    hub, good = peers.make(topology, 0), peers.make(topology, 1)
    peers.make(topology, 2, hello={"labels": ("x", "y")})
    peers.together(lambda: connect(hub, refused_wait=0.5), lambda: connect(good))
    assert "label lists differ" in hub.lost[2]


def test_check_ends_the_waiting(peers: Peers) -> None:
    class Stopped(Exception):
        pass

    stop = threading.Event()

    def look() -> None:
        if stop.is_set():
            raise Stopped

    topology = topology_of(nx.path_graph(2))
    mixer = peers.make(topology, 0, check=look)
    waiting = peers.pool.submit(connect, mixer)
    stop.set()
    mixer.io.wake()
    with pytest.raises(Stopped):
        waiting.result(timeout=90)


def test_a_bug_in_the_io_thread_ends_the_waiting(peers: Peers) -> None:
    topology = topology_of(nx.path_graph(2))
    mixer = peers.make(topology, 0)

    def broken() -> None:
        raise ZeroDivisionError("a bug")

    mixer.io._command(broken)
    with pytest.raises(LocalProtocolError, match="ZeroDivisionError: a bug"):
        connect(mixer)
