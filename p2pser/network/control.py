"""Control messages, which are sent before the rows that wait. Used by the I/O thread only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from p2pser.network.connections import Connections, Route
from p2pser.network.neighbour import Neighbour, Ours
from p2pser.wire import messages
from p2pser.wire.hello import Hello, run_id
from p2pser.wire.messages import Header, Kind

NOTICE = 1
"""``Header.slot`` of a REFUSED that only informs its receiver, which is not refused."""
APART = 1
"""``Header.total`` of a PING, HELLO or WELCOME whose sender goes on without the receiver."""


class Control:
    """Sends control messages.

    hello, ours : our HELLO, and our own state. connections : the connections that carry the messages.
    """

    def __init__(self, hello: Hello, ours: Ours, connections: Connections) -> None:
        self.run = run_id(hello.run)
        self.hello, self._ours, self._connections = hello, ours, connections
        self._nonce = 0
        self._credit_due: set[int] = set()
        """Neighbours whose CREDIT could not be sent yet."""

    def header(self, kind: Kind, round: int = 0, slot: int = 0, total: int = 0) -> Header:
        """Return the header of a message that is sent now."""
        return Header(kind, self.run, self.hello.peer, self.hello.incarnation, self._ours.progress, round, slot,
                      total=total)

    def send(self, link: Neighbour, kind: Kind, payload: bytes = b"", route: Route | None = None, slot: int = 0,
             total: int = 0) -> bool:
        """Send a message; False where it cannot be sent now."""
        return self._send(link, messages.encode(self.header(kind, slot=slot, total=total), payload), route)

    def _send(self, link: Neighbour, frame: bytes, route: Route | None) -> bool:
        if not (route or self._connections.route(link))(frame):
            return False
        link.stream.count_sent(frame)
        return True

    def ping(self, link: Neighbour, payload_bytes: int = 0) -> None:
        """Send a PING, which also tells the neighbour whether we go on without it."""
        nonce = self._next_nonce()
        if self.send(link, Kind.PING, bytes(payload_bytes), slot=nonce, total=APART * link.apart):
            link.stream.pinged(nonce)

    def pong(self, link: Neighbour, nonce: int, route: Route) -> None:
        """Answer a PING or BYE; the PONG carries how many bytes of the neighbour's rows have arrived."""
        self.send(link, Kind.PONG, route=route, slot=nonce, total=link.stream.receiver.total)

    def ponged(self, link: Neighbour, header: Header, now: float) -> None:
        """Take a PONG; where it shows that rows are lost, our stream starts anew, and a HELLO announces that."""
        if link.ponged(header.slot, header.total, now):
            self.greet(link, Kind.HELLO, self._connections.route(link))

    def refuse(self, link: Neighbour, reason: str, route: Route | None = None, *, notice: bool = False) -> None:
        """Send REFUSED, or a notice; it carries the epoch of our topology file, since an older one may be the cause."""
        header = self.header(Kind.REFUSED, slot=NOTICE if notice else 0)._replace(epoch=self.hello.epoch)
        self._send(link, messages.encode(header, messages.encode_reason(reason)), route)

    def greet(self, link: Neighbour, kind: Kind, route: Route) -> bool:
        """Send HELLO or WELCOME."""
        return self.send(link, kind, messages.encode_body(self.hello.body()), route=route, slot=link.stream.restarts,
                         total=APART * link.apart)

    def learn(self, labels: tuple[str, ...], links: Iterable[Neighbour]) -> None:
        """Announce the emotions of the run in every HELLO from now on, and at once to the connected neighbours."""
        self.hello = replace(self.hello, labels=labels)
        for link in links:
            if link.up:
                self.greet(link, Kind.HELLO, self._connections.route(link))

    def acknowledge(self, link: Neighbour) -> None:
        """Send a CREDIT, later where the connection is full: without it the neighbour may wait forever."""
        if self.send(link, Kind.CREDIT, total=link.stream.receiver.total):
            self._credit_due.discard(link.peer)
        else:
            self._credit_due.add(link.peer)

    def acknowledge_due(self, link: Neighbour) -> None:
        """Send a CREDIT that could not be sent before."""
        if link.peer in self._credit_due and link.up:
            self.acknowledge(link)

    def forget(self, link: Neighbour) -> None:
        """Drop the CREDIT that is owed to an earlier incarnation."""
        self._credit_due.discard(link.peer)

    def say_bye(self, link: Neighbour, reason: str) -> None:
        """Send BYE."""
        nonce = self._next_nonce()
        if self.send(link, Kind.BYE, messages.encode_reason(reason), slot=nonce):
            link.bye_sent(nonce)

    def _next_nonce(self) -> int:
        self._nonce = (self._nonce + 1) % 2**32
        return self._nonce
