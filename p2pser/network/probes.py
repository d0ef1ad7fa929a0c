"""Probes: plain TCP connections that find out whether a ZeroMQ socket listens where handshakes fail (handshakes.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq

from p2pser.network import sockets
from p2pser.network.neighbour import Contact


class Probes:
    """At most one probe for each neighbour.

    Parameters
    ----------
    context : ZeroMQ's context.
    watch, forget : let the I/O thread read a socket, and stop that.
    greeted : called with the neighbour whose address has sent a probe ZeroMQ's greeting.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], watch: Callable[[Any, Callable[[], None]], None],
                 forget: Callable[[Any], None], greeted: Callable[[int], None]) -> None:
        self._context, self._watch, self._forget, self._greeted = context, watch, forget, greeted
        self._sockets: dict[int, zmq.Socket[bytes]] = {}

    def begin(self, contact: Contact) -> None:
        """Dial a neighbour that has an address; an earlier probe is closed."""
        peer = contact.peer
        self.end(peer)
        if contact.address is None:
            return
        try:
            probe = self._sockets[peer] = sockets.prober(self._context, contact)
        except zmq.ZMQError:
            return  # no file descriptor is left; the next failed handshake asks again
        self._watch(probe, lambda: self.read(peer))
        sockets.connect(probe, contact.address)

    def read(self, peer: int) -> None:
        """Close a probe if it has received the greeting."""
        if peer in self._sockets and sockets.greeted(self._sockets[peer]):
            self._greeted(peer)
            self.end(peer)

    def end(self, peer: int) -> None:
        """Close a probe."""
        probe = self._sockets.pop(peer, None)
        if probe is not None:
            self._forget(probe)
            sockets.close(probe, None, 0)

    def close(self) -> None:
        """Close all probes."""
        for peer in list(self._sockets):
            self.end(peer)
