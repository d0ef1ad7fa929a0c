"""When a new topology file takes effect: the peers that have read it agree on a round. Pure.

Each peer floods a notice: the epoch and digest of the newest file that it has read, the round in which it read it, the
neighbours that it counts as lost, and the round of the change once that is known. When all living peers that stay have
read the same file, the change is due a diameter of rounds after the last of them has read it: by then all know it. All
peers compute the same round from the same notices; where they have different notices because a peer has died, the
latest round counts. A peer that learns of the change too late makes it at once, and joins the others like one that
returns.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import msgpack
import networkx as nx

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.reading import unpacked
from p2pser.graph.summary import diameter

NO_ROUND = -1
DIGEST = 16
"""Bytes of a topology's digest."""
MARGIN = 2
"""Rounds to spare after the notices have travelled the longest path."""


@dataclass(frozen=True)
class Notice:
    """A peer's notice about its newest topology file.

    order : (incarnation, number) of the notice; a later one replaces it.
    epoch, digest : of the file. read : the round in which the peer has read it.
    change : the round at whose start the file takes effect, as far as the peer knows; NO_ROUND: unknown.
    lost : the neighbours that the peer counts as lost. leaving : the peers that the file retires.
    """

    order: tuple[int, int]
    epoch: int
    digest: bytes
    read: int
    change: int = NO_ROUND
    lost: frozenset[int] = frozenset()
    leaving: frozenset[int] = frozenset()

    @property
    def file(self) -> tuple[int, bytes]:
        """The identity of the file, which must be equal at all peers."""
        return self.epoch, self.digest


