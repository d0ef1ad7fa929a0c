"""What the sums of a run reveal of one unit, in (epsilon, delta), and how much noise keeps that within a budget.

In each round every peer adds up the updates of its drawn units, each of L2 norm ``norm`` at most, as integers, and adds
a share of discrete Gaussian noise; of m shares the ``colluding`` peers can subtract their own. So a unit is hidden by
the noise of the m - t others, and the round is a Gaussian mechanism, of Poisson-sampled units, with a noise multiplier
that is known once m is. Rounds compose (adjacent data sets differ by one unit, which is there or not).

The accountant is that of ``dp-accounting``: privacy loss distributions (S. Meiser, E. Mohammadi, CCS 2018; V.
Doroshenko et al., "Connect the Dots", PoPETs 2022); without sampling, where the rounds are one Gaussian, the formula of
B. Balle and Y.-X. Wang (ICML 2018). It takes the noise for a Gaussian rounded to integers, which is one that is
processed afterwards. The discrete Gaussian differs from that in KL by less than 1 / (500 s^4) a number (s: its scale in
integers), which is taken off delta (``slack``); a sum of shares differs from one discrete Gaussian by less than
exp(-s^2) (P. Kairouz, Z. Liu, T. Steinke, ICML 2021).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import ConfigError
from p2pser.base.frames import finite
from p2pser.config import Config

LOG_SCALES = (22, 25)
"""A peer's share of the noise has the scale 2^22 in integers, or 2^25 where ``slack`` would be too large."""
NUMBERS = 2**24
"""The most parameters of a model for which ``slack`` is computed."""
STEP = 1e-3
"""The grid of privacy losses: coarser grids give a larger epsilon, never a smaller one."""
NO_BOUND = 1000.0
"""Rounds divided by the squared multiplier from which on no epsilon is computed: unsampled it would be 300 and more."""


