"""Varied copies of recordings: a function of seed, clip and number, kept apart in the cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from p2pser.base import seeding
from p2pser.base.errors import ConfigError
from p2pser.config import AugmentSettings, Config, FeatureSettings, load
from p2pser.features import recording_copies as augment
from p2pser.features.extraction import extract
from p2pser.features.federation import Examples, federate, normalised, normalised_copies
from p2pser.features.normalisation import statistics

RATE = 16000
DIGEST = "0123456789abcdef" * 2


def tone(seconds: float = 1.0, f0: float = 200.0) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * f0 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def copies(signal: np.ndarray, count: int = 20, **settings: Any) -> list[np.ndarray]:
    chosen = AugmentSettings(copies=count, **settings)
    return [variant(signal, RATE, DIGEST) for variant in augment.variants(chosen)]


def main_frequency(signal: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.size), 4 * signal.size))
    return float(np.argmax(spectrum)) * RATE / (4 * signal.size)


def test_speed_changes_length_and_pitch_together() -> None:
    made = copies(tone(), speed=0.2)
    factors = np.array([RATE / copy.size for copy in made])
    assert factors.min() < 0.9
    assert factors.max() > 1.1
    assert np.all(np.abs(factors - 1) <= 0.201)
    for copy, factor in zip(made, factors):
        assert main_frequency(copy) == pytest.approx(200 * factor, rel=0.01)


def test_pitch_changes_pitch_alone() -> None:
    made = copies(tone(), 6, pitch=4.0)
    assert all(copy.size == RATE for copy in made)
    semitones = [12 * np.log2(main_frequency(copy) / 200) for copy in made]
    assert max(semitones) - min(semitones) > 2
    assert max(np.abs(semitones)) < 4.3


def test_each_change_has_a_draw_of_its_own() -> None:
    # Caches hold copies that were made with these draws: speed, pitch, gain, noise, of copies numbered from 1.
    assert [variant.copy for variant in augment.variants(AugmentSettings(copies=2, gain=1.0))] == [1, 2]
    for number, copy in enumerate(copies(tone(), 2, gain=20.0), start=1):
        draws = seeding.generator(0, f"copy of {DIGEST}", round=number).uniform(-1, 1, 4)
        assert np.abs(copy).max() / np.abs(tone()).max() == pytest.approx(10 ** draws[2], rel=1e-5)
        (fast,) = copies(tone(), 1, speed=0.4)[:1] if number == 1 else copies(tone(), 2, speed=0.4)[1:]
        assert RATE / fast.size == pytest.approx(1 + 0.4 * draws[0], rel=1e-3)


def test_gain_is_within_its_bounds() -> None:
    signal = tone()
    decibels = [20 * np.log10(np.abs(copy).max() / np.abs(signal).max()) for copy in copies(signal, gain=6.0)]
    assert max(np.abs(decibels)) <= 6.001
    assert min(decibels) < -2
    assert max(decibels) > 2


def test_noise_is_at_the_ratio_that_is_drawn() -> None:
    signal = tone()
    ratios = [10 * np.log10(np.mean(signal**2) / np.mean((copy - signal) ** 2)) for copy in copies(signal, snr=5.0)]
    assert 4.8 < min(ratios) < 12
    assert 18 < max(ratios) < 25.2


def test_a_copy_is_a_function_of_seed_clip_and_number() -> None:
    chosen = AugmentSettings(copies=2, snr=10.0, gain=3.0)
    one, two = augment.variants(chosen)
    signal = tone()
    first = one(signal, RATE, DIGEST)
    np.testing.assert_array_equal(one(signal, RATE, DIGEST), first)
    np.testing.assert_array_equal(augment.Variant.from_json(one.to_json())(signal, RATE, DIGEST), first)
    other_seed = augment.Variant(chosen.model_copy(update={"seed": 1}), 1)
    for other in (two(signal, RATE, DIGEST), other_seed(signal, RATE, DIGEST), one(signal, RATE, DIGEST[::-1])):
        assert not np.array_equal(other, first)
    without_gain = augment.Variant(AugmentSettings(copies=2, snr=10.0), 1)
    assert len({one.key(), two.key(), other_seed.key(), without_gain.key()}) == 4
    more = augment.variants(chosen.model_copy(update={"copies": 5, "mixup": 0.2}))[0]
    assert more.key() == one.key()  # what is done to the first copy does not depend on how many there are


@pytest.mark.parametrize(("settings", "message"), [
    (["augment.copies=2"], "would equal their recordings"), (["augment.snr=0"], "set augment.copies"),
    (["augment.pitch=99"], "pitch"), (["augment.mixup=-1"], "mixup"),
])
def test_wrong_settings_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, settings)


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    rows = ["path,speaker,emotion"]
    for number in range(12):
        soundfile.write(tmp_path / f"{number}.wav", tone(0.3, 100 + 20 * number), RATE)
        rows.append(f"{number}.wav,s{number // 3},{('joy', 'anger', 'fear')[number % 3]}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_helpers_make_the_same_copies_and_the_cache_keeps_them(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(clips.glob("*.wav"))
    one, two = augment.variants(AugmentSettings(copies=2, snr=10.0))
    plain = extract(paths, FeatureSettings(), workers=1)
    here = extract(paths, FeatureSettings(), variant=one, workers=1)
    again = extract(paths, FeatureSettings(), variant=one, workers=1)
    other = extract(paths, FeatureSettings(), variant=two, workers=1)
    assert [done.computed for done in (plain, here, again, other)] == [12, 12, 0, 12]
    monkeypatch.setenv("P2PSER_CACHE", str(clips / "another"))
    there = extract(paths, FeatureSettings(), variant=one, workers=2)
    for bare, mine, kept, his, second in zip(plain.features, here.features, again.features, there.features,
                                             other.features):
        assert bare is not None
        assert mine is not None
        assert not np.array_equal(mine, bare)
        assert not np.array_equal(mine, second)
        np.testing.assert_array_equal(mine, kept)
        np.testing.assert_array_equal(mine, his)


def test_a_federation_holds_copies_of_training_clips_only(clips: Path) -> None:
    config = Config().with_settings(["corpus.name=manifest", f"corpus.data={clips}/manifest.csv",
                                     "corpus.split=group:2", "augment.copies=2", "augment.snr=10",
                                     "features.normalise=speaker"])
    found = federate(config, 2, workers=1)
    assert found.test is not None
    assert found.test.copies is None
    for examples in found.train.values():
        assert examples.copies is not None
        assert examples.copies.shape == (2, *examples.features.shape)
        assert not np.array_equal(examples.copies[0], examples.features)
        kept = examples.take(np.array([2, 0]))
        np.testing.assert_array_equal(kept.copies, examples.copies[:, [2, 0]])
        scaled = normalised_copies(examples, "speaker", None)
        assert scaled is not None
        # By the statistics of the speaker's recordings, not of the copies.
        own = np.array(examples.speakers) == examples.speakers[0]
        np.testing.assert_array_equal(scaled[1][own], statistics(examples.features[own]).apply(examples.copies[1][own]))
    alone = federate(config, 2, only=1, workers=1)
    np.testing.assert_array_equal(alone.train[1].copies, found.train[1].copies)


def test_copies_are_scaled_by_the_training_statistics() -> None:
    draws = np.random.default_rng(0)
    values = draws.normal(size=(5, 3)).astype(np.float32)
    examples = Examples(values, np.zeros(5, np.int64), ("a",) * 5, ("p",) * 5)
    found = statistics(values)
    assert normalised_copies(examples, "global", found) is None
    moved = dataclasses.replace(examples, copies=np.stack([values, values + 1]))
    scaled = normalised_copies(moved, "global", found)
    assert scaled is not None
    np.testing.assert_array_equal(scaled[0], normalised(examples, "global", found))
    np.testing.assert_array_equal(normalised_copies(moved, "none", None), moved.copies)
