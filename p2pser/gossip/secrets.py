"""What peers bring to a secure sum beside their inputs: secrets in pairs, and the memory of what they gave already."""

from __future__ import annotations

from typing import Protocol

NONCE = 16
"""Bytes of a nonce, and of a digest that stands for a roster, a view or an input."""
ANOTHER = b"\xff" * NONCE
"""In place of a roster: the input of the round that was given is another than the present one."""


class Secrets(Protocol):
    """The secrets of the hosted peers; a mixer holds them."""

    def shared(self, peer: int, other: int) -> bytes:
        """Return 32 bytes that only these two peers know: the same for (i, j) and (j, i), others in another run."""

    def nonce(self, peer: int, round: int) -> bytes:
        """Return NONCE bytes that this peer has never used before: masks made with them are used once."""

    def given(self, peer: int, round: int) -> tuple[bytes, bytes] | None:
        """Return the digests of the input of a round that this peer gave to a sum, and of that sum's roster; None where
        it gave none.

        They stay known when the peer is started again.
        """

    def give(self, peer: int, round: int, given: tuple[bytes, bytes]) -> bool:
        """Note what a peer is about to give, as ``given`` returns it; False where that cannot be kept."""

    def tell(self, peer: int, round: int, what: str) -> None:
        """A person should know this of a peer's sum in a round."""
