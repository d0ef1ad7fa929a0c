"""Sparse codecs: the largest numbers, or numbers drawn at random; all others are 0 at the receiver."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.base.registries import COMPRESSORS
from p2pser.wire.bits import index_bytes, pack, pack_indices, packed_bytes, unpack, unpack_indices
from p2pser.wire.codec import Form, flat, internal
from p2pser.wire.messages import Buffer

_TOP = struct.Struct("<BI")
_RANDOM = struct.Struct("<BQ")
_SCALE = struct.Struct("<f")
_TWO = struct.Struct("<ff")
_LARGEST_SIZE = 2**32 - 1


@dataclass(frozen=True)
class Sparse(Form):
    """The base of both sparse codecs: how many numbers are sent, and their encoding.

    share : the share of the row's numbers that is sent, in (0, 1]; at least one number is. count : their number,
    instead of a share. bits : 32, unchanged (float64 rows: 64); 8, whole multiples of 1/127 of the largest magnitude; 2
    (``top-k`` only), the sign and one of two magnitudes, which are the means of the larger and of the smaller numbers,
    split where the error is smallest.
    """

    share: float = 0.01
    count: int | None = internal(None)
    bits: int = 32
    """bits of each number that is sent: 2 (top-k), 8, or 32 (unchanged)"""
    least_bits: ClassVar[int] = 8

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"a sparse row keeps a share in (0, 1] of its numbers, not {self.share:g}")
        if self.count is not None and self.count < 1:
            raise ConfigError(f"a sparse row keeps at least 1 of its numbers, not {self.count}")
        if self.bits not in (2, 8, 32) or self.bits < self.least_bits:
            least = "2, 8" if self.least_bits == 2 else "8"
            raise ConfigError(f"the numbers of a {self.name} row take {least} or 32 bits, not {self.bits}")

    def kept(self, size: int) -> int:
        """Return k, how many of ``size`` numbers are sent."""
        return min(size, max(1, round(self.share * size)) if self.count is None else self.count)

    def contraction(self, size: int) -> float:
        """Return delta, about k/D: the (expected) squared error of a row is at most 1 - delta of its square."""
        delta = 1 / -(-size // self.kept(size)) if size else 1.0
        return delta * {32: 1.0, 8: 1 - 1 / 254**2, 2: 1 / _spread(self.kept(size))}[self.bits]


@COMPRESSORS.register("top-k")
@dataclass(frozen=True)
class TopK(Sparse):
    """The k numbers of largest magnitude.

    Bytes: u8 bytes of each number (0: 2 bits), u32 k, the indices (``bits.pack_indices``), the numbers. The squared
    error is at most 1 - k/D of the row's square.

    >>> TopK(count=1).decode(TopK(count=1).encode(torch.tensor([1.0, -3.0, 2.0])), 3)
    tensor([ 0., -3.,  0.])
    """

    name = "top-k"
    least_bits = 2

    def encode(self, row: Tensor) -> bytes:
        """Return the bytes of ``row`` (D,) (Codec.encode)."""
        values = flat(row).numpy()
        size = len(values)
        k = self.kept(size)
        chosen = _largest(values, k)
        width, numbers = _write(values[chosen], self.bits)
        return _TOP.pack(width, k) + pack_indices(chosen, size) + numbers

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return the row (size,): float64 where its numbers came so, else float32 (Codec.decode)."""
        width, k, view = _header(_TOP, buffer, size)
        cut = index_bytes(size, k) if k <= size else 0
        numbers = _read(view[cut:], width, k)
        return _scatter(size, unpack_indices(view[:cut], size, k), numbers)


@COMPRESSORS.register("random-k")
@dataclass(frozen=True)
class RandomK(Sparse):
    """k random numbers, one from each of k equal sections of the row; both ends draw the same places from a key.

    Bytes: u8 bytes of each number, u64 key, the numbers, without indices. Each number is drawn with probability
    1/length of its section, about k/D; so the expected squared error is 1 - k/D of the row's square. Without ``at`` all
    rows have the same draw.
    """

    key: int = internal(0)
    name = "random-k"

    def at(self, seed: int, peer: int, round: int) -> RandomK:
        """Return the codec with the draw of (seed, peer, round)."""
        return replace(self, key=seeding.key(seed, "wire.random-k", peer, round))

    def encode(self, row: Tensor) -> bytes:
        """Return the bytes of ``row`` (D,) (Codec.encode)."""
        values = flat(row).numpy()
        chosen = _drawn(self.key, len(values), self.kept(len(values)))
        width, numbers = _write(values[chosen], self.bits)
        return _RANDOM.pack(width, self.key) + numbers

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return the row (size,): float64 where its numbers came so, else float32 (Codec.decode)."""
        width, key, view = _header(_RANDOM, buffer, size)
        count = (view.nbytes - (_SCALE.size if width == 1 else 0)) // width
        if not 0 <= count <= size:
            raise RemoteProtocolError(f"a sparse row of {size} numbers cannot be {view.nbytes} bytes of numbers")
        numbers = _read(view, width, count)
        return _scatter(size, _drawn(key, size, count), numbers)


def _largest(values: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Return the ascending indices of the k numbers of largest magnitude, of equal ones the first; NaN is largest."""
    if k == len(values):
        return np.arange(k)
    sizes = np.nan_to_num(np.abs(values), nan=np.inf)
    least = np.partition(sizes, len(values) - k)[len(values) - k]
    chosen = sizes > least
    equals = np.flatnonzero(sizes == least)
    chosen[equals[: k - int(chosen.sum())]] = True
    return np.flatnonzero(chosen)


