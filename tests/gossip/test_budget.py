"""The accountant's figures, the noise that a budget needs, and the sensitivity of what is summed."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.gossip.agreement import budget as module
from p2pser.gossip.agreement.budget import Budget


def budget(*settings: str, peers: int = 8) -> Budget:
    made = Budget.of(Config().with_settings(["privacy.epsilon=8", "privacy.unit=site", *settings]), peers)
    assert made is not None
    return made


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Delta of one Gaussian (Balle and Wang, ICML 2018, theorem 8)."""
    normal = NormalDist().cdf
    return normal(0.5 / noise - epsilon * noise) - math.exp(epsilon) * normal(-0.5 / noise - epsilon * noise)


def test_a_gaussian_costs_what_the_literature_says() -> None:
    one = module._epsilon(1.0, ((1.0, 1),), 1e-5)
    assert one == pytest.approx(4.3772, abs=1e-3)
    assert gaussian_delta(one, 1.0) == pytest.approx(1e-5, rel=1e-3)
    assert module._epsilon(1.0, ((2.0, 4),), 1e-5) == pytest.approx(one, abs=1e-3)
    assert module._epsilon(1.0, ((math.sqrt(2), 1), (math.sqrt(2), 1)), 1e-5) == pytest.approx(one, abs=1e-3)


def test_sampled_rounds_cost_less_than_the_moments_accountant_says() -> None:
    """Abadi et al., CCS 2016, section 5.1: q = .01, noise 4, delta 1e-5, 10,000 steps: epsilon 1.26; Renyi: 1.01."""
    tight = module._epsilon(0.01, ((4.0, 10_000),), 1e-5)
    assert tight == pytest.approx(0.960, abs=2e-3)
    assert tight < 1.26


def test_the_noise_is_the_least_that_the_budget_allows() -> None:
    made = budget("training.rounds=40", peers=24)
    assert made.noise == pytest.approx(2.934, abs=3e-3)
    assert made.delta == 1 / 576
    assert 7.98 < made.spent([24] * 40, made.colluding) <= 8.0
    assert made.allows([24] * 40)
    assert not made.allows([24] * 41)
    assert made.spent([24] * 41, made.colluding) > 8.0


def test_sampling_needs_less_noise() -> None:
    sampled = budget("training.rounds=40", "privacy.sampling=0.2", peers=24)
    assert sampled.noise == pytest.approx(0.846, abs=2e-3)
    assert sampled.spent([24] * 40, sampled.colluding) <= 8.0


def test_who_knows_shares_of_the_noise_learns_more_and_absent_peers_add_none() -> None:
    made = budget("training.rounds=10", peers=9)
    assert made.colluding == 4
    outsider, alone, four = (made.spent([9] * 10, known) for known in (0, 1, 4))
    assert outsider < alone < four <= 8.0
    # 5 shares of 9 are unknown to the four; 3 of 7.
    assert made.spent([7] * 10, 4) == pytest.approx(
        module._epsilon(1.0, ((made.noise * math.sqrt(3 / 5), 10),), made.delta - made.slack), abs=1e-6)
    assert made.spent([7] * 10, 4) > 8.0
    assert made.spent([4], 4) == math.inf
    assert not made.allows([9] * 9 + [4])
    assert made.allows([9] * 5 + [7] * 3)
    assert made.report([9] * 9 + [4])["epsilon_neighbour"] is None


def test_the_report_names_the_worst_roster_and_both_readers() -> None:
    made = budget("privacy.noise=3", "privacy.colluding=2", peers=6)
    report = made.report([6, 6, 5])
    assert report["rounds"] == 3
    assert report["least_peers"] == 5
    assert report["colluding"] == 2
    assert report["epsilon_model"] < report["epsilon_neighbour"] < 8.0
    assert made.report([])["epsilon_neighbour"] == 0.0
    assert budget("privacy.noise=0.01").report([8])["epsilon_model"] is None


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=40), st.floats(1e-3, 1e3),
       st.sampled_from([0.5, 3.0]))
def test_no_update_is_longer_than_the_norm(update: list[float], norm: float, noise: float) -> None:
    made = budget(f"privacy.norm={norm}", f"privacy.noise={noise}")
    whole = made.integers(np.array(update))
    limit = Fraction(made.norm) * Fraction(made.scale)
    assert sum(int(value) ** 2 for value in whole) <= limit**2
    if 1e-3 < np.linalg.norm(update) <= norm:
        assert np.abs(whole / made.scale - update).max() <= 2.0 / made.scale


def test_a_rounded_gaussian_and_a_discrete_one_are_as_near_as_assumed() -> None:
    for scale in (1.0, 2.0, 4.0):
        values = np.arange(-12 * int(scale), 12 * int(scale) + 1)
        law = np.exp(-(values**2) / (2 * scale**2))
        law /= law.sum()
        normal = NormalDist(0.0, scale).cdf
        rounded = np.array([normal(value + 0.5) - normal(value - 0.5) for value in values])
        kept = rounded > 1e-30
        assert 0 < (law[kept] * np.log(law[kept] / rounded[kept])).sum() < 1 / (500 * scale**4)


@pytest.mark.parametrize(("settings", "words"), [
    (["privacy.unit=speaker"], "set privacy.units"),
    (["privacy.delta=0.02"], "set at most 1 / 8"),
    (["privacy.colluding=8"], "set at most 7"),
    (["privacy.unit=clip", "privacy.units=100000", "privacy.epsilon=16"], "smaller privacy.epsilon"),
])
def test_budgets_that_promise_nothing_are_refused(settings: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        budget(*settings)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"pip install 'p2pser\[privacy\]'"):
        module._epsilon(1.0, ((1.25, 3),), 1e-5)


def test_without_epsilon_there_is_no_budget() -> None:
    assert Budget.of(Config(), 8) is None
