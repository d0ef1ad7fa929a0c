"""The discrete Gaussian: its law and moments, from a key."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pser.gossip.agreement.noise import Stream, discrete_gaussian

KEY = bytes(range(32))


@pytest.mark.parametrize("log_scale", [0, 1, 2])
def test_the_samples_follow_the_law(log_scale: int) -> None:
    scale, size = 2.0**log_scale, 400_000
    drawn = discrete_gaussian(Stream(KEY, b"law"), size, log_scale)
    values = np.arange(-12 * 2**log_scale, 12 * 2**log_scale + 1)
    law = np.exp(-(values**2) / (2.0 * scale**2))
    law /= law.sum()
    counts = np.array([(drawn == value).sum() for value in values])
    assert counts.sum() == size
    often = law * size > 10
    # Chi-square with n - 1 degrees of freedom: mean n - 1, standard deviation sqrt(2 (n - 1)).
    chi = ((counts - law * size) ** 2 / (law * size))[often].sum()
    freedom = often.sum() - 1
    assert chi < freedom + 4.0 * math.sqrt(2.0 * freedom)


@pytest.mark.parametrize("log_scale", [2, 22, 25])
def test_the_moments_are_those_of_the_scale(log_scale: int) -> None:
    size = 400_000
    drawn = discrete_gaussian(Stream(KEY, b"moments"), size, log_scale) / 2.0**log_scale
    assert len(drawn) == size
    assert abs(drawn.mean()) < 4.0 / math.sqrt(size)
    assert abs(drawn.var() - 1.0) < 4.0 * math.sqrt(2.0 / size)
    assert abs((drawn**4).mean() - 3.0) < 4.0 * math.sqrt(96.0 / size)


def test_known_samples_are_the_same_everywhere() -> None:
    assert discrete_gaussian(Stream(KEY, b"known"), 6, 3).tolist() == [4, -3, 2, 12, 0, 0]


def test_another_key_or_purpose_gives_other_noise() -> None:
    ways = [(KEY, b"a"), (KEY[::-1], b"a"), (KEY, b"b")]
    drawn = [discrete_gaussian(Stream(*way), 1000, 22) for way in ways]
    assert all(abs(np.corrcoef(drawn[i], drawn[j])[0, 1]) < 0.2 for i, j in [(0, 1), (0, 2), (1, 2)])
    assert discrete_gaussian(Stream(KEY, b"a"), 0, 22).shape == (0,)
