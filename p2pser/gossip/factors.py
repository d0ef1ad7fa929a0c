"""Products of a row's matrices with vectors, one a matrix, and the rank-1 rows that these span.

The parts of a row are those of ``wire.low_rank.matrices``; a part (n, 1) is no matrix: it has no vector and stands for
itself. side 0: vectors stand right of the matrices (n numbers each), 1: left (m numbers each). Vectors and products
of all parts lie in one tensor, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from p2pser.base import seeding

Parts: TypeAlias = tuple[tuple[int, int], ...]


def length(parts: Parts, side: int) -> int:
    """Return how many numbers the vectors of a side have."""
    return sum((m if side else n) for m, n in parts if n > 1)


def products_length(parts: Parts, side: int) -> int:
    """Return how many numbers the products with a side's vectors have: as the other side's, and what is no matrix."""
    return length(parts, 1 - side) + sum(m for m, n in parts if n == 1)


def project(row: Tensor, vectors: Tensor, parts: Parts, side: int) -> Tensor:
    """Return M v (M^T v on the left) of every matrix of a row (D,), and what is no matrix as it is."""
    found = []
    for M, v, _ in _walk(row, vectors, None, parts, side):
        found.append(M[:, 0] if v is None else (M.T if side else M) @ v)
    return torch.cat(found)


def expand(products: Tensor, vectors: Tensor, parts: Parts, side: int) -> Tensor:
    """Return the row (D,) whose matrices are p v^T (v p^T on the left), p their products; the rest as it is."""
    row = torch.empty(sum(m * n for m, n in parts), dtype=products.dtype)
    for M, v, p in _walk(row, vectors, products, parts, side):
        assert p is not None
        if v is None:
            M[:, 0] = p
        else:
            torch.mul(v[:, None] if side else p[:, None], p[None] if side else v[None], out=M)
    return row


def turn(products: Tensor, parts: Parts, side: int, spare: Tensor) -> Tensor:
    """Return the other side's vectors, of unit length, in the direction of the products; ``spare`` where that is 0."""
    found, start, at = [spare[:0]], 0, 0
    for m, n in parts:
        size = m if n == 1 else (n if side else m)
        p, start = products[start : start + size], start + size
        if n > 1:
            norm = torch.linalg.vector_norm(p)
            found.append(p / norm if norm > 0 else spare[at : at + size])
            at += size
    return torch.cat(found)


def drawn(seed: int, edge: tuple[int, int], t: int, parts: Parts, side: int, dtype: torch.dtype) -> Tensor:
    """Return random unit vectors that both ends of an edge draw alike in exchange ``t``."""
    draw = seeding.generator(seed, f"power-gossip.{min(edge)}.{max(edge)}", round=t)
    vectors = torch.from_numpy(draw.standard_normal(length(parts, side))).to(dtype)
    sizes = [m if side else n for m, n in parts if n > 1]
    return torch.cat([vectors[:0], *(v / torch.linalg.vector_norm(v) for v in torch.split(vectors, sizes))])


def _walk(
    row: Tensor, vectors: Tensor, products: Tensor | None, parts: Parts, side: int
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Yield each part (m, n) as a view of the row, its vector (None where it is no matrix), and its products."""
    start = at = end = 0
    for m, n in parts:
        M, start = row[start : start + m * n].view(m, n), start + m * n
        v = None
        if n > 1:
            v, at = vectors[at : at + (m if side else n)], at + (m if side else n)
        size = m if n == 1 else (n if side else m)
        p = None if products is None else products[end : end + size]
        end += size
        yield M, v, p
