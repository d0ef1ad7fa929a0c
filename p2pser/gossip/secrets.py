"""What peers bring to a secure sum beside their inputs: secrets in pairs, and the memory of what they gave already."""

from __future__ import annotations

from typing import Protocol

NONCE = 16
"""Bytes of a nonce, and of a digest that stands for a roster or a view."""


class Secrets(Protocol):
    """The secrets of the hosted peers; a mixer holds them."""

    def shared(self, peer: int, other: int) -> bytes:
        """Return 32 bytes that only these two peers know: the same for (i, j) and (j, i), others in another run."""

    def nonce(self, peer: int, round: int) -> bytes:
        """Return NONCE bytes that this peer has never used before: masks made with them are used once."""

    def given(self, peer: int, round: int) -> bytes:
        """Return the digest of the roster that had this peer's input of a round; empty where none had it.

        It stays known when the peer is started again.
        """

    def give(self, peer: int, round: int, roster: bytes) -> bool:
        """Note that a roster is about to have this peer's input of a round; False where that cannot be kept."""

    def tell(self, peer: int, round: int, what: str) -> None:
        """A person should know this of a peer's sum in a round."""
