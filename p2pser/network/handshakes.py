"""Why handshakes with a neighbour fail: a wrong key, or a tunnel with no peer behind it. Pure.

ZeroMQ's monitor reports both as a broken handshake. So the peer also dials over plain TCP (a probe) and waits for
ZeroMQ's greeting. The key is wrong only where the probe has received the greeting, and handshakes begun *after* that
fail too.
"""

from __future__ import annotations

from enum import Enum

from p2pser.network.neighbour import Contact

FAILURES_REPORTED = 3
"""Failed handshakes before a report: a single one may be a peer that is just ending."""


class Verdict(Enum):
    """What a failed handshake means, or how to find out."""

    WAIT = "wait"
    PROBE = "probe"
    WRONG_KEY = "wrong key"
    NO_PEER = "no peer"


class HandshakeFailures:
    """Failed handshakes since the last one that succeeded, by neighbour."""

    def __init__(self) -> None:
        self._failures: dict[int, int] = {}
        self._speaks_zmtp: set[int] = set()

    def count(self, peer: int) -> int:
        """Return the number of failed handshakes with a neighbour."""
        return self._failures.get(peer, 0)

    def failed(self, peer: int, *, greeted: bool) -> Verdict:
        """Count a failed handshake; ``greeted``: the other end had sent ZeroMQ's greeting."""
        self._failures[peer] = self.count(peer) + 1
        if greeted:
            self._speaks_zmtp.add(peer)
        known = peer in self._speaks_zmtp
        if self._failures[peer] % FAILURES_REPORTED:
            return Verdict.WAIT if known else Verdict.PROBE
        if known:
            self.forget(peer)  # another program may listen there the next time
            return Verdict.WRONG_KEY
        return Verdict.NO_PEER

    def probe_greeted(self, peer: int) -> None:
        """Note that a probe has received the greeting: the program at that address speaks ZeroMQ's protocol."""
        self._speaks_zmtp.add(peer)
        self._failures[peer] = 1  # earlier failures may be those of a tunnel with no peer behind it

    def forget(self, peer: int) -> None:
        """Start counting anew: a handshake has succeeded, or the failures were reported."""
        self._failures.pop(peer, None)
        self._speaks_zmtp.discard(peer)


def wrong_key(contact: Contact, me: int) -> str:
    """Return the sentence for a listener that does not hold the neighbour's key."""
    mend = "a run with another name (--name), or of another user, has it, and one of the two needs other ports " \
           "(network.base_port)" if contact.derived else "compare the topology files, the keys and the secrets"
    return f"the program that listens at {contact.address} does not hold the key of peer {contact.peer} that peer " \
           f"{me} knows: {mend} (or it has too many connections of strangers, which its own log reports)"


def no_peer(contact: Contact) -> str:
    """Return the sentence for an address at which no peer answers."""
    return f"{contact.address} accepts connections for peer {contact.peer} and closes them unanswered: a tunnel or " \
           "proxy that does not reach its far end (start the peer, check the tunnel), or another program listens " \
           "there (check the address)"


def another_program(contact: Contact) -> str:
    """Return the sentence for an address at which another program than ZeroMQ answers."""
    return f"{contact.address} answers for peer {contact.peer}, but in another protocol: another program listens " \
           "there (check the address)"


def not_admitted(contact: Contact, me: int, newer: int | None) -> str:
    """Return the sentence for a neighbour that refuses our key; newer : our epoch, if its file may be older."""
    mend = "compare the topology files and the keys" if newer is None else f"give it epoch {newer} of the topology file"
    return f"peer {contact.peer} at {contact.address} does not admit the key of peer {me}: {mend}"
