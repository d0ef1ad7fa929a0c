"""Random numbers as a function of keys, not as a stream.

Every draw comes from a generator keyed by (seed, purpose, peer, round). So the layout of processes, a restart
or an extra draw elsewhere changes nothing.

Draws that must be equal at all peers (initial parameters, schedules, partitions, a server's choice of clients) are
keyed by the run's seed. A peer's draws for its local work (batches, dropout, augmentation) are keyed by its secret
number (``p2pser.peer.draws``); in the simulator, by the run's seed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

EVERYBODY = -1
"""The value of ``peer`` for draws that are equal at all peers."""


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
    """Return 16 hex digits over some draws of the kinds that must be equal at all peers. They change only if a version
    of numpy draws differently: no draw is near a limit of the rounding.
    """
    draws = generator(0, "probe")
    whole = [draws.permutation(64), draws.choice(64, 8, replace=False), draws.integers(0, 2**40, 8)]
    real = [draws.random(8), draws.standard_normal(8), draws.standard_gamma(2.0, 8), draws.chisquare(9, 8)]
    numbers = np.concatenate([*whole, np.rint(1000 * np.concatenate(real))]).astype(np.int64)
    return hashlib.blake2b(numbers.astype("<i8").tobytes(), digest_size=8).hexdigest()


def torch_generator(seed: int, purpose: str, round: int) -> torch.Generator:
    """Return torch's generator for (seed, purpose, round), equal at all peers."""
    import torch

    return torch.Generator().manual_seed(key(seed, purpose, round=round))
