"""What masked sums look like to a peer that reads them as if they were not masked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from p2pser.gossip.agreement.masks import FixedPoint
from p2pser.gossip.secrets import NONCE


def opened(messages: Sequence[bytes], numbers: FixedPoint, size: int) -> Tensor | None:
    """Return the mean row (size,) float32 that a peer's messages of a round say, taken as a sum without masks.

    A sum is [peers, weight, row]. Where its count is one of a sum, it is divided by its weight (so is the total, and so
    would be a partial sum whose masks are missing); what is masked has any count. None where no sum was sent.
    """
    name = max(messages, key=len, default=b"")[:NONCE]
    octets = b"".join(message[NONCE:] for message in messages if message[:NONCE] == name)
    whole = np.frombuffer(octets[: len(octets) // numbers.dtype.itemsize * numbers.dtype.itemsize], dtype=numbers.dtype)
    if len(whole) < size + 2:
        return None
    plain = 0 < whole[0] <= numbers.peers and 0 < whole[1] <= whole[0] * numbers.heaviest
    row = numbers.decode(whole[2 : size + 2], int(whole[1]) if plain else 1)
    return torch.from_numpy(row.astype(np.float32))
