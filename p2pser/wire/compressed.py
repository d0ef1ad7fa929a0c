"""The compressed forms of a row by name."""

from __future__ import annotations

from collections.abc import Sequence

from p2pser.base.errors import ConfigError, nearest
from p2pser.wire.codec import DENSE, Codec
from p2pser.wire.low_rank import LowRank
from p2pser.wire.quantised import QSGD, EightBit, Sign
from p2pser.wire.sparse import RandomK, TopK

DECODERS: dict[str, Codec] = {
    one.name: one for one in (TopK(), RandomK(), Sign(), QSGD(), EightBit(), LowRank())
}
"""Wire name -> the codec that decodes it: all that it needs is in the bytes."""

COMPRESSORS = (*DECODERS, "dense")
"""The names that ``compressor`` knows."""


def compressor(
    name: str,
    *,
    share: float = 0.01,
    bits: int = 32,
    levels: int = 7,
    rank: int = 1,
    shapes: Sequence[Sequence[int]] = (),
) -> Codec:
    """Return the codec of a name that an algorithm was given; each takes what it knows of the other settings.

    share, bits: top-k, random-k. levels: qsgd. rank, shapes: low-rank. Raises ConfigError for an unknown name or a
    value out of range.
    """
    if name == "top-k":
        return TopK(share, bits=bits)
    if name == "random-k":
        return RandomK(share, bits=bits)
    if name == "qsgd":
        return QSGD(levels)
    if name == "low-rank":
        return LowRank(tuple(tuple(shape) for shape in shapes), rank)
    if name in DECODERS:
        return DECODERS[name]
    if name == "dense":
        return DENSE
    raise ConfigError(f"there is no compressor {name!r}{nearest(name, COMPRESSORS)}")