class Epochs:
    """One peer's knowledge of the topology files of all peers.

    Parameters
    ----------
    me, incarnation : this peer, and its incarnation.
    graph : the graph of the topology in effect.
    rounds : R. lead : the largest number of rounds by which a peer may be ahead of a neighbour.
    """

    def __init__(self, me: int, incarnation: int, graph: nx.Graph, rounds: int, lead: int) -> None:
        self.me, self._graph, self._rounds = me, graph, rounds
        self._order = (incarnation, 0)
        self._margin = MARGIN + lead * diameter(graph)
        self.notices: dict[int, Notice] = {}
        """The newest notice of each peer that has read a newer file than the one in effect."""
        self._relayed: set[int] = set()
        """The neighbours whose notice was relayed by others, while they were lost."""

    @property
    def own(self) -> Notice | None:
        """This peer's notice; None where it has read no newer file."""
        return self.notices.get(self.me)

    def read(self, epoch: int, digest: bytes, leaving: Collection[int], round: int) -> None:
        """Note that this peer has read a file in a round."""
        self._publish(Notice(self._order, epoch, digest, max(0, round), leaving=frozenset(leaving)))

    def lose(self, lost: Collection[int]) -> bool:
        """Note the neighbours that this peer counts as lost; return whether they have changed."""
        own = self.own
        if own is None or own.lost == set(lost):
            return False
        self._publish(replace(own, lost=frozenset(lost)))
        return True

    def settle(self) -> bool:
        """Derive the round of the change from the notices; return whether it has changed."""
        own = self.own
        if own is None:
            return False
        alike = [notice for notice in self.notices.values() if notice.file == own.file]
        change = max(notice.change for notice in alike)
        if change == NO_ROUND and not self.lacking():
            change = max(notice.read for notice in alike) + self._margin
        if change == own.change:
            return False
        self._publish(replace(own, change=change))
        return True

    def due(self, round: int) -> bool:
        """Whether this peer's file takes effect at the start of a round."""
        return self.own is not None and NO_ROUND < self.own.change <= round

    def changes(self) -> bool:
        """Whether the round of the change is known."""
        return self.own is not None and self.own.change != NO_ROUND

    def alike(self) -> frozenset[int]:
        """Return the peers that have read the same file as this peer."""
        own = self.own
        return frozenset(() if own is None else (j for j, notice in self.notices.items() if notice.file == own.file))

    def lacking(self) -> tuple[int, ...]:
        """Return the living peers that stay in the run and have not read this peer's file; () if it has read none."""
        own = self.own
        if own is None:
            return ()
        return tuple(j for j in sorted(self._living()) if j not in own.leaving
                     and (j not in self.notices or self.notices[j].file != own.file))

    def differing(self) -> dict[int, bytes]:
        """Return the digests of other files of the same epoch as this peer's, by peer."""
        own = self.own
        return {} if own is None else {j: notice.digest for j, notice in self.notices.items()
                                       if notice.epoch == own.epoch and notice.digest != own.digest}

    def retired(self, neighbours: Collection[int]) -> Notice | None:
        """Return the notice of a file that retires this peer, where all these neighbours have read it; else None.

        neighbours : the living ones. For a peer that has not read the file itself.
        """
        newest = [None if j in self._relayed else self.notices.get(j) for j in neighbours]
        notices = [notice for notice in newest
                   if notice is not None and self.me in notice.leaving and notice.change != NO_ROUND]
        if not notices or len(notices) < len(newest) or len({notice.file for notice in notices}) > 1:
            return None
        return max(notices, key=lambda notice: notice.change)

    # Messages ---------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return a message with all notices."""
        packed: bytes = msgpack.packb([
            [peer, *notice.order, notice.epoch, notice.digest, notice.read, notice.change, sorted(notice.lost),
             sorted(notice.leaving)] for peer, notice in sorted(self.notices.items())])
        return packed

    def receive(self, sender: int, payload: memoryview, gone: Collection[int] = ()) -> bool:
        """Take a neighbour's message; return whether it holds a newer notice.

        Notices of another living neighbour do not count: that neighbour sends them itself. So no neighbour alone can
        retire a peer.

        gone : the neighbours that are lost, whose notices others relay.

        Raises RemoteProtocolError for a message of another form.
        """
        if len(payload) > 64 + len(self._graph) * (96 + 10 * len(self._graph)):
            raise RemoteProtocolError(f"peer {sender} sent too long a list of notices of topology files", sender)
        document = unpacked(payload, "notices of topology files", sender)
        if not isinstance(document, tuple) or len(document) > len(self._graph):
            raise RemoteProtocolError(f"peer {sender} sent invalid notices of topology files", sender)
        news = False
        for fields in document:
            peer, notice = self._parse(fields, sender)
            relayed = peer != sender and self._graph.has_edge(peer, self.me)
            if peer == self.me or (relayed and peer not in gone):
                continue
            known = self.notices.get(peer)
            if known is None or notice.order > known.order or (peer == sender and peer in self._relayed):
                self.notices[peer], news = notice, True
                (self._relayed.add if relayed else self._relayed.discard)(peer)
        return news

    def _parse(self, fields: object, sender: int) -> tuple[int, Notice]:
        error = RemoteProtocolError(f"peer {sender} sent an invalid notice of a topology file", sender)
        if not isinstance(fields, tuple) or len(fields) != 9:
            raise error
        *numbers, lost, leaving = fields
        digest = numbers.pop(4)
        if not all(type(number) is int for number in numbers) or type(digest) is not bytes or len(digest) != DIGEST:
            raise error
        peer, incarnation, number, epoch, read, change = numbers
        if not (isinstance(lost, tuple) and isinstance(leaving, tuple) and peer in self._graph
                and all(type(j) is int and self._graph.has_edge(peer, j) for j in lost)
                and all(type(j) is int and j in self._graph for j in leaving)
                and min(incarnation, number, epoch) >= 0 and 0 <= read <= self._rounds
                and NO_ROUND <= change <= 2 * self._rounds + self._margin):
            raise error
        return peer, Notice((incarnation, number), epoch, digest, read, change, frozenset(lost), frozenset(leaving))

    # Inside -----------------------------------------------------------------------------------------------------

    def _publish(self, notice: Notice) -> None:
        self._order = self._order[0], self._order[1] + 1
        self.notices[self.me] = replace(notice, order=self._order)

    def _living(self) -> set[int]:
        """Return the peers reachable over edges whose ends do not count each other as lost."""
        cut = [(peer, j) for peer, notice in self.notices.items() for j in notice.lost]
        living = nx.restricted_view(self._graph, [], [edge for edge in cut if self._graph.has_edge(*edge)])
        return set(nx.node_connected_component(living, self.me))
