"""Rows of whole numbers that peers add up: the temperature, figures and sets of all held-out clips together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from p2pser.evaluation import calibration, conformal, held_out
from p2pser.evaluation.metrics import Predictions, uar_pooled
from p2pser.models.heard import Heard

CLASSES, CLIPS = 4, 15


def said(speakers: range, sharpness: float = 2.0) -> Predictions:
    """Speakers' clips, whose logits favour the true class."""
    draws = np.random.default_rng(speakers.start)
    names = [f"s{k}" for k in speakers for _ in range(CLIPS)]
    targets = draws.integers(0, CLASSES, len(names))
    logits = sharpness * (draws.standard_normal((len(names), CLASSES)) + 1.3 * np.eye(CLASSES)[targets])
    genders = ["fm"[int(name[1:]) % 2] for name in names]
    return Predictions.of(targets, logits.argmax(axis=1), names, CLASSES, logits=logits, genders=genders)


PEERS = [said(range(3)), said(range(3, 4)), said(range(4, 9), 4.0)]
TOGETHER = Predictions.concatenate(PEERS)


def test_the_temperature_of_summed_likelihoods_is_that_of_all_clips_together() -> None:
    total = np.sum([held_out.likelihoods(each)[1].sum(axis=0) for each in PEERS], axis=0)
    fitted = held_out.temperature(total)
    assert fitted == pytest.approx(calibration.fit([TOGETHER]), rel=1e-3)
    names, own = held_out.likelihoods(PEERS[0])
    assert names == ("s0", "s1", "s2")
    others = TOGETHER.take(np.flatnonzero(np.asarray(TOGETHER.speakers) != "s1"))
    assert held_out.temperature(total - own[1]) == pytest.approx(calibration.fit([others]), rel=1e-3)


@pytest.mark.parametrize(("scale", "expected"), [(1e-4, 0.05), (1e4, 20.0)])
def test_temperatures_stay_within_their_bounds(scale: float, expected: float) -> None:
    logits = TOGETHER.logits
    assert logits is not None
    extreme = dataclasses.replace(TOGETHER, logits=logits * scale)
    assert held_out.temperature(held_out.likelihoods(extreme)[1].sum(axis=0)) == pytest.approx(expected)


def test_figures_and_sets_of_the_sums_are_those_of_all_clips_together() -> None:
    rows, total = [held_out.likelihoods(each) for each in PEERS], np.zeros(len(held_out.GRID), dtype=np.int64)
    for _, own in rows:
        total += own.sum(axis=0)
    common = held_out.temperature(total)
    far = np.random.default_rng(0).uniform(0.3, 3, len(TOGETHER.targets))
    places = np.cumsum([0, *(len(each.targets) for each in PEERS)])
    row = np.sum([held_out.figures(each, common, {name: held_out.temperature(total - mine)
                                                  for name, mine in zip(names, own)}, far[start:end])
                  for each, (names, own), start, end in zip(PEERS, rows, places, places[1:])], axis=0)
    assert row.dtype == np.int64
    assert row.shape == (held_out.length(CLASSES),)
    heard, sets = held_out.read(row, CLASSES, 5, common, "nine speakers")
    honest = calibration.probabilities(calibration.by_others(TOGETHER))
    assert heard.uar == pytest.approx(uar_pooled(TOGETHER))
    assert heard.ece == pytest.approx(calibration.ece(honest, TOGETHER.targets), abs=0.02)  # a clip at a bin's edge
    assert heard.confidence == pytest.approx(float(honest.max(axis=1).mean()), abs=1e-3)
    plain = conformal.calibrated([conformal.counts(calibration.scaled(TOGETHER, common), far)], "nine speakers")
    assert sets is not None
    assert plain is not None
    assert (sets.thresholds, sets.speakers, sets.clips, sets.far, sets.how, sets.heard) == (
        plain.thresholds, 9, 9 * CLIPS, plain.far, "nine speakers", 5)
    assert sets.covered["f"]["0.9"]["covered"] == pytest.approx(plain.covered["f"]["0.9"]["covered"], abs=1e-6)
    assert held_out.readable([heard], [sets])


def test_numbers_of_clips_heard_end_with_the_mean() -> None:
    assert held_out.numbers_heard(4, 32) == (0, 1, 2, 5, 8)
    assert held_out.numbers_heard(2, 109) == (0, 1, 2, 5, 10, 54)
    assert held_out.numbers_heard(3, 3) == (0, 1)


def test_sums_that_no_card_could_hold_are_told() -> None:
    assert not held_out.readable([Heard(0, 1.0, 1.5, 0.1, 0.5)], [])
    assert not held_out.readable([Heard(0, float("nan"), 0.5, 0.1, 0.5)], [])
