"""When a new topology file takes effect: its readers find out who else has read it, and agree on a round. Pure.

Each peer floods a word of its own: the epoch and digest of the newest file that it has read, the round in which it
read it, whom it holds for lost, and the round of the change once it knows one. When all living peers that stay have
read the same file, the change is due a diameter of rounds after the last of them read it: by then all know it. Every
peer computes the same round, since it is a function of the same words; where a death makes them see different ones, the
latest round counts. A peer that learns of it too late changes at once, and joins the others like one that comes back.
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
"""Rounds that are left after the words have come over the longest path."""


@dataclass(frozen=True)
class Word:
    """What a peer says of its newest topology file.

    order : (incarnation, number) of the word; a later one replaces it.
    epoch, digest : of the file. read : the round in which the peer read it.
    change : the round at whose start the file takes effect, as far as the peer knows; NO_ROUND: unknown.
    lost : the neighbours that the peer holds for lost. leaving : the peers that the file retires.
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
        """What must be equal at all peers."""
        return self.epoch, self.digest


class Epochs:
    """What a peer knows of the files of all peers.

    Parameters
    ----------
    me, incarnation : this peer, and its incarnation.
    graph : of the topology that is in effect.
    rounds : R. lead : the most rounds that a peer may be ahead of a neighbour.
    """

    def __init__(self, me: int, incarnation: int, graph: nx.Graph, rounds: int, lead: int) -> None:
        self.me, self._graph, self._rounds = me, graph, rounds
        self._order = (incarnation, 0)
        self._margin = MARGIN + lead * diameter(graph)
        self.words: dict[int, Word] = {}
        """The newest word of each peer that has read a newer file than that in effect."""
        self._hearsay: set[int] = set()
        """The neighbours whose word came over others, since they were lost."""

    @property
    def own(self) -> Word | None:
        """This peer's word; None where it has read no newer file."""
        return self.words.get(self.me)

    def read(self, epoch: int, digest: bytes, leaving: Collection[int], round: int) -> None:
        """Note that this peer has read a file in a round."""
        self._say(Word(self._order, epoch, digest, max(0, round), leaving=frozenset(leaving)))

    def lose(self, lost: Collection[int]) -> bool:
        """Note which neighbours this peer holds for lost; return whether that is news."""
        own = self.own
        if own is None or own.lost == set(lost):
            return False
        self._say(replace(own, lost=frozenset(lost)))
        return True

    def settle(self) -> bool:
        """Learn the round of the change from the words; return whether it is news."""
        own = self.own
        if own is None:
            return False
        alike = [word for word in self.words.values() if word.file == own.file]
        change = max(word.change for word in alike)
        if change == NO_ROUND and not self.lacking():
            change = max(word.read for word in alike) + self._margin
        if change == own.change:
            return False
        self._say(replace(own, change=change))
        return True

    def due(self, round: int) -> bool:
        """Whether this peer's file takes effect at the start of a round."""
        return self.own is not None and NO_ROUND < self.own.change <= round

    def changes(self) -> bool:
        """Whether the round of the change is known."""
        return self.own is not None and self.own.change != NO_ROUND

    def alike(self) -> frozenset[int]:
        """Return the peers that have read this peer's file."""
        own = self.own
        return frozenset(() if own is None else (j for j, word in self.words.items() if word.file == own.file))

    def lacking(self) -> tuple[int, ...]:
        """Return the living peers that stay in the run, and have not read this peer's file; () without one."""
        own = self.own
        if own is None:
            return ()
        return tuple(j for j in sorted(self._living()) if j not in own.leaving
                     and (j not in self.words or self.words[j].file != own.file))

    def differing(self) -> dict[int, bytes]:
        """Return the digests of other files of the same epoch as this peer's, by peer."""
        own = self.own
        return {} if own is None else {j: word.digest for j, word in self.words.items()
                                       if word.epoch == own.epoch and word.digest != own.digest}

    def retired(self, neighbours: Collection[int]) -> Word | None:
        """Return a word by which this peer leaves the run, where all these neighbours say so; else None.

        neighbours : those that live. For a peer that has read no file itself.
        """
        said = [None if j in self._hearsay else self.words.get(j) for j in neighbours]
        words = [word for word in said if word is not None and self.me in word.leaving and word.change != NO_ROUND]
        if not words or len(words) < len(said) or len({word.file for word in words}) > 1:
            return None
        return max(words, key=lambda word: word.change)

    # Messages ---------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return all words as a message."""
        packed: bytes = msgpack.packb([
            [peer, *word.order, word.epoch, word.digest, word.read, word.change, sorted(word.lost),
             sorted(word.leaving)] for peer, word in sorted(self.words.items())])
        return packed

    def hear(self, sender: int, payload: memoryview, gone: Collection[int] = ()) -> bool:
        """Take a neighbour's message; return whether it holds a newer word.

        What it says of another living neighbour does not count: that neighbour speaks for itself. So no neighbour alone
        can retire a peer.

        gone : the neighbours that are lost, whose words come over others.

        Raises RemoteProtocolError for a message of another form.
        """
        if len(payload) > 64 + len(self._graph) * (96 + 10 * len(self._graph)):
            raise RemoteProtocolError(f"peer {sender} sent words on topology files that are too long", sender)
        document = unpacked(payload, "words on topology files", sender)
        if not isinstance(document, tuple) or len(document) > len(self._graph):
            raise RemoteProtocolError(f"peer {sender} sent words on topology files in another form", sender)
        news = False
        for fields in document:
            peer, word = self._parse(fields, sender)
            hearsay = peer != sender and self._graph.has_edge(peer, self.me)
            if peer == self.me or (hearsay and peer not in gone):
                continue
            known = self.words.get(peer)
            if known is None or word.order > known.order or (peer == sender and peer in self._hearsay):
                self.words[peer], news = word, True
                (self._hearsay.add if hearsay else self._hearsay.discard)(peer)
        return news

    def _parse(self, fields: object, sender: int) -> tuple[int, Word]:
        error = RemoteProtocolError(f"peer {sender} sent a word on a topology file in another form", sender)
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
        return peer, Word((incarnation, number), epoch, digest, read, change, frozenset(lost), frozenset(leaving))

    # Inside -----------------------------------------------------------------------------------------------------

    def _say(self, word: Word) -> None:
        self._order = self._order[0], self._order[1] + 1
        self.words[self.me] = replace(word, order=self._order)

    def _living(self) -> set[int]:
        """Return the peers that can be reached over edges whose ends do not hold each other for lost."""
        cut = [(peer, j) for peer, word in self.words.items() for j in word.lost]
        living = nx.restricted_view(self._graph, [], [edge for edge in cut if self._graph.has_edge(*edge)])
        return set(nx.node_connected_component(living, self.me))
