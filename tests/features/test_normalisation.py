"""Normalisation: averaged sums give the pooled statistics, and every value is defined."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import CorpusError
from p2pser.features.normalisation import (
    LIMIT,
    SHARE,
    SLACK,
    Statistics,
    by_speaker,
    departure,
    from_sums,
    known_by,
    statistics,
    steadied,
    sums,
)


@st.composite
def pooled(draw: st.DrawFn) -> np.ndarray:
    """Features of the kinds that occur: vectors or matrices, any scale and offset, some constant."""
    clips, bands = draw(st.integers(1, 30)), draw(st.integers(1, 6))
    trailing = draw(st.sampled_from([(), (1,), (7,)]))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    features = random.normal(size=(clips, bands, *trailing))
    scale = 10.0 ** random.uniform(-3, 4, size=bands) * (random.random(bands) > 0.2)
    offset = random.normal(size=bands) * 100
    shape = (bands,) + (1,) * len(trailing)
    return (features * scale.reshape(shape) + offset.reshape(shape)).astype(np.float32)


@settings(deadline=None)
@given(pooled(), st.data())
def test_averaging_the_sums_of_any_partition_gives_the_pooled_statistics(
    features: np.ndarray, data: st.DataObject
) -> None:
    peers = data.draw(st.integers(1, 8))
    holder = np.array(data.draw(st.lists(st.integers(0, peers - 1), min_size=len(features), max_size=len(features))))
    rows = np.stack([sums(features[holder == peer]) for peer in range(peers)])
    found, expected = from_sums(rows.mean(axis=0)), statistics(features)
    assert found.count * peers == pytest.approx(expected.count)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.std, expected.std, rtol=1e-4, atol=1e-5 * (1 + np.abs(expected.mean).max()))
    np.testing.assert_allclose(
        expected.mean, features.astype(np.float64).mean(axis=(0, *range(2, features.ndim))), rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(pooled())
def test_scaled_features_are_finite_with_mean_0_and_deviation_1(features: np.ndarray) -> None:
    found = statistics(features)
    scaled = found.apply(features)
    assert scaled.dtype == np.float32
    assert scaled.shape == features.shape
    assert np.isfinite(scaled).all()
    over = (0, *range(2, features.ndim))
    np.testing.assert_allclose(scaled.mean(axis=over, dtype=np.float64), 0, atol=1e-2)
    deviation = scaled.std(axis=over, dtype=np.float64)
    np.testing.assert_allclose(deviation[found.std > 0], 1, atol=1e-2)
    assert (deviation[found.std == 0] == 0).all()


def test_a_constant_feature_is_0_also_for_clips_that_differ() -> None:
    training = statistics(np.full((5, 2), 0.1, dtype=np.float32))
    np.testing.assert_array_equal(training.apply(np.array([[7.0, 0.1]])), [[0, 0]])
    np.testing.assert_array_equal(from_sums(sums(np.full((5, 2), 1e6 + 0.1))).std, [0, 0])


def test_the_deviation_is_the_population_s() -> None:
    # 1, 2 and 6: mean 3, squared deviations 4, 1 and 9, their mean 14 / 3 (their sum over n - 1 is 7).
    column = np.array([[1.0], [2.0], [6.0]])
    for found in (statistics(column), from_sums(sums(column)), from_sums(sums(column[:1]) + sums(column[1:]))):
        assert (found.count, found.mean[0]) == (3, 3)
        assert found.std[0] == pytest.approx(2.160246899469287, rel=1e-12)
    matrices = np.array([[[1.0, 2.0]], [[6.0, 3.0]]])  # two clips of one band, two frames
    for found in (statistics(matrices), from_sums(sums(matrices))):
        assert (found.count, found.mean[0]) == (4, 3)
        assert found.std[0] == pytest.approx(1.8708286933869707, rel=1e-12)
    np.testing.assert_allclose(by_speaker(column, ["a", "a", "a"], None)[:, 0],
                               [-0.9258201, -0.46291005, 1.38873015], rtol=1e-6)


def test_a_sum_row_holds_count_sums_and_squares() -> None:
    np.testing.assert_array_equal(sums(np.array([[1.0, -2.0], [3.0, 5.0]])), [2, 4, 3, 10, 29])


def test_what_counts_as_constant() -> None:
    # A deviation of less than a millionth of the mean is the rounding of float32, more is a feature that varies.
    for spread, std in ((2e-4, 0.0), (2e-2, 1e-2)):
        values = np.array([[1000.0], [1000.0 + spread]])
        assert statistics(values).std[0] == pytest.approx(std, rel=1e-4)
        assert from_sums(sums(values)).std[0] == pytest.approx(std, rel=1e-4)


def test_outliers_are_cut() -> None:
    assert LIMIT == 8.0
    training = Statistics(2.0, np.array([0.0]), np.array([1e-3]))
    scaled = training.apply(np.array([[5.0], [-5.0], [1e-3]]))
    np.testing.assert_array_equal(scaled, np.float32([[LIMIT], [-LIMIT], [1]]))


def test_each_speaker_is_scaled_by_own_statistics() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(12, 3)).astype(np.float32)
    speakers = ["a"] * 6 + ["b"] * 5 + ["c"]
    features[6:11] = features[6:11] * 50 + 1000
    scaled = by_speaker(features, speakers, None)
    for part in (slice(0, 6), slice(6, 11)):
        np.testing.assert_allclose(scaled[part], statistics(features[part]).apply(features[part]))
        np.testing.assert_allclose(scaled[part].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(scaled[part].std(axis=0), 1, atol=1e-4)
    np.testing.assert_array_equal(scaled[11], 0)  # one clip alone says nothing
    shuffled = random.permutation(12)
    again = by_speaker(features[shuffled], [speakers[place] for place in shuffled], None)
    np.testing.assert_allclose(again, scaled[shuffled], atol=1e-5)


def test_a_speaker_is_scaled_in_training_by_all_of_their_clips() -> None:
    features = np.random.default_rng(3).normal(2, 3, size=(7, 4)).astype(np.float32)
    speakers = ["a", "b", "a", "c", "a", "b", "a"]
    training = statistics(features)
    scaled = by_speaker(features, speakers, training)
    for speaker in "abc":
        theirs = np.array(speakers) == speaker
        np.testing.assert_array_equal(scaled[theirs], steadied(features[theirs], training).apply(features[theirs]))
    # A lone clip: its mean weighs as much as that of the training clips, its variance is five parts of six theirs.
    expected = (features[3] - training.mean) / 2 / (training.std * np.sqrt(5 / 6))
    np.testing.assert_allclose(scaled[3], expected, rtol=1e-5)


def test_speakers_of_matrices_are_scaled_a_band() -> None:
    features = np.random.default_rng(2).normal(3, 5, size=(4, 2, 50)).astype(np.float32)
    scaled = by_speaker(features, ["a", "a", "b", "b"], None)
    np.testing.assert_allclose(scaled[:2].mean(axis=(0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[2:].std(axis=(0, 2)), 1, atol=1e-4)


@settings(deadline=None)
@given(pooled())
def test_statistics_survive_json_exactly(features: np.ndarray) -> None:
    before = statistics(features)
    after = Statistics.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after.count == before.count
    np.testing.assert_array_equal(after.mean, before.mean)
    np.testing.assert_array_equal(after.std, before.std)


@pytest.mark.parametrize("document", [
    {}, {"count": 1, "mean": [0.0]}, {"count": 1, "mean": [0.0], "std": [1.0, 2.0]}, {"count": 1, "mean": 0, "std": 1},
    {"count": 1, "mean": [0.0], "std": [-1.0]}, {"count": 1, "mean": [float("nan")], "std": [1.0]},
    {"count": -1, "mean": [0.0], "std": [1.0]}, {"count": "x", "mean": [0.0], "std": [1.0]},
    {"count": 1, "mean": ["a"], "std": [1.0]}, {"count": 1, "mean": [[0.0]], "std": [[1.0]]},
])
def test_a_document_without_statistics_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(CorpusError, match="feature statistics need"):
        Statistics.from_dict(document)


def test_arrays_of_other_shapes_are_refused() -> None:
    training = statistics(np.ones((2, 3)))
    for wrong in (np.ones((2, 4)), np.ones(3), np.ones((2, 4, 3))):
        with pytest.raises(CorpusError, match="do not fit"):
            training.apply(wrong)
    with pytest.raises(CorpusError, match="do not fit together"):
        by_speaker(np.ones((2, 3)), ["a"], None)
    for row in (np.zeros(7), np.ones(6), np.full(7, np.nan), np.ones((1, 7))):
        with pytest.raises(CorpusError, match="feature statistics need"):
            from_sums(row)
    with pytest.raises(CorpusError, match="at least one clip"):
        statistics(np.ones((0, 3)))


def test_enrolled_statistics_go_from_the_training_speakers_to_the_speaker() -> None:
    draws = np.random.default_rng(0)
    clips = draws.normal(3.0, 0.5, (400, 2))
    training = Statistics(1000.0, np.zeros(2), np.full(2, 2.0))
    one, many = steadied(clips[:1], training), steadied(clips, training)
    assert one.std.min() > 1.0  # the variance of one clip is 0: the training variance serves
    assert 0.0 < one.mean.min() < clips[0].max()
    np.testing.assert_allclose(many.mean, 3.0, atol=0.1)
    np.testing.assert_allclose(many.std, 0.5, atol=0.15)
    assert np.array_equal(steadied(clips, None).std, statistics(clips).std)


def test_the_training_speakers_count_as_one_clip_of_the_mean_and_five_of_the_variance() -> None:
    clips = np.array([[2.0], [6.0], [7.0]])  # mean 5, variance 14 / 3
    known = steadied(clips, Statistics(50.0, np.array([1.0]), np.array([3.0])))
    assert known.count == 3
    assert known.mean[0] == pytest.approx((3 * 5 + 1) / 4)
    assert known.std[0] ** 2 == pytest.approx((3 * 14 / 3 + 5 * 9) / 8)


def test_the_training_mean_weighs_as_much_as_speakers_are_alike() -> None:
    clips = np.array([[2.0], [6.0], [7.0]])  # mean 5, variance 14 / 3
    known = known_by(clips, Statistics(50.0, np.array([1.0]), np.array([3.0])))
    assert (known.count, known.heard) == (3, 3)
    prior = (1 - SHARE) / (SHARE * max(1.0, ((4 / 3) ** 2 / SLACK - (1 - SHARE) / 3) / SHARE))
    assert known.mean[0] == pytest.approx((3 * 5 + prior) / (3 + prior))
    assert known.std[0] ** 2 == pytest.approx((3 * 14 / 3 + 5 * 9) / 8)
    assert np.array_equal(known_by(clips, None).mean, statistics(clips).mean)
    matrices = np.stack([clips, clips + 1])
    assert np.array_equal(known_by(matrices, statistics(matrices)).mean, steadied(matrices, statistics(matrices)).mean)


def test_few_clips_from_elsewhere_outweigh_the_training_speakers() -> None:
    training = Statistics(500.0, np.zeros(50), np.ones(50))
    clips = np.random.default_rng(0).normal(0, 0.9, (4, 50)) + np.random.default_rng(1).normal(0, 0.4, 50)
    assert 0.3 < departure(statistics(clips), training, 4) < SLACK
    moved = {shift: (known_by(clips + shift, training).mean / (clips + shift).mean(axis=0)).mean()
             for shift in (0.0, 4.0)}
    assert moved[0.0] == pytest.approx(4 / (4 + (1 - SHARE) / SHARE))
    assert moved[4.0] > 0.95
    assert departure(statistics(clips + 4.0), training, 4) > 20
    assert departure(statistics(clips + 9.0), Statistics(500.0, np.zeros(50), np.zeros(50)), 4) == 1.0
