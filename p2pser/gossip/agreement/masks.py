"""Masks that cancel in a sum over a roster of peers, and numbers in fixed point, which such a sum keeps exact.

Each pair (i, j) of the roster's pair graph derives a stream of integers from a secret that only these two know; the
smaller id adds it to its input, the larger one subtracts it, modulo 2^bits. The sum over the roster then is the sum of
the inputs, to the last bit. A sum that lacks the input of a peer is uniformly distributed for everyone who lacks one of
this peer's secrets with a peer that is not in that sum.

Up to ``COMPLETE`` peers all pairs have a mask. Beyond that the pairs are a random graph of degree
2 ceil(log2 n) + 8, connected and the same at all peers (J. H. Bell, K. A. Bonawitz, A. Gascón, T. Lepoint, M. Raykova,
"Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020: a Harary graph with permuted labels).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.agreement.chacha20 import chacha20
from p2pser.gossip.secrets import NONCE, Secrets

COMPLETE = 32
"""The largest roster in which every pair has a mask."""
Integers = NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class FixedPoint:
    """Real numbers as integers modulo 2^bits, such that a sum over ``peers`` cannot overflow.

    Parameters
    ----------
    bits : 32 or 64.
    bound : the largest magnitude of a number; larger ones are clipped to it.
    peers : the largest number of peers in a sum.
    heaviest : the largest weight of a peer.
    """

    bits: int
    bound: float
    peers: int
    heaviest: int = 1

    @property
    def fits(self) -> bool:
        """Whether a number keeps at least 8 bits."""
        return self.scale * self.bound >= 256

    @cached_property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Of an integer: little-endian, as it travels."""
        return np.dtype("<u4" if self.bits == 32 else "<u8")

    @cached_property
    def scale(self) -> float:
        """A number x of weight w becomes round(w x scale): a power of two, public."""
        # Float64 has 53 bits: finer steps than those of the number itself say nothing.
        room = min(2.0 ** (self.bits - 1) - 1, 2.0**62) / (self.peers * self.heaviest * self.bound)
        return math.ldexp(1.0, math.frexp(room)[1] - 1)  # exact, as no logarithm is: all peers need the same

    def encode(self, values: NDArray[np.float64], weight: int = 1) -> tuple[Integers, int]:
        """Return numbers (D,) times a weight as integers (D,), and how many of them were clipped.

        Raises LocalProtocolError for numbers that are not finite, and for a weight that is not 0 .. ``heaviest``.
        """
        if not np.isfinite(values).all():
            raise LocalProtocolError("a number that is not finite has no fixed point")
        if not 0 <= weight <= self.heaviest:
            raise LocalProtocolError(f"a weight of {weight} is not 0 to {self.heaviest}")
        clipped = np.clip(values, -self.bound, self.bound)
        whole = np.rint(clipped * (weight * self.scale)).astype(np.int64)
        return whole.astype(self.dtype), int(np.count_nonzero(clipped != values))

    def decode(self, total: Integers, weight: int = 1) -> NDArray[np.float64]:
        """Return the real numbers (D,) of a sum, divided by the sum of weights."""
        mean: NDArray[np.float64] = self.signed(total) / (self.scale * weight)
        return mean

    def signed(self, total: Integers) -> NDArray[np.float64]:
        """Return the whole numbers (D,) of a sum, of either sign."""
        return total.view("<i4" if self.bits == 32 else "<i8").astype(np.float64)


def digest(*parts: bytes) -> bytes:
    """Return NONCE bytes that stand for these parts, in order."""
    hashed = hashlib.blake2b(digest_size=NONCE)
    for part in parts:
        hashed.update(len(part).to_bytes(4, "little") + part)
    return hashed.digest()


def partners(peer: int, roster: Sequence[int], view: bytes) -> list[int]:
    """Return the peers with which ``peer`` has a mask in a sum over ``roster``, ascending.

    view : stands for roster and nonces; it permutes the pair graph of a large roster.
    """
    size = len(roster)
    if size <= COMPLETE:
        return sorted(set(roster) - {peer})
    order = sorted(roster, key=lambda i: digest(b"pairs", view, i.to_bytes(4, "little")))
    reach = (size - 1).bit_length() + 4
    at = order.index(peer)
    return sorted({order[(at + step) % size] for step in range(-reach, reach + 1)} - {peer})


def mask(secrets: Secrets, peer: int, roster: Sequence[int], view: bytes, size: int, dtype: np.dtype[np.unsignedinteger]
         ) -> Integers:
    """Return the sum of a peer's masks (size,) in a sum over ``roster``.

    view : NONCE bytes, different in every sum: they stand for the round, the roster and all its nonces.
    """
    total = np.zeros(size, dtype=dtype)
    for other in partners(peer, roster, view):
        stream = keystream(secrets.shared(peer, other), view, size, dtype)
        if peer < other:
            total += stream
        else:
            total -= stream
    return total


def keystream(secret: bytes, view: bytes, size: int, dtype: np.dtype[np.unsignedinteger]) -> Integers:
    """Return ``size`` integers: the ChaCha20 stream of a key derived from a pair's secret for one sum (HKDF)."""
    return np.frombuffer(chacha20(secret, b"p2pser mask 1" + view)(size * dtype.itemsize), dtype=dtype)