def _header(layout: struct.Struct, buffer: Buffer, size: int) -> tuple[int, int, memoryview]:
    view = memoryview(buffer)
    if not 0 <= size <= _LARGEST_SIZE or view.nbytes < layout.size:
        raise RemoteProtocolError(f"a sparse row of {size} numbers cannot be {view.nbytes} bytes")
    width, second = layout.unpack_from(view)
    if width not in (1, 4, 8) and (width or layout is _RANDOM):  # 0: two bits
        raise RemoteProtocolError(f"the numbers of a sparse row have {width} bytes each, not 1, 4 or 8")
    return width, second, view[layout.size :]


def _write(values: NDArray[np.floating], bits: int) -> tuple[int, bytes]:
    """Return (bytes of each number, the bytes of all numbers)."""
    if bits == 32:
        return values.itemsize, values.astype(f"<f{values.itemsize}", copy=False).tobytes()
    if bits == 2:
        return 0, _two_levels(values)
    largest = np.abs(values).max(initial=0.0).astype(np.float32)
    with np.errstate(all="ignore"):
        steps = np.rint(np.nan_to_num(values / largest) * 127).clip(-127, 127)
    return 1, _SCALE.pack(largest) + steps.astype(np.int8).tobytes()


def _read(view: memoryview, width: int, count: int) -> Tensor:
    """Return the ``count`` numbers (k,)."""
    if width == 0:
        return _read_two_levels(view, count)
    if view.nbytes != count * width + (_SCALE.size if width == 1 else 0):
        raise RemoteProtocolError(f"{count} numbers of a sparse row cannot be {view.nbytes} bytes")
    if width == 1:
        step = torch.tensor(_SCALE.unpack_from(view)[0], dtype=torch.float32) / 127
        return torch.from_numpy(np.frombuffer(view[_SCALE.size :], dtype=np.int8).copy()) * step
    wire = np.dtype(f"<f{width}")
    return torch.from_numpy(np.frombuffer(view, dtype=wire).astype(wire.newbyteorder("="), copy=True))


def _two_levels(values: NDArray[np.floating]) -> bytes:
    """Return the two magnitudes (f4), the smaller first, and two bits of each number: which magnitude, and the sign."""
    if not len(values):
        return _TWO.pack(0.0, 0.0)
    with np.errstate(all="ignore"):
        sizes = np.nan_to_num(np.abs(values).astype(np.float32)).astype(np.float64)
    order = np.argsort(-sizes, kind="stable")
    sums, counts = np.cumsum(sizes[order]), np.arange(1, len(sizes) + 1)
    rest = np.maximum(counts[-1] - counts, 1)
    cut = 1 + int(np.argmax(sums**2 / counts + (sums[-1] - sums) ** 2 / rest))  # what the two means keep of the square
    large = np.zeros(len(sizes), dtype=np.int64)
    large[order[:cut]] = 1
    means = (sums[-1] - sums[cut - 1]) / rest[cut - 1], sums[cut - 1] / cut
    return _TWO.pack(*means) + pack(2 * large + (values < 0), 2)


def _read_two_levels(view: memoryview, count: int) -> Tensor:
    if view.nbytes != _TWO.size + packed_bytes(count, 2):
        raise RemoteProtocolError(f"{count} numbers of two bits cannot be {view.nbytes} bytes")
    codes = unpack(view[_TWO.size :], count, 2)
    small, large = (np.float32(level) for level in _TWO.unpack_from(view))
    return torch.from_numpy(np.where(codes & 1, -1, 1).astype(np.float32) * np.where(codes & 2, large, small))


def _spread(count: int) -> float:
    """Return how many times the square of ``count`` numbers may exceed what ``_two_levels`` keeps of it.

    Of descending numbers a with a sum of at most sqrt(n) over the n first, for all n (one level keeps no more than 1),
    the square is the largest for a_n = sqrt(n) - sqrt(n - 1): about 1 + log(count) / 4.
    """
    roots = np.sqrt(np.arange(count + 1))
    return float(np.square(np.diff(roots)).sum())


def _scatter(size: int, indices: NDArray[np.int64], values: Tensor) -> Tensor:
    row = torch.zeros(size, dtype=values.dtype)
    row[torch.from_numpy(indices)] = values
    return row


def _drawn(key: int, size: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` ascending indices below ``size``, one from each of ``count`` equal sections.

    They follow from the raw bits of Philox, which are the same in every version of numpy, unlike its draws.
    """
    if not count:
        return np.zeros(0, dtype=np.int64)
    ends = np.arange(count + 1, dtype=np.uint64) * np.uint64(size) // np.uint64(count)
    raw = np.random.Philox(key=key).random_raw(count) >> np.uint64(32)
    return (ends[:-1] + ((raw * np.diff(ends)) >> np.uint64(32))).astype(np.int64)
