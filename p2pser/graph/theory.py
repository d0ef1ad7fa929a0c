"""Convergence of gossip on a topology, schedules included, in theory and measured from a random start.

The distance to consensus of rows X is ||X - 1 mean(X)||. With doubly stochastic W_t, exchanges 1 … t reduce it at
least to the fraction ||W_t … W_1 - 11^T/N||_2, the largest singular value on the disagreement space, which some initial
X attains. Where only rows or only columns sum to 1, the limit is another mean (or, with push-sum, a ratio), and the
asymptotic rate is the second largest eigenvalue modulus of the product over one period. Random schedules have a
mean-square rate: the square root of the largest eigenvalue of E[W^T (I - 11^T/N) W] on the disagreement space (Boyd et
al. 2006), estimated over draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from p2pser.base import seeding
from p2pser.graph import spectral
from p2pser.graph.schedule import Alternating
from p2pser.graph.schedules import Random
from p2pser.graph.spec import Topology
from p2pser.graph.spectral import EPSILON

DRAWS = 100
"""The number of exchanges over which the rate of a random schedule is estimated, up to 200 peers."""
EXACT = 1e-12
"""Smaller distances are rounding errors: consensus is exact."""
PATIENCE = 20_000
"""A measurement stops after this number of exchanges."""


@dataclass(frozen=True)
class Convergence:
    """The speed at which gossip on a topology reaches consensus."""

    period: int | None
    """The number of exchanges after which the schedule repeats; 1: static; None: random."""
    contraction: float
    """The factor of the distance to consensus over one period (one exchange where there is none); 0: exact."""
    means: Literal["exact", "asymptotic", "estimated"]
    """``exact``: the norm; ``asymptotic``: the modulus of an eigenvalue; ``estimated``: mean-square, over draws."""
    per_exchange: float
    """The geometric mean of ``contraction`` over the period's exchanges."""
    finite_time: int | None
    """The number of exchanges to exact consensus; None where one period does not reach it."""
    rounds: int | None
    """The number of exchanges to ``EPSILON`` of the first distance; None: never."""


def distance(P: np.ndarray) -> float:
    """Return ||P - 11^T/N||_2 of an (N, N) matrix; 0.0 where it is rounding."""
    value = float(np.linalg.norm(P - 1 / len(P), 2))
    return 0.0 if value < EXACT else value


@lru_cache(maxsize=16)
def convergence(topology: Topology) -> Convergence:
    """Return the speed of gossip on a topology."""
    schedule = topology.schedule
    period = 1 if schedule is None else schedule.period
    if period is None:
        rate = _mean_square(topology)
        return Convergence(None, rate, "estimated", rate, None, spectral.rounds_to(EPSILON, rate))
    product, reached, finite = np.eye(topology.size), None, None
    for t in range(period):
        product = topology.matrix(t) @ product
        left = distance(product)
        reached = t + 1 if reached is None and left <= EPSILON else reached
        finite = t + 1 if finite is None and left == 0.0 else finite
    if topology.stochastic != "doubly":
        factor = spectral.second(product)
        each = factor ** (1 / period)
        return Convergence(period, factor, "asymptotic", each, finite, spectral.rounds_to(EPSILON, each))
    factor = distance(product)
    rounds = reached if reached is not None else _rounds(product, period, topology.matrix)
    return Convergence(period, factor, "exact", factor ** (1 / period), finite, rounds)


def _rounds(product: np.ndarray, period: int, matrix: Callable[[int], np.ndarray]) -> int | None:
    """Return the fewest exchanges to EPSILON, where one period does not suffice: by powers of its product, then single
    exchanges.
    """
    powers = [product]  # product^(2^k)
    while distance(powers[-1]) > EPSILON:
        if len(powers) > 50 or distance(powers[-1]) >= 1 - EXACT:
            return None
        powers.append(powers[-1] @ powers[-1])
    whole, periods = np.eye(len(product)), 0
    for k in reversed(range(len(powers) - 1)):
        further = powers[k] @ whole
        if distance(further) > EPSILON:
            whole, periods = further, periods + 2**k
    t = periods * period
    while distance(whole) > EPSILON:
        whole = matrix(t) @ whole
        t += 1
    return t


def _mean_square(topology: Topology) -> float:
    schedule, size = topology.schedule, topology.size
    if size < 2:
        return 0.0
    if isinstance(schedule, Random):  # invariant to permutations of peers, so all eigenvalues equal their mean
        squares = [float((_centred(topology.matrix(t)) ** 2).sum()) for t in range(_draws(size))]
        return float(np.sqrt(np.mean(squares) / (size - 1)))
    turn = schedule.turn if isinstance(schedule, Alternating) else 1  # a sequence with random parts: turn by turn
    mean = np.zeros((size, size))
    for start in range(0, turn * _draws(size), turn):
        product = np.eye(size)
        for t in range(start, start + turn):
            product = topology.matrix(t) @ product
        mean += _centred(product).T @ _centred(product) / _draws(size)
    return float(np.linalg.eigvalsh(mean)[-1] ** (0.5 / turn))


def _draws(size: int) -> int:
    """Return the number of exchanges of an estimate: fewer for many peers, whose matrices vary less."""
    return max(10, min(DRAWS, 20_000 // size))


def _centred(W: np.ndarray) -> np.ndarray:
    """Return (I - J) W (I - J), J = 11^T/N: W on the disagreement space."""
    half = W - W.mean(axis=0, keepdims=True)
    centred: np.ndarray = half - half.mean(axis=1, keepdims=True)
    return centred


def measured(topology: Topology, seed: int = 0) -> int | None:
    """Return the number of exchanges from a normal random start (N, 16) to ``EPSILON`` of its first distance.

    Column-stochastic topologies are measured as push-sum: by the distance of rows divided by weights to the initial
    mean. Row-stochastic ones by the distance to the current mean. None where PATIENCE is exceeded.
    """
    start = seeding.generator(seed, "measured convergence").normal(size=(topology.size, 16))
    pushed = topology.stochastic == "column"
    x, weight = start, np.ones((topology.size, 1))

    def apart() -> float:
        rows = x / weight
        return float(np.linalg.norm(rows - (start if pushed else rows).mean(axis=0)))

    first = apart()
    for t in range(PATIENCE + 1):
        if apart() <= EPSILON * first:
            return t
        W = topology.matrix(t)
        x = W @ x
        weight = W @ weight if pushed else weight
    return None


def messages(topology: Topology) -> np.ndarray:
    """Return the number of messages that each peer sends in each exchange of a period (random: of some exchanges),
    (T, N) int64.
    """
    schedule = topology.schedule
    period = 1 if schedule is None else schedule.period
    used = [topology.matrix(t) != 0 for t in range(_draws(topology.size) if period is None else period)]
    return np.array([links.sum(axis=0) - links.diagonal() for links in used], dtype=np.int64)


def chebyshev(k: np.ndarray, slem: float) -> np.ndarray:
    """Return the worst-case contraction after k exchanges of the Chebyshev semi-iteration: 1 / T_k(1 / slem).

    k : integers >= 0. slem : in (0, 1). Golub and Varga, Numerische Mathematik 3 (1961), with
    rho = slem / (1 + sqrt(1 - slem^2)): 2 rho^k / (1 + rho^(2k)).
    """
    rho = slem / (1 + np.sqrt(1 - slem**2))
    return np.asarray(2 * rho**k / (1 + rho ** (2 * k)))
