"""The eigenvalues of a mixing matrix: how fast gossip reaches consensus.

With slem = max(|lambda_2|, |lambda_N|), the second largest eigenvalue modulus of W, each exchange shrinks the
distance to consensus at least by that factor (Boyd et al. 2006, "Randomized gossip algorithms"): in the
Euclidean norm where W is symmetric, in the pi-norm, ||x||^2 = sum_i pi_i x_i^2, where it is reversible.
"""

from __future__ import annotations

import math

import numpy as np

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


def slem(W: np.ndarray, pi: np.ndarray | None = None) -> float:
    """Return the second largest eigenvalue modulus of an (N, N) mixing matrix; 0.0 for one peer.

    ``pi``: the (N,) stationary distribution of a reversible W (clip weights); computed from W if not given.
    """
    if len(W) < 2:
        return 0.0
    # The eigenvalue 1 of a connected graph is the largest and simple; -1 is not reached as W_ii > 0.
    value = float(_moduli(W, pi)[1])
    return 0.0 if value < _ZERO else value


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
