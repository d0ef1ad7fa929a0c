"""Products of a row's matrices with one vector each, and the rank-1 rows that these span.

The parts of a row are those of ``wire.low_rank.matrices``; a part (n, 1) is no matrix: it has no vector and is its own
product. side 0: the vectors are right of the matrices (n numbers each), side 1: left (m numbers each). The vectors and
products of all parts are concatenated in one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from p2pser.base import seeding

Parts: TypeAlias = tuple[tuple[int, int], ...]


def length(parts: Parts, side: int) -> int:
    """Return the length of all vectors of a side."""
    return sum((m if side else n) for m, n in parts if n > 1)


def project(row: Tensor, vectors: Tensor, parts: Parts, side: int) -> Tensor:
    """Return M v (M^T v on the left) of every matrix of a row (D,), and the other parts as they are."""
    products = []
    for M, v in _walk(row, vectors, parts, side):
        products.append(M[:, 0] if v is None else (M.T if side else M) @ v)
    return torch.cat(products)


def expand(products: Tensor, vectors: Tensor, parts: Parts, side: int) -> Tensor:
    """Return the row (D,) whose matrices are p v^T (v p^T on the left) of their products p; other parts as they are."""
    row = torch.empty(sum(m * n for m, n in parts), dtype=products.dtype)
    for (M, v), p in zip(_walk(row, vectors, parts, side), torch.split(products, _sizes(parts, side))):
        if v is None:
            M[:, 0] = p
        else:
            torch.mul(v[:, None] if side else p[:, None], p[None] if side else v[None], out=M)
    return row


def turn(products: Tensor, parts: Parts, side: int, spare: Callable[[], Tensor]) -> Tensor:
    """Return the other side's vectors: the products at unit length, or those of ``spare()`` where a product is 0."""
    vectors, start, at, instead = [products[:0]], 0, 0, None
    for (_, n), size in zip(parts, _sizes(parts, side)):
        p, start = products[start : start + size], start + size
        if n > 1:
            norm = torch.linalg.vector_norm(p)
            if norm > 0:
                vectors.append(p / norm)
            else:
                instead = spare() if instead is None else instead
                vectors.append(instead[at : at + size])
            at += size
    return torch.cat(vectors)


def drawn(seed: int, edge: tuple[int, int], t: int, parts: Parts, side: int, dtype: torch.dtype) -> Tensor:
    """Return random unit vectors, the same at both ends of an edge in exchange ``t``."""
    draw = seeding.generator(seed, f"power-gossip.{min(edge)}.{max(edge)}", round=t)
    vectors = torch.from_numpy(draw.standard_normal(length(parts, side))).to(dtype)
    sizes = [m if side else n for m, n in parts if n > 1]
    return torch.cat([vectors[:0], *(v / torch.linalg.vector_norm(v) for v in torch.split(vectors, sizes))])


def _sizes(parts: Parts, side: int) -> list[int]:
    """Return the length of each part's product."""
    return [m if n == 1 else (n if side else m) for m, n in parts]


def _walk(row: Tensor, vectors: Tensor, parts: Parts, side: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield each part (m, n) as a view of the row, with its vector (None for a part without matrix)."""
    start = at = 0
    for m, n in parts:
        M, start = row[start : start + m * n].view(m, n), start + m * n
        v = None
        if n > 1:
            v, at = vectors[at : at + (m if side else n)], at + (m if side else n)
        yield M, v
