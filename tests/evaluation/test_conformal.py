"""Prediction sets: thresholds from rows that add up, and sets of new speakers that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser.evaluation import conformal
from p2pser.evaluation.conformal import EDGES, LENGTH, calibrated, counts, sets_of
from p2pser.evaluation.coverage import by_other_speakers, coverage, lines, thresholds
from p2pser.evaluation.metrics import Predictions
from p2pser.models.sets import LEVELS, Sets, members, most, sets_in_words


def world(speakers: int, clips: int, seed: int, classes: int = 5) -> Predictions:
    """Speakers of unlike difficulty: logits that favour the true class, by more or less."""
    draws = np.random.default_rng(seed)
    names = [f"{seed}-{k}" for k in range(speakers) for _ in range(clips + k % 3)]
    skill = np.repeat(draws.uniform(0.5, 3.0, speakers), [clips + k % 3 for k in range(speakers)])
    targets = draws.integers(0, classes, len(names))
    logits = draws.standard_normal((len(names), classes))
    logits[np.arange(len(names)), targets] += skill
    genders = ["fm"[int(name.partition("-")[2]) % 2] for name in names]
    return Predictions.of(targets, logits.argmax(axis=1), names, classes, logits=logits, genders=genders)


def test_rows_of_peers_add_up_to_the_row_of_all_clips() -> None:
    whole = world(7, 20, 1)
    far = np.random.default_rng(0).uniform(0.3, 3, len(whole.targets))
    names = np.asarray(whole.speakers)
    parts = [np.flatnonzero(np.isin(names, own)) for own in (names[:1], set(names[:50]) - set(names[:1]))]
    parts.append(np.setdiff1d(np.arange(len(names)), np.concatenate(parts)))
    summed = sum(counts(whole.take(own), far[own]) for own in parts if len(own))
    assert counts(whole, far).shape == (LENGTH,)
    np.testing.assert_allclose(summed, counts(whole, far), atol=1e-9)


def test_a_threshold_by_hand() -> None:
    """Two probabilities for each of 50 speakers: .9 and .1, so half the clips are above .5 and all above .09."""
    chances = np.tile([0.9, 0.1], 50)
    logits = np.stack([np.log(chances), np.log(1 - chances)], axis=1)
    said = Predictions.of(np.zeros(100, int), (chances < 0.5).astype(int), [f"s{k // 2}" for k in range(100)], 2,
                          logits=logits)
    sets = calibrated([counts(said)], "here")
    assert sets is not None
    assert (sets.speakers, sets.clips, sets.how) == (50, 100, "here")
    for level in LEVELS:  # no speaker differs, so nothing is taken off: the largest edge at or below .1
        assert sets.thresholds[level] == EDGES[EDGES <= 0.1].max()
    assert sets.covered["all"]["0.9"] == {"covered": 1.0, "interval": [1.0, 1.0], "speakers": 50}
    assert set(sets.covered) == {"all"}  # sexes are not known


def test_the_error_of_few_speakers_is_taken_off() -> None:
    """Four speakers of ten clips, one of which is below .5: .975 of them are above it, with a standard error of .025.

    Student's t with 3 degrees of freedom is 1.19 at .84, which leaves .945: enough for .9, too little for .95.
    """
    chances = np.array([0.9] * 39 + [0.1])
    logits = np.stack([np.log(chances), np.log(1 - chances)], axis=1)
    sets = calibrated([counts(Predictions.of(np.zeros(40, int), (chances < 0.5).astype(int),
                                             [f"s{k // 10}" for k in range(40)], 2, logits=logits))], "here")
    assert sets is not None
    assert sets.thresholds[0.9] == EDGES[EDGES <= 0.9].max()
    assert sets.thresholds[0.95] == EDGES[EDGES <= 0.1].max()


def test_speakers_count_alike_whatever_the_number_of_their_clips() -> None:
    one, many = world(12, 10, 2), world(12, 10, 2)
    places = np.concatenate([np.arange(len(many.targets)), *[np.flatnonzero(np.asarray(many.speakers) == "2-0")] * 50])
    assert calibrated([counts(one)], "") is not None
    assert calibrated([counts(one)], "").thresholds == calibrated([counts(many.take(places))], "").thresholds  # type: ignore[union-attr]


@pytest.mark.parametrize("speakers", [10, 30])
def test_sets_of_new_speakers_hold_the_right_emotion_as_often_as_promised(speakers: int) -> None:
    new = world(400, 10, 99)
    found: dict[float, list[float]] = {level: [] for level in LEVELS}
    for seed in range(20):
        sets = calibrated([counts(world(speakers, 30, seed))], "")
        assert sets is not None
        figures = coverage(new, thresholds(sets, len(new.targets)))
        for level in LEVELS:
            found[level].append(figures["levels"][f"{level:g}"]["covered"])
    for level in LEVELS:
        assert np.mean(found[level]) >= level
        assert np.mean(found[level]) <= level + (0.06 if speakers == 10 else 0.04)
        assert np.mean(np.array(found[level]) >= level - 0.01) >= 0.7


def test_few_speakers_are_told_and_one_gives_all_emotions() -> None:
    sets = calibrated([counts(world(1, 30, 3))], "")
    assert sets is not None
    assert set(sets.thresholds.values()) == {0.0}
    assert "1 speaker (30 clips), too few" in sets.note()
    three = calibrated([counts(world(3, 30, 3))], "")
    assert three is not None
    assert "with fewer than 5 speakers they are unreliable" in three.note() or "too few" in three.note()
    assert sets_of(np.zeros(LENGTH), "") is None


def test_the_card_keeps_the_sets() -> None:
    said = world(9, 20, 4)
    sets = calibrated([counts(said, np.ones(len(said.targets)))], "9 sites")
    assert sets is not None
    assert Sets.from_dict(sets.to_dict()) == sets
    assert sets.threshold(0.85) == sets.thresholds[0.9]
    assert 1.118 <= (sets.far or 0) <= 1.16
    before = {name: value for name, value in sets.to_dict().items() if name != "furthest"}
    assert Sets.from_dict({**before, "far": 1.44}).far == pytest.approx(1.2)  # cards had squares of distances before
    assert sets_in_words(sets.to_dict()).startswith("sets of emotions that hold the right one, 0 clips heard   80 %: ")
    for bad in ({"thresholds": {"0.9": 0.5}}, {**sets.to_dict(), "far": -1},
                {**sets.to_dict(), "thresholds": {"0.8": 2, "0.9": 0, "0.95": 0}}):
        with pytest.raises((ValueError, KeyError)):
            Sets.from_dict(bad)


def test_members_are_the_probable_and_always_the_first() -> None:
    chances = [[0.5, 0.3, 0.2], [0.34, 0.33, 0.33]]
    assert members(chances, 0.3).tolist() == [[True, True, False], [True, True, True]]
    assert members(chances, 0.6).tolist() == [[True, False, False], [True, False, False]]
    assert [most(classes) for classes in (2, 3, 4, 7, 8)] == [1, 1, 2, 3, 4]


def test_coverage_on_the_clips_of_the_calibration_uses_the_other_speakers() -> None:
    said = world(8, 15, 5)
    scaled, least = by_other_speakers(said)
    figures = coverage(scaled, least, groups={"language": ["de"] * 100 + ["en"] * (len(said.targets) - 100)})
    assert len({least[0.9][k] for k in range(len(said.targets))}) > 1
    assert set(figures["groups"]) == {"sex", "language"}
    assert figures["groups"]["sex"]["f"]["speakers"] == 4
    one = figures["levels"]["0.9"]
    assert one["one"] + one["unsure"] <= 1 < one["size"]
    text = list(lines(figures))
    assert text[1].startswith("sets at 90 %   hold the right emotion ")
    assert "f " in text[3]
    assert "(4 speakers: too few for an interval)" in text[3]


def test_clips_unlike_the_training_are_unsure() -> None:
    said = world(6, 10, 6)
    least = {level: np.full(len(said.targets), 0.9) for level in LEVELS}
    unlike = np.arange(len(said.targets)) < 6
    assert coverage(said, least, unlike=unlike)["levels"]["0.9"]["unsure"] == pytest.approx(6 / len(said.targets))
    assert conformal.BEYOND < 0.01


def test_numbers_of_clips_have_their_noun() -> None:
    sets = Sets(dict.fromkeys(LEVELS, 0.1), speakers=1, clips=1, heard=1)
    said = sets_in_words(sets.to_dict())
    assert "1 clip heard" in said
    assert "calibrated on 1 speaker (1 clip)" in said
