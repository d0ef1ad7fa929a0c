"""Randomness is a function, never a stream.

Every draw comes from a generator keyed by (seed, purpose, peer, round). So the layout of processes, a restart
or an extra draw elsewhere changes nothing.

What all peers draw alike (initial parameters, schedules, partitions, a server's choice of clients) is keyed by the
run's seed. What a peer draws for its local work alone (batches, dropout, augmentation) is keyed by a secret number of
the peer's in its place (``p2pser.peer.draws``); in the simulator, by the run's seed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

EVERYBODY = -1
"""The peer of a draw that all peers share."""


def key(seed: int, purpose: str, peer: int = EVERYBODY, round: int = -1) -> int:
    """Return the 63-bit key of (seed, purpose, peer, round): a keyed hash, equal on every machine.

    >>> key(0, "batches", peer=3, round=7) == key(0, "batches", peer=3, round=7)
    True
    """
    text = f"{seed}|{purpose}|{peer}|{round}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, peer: int = EVERYBODY, round: int = -1) -> np.random.Generator:
    """Return numpy's generator for (seed, purpose, peer, round)."""
    return np.random.Generator(np.random.Philox(key(seed, purpose, peer, round)))


def probe() -> str:
    """Return 16 hex digits over some draws of the kinds that all peers make alike. They change only where a version of
    numpy draws otherwise: no draw lies near a limit of the rounding.
    """
    draws = generator(0, "probe")
    whole = [draws.permutation(64), draws.choice(64, 8, replace=False), draws.integers(0, 2**40, 8)]
    real = [draws.random(8), draws.standard_normal(8), draws.standard_gamma(2.0, 8), draws.chisquare(9, 8)]
    numbers = np.concatenate([*whole, np.rint(1000 * np.concatenate(real))]).astype(np.int64)
    return hashlib.blake2b(numbers.astype("<i8").tobytes(), digest_size=8).hexdigest()


def torch_generator(seed: int, purpose: str, peer: int = EVERYBODY, round: int = -1) -> torch.Generator:
    """Return torch's generator for (seed, purpose, peer, round)."""
    import torch

    return torch.Generator().manual_seed(key(seed, purpose, peer, round))
