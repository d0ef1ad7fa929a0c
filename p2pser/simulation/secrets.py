"""The secrets of peers that have no keys: drawn from the run's seed."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping

from p2pser.gossip.secrets import NONCE, Given


class SeedSecrets:
    """Secrets (``gossip.secrets.Secrets``) of all peers of a simulation. Totals do not depend on them.

    seed : the run's. tell : called with (peer, round, warning).
    """

    def __init__(self, seed: int, tell: Callable[[int, int, str], None] = lambda peer, round, what: None) -> None:
        self._seed, self.tell = seed, tell
        self._given: dict[int, dict[int, Given]] = defaultdict(dict)

    def shared(self, peer: int, other: int) -> bytes:
        """Return the secret of a pair."""
        return self._drawn("pair", min(peer, other), max(peer, other), 32)

    def nonce(self, peer: int, round: int) -> bytes:
        """Return the nonce of a round: a simulation has each round once."""
        return self._drawn("nonce", peer, round, NONCE)

    def own(self, peer: int) -> bytes:
        """Return the key of a peer, which follows from the seed."""
        return self._drawn("own", peer, peer, 32)

    def given(self, peer: int) -> Mapping[int, Given]:
        """Return the inputs of ``give`` by round."""
        return self._given[peer]

    def give(self, peer: int, round: int, given: Given) -> bool:
        """Store an input and its roster."""
        self._given[peer][round] = given
        return True

    def _drawn(self, purpose: str, first: int, second: int, size: int) -> bytes:
        text = f"{self._seed}|{purpose}|{first}|{second}".encode()
        return hashlib.blake2b(text, digest_size=size, person=b"p2pser simulated").digest()
