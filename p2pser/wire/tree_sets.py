"""Tree sets in bytes: the places of an ensemble that a peer holds, and the tree sets at some of them.

A message has four parts, all little-endian::

    u4 a, u4 n      a: all places below a are held; n: bytes of the next part
    n bytes         a bit for each place from a on, lowest first, 1 where it is held; none after the last held place
    u4 k, k u4      the places of the tree sets that follow, ascending
    k sets          of each class's tree: features u2, thresholds f4, leaves f4 (``models.networks.trees``)

Every length is computed before a part is read, and a message of another length is refused: no count in it is trusted.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import RemoteProtocolError
from p2pser.wire.messages import Buffer

Bits = NDArray[np.bool_]

LARGEST_LEAF = 1e4
"""Largest absolute value of a leaf: a thousand times what boosting produces, and sums of them stay finite."""


def encode(held: Bits, places: NDArray[np.int64], sets: NDArray[np.float32], depth: int) -> bytes:
    """Return the message of a peer.

    Parameters
    ----------
    held : (S,) whether the peer holds each place.
    places : (k,) the places whose tree sets it sends, ascending.
    sets : (k, C, W) their tree sets, one tree per class.
    depth : the trees' depth.
    """
    first = len(held) if held.all() else int(held.argmin())
    bits = np.packbits(held[first:], bitorder="little").tobytes().rstrip(b"\0")
    return b"".join((struct.pack("<II", first, len(bits)), bits, struct.pack("<I", len(places)),
                     np.asarray(places, dtype="<u4").tobytes(),
                     _packed(sets, depth)))


def largest(held: int, classes: int, depth: int) -> int:
    """Return the size of the largest message [B], which holds the tree sets of all places."""
    return 12 + (held + 7) // 8 + held * (4 + classes * _kind(depth).itemsize)


def decode(message: Buffer, held: int, classes: int, depth: int, sender: int,
           ) -> tuple[Bits, NDArray[np.int64], NDArray[np.float32]]:
    """Return held (S,), places (k,) and tree sets (k, classes, W) of a message.

    Parameters
    ----------
    message : the bytes.
    held : S, the number of places of the ensemble.
    classes, depth : the number of trees in a set, and their depth.
    sender : the message's sender, for errors.

    Raises
    ------
    RemoteProtocolError
        Where the message has another form, names places that do not exist, or holds a number that is not finite or a
        leaf beyond ``LARGEST_LEAF``.
    """
    view = memoryview(message)
    kind = _kind(depth)
    try:
        first, size = struct.unpack_from("<II", view)
        (count,) = struct.unpack_from("<I", view, 8 + size)
    except struct.error:
        raise RemoteProtocolError(f"peer {sender} sent tree sets in {len(view)} bytes, which are too few",
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
    """Return the layout of one tree."""
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