@dataclass(frozen=True)
class Budget:
    """The budget of a run.

    Parameters
    ----------
    epsilon, delta : what a unit's privacy loss may reach.
    unit : what is hidden: clip, speaker or site.
    units : how many there are at all peers; a public number.
    norm : the largest norm of a unit's update.
    sampling : the probability with which a unit is drawn in a round.
    rounds, peers : of the run.
    colluding : peers that put together what they know.
    multiplier : standard deviation of the noise that ``peers`` - ``colluding`` shares make, in multiples of ``norm``;
        None: what ``rounds`` rounds of all peers need.
    """

    epsilon: float
    delta: float
    unit: str
    units: int
    norm: float
    sampling: float
    rounds: int
    peers: int
    colluding: int
    multiplier: float | None = None

    @classmethod
    def of(cls, config: Config, peers: int) -> Budget | None:
        """Return the budget that the settings ask for, or None.

        Raises ConfigError where a setting is missing, or delta is too small for the noise's integers.
        """
        privacy = config.privacy
        if privacy.epsilon is None:
            return None
        units = peers if privacy.unit == "site" else privacy.units
        if units is None:
            raise ConfigError(f"privacy.epsilon counts {privacy.unit}s, and no setting says how many there are at all "
                              f"peers together: set privacy.units, a number that everybody may know, or "
                              "privacy.unit=site")
        delta = 1.0 / max(units, 2) ** 2 if privacy.delta is None else privacy.delta
        if delta > 1.0 / units**2:
            raise ConfigError(f"privacy.delta={delta:g} would let a run reveal one of {units} {privacy.unit}s as a "
                              f"whole: set at most 1 / {units}^2 = {1 / units**2:.3g}, or leave it out")
        colluding = (peers - 1) // 2 if privacy.colluding is None else privacy.colluding
        if colluding >= peers:
            raise ConfigError(f"privacy.colluding={colluding} leaves no peer of {peers} whose noise nobody else knows: "
                              f"set at most {peers - 1}")
        budget = cls(privacy.epsilon, delta, privacy.unit, units, privacy.norm, privacy.sampling,
                     max(1, config.training.rounds), peers, colluding, privacy.noise)
        if budget.slack > delta / 10:
            raise ConfigError(f"privacy.delta={delta:g} with privacy.epsilon={privacy.epsilon:g} is finer than the "
                              "integers of the noise: set a smaller privacy.epsilon")
        return budget

    @cached_property
    def noise(self) -> float:
        """The noise multiplier of a round of all peers."""
        if self.multiplier is not None:
            return self.multiplier
        return _calibrated(self.epsilon, self.delta - self.slack, self.sampling, self.rounds)

    @cached_property
    def log_scale(self) -> int:
        """log2 of the scale of a share of the noise, in integers."""
        return next((scale for scale in LOG_SCALES if self._slack(scale) <= self.delta / 10), LOG_SCALES[-1])

    @property
    def slack(self) -> float:
        """What the discrete noise adds to delta at most (Pinsker's inequality over all numbers and rounds)."""
        return self._slack(self.log_scale)

    def _slack(self, log_scale: int) -> float:
        apart = math.sqrt(NUMBERS * self.rounds / 1000.0) / 4.0**log_scale
        return (1.0 + math.exp(min(self.epsilon, 100.0))) * apart

    @cached_property
    def scale(self) -> float:
        """An update times this is what is rounded to integers."""
        return 2.0**self.log_scale * math.sqrt(self.peers - self.colluding) / (self.noise * self.norm)

    @property
    def largest(self) -> float:
        """The largest magnitude of a number in a total: beyond that it is no sum of updates and noise."""
        return self.units * self.norm * self.scale + 16.0 * 2.0**self.log_scale * math.sqrt(self.peers)

    def integers(self, update: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return a unit's update (D,) as integers whose L2 norm is at most ``norm`` times ``scale``, whatever it is."""
        size = float(np.linalg.norm(update))
        if not size > 0.0:
            return np.zeros(len(update), dtype=np.int64)
        # A little less, for the rounding of this product; towards zero, so that no rounding lengthens the vector.
        within = min(1.0, self.norm / size) * (self.scale * (1.0 - 2.0**-40))
        return np.trunc(update * within).astype(np.int64)

    def decode(self, total: NDArray[np.float64], roster: int) -> NDArray[np.float64]:
        """Return the mean update (D,) of a total (D,) over ``roster`` peers: the divisor is a public number."""
        mean: NDArray[np.float64] = total / (self.scale * self.sampling * self.units * roster / self.peers)
        return mean

    def spent(self, rosters: Iterable[int], colluding: int) -> float:
        """Return epsilon at ``delta`` after rounds with these numbers of peers, against ``colluding`` of them.

        It is inf where these know all the noise of a round, or the noise is next to none.
        """
        rounds = Counter(max(0, size - colluding) for size in rosters)
        if not rounds:
            return 0.0
        if 0 in rounds:
            return math.inf
        share = self.noise / math.sqrt(self.peers - self.colluding)
        return _epsilon(self.sampling, tuple(sorted((share * math.sqrt(others), times)
                                                    for others, times in rounds.items())), self.delta - self.slack)

    def allows(self, rosters: Iterable[int]) -> bool:
        """Return whether rounds with these numbers of peers stay within the budget."""
        given = tuple(rosters)
        if self.multiplier is None and len(given) <= self.rounds and set(given) <= {self.peers}:
            return True  # the noise was chosen for this
        return self.spent(given, self.colluding) <= self.epsilon

    def report(self, rosters: Iterable[int]) -> dict[str, float | int | str | None]:
        """Return the budget as a model's card has it: epsilon against neighbours, and against a user of the model."""
        given = tuple(rosters)
        return {"unit": self.unit, "units": self.units, "budget": self.epsilon, "delta": self.delta,
                "epsilon_neighbour": finite(self.spent(given, self.colluding)),
                "epsilon_model": finite(self.spent(given, 0)), "colluding": self.colluding, "noise": self.noise,
                "norm": self.norm, "sampling": self.sampling, "rounds": len(given),
                "least_peers": min(given, default=0)}


@lru_cache(maxsize=256)
def _epsilon(sampling: float, rounds: tuple[tuple[float, int], ...], delta: float) -> float:
    """Return epsilon after rounds, each (noise multiplier, times); inf beyond ``NO_BOUND``.

    Raises ConfigError where dp-accounting is missing.
    """
    try:
        import dp_accounting as dp
        from dp_accounting.pld import PLDAccountant
    except ImportError:
        raise ConfigError("privacy.epsilon needs the package dp-accounting: pip install 'p2pser[privacy]'") from None
    if max(times / noise**2 for noise, times in rounds) > NO_BOUND:
        return math.inf
    if sampling == 1.0:  # Gaussians compose to one, of which epsilon is known in closed form
        return float(dp.get_epsilon_gaussian(1.0 / math.sqrt(sum(times / noise**2 for noise, times in rounds)), delta))
    accountant = PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=STEP)
    for noise, times in rounds:
        accountant.compose(dp.PoissonSampledDpEvent(sampling, dp.GaussianDpEvent(noise)), times)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=64)
def _calibrated(epsilon: float, delta: float, sampling: float, rounds: int) -> float:
    """Return the smallest noise multiplier, but for a thousandth, with which ``rounds`` rounds stay within epsilon."""
    low, high = 0.0, 1.0
    while _epsilon(sampling, ((high, rounds),), delta) > epsilon:
        low, high = high, 2.0 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2.0
        if _epsilon(sampling, ((middle, rounds),), delta) > epsilon:
            low = middle
        else:
            high = middle
    return high
