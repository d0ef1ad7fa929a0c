"""Recordings from elsewhere: their common statistics serve, and clips that lie far flatten probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser.features.normalisation import Statistics, known_by, statistics
from p2pser.features.unlike import FEWEST, FLATTENING, conditions, distances, doubt, flattening

TRAINING = Statistics(500.0, np.full(40, 3.0), np.full(40, 2.0))


def clips(count: int, shift: float = 0.0) -> np.ndarray:
    return (3.0 + 2.0 * (np.random.default_rng(0).normal(size=(count, 40)) + shift)).astype(np.float32)


def test_common_statistics_serve_for_recordings_from_elsewhere_alone() -> None:
    assert conditions(clips(20), TRAINING) is None
    found = conditions(clips(20, 2.0), TRAINING)
    assert found is not None
    assert found.heard == 0  # no statement about one speaker
    np.testing.assert_array_equal(found.mean, known_by(clips(20, 2.0), TRAINING).mean)
    np.testing.assert_allclose(found.mean, 7.0, atol=1.5)
    assert conditions(clips(FEWEST - 1, 5.0), TRAINING) is None
    assert conditions(np.zeros((9, 40, 5), np.float32), TRAINING) is None


def test_a_temperature_says_less_of_speakers_who_are_unlike() -> None:
    found = [doubt(known_by(clips(10, shift), TRAINING)) for shift in (0.0, 0.75, 3.0)]
    assert found[0] == 0.0
    assert 0.0 < found[1] < 1.0 == found[2]
    assert doubt(TRAINING) == 0.0


def test_logits_are_divided_by_more_the_further_a_clip_lies() -> None:
    near, far = TRAINING.apply(clips(1) * 0 + 3.5), TRAINING.apply(clips(1) * 0 + 7.0)
    assert distances(far) == pytest.approx(2.0)
    assert flattening(near) == 1.0
    assert flattening(far) == pytest.approx(2.0**FLATTENING)
    np.testing.assert_array_equal(flattening(np.full((3, 40, 5), 9.0)), np.ones(3))


def test_the_mean_square_of_distances_is_one_over_the_training() -> None:
    features = np.random.default_rng(0).standard_normal((200, 6, 4)).astype(np.float32) * 3 + 7
    training = statistics(features)
    assert np.square(distances(training.apply(features))).mean() == pytest.approx(1, rel=1e-3)
    assert distances(training.apply(features + 9)).min() > 2.2
