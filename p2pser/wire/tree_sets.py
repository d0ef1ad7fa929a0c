"""Tree sets in bytes: which of an ensemble's places a peer holds, and the tree sets of some of them.

A message is four parts, all little-endian::

    u4 a, u4 n      a: the places below a are all held; n: bytes of the next part
    n bytes         a bit for each place from a on, the lowest first, 1 where it is held; none after the last held
    u4 k, k u4      the places of the tree sets that follow, ascending
    k sets          of each class's tree: features u2, thresholds f4, leaves f4 (``models.networks.trees``)

Every length is known before anything is read, and what does not fit is refused: no number in it is believed.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import RemoteProtocolError

Bits = NDArray[np.bool_]

LARGEST_LEAF = 1e4
"""Largest number in a leaf, by size: a thousand times what boosting comes to, and sums of them stay finite."""


def encode(held: Bits, places: NDArray[np.int64], sets: NDArray[np.float32], depth: int) -> bytes:
    """Return the message of a peer that holds ``held`` (S,) and sends the tree sets (k, C, W) of ``places`` (k,)."""
    first = len(held) if held.all() else int(held.argmin())
    bits = np.packbits(held[first:], bitorder="little").tobytes().rstrip(b"\0")
    return b"".join((struct.pack("<II", first, len(bits)), bits, struct.pack("<I", len(places)),
                     np.asarray(places, dtype="<u4").tobytes(),
                     _packed(sets, depth)))


def decode(message: object, held: int, classes: int, depth: int, sender: int,
           ) -> tuple[Bits, NDArray[np.int64], NDArray[np.float32]]:
    """Return held (S,), places (k,) and tree sets (k, classes, W) of a message about an ensemble of ``held`` places.

    Raises RemoteProtocolError where it has another form, names places that there are not, or holds a number that is not
    finite, or a leaf beyond ``LARGEST_LEAF``.
    """
    if not isinstance(message, (bytes, bytearray, memoryview)):
        raise RemoteProtocolError(f"peer {sender} sent a row where tree sets are due", sender)
    view = memoryview(message)
    kind = _kind(depth)
    try:
        first, size = struct.unpack_from("<II", view)
        (count,) = struct.unpack_from("<I", view, 8 + size)
    except struct.error:
        raise RemoteProtocolError(f"peer {sender} sent tree sets in {len(view)} bytes, which end too early",
                                  sender) from None
    at = 12 + size
    if first + 8 * size > held + 7 or count > held or len(view) != at + count * (4 + classes * kind.itemsize):
        raise RemoteProtocolError(f"peer {sender} sent {count} tree sets and {size} bytes of places in {len(view)} "
                                  f"bytes, for {held} places of {classes} trees of depth {depth}", sender)
    mask = np.zeros(held + 8, dtype=bool)
    mask[:first] = True
    mask[first : first + 8 * size] = np.unpackbits(np.frombuffer(view[8 : 8 + size], np.uint8), bitorder="little")
    places = np.frombuffer(view[at : at + 4 * count], "<u4").astype(np.int64)
    if mask[held:].any() or (count and (places[-1] >= held or (np.diff(places) <= 0).any())):
        raise RemoteProtocolError(f"peer {sender} named places that an ensemble of {held} does not have", sender)
    sets = _unpacked(np.frombuffer(view[at + 4 * count :], kind).reshape(count, classes), depth)
    if not np.isfinite(sets).all():
        raise RemoteProtocolError(f"peer {sender} sent trees with numbers that are not finite", sender)
    if (np.abs(sets[..., 2 * (2**depth - 1) :]) > LARGEST_LEAF).any():
        raise RemoteProtocolError(f"peer {sender} sent trees with leaves beyond {LARGEST_LEAF:g}", sender)
    return mask[:held], places, sets


def _kind(depth: int) -> np.dtype[np.void]:
    """One tree."""
    inner = 2**depth - 1
    return np.dtype([("features", "<u2", (inner,)), ("thresholds", "<f4", (inner,)), ("leaves", "<f4", (inner + 1,))])


def _packed(sets: NDArray[np.float32], depth: int) -> bytes:
    inner = 2**depth - 1
    packed = np.empty(sets.shape[:2], dtype=_kind(depth))
    packed["features"] = sets[..., :inner]
    packed["thresholds"], packed["leaves"] = sets[..., inner : 2 * inner], sets[..., 2 * inner :]
    return packed.tobytes()


def _unpacked(trees: NDArray[np.void], depth: int) -> NDArray[np.float32]:
    parts = [trees[name].astype(np.float32) for name in ("features", "thresholds", "leaves")]
    return np.concatenate(parts, axis=-1)
