"""A peer that listens on all interfaces is reached by IPv6 and by IPv4, and one machine counts as one origin."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING

import pytest

from p2pser.network import events
from p2pser.network.descriptors import origin

if TYPE_CHECKING:
    from network.conftest import Network


def needs_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_neighbours_come_by_ipv6_and_by_ipv4(network: Network) -> None:
    needs_ipv6()
    a = network.peer(0, (1, 2), dials=(), start=False)
    a.endpoint = "tcp://*:0"
    network.start(a)
    port = str(a.endpoint).rpartition(":")[2]
    for me, host, ipv6 in ((1, "[::1]", True), (2, "127.0.0.1", False)):
        io = network.peer(me, (0,), listen=False, start=False)
        neighbour = io._neighbours[0]
        neighbour.contact = dataclasses.replace(neighbour.contact, address=f"tcp://{host}:{port}", ipv6=ipv6)
        network.start(io)
        assert network.wait(io, events.Up).peer == 0
    assert {network.wait(a, events.Up).peer, network.wait(a, events.Up).peer} == {1, 2}


@pytest.mark.parametrize(("address", "what"), [
    ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("fe80::5%eth0", "fe80::/64")])
def test_connections_are_counted_by_the_machine_that_they_come_from(address: str, what: str) -> None:
    assert origin(address) == what
