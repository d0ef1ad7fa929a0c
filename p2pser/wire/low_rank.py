"""The low-rank codec: the model's matrices as products of two thin matrices."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from p2pser.base.registries import COMPRESSORS
from p2pser.wire.codec import Form, flat, float_bytes, floats, internal
from p2pser.wire.messages import Buffer

_HEAD = struct.Struct("<HH")
_SHAPE = struct.Struct("<II")

ITERATIONS = 2
"""Power iterations of a factorisation."""


def matrices(shapes: Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Return the shapes (rows, columns) of the matrices in a row that holds tensors of ``shapes`` one after the other.

    A tensor of two or more dimensions is a matrix of its first dimension by all others. Tensors with fewer dimensions
    (biases, scales), or with one row or column, are a column (n, 1); adjacent columns are joined.

    >>> matrices([(128, 64), (128,), (128,), (3, 4, 5)])
    ((128, 64), (256, 1), (3, 20))
    """
    parts: list[tuple[int, int]] = []
    for shape in shapes:
        size = math.prod(shape)
        rows = shape[0] if len(shape) > 1 else size
        if size == 0:
            continue
        if rows in (1, size):
            parts.append((parts.pop()[0] + size if parts and parts[-1][1] == 1 else size, 1))
        else:
            parts.append((rows, size // rows))
    return tuple(parts)


@COMPRESSORS.register("low-rank")
@dataclass(frozen=True)
class LowRank(Form):
    """Each matrix M (m, n) as P Q^T of rank r, by subspace iteration from a random start; other parts unchanged.

    P is an orthonormal basis of (M M^T)^2 M Omega, Omega (n, r) random, and Q = M^T P: so P Q^T is a projection of M,
    and the error is never larger than M. A matrix of at most r (m + n) numbers is sent unchanged.

    shapes : the shapes of the tensors in the row, in order; empty: the row is one column. rank : r >= 1. The start is
    drawn by (seed, peer, round), see ``at``; without ``at`` all rows have the same start.

    Bytes: u16 r, u16 parts, u32 rows and u32 columns of each part (``matrices``), then f4 numbers: P and Q^T, or the
    unchanged part. So the receiver needs no schema.

    References: T. Vogels, S. P. Karimireddy, M. Jaggi, "PowerSGD: Practical Low-Rank Gradient Compression for
    Distributed Optimization", NeurIPS 2019; N. Halko, P.-G. Martinsson, J. A. Tropp, "Finding Structure with
    Randomness", SIAM Review 2011.
    """

    shapes: tuple[tuple[int, ...], ...] = internal(())
    rank: int = 1
    """rank of each matrix"""
    key: int = internal(0)
    name = "low-rank"

    def __post_init__(self) -> None:
        if not 1 <= self.rank < 2**16:
            raise ConfigError(f"a low-rank row has rank 1 or more, not {self.rank}")

    def at(self, seed: int, peer: int, round: int) -> LowRank:
        """Return the codec with the start of (seed, peer, round)."""
        return replace(self, key=seeding.key(seed, "wire.low-rank", peer, round))

    def shaped(self, shapes: Sequence[Sequence[int]]) -> LowRank:
        """Return the codec for rows that hold tensors of these shapes."""
        return replace(self, shapes=tuple(tuple(shape) for shape in shapes))

    def contraction(self, size: int) -> float:
        """Return the smallest r / min(m, n) of all matrices, which holds in expectation for most of them."""
        factored = [part for part in matrices(self.shapes) if _factored(part, self.rank)]
        return min((self.rank / min(part) for part in factored), default=1.0)

    def encode(self, row: Tensor) -> bytes:
        """Return the bytes of ``row`` (D,) (Codec.encode). Raises LocalProtocolError where ``shapes`` do not fit."""
        values = flat(row).to(torch.float32)
        parts = matrices(self.shapes) or (((len(values), 1),) if len(values) else ())
        if sum(m * n for m, n in parts) != len(values) or len(parts) >= 2**16:
            raise LocalProtocolError(f"a row of {len(values)} numbers does not hold tensors of {self.shapes}")
        pieces = [_HEAD.pack(self.rank, len(parts)), *(_SHAPE.pack(m, n) for m, n in parts)]
        draw = torch.Generator().manual_seed(self.key)
        start = 0
        for part in parts:
            m, n = part
            # An aligned copy, since matrix products round differently by alignment.
            M = values[start : start + m * n].clone().view(m, n)
            start += m * n
            if _factored(part, self.rank):
                P = torch.linalg.qr(M @ torch.randn(n, self.rank, generator=draw))[0]
                for _ in range(ITERATIONS):
                    P = torch.linalg.qr(M @ (M.T @ P))[0]
                pieces += [float_bytes(P), float_bytes(P.T @ M)]
            else:
                pieces.append(float_bytes(M))
        return b"".join(pieces)

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return the row (size,) float32 (Codec.decode)."""
        view = memoryview(buffer)

        def refuse(what: str) -> RemoteProtocolError:
            return RemoteProtocolError(f"a low-rank row of {size} numbers in {view.nbytes} bytes {what}")

        if view.nbytes < _HEAD.size:
            raise refuse("is cut off")
        rank, count = _HEAD.unpack_from(view)
        at = _HEAD.size + count * _SHAPE.size
        if view.nbytes < at:
            raise refuse("is cut off")
        parts = list(_SHAPE.iter_unpack(view[_HEAD.size : at]))
        if sum(m * n for m, n in parts) != size or any(m * n == 0 for m, n in parts):
            raise refuse("holds tensors of another model")
        if view.nbytes != at + 4 * sum(_numbers(part, rank) for part in parts) or rank < 1:
            raise refuse(f"is not {count} parts of rank {rank}")
        numbers = floats(view[at:])
        row, start, end = torch.zeros(size), 0, 0
        for part in parts:
            m, n = part
            M, start = row[start : start + m * n].view(m, n), start + m * n
            chosen, end = numbers[end : end + _numbers(part, rank)], end + _numbers(part, rank)
            if not _factored(part, rank):
                M.copy_(chosen.view(m, n))
                continue
            P, Q = chosen[: m * rank].view(m, rank), chosen[m * rank :].view(rank, n)
            # Added one by one, so that sender and receiver round alike.
            for c in range(rank):
                M.add_(P[:, c : c + 1] * Q[c])
        return row


def _factored(part: tuple[int, int], rank: int) -> bool:
    m, n = part
    return rank * (m + n) < m * n


def _numbers(part: tuple[int, int], rank: int) -> int:
    m, n = part
    return rank * (m + n) if _factored(part, rank) else m * n
