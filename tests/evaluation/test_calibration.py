"""Calibration: known errors, scikit-learn's Brier score, and temperatures that are found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import brier_score_loss

from p2pser.evaluation import calibration
from p2pser.evaluation.metrics import Predictions


def drawn(temperature: float, n: int = 4000, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets that follow softmax(logits / temperature)."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 2, (n, classes))
    chances = softmax(logits / temperature, axis=1)
    return logits, (chances.cumsum(1) < draws.random((n, 1))).sum(1)


def predictions(logits: np.ndarray, targets: np.ndarray) -> Predictions:
    return Predictions.of(targets, logits.argmax(1), ["s"] * len(targets), logits.shape[1], logits=logits)


def test_the_expected_calibration_error_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "BINS", 10)
    sure, unsure = [0.9, 0.1], [0.4, 0.6]
    chances = [sure] * 4 + [unsure] * 2
    targets = [0, 0, 0, 1, 1, 0]
    found = calibration.reliability(chances, targets)
    np.testing.assert_allclose(found.confidence, [0.6, 0.9])
    np.testing.assert_allclose(found.accuracy, [0.5, 0.75])
    np.testing.assert_allclose(found.share, [1 / 3, 2 / 3])
    assert calibration.ece(chances, targets) == pytest.approx(2 / 3 * 0.15 + 1 / 3 * 0.1)
    assert calibration.ece([[1.0, 0.0]] * 3, [0, 0, 0]) == 0.0
    assert calibration.ece([[1.0, 0.0]] * 3, [1, 1, 1]) == 1.0


def test_there_are_15_intervals_of_confidence() -> None:
    """10 / 15 = 0.6667 divides 0.66 from 0.68."""
    chances, targets = [[0.64, 0.36], [0.66, 0.34], [0.68, 0.32]], [0, 0, 1]
    np.testing.assert_allclose(calibration.reliability(chances, targets).confidence, [0.65, 0.68])
    assert calibration.ece(chances, targets) == pytest.approx((2 * 0.35 + 0.68) / 3)


def test_brier_and_likelihood_by_hand() -> None:
    chances = [[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]
    assert calibration.brier(chances, [0, 2]) == pytest.approx(((0.09 + 0.04 + 0.01) + (0.25 + 0.0625 + 0.5625)) / 2)
    logits = np.log([[0.5, 0.5], [0.8, 0.2]])
    assert calibration.nll(logits, [0, 1]) == pytest.approx((np.log(2) + np.log(5)) / 2)
    # Temperature 2: square roots of the chances, normalised: 0.8 and 0.2 become 2 / 3 and 1 / 3.
    assert calibration.nll(logits, [0, 1], 2.0) == pytest.approx((np.log(2) + np.log(3)) / 2)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_the_brier_score_of_two_classes_is_twice_scikit_learns(pairs: list[tuple[float, int]]) -> None:
    chances = [[1 - chance, chance] for chance, _ in pairs]
    targets = [target for _, target in pairs]
    theirs = brier_score_loss(targets, [chance for chance, _ in pairs], pos_label=1)
    assert calibration.brier(chances, targets) == pytest.approx(2 * theirs)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_temperature_is_found_again(temperature: float) -> None:
    logits, targets = drawn(temperature)
    found = calibration.fit_temperature(logits, targets)
    assert found == pytest.approx(temperature, rel=0.06)
    grid = [calibration.nll(logits, targets, t) for t in np.geomspace(0.06, 19, 60)]
    assert calibration.nll(logits, targets, found) <= min(grid)


def test_a_temperature_stays_where_logits_are_worth_scaling() -> None:
    """All right: the colder the better; all noise: the hotter the better."""
    right = 20 * np.eye(3)
    assert calibration.COLDEST <= calibration.fit_temperature(right, [0, 1, 2]) < 1
    assert calibration.fit_temperature(right, [1, 2, 0]) == pytest.approx(calibration.HOTTEST, rel=0.01)


def test_scaling_mends_and_changes_no_decision() -> None:
    said = predictions(*drawn(2.5))
    temperature = calibration.fit([said])
    assert temperature is not None
    before, after = calibration.measure(said), calibration.measure(calibration.scaled(said, temperature))
    assert before is not None
    assert after is not None
    assert before.ece > 0.15
    assert after.ece < 0.03
    assert after.nll < before.nll
    assert after.brier < before.brier
    chances = calibration.probabilities(calibration.scaled(said, temperature))
    assert (chances.argmax(1) == said.predicted).all()


def test_each_fold_has_its_temperature() -> None:
    logits = np.ones((4, 2))
    said = Predictions.of([0, 1, 0, 1], [0, 0, 0, 0], ["s"] * 4, 2, [0, 0, 3, 3], logits=logits)
    np.testing.assert_allclose(calibration.scaled(said, {0: 2.0, 3: 4.0}).logits, [[0.5] * 2] * 2 + [[0.25] * 2] * 2)


def test_without_logits_there_is_nothing_to_calibrate() -> None:
    bare = Predictions.of([0, 1], [0, 0], ["s"] * 2, 2)
    assert calibration.measure(bare) is None
    assert calibration.fit([predictions(*drawn(1.0, n=20, classes=2)), bare]) is None
    for call in (calibration.probabilities, lambda one: calibration.scaled(one, 2.0)):
        with pytest.raises(ValueError, match="no logits"):
            call(bare)


@pytest.mark.parametrize(("values", "targets"), [
    ([[0.5, 0.5]], [2]), ([[0.5, 0.5]], [0, 1]), ([0.5, 0.5], [0, 1]), (np.zeros((0, 2)), []),
])
def test_what_does_not_fit_is_refused(values: object, targets: object) -> None:
    with pytest.raises(ValueError, match="targets"):
        calibration.ece(values, targets)  # type: ignore[arg-type]


def test_a_speakers_scale_is_what_suits_the_others() -> None:
    logits, targets = drawn(2.0, n=3000)
    names = ["a"] * 1000 + ["b"] * 1000 + ["c"] * 1000
    said = Predictions.of(targets, logits.argmax(1), names, 5, logits=logits)
    found = calibration.by_others(said).logits
    assert found is not None
    others = calibration.fit_temperature(logits[1000:], targets[1000:])
    np.testing.assert_allclose(found[:1000], logits[:1000] / others)
    wrong = np.concatenate([(targets[:1000] + 1) % 5, targets[1000:]])
    again = calibration.by_others(Predictions.of(wrong, logits.argmax(1), names, 5, logits=logits)).logits
    assert again is not None
    np.testing.assert_array_equal(again[:1000], found[:1000])
    assert not np.allclose(again[1000:], found[1000:])
    with pytest.raises(ValueError, match="only one speaker"):
        calibration.by_others(predictions(logits, targets))
