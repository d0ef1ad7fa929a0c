"""The eigenvalues of a mixing matrix, which give the speed of gossip.

With slem = max(|lambda_2|, |lambda_N|), the second largest eigenvalue modulus of W, each exchange shrinks the
distance to consensus at least by that factor (Boyd et al. 2006, "Randomized gossip algorithms"): in the
Euclidean norm where W is symmetric, in the pi-norm, ||x||^2 = sum_i pi_i x_i^2, where it is reversible.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from p2pser.base.errors import TopologyError
from p2pser.graph.sparse import Sparse
from p2pser.graph.translations import convolution

DENSE_UP_TO = 512
"""Peers up to which eigenvalues are those of a dense matrix: all of them, and the same bits everywhere."""
EPSILON = 1e-6
"""The fraction of the first distance at which gossip counts as converged."""
_ZERO = 1e-12
"""Eigenvalues below this are rounding errors."""


def stationary(W: np.ndarray) -> np.ndarray:
    """Return pi, (N,) float64 summing to 1, with pi^T W = pi^T, for the (N, N) W of a connected graph."""
    size = len(W)
    system = np.vstack([W.T - np.eye(size), np.ones((1, size))])
    target = np.zeros(size + 1)
    target[-1] = 1.0
    solution: np.ndarray = np.linalg.lstsq(system, target, rcond=None)[0]
    return solution


def _moduli(W: np.ndarray, pi: np.ndarray | None) -> np.ndarray:
    """Return the moduli of W's eigenvalues, descending."""
    W = np.asarray(W, dtype=np.float64)
    if pi is None and np.allclose(W, W.T, rtol=0, atol=1e-13):
        root = np.ones(len(W))
    else:
        share = stationary(W) if pi is None else np.asarray(pi, dtype=np.float64)
        root = np.sqrt(share / share.sum())
    # D^(1/2) W D^(-1/2) is symmetric for a reversible chain and has W's eigenvalues.
    balanced = root[:, None] * W / root[None, :]
    moduli: np.ndarray = np.sort(np.abs(np.linalg.eigh((balanced + balanced.T) / 2)[0]))[::-1]
    return moduli


def slem(W: np.ndarray | Sparse, pi: np.ndarray | None = None) -> float:
    """Return the second largest eigenvalue modulus of an (N, N) mixing matrix; 0.0 for one peer.

    ``pi``: the (N,) stationary distribution of a reversible W (clip weights); computed from W if not given. A sparse W
    of more than ``DENSE_UP_TO`` peers is taken for symmetric without it.
    """
    if len(W) < 2:
        return 0.0
    if isinstance(W, Sparse):
        if W.size > DENSE_UP_TO:
            return _sparse_slem(W, pi)
        W = W.dense()
    # The eigenvalue 1 of a connected graph is the largest and simple; -1 is not reached as W_ii > 0.
    value = float(_moduli(W, pi)[1])
    return 0.0 if value < _ZERO else value


def _sparse_slem(W: Sparse, pi: np.ndarray | None) -> float:
    """Return the slem of a symmetric or reversible W from its entries; W's eigenvalue 1 is simple."""
    same = convolution(W) if pi is None else None
    if same is not None:
        value = float(np.sort(np.abs(same.eigenvalues))[-2])
        return 0.0 if value < _ZERO else value
    from scipy.sparse import diags
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    root = np.ones(W.size) if pi is None else np.sqrt(np.asarray(pi, dtype=np.float64))
    root = root / np.linalg.norm(root)
    balanced = diags(root) @ W.csr() @ diags(1 / root)
    balanced = ((balanced + balanced.T) / 2).tocsr()
    away = LinearOperator(balanced.shape, lambda x: balanced @ x - root * (root @ x), dtype=np.float64)
    # A deterministic start: ARPACK's own differs from call to call.
    start = np.random.Generator(np.random.Philox(W.size)).normal(size=W.size)
    start -= root * (root @ start)
    try:
        values = eigsh(away, k=1, which="LM", v0=start, ncv=min(W.size - 1, 96), maxiter=400, tol=1e-11,
                       return_eigenvectors=False)
    except ArpackNoConvergence:
        values = _near_one(balanced, start)
    value = abs(float(values[0]))
    return 0.0 if value < _ZERO else value


def _near_one(balanced: Any, start: np.ndarray) -> np.ndarray:
    """Return the second largest eigenvalue by inverse iteration: many are close to 1, as those of a long chain."""
    from scipy.sparse import identity
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    try:
        values: np.ndarray = eigsh(balanced, k=2, sigma=1 + 1e-9, which="LM", v0=start, return_eigenvectors=False,
                                   OPinv=_solver(balanced - (1 + 1e-9) * identity(balanced.shape[0])))
    except ArpackNoConvergence:
        raise TopologyError(f"the second largest eigenvalue of {balanced.shape[0]} peers' weights was not found: take "
                            "a topology that mixes faster") from None
    return np.sort(values)[:1]


def _solver(matrix: Any) -> Any:
    from scipy.sparse.linalg import LinearOperator, splu

    return LinearOperator(matrix.shape, splu(matrix.tocsc()).solve, dtype=np.float64)


def second(W: np.ndarray) -> float:
    """Return the second largest eigenvalue modulus of any (N, N) stochastic matrix, reversible or not."""
    if len(W) < 2:
        return 0.0
    value = float(np.sort(np.abs(np.linalg.eigvals(W)))[-2])
    return 0.0 if value < _ZERO else value


def rounds_to(eps: float, slem: float) -> int | None:
    """Return the number of exchanges after which the distance to consensus is at most ``eps`` of the first one.

    The smallest k with slem^k <= eps; None where slem >= 1: never.

    >>> rounds_to(1e-6, 0.5)
    20
    """
    if eps >= 1:
        return 0
    if slem >= 1:
        return None
    if slem <= eps:
        return 1
    return math.ceil(math.log(eps) / math.log(slem) - 1e-12)
