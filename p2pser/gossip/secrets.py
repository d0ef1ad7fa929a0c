"""What peers bring to a secure sum beside their inputs: secrets in pairs, and the memory of what they gave already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

NONCE = 16
"""Bytes of a nonce, and of a digest that stands for a roster, a view or an input."""
ANOTHER = b"\xff" * NONCE
"""In place of a roster: the input of the round that was given is another than the present one."""


class Given(NamedTuple):
    """What a peer gave to the sum of a round: digests of its input and of the roster, and the size of the roster."""

    input: bytes
    roster: bytes
    size: int


class Secrets(Protocol):
    """The secrets of the hosted peers; a mixer holds them."""

    def shared(self, peer: int, other: int) -> bytes:
        """Return 32 bytes that only these two peers know: the same for (i, j) and (j, i), others in another run."""

    def nonce(self, peer: int, round: int) -> bytes:
        """Return NONCE bytes that this peer has never used before: masks made with them are used once."""

    def own(self, peer: int) -> bytes:
        """Return 32 bytes that only this peer knows, and keeps when it is started again."""

    def given(self, peer: int) -> Mapping[int, Given]:
        """Return what this peer gave to sums so far, by round. It stays known when the peer is started again."""

    def give(self, peer: int, round: int, given: Given) -> bool:
        """Note what a peer is about to give; False where that cannot be kept."""

    def tell(self, peer: int, round: int, what: str) -> None:
        """A person should know this of a peer's sum in a round."""
