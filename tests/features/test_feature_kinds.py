"""Kinds of features: openSMILE's sets, joined kinds, level and trimming, and the keys of the cache."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pser.base.errors import ConfigError
from p2pser.base.registries import FEATURES
from p2pser.config import FeatureSettings, load
from p2pser.features import clip_features, levels, opensmile_sets
from p2pser.features.extraction import extract
from p2pser.features.kinds.covariance import LAGS, LEAST, SHRUNK, log_covariance
from p2pser.features.kinds.dynamics import STATISTICS, statistics

RATE = 16000


def tone(seconds: float, size: float = 0.1, f0: float = 150) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (size * np.sign(np.sin(2 * np.pi * f0 * time))).astype(np.float32)


# -- openSMILE ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["egemaps", "compare"])
def test_the_sets_are_opensmiles(kind: str) -> None:
    opensmile = pytest.importorskip("opensmile", reason="the opensmile extra is not installed")
    sets = {"egemaps": opensmile.FeatureSet.eGeMAPSv02, "compare": opensmile.FeatureSet.ComParE_2016}
    smile = opensmile.Smile(sets[kind], opensmile.FeatureLevel.Functionals)
    signal = tone(1.0) + np.random.default_rng(0).normal(0, 0.01, RATE).astype(np.float32)
    settings = FeatureSettings(kind=kind)
    expected = smile.process_signal(signal, RATE)
    found = clip_features.compute(signal, settings)
    assert found.shape == clip_features.shape(settings) == (len(expected.columns),)
    np.testing.assert_array_equal(found, expected.to_numpy(dtype=np.float32)[0])
    assert clip_features.names(settings) == [f"{kind}.{name}" for name in expected.columns]
    for hard in (np.zeros(RATE // 10, np.float32), tone(0.1), np.ones(2000, np.float32)):
        assert np.isfinite(clip_features.compute(hard, settings)).all()


def test_without_opensmile_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    opensmile_sets._smile.cache_clear()
    for work in (clip_features.settings_key, lambda chosen: clip_features.compute(tone(0.5), chosen)):
        with pytest.raises(ConfigError, match=r"p2pser\[opensmile\]"):
            work(FeatureSettings(kind="functionals+egemaps"))


def test_the_version_of_opensmile_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.5.0")
    before = clip_features.settings_key(FeatureSettings(kind="egemaps"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9.9")
    assert clip_features.settings_key(FeatureSettings(kind="egemaps")) != before


# -- kinds joined ------------------------------------------------------------------------------------------------


def test_joined_matrices_share_their_frames() -> None:
    settings = FeatureSettings(kind="mfcc+chroma", n_mfcc=34, deltas=0, seconds=1.5, hop=0.03)
    signal = tone(1.2)
    found = clip_features.compute(signal, settings)
    assert found.shape == clip_features.shape(settings) == (34 + 12, 50)
    alone = [clip_features.compute(signal, settings.model_copy(update={"kind": kind})) for kind in ("mfcc", "chroma")]
    np.testing.assert_array_equal(found, np.concatenate(alone))
    names = clip_features.names(settings)
    assert (names[0], names[34], len(set(names))) == ("mfcc.0", "chroma.0", 46)


def test_a_longer_hop_takes_fewer_of_the_same_frames() -> None:
    signal = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    every, third = (clip_features.compute(signal, FeatureSettings(kind="logmel", seconds=1.5, hop=hop))
                    for hop in (0.01, 0.03))
    np.testing.assert_allclose(third, every[:, ::3], atol=1e-4)
    for hop in (0.005, 0.0133, 0.1):
        chosen = FeatureSettings(kind="mfcc", seconds=1.0, hop=hop)
        assert clip_features.compute(signal, chosen).shape == clip_features.shape(chosen)


def test_contours_go_on_where_there_is_no_voice_and_repeat_their_ends() -> None:
    rates, voice = np.arange(RATE // 2) / RATE, np.zeros(2 * RATE, dtype=np.float32)
    for start, pitch in ((RATE // 4, 110.0), (5 * RATE // 4, 220.0)):
        harmonics = sum(np.sin(2 * np.pi * pitch * k * rates) / k for k in range(1, 9))
        voice[start : start + rates.size] = 0.1 * np.asarray(harmonics)
    voice += np.random.default_rng(0).normal(0, 1e-4, voice.size).astype(np.float32)
    chosen = FeatureSettings(kind="contours", seconds=3.0)
    found, names = clip_features.compute(voice, chosen), clip_features.names(chosen)
    assert found.shape == clip_features.shape(chosen) == (51, 300)
    f0 = found[names.index("contours.f0")]
    low, high = (12 * np.log2(pitch / 27.5) for pitch in (110.0, 220.0))
    # The clip begins at frame 50: voice until frame 125, silence, voice again from frame 175.
    np.testing.assert_allclose(f0[[80, 100, 120]], low, atol=0.2)
    np.testing.assert_allclose(f0[[180, 200, 220]], high, atol=0.2)
    assert np.all(np.diff(f0[130:171]) > 0)
    for ends in (found[:, :49], found[:, 252:]):
        assert np.all(ends == ends[:, :1])
    coarse = clip_features.compute(voice, chosen.model_copy(update={"hop": 0.02}))
    np.testing.assert_array_equal(coarse[:, 30:120], found[:, 60:240:2])


def test_joined_kinds_use_the_cache_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "clip.wav"
    soundfile.write(path, tone(0.5), RATE)
    computed: list[str] = []
    compute_kind = clip_features.compute_kind

    def counted(signal: np.ndarray, name: str, settings: FeatureSettings) -> np.ndarray:
        computed.append(name)
        return compute_kind(signal, name, settings)

    monkeypatch.setattr(clip_features, "compute_kind", counted)
    (mel,) = extract([path], FeatureSettings(kind="logmel")).features
    (both,) = extract([path], FeatureSettings(kind="logmel+chroma")).features
    (again,) = extract([path], FeatureSettings(kind="chroma+logmel")).features
    assert computed == ["logmel", "chroma"]
    assert mel is not None
    assert both is not None
    assert again is not None
    np.testing.assert_array_equal(both[:64], mel)
    np.testing.assert_array_equal(again, np.concatenate([both[64:], both[:64]]))


@pytest.mark.parametrize(("setting", "message"), [
    ("kind=functionels", "did you mean 'functionals'"),
    ("kind=mfcc+functionals", "joins vectors and matrices"),
    ("kind=mfcc+mfcc", "named twice"),
    ("kind=+", "no feature kind ''"),
    ("level=-200", "dBFS"),
    ("level=3", "dBFS"),
    ("level=loud", "level"),
    ("trim=0", "trim"),
    ("layer_weights=[1,-1]", "weights of layers"),
    ("layer_weights=[0,0]", "weights of layers"),
    ("layer_weights=[.nan,1]", "list of numbers"),
    ("layer_weights=1,two", "list of numbers"),
])
def test_wrong_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, [f"features.{setting}"])


@pytest.mark.parametrize("text", ["[1, 0.5, 2]", "1,0.5,2", "1, 0.5, 2"])
def test_lists_are_written_with_or_without_brackets(text: str) -> None:
    assert load(None, [f"features.layer_weights={text}"]).features.layer_weights == (1.0, 0.5, 2.0)


# -- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "key"), [
    ({"kind": "functionals"}, "functionals-80cafc69333fd463"),
    ({"kind": "functionals", "n_mels": 32}, "functionals-daf431c126685201"),
    ({"kind": "functionals", "level": -26}, "functionals-58d4e64ce73c3df5"),
    ({"kind": "functionals", "trim": 40}, "functionals-d49db399431c75fe"),
    ({"kind": "functionals", "seconds": 1.5, "hop": 0.02, "deltas": 1}, "functionals-80cafc69333fd463"),
    ({"kind": "covariance"}, "covariance-eea67b685b5bab73"),
    ({"kind": "covariance", "n_mfcc": 8}, "covariance-db3e98fcf1ba21d7"),
    ({"kind": "dynamics"}, "dynamics-f54600768f48c12a"),
    ({"kind": "dynamics", "n_mfcc": 13}, "dynamics-5686d3b2d9a77759"),
    ({"kind": "egemaps"}, "egemaps-c45105066b02c522"),
    ({"kind": "egemaps", "sample_rate": 8000}, "egemaps-b7f04a920632a7f4"),
    ({"kind": "compare", "n_mels": 32, "level": "peak"}, "compare-b6456384688089bf"),
    ({"kind": "logmel"}, "logmel-d48af80774077fc8"),
    ({"kind": "logmel", "hop": 0.02}, "logmel-ca10209abe5175df"),
    ({"kind": "logmel", "n_mfcc": 13, "deltas": 1}, "logmel-d48af80774077fc8"),
    ({"kind": "mfcc"}, "mfcc-d7b91e1ef2ef786c"),
    ({"kind": "mfcc", "deltas": 1}, "mfcc-38722c9a7b12092f"),
    ({"kind": "mfcc", "seconds": 1.5}, "mfcc-c3fdb305b3f76e4c"),
    ({"kind": "chroma"}, "chroma-24882ca47608976b"),
    ({"kind": "chroma", "sample_rate": 8000}, "chroma-dff04069d39b5829"),
    ({"kind": "contours"}, "contours-3c887aea9c65a65a"),
    ({"kind": "mfcc+chroma"}, "mfcc-d7b91e1ef2ef786c+chroma-24882ca47608976b"),
])
def test_keys_stay_so_that_caches_stay_valid(settings: dict[str, Any], key: str,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.5.0")
    assert clip_features.settings_key(FeatureSettings(**settings)) == key


def test_the_kinds_of_features_and_their_form() -> None:
    vectors = {name: FeatureSettings(kind=name).vector for name in FEATURES}
    assert vectors == {"chroma": False, "compare": True, "contours": False, "covariance": True,
                       "dynamics": True, "egemaps": True, "encoder-states": True, "functionals": True,
                       "logmel": False, "mfcc": False, "sentences": True, "ssl": True, "words": True}
    assert all(FEATURES.origin(name).builtin for name in vectors)


@pytest.mark.parametrize(("kind", "names"), [
    ("functionals", {0: "mfcc.0.mean", 1: "mfcc.1.mean", 20: "mfcc.0.std", 120: "mfcc_delta.0.absmean",
                     180: "mel.0.mean", 690: "tempo.energy_first_half.value"}),
    ("covariance", {0: "covariance.cepstrum.mfcc1.mfcc1", 8: "covariance.cepstrum.mfcc1.loudness",
                    12: "covariance.cepstrum.mfcc1.mfcc1@80ms", 666: "covariance.shape.centroid.centroid",
                    1331: "covariance.shape.h1_h2@200ms.h1_h2@200ms"}),
    ("dynamics", {0: "dynamics.rms.above25", 1: "dynamics.loudness.above25", 2: "dynamics.centroid.above25",
                  33: "dynamics.rms.above50", 296: "dynamics.mfcc13.late"}),
    ("mfcc", {0: "mfcc.0", 20: "mfcc_delta.0", 59: "mfcc_delta2.19"}),
    ("contours", {0: "contours.mfcc0", 20: "contours.centroid", 37: "contours.rms", 39: "contours.voicing",
                  40: "contours.f0", 50: "contours.f3_level"}),
    ("chroma+logmel", {0: "chroma.0", 11: "chroma.11", 12: "logmel.0", 75: "logmel.63"}),
])
def test_the_order_of_features_is_that_of_saved_models(kind: str, names: dict[int, str]) -> None:
    found = clip_features.names(FeatureSettings(kind=kind))
    assert {place: found[place] for place in names} == names
    assert len(found) == max(names) + 1


@pytest.mark.parametrize("change", [{"level": "peak"}, {"level": -26.0}, {"trim": 40.0}, {"hop": 0.02}, {"deltas": 1}])
def test_a_setting_that_changes_features_changes_their_key(change: dict[str, Any]) -> None:
    for kind in ("functionals", "mfcc"):
        matters = kind == "mfcc" or not change.keys() & {"hop", "deltas"}
        plain, changed = FeatureSettings(kind=kind), FeatureSettings(kind=kind, **change)
        assert (clip_features.settings_key(plain) != clip_features.settings_key(changed)) == matters


def test_a_joined_key_is_that_of_the_parts() -> None:
    one, two = (clip_features.settings_key(FeatureSettings(kind=kind)) for kind in ("mfcc", "chroma"))
    assert clip_features.settings_key(FeatureSettings(kind="mfcc+chroma")) == f"{one}+{two}"


# -- level and trimming --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "measured"), [("peak", lambda x: np.abs(x).max() - 1),
                                                 (-26.0, lambda x: 20 * np.log10(np.sqrt(np.mean(x**2))) + 26)])
def test_every_clip_is_brought_to_the_level(level: str | float, measured: Any) -> None:
    for size in (1e-4, 0.03, 0.9):
        prepared = levels.prepared(tone(0.3, size), FeatureSettings(level=level))
        assert measured(prepared.astype(np.float64)) == pytest.approx(0, abs=1e-3)
    silent = np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(levels.prepared(silent, FeatureSettings(level=level)), silent)


def test_a_gain_changes_nothing_where_the_level_is_set() -> None:
    signal = tone(0.6) + np.random.default_rng(0).normal(0, 0.01, round(0.6 * RATE)).astype(np.float32)
    for kind in ("functionals", "mfcc"):
        chosen = FeatureSettings(kind=kind, level=-23.0)
        soft, loud = (clip_features.compute(np.float32(gain) * signal, chosen) for gain in (0.01, 0.9))
        np.testing.assert_allclose(soft, loud, rtol=2e-2, atol=2e-2)


def test_silence_is_cut_off_both_ends_as_librosa_cuts_it() -> None:
    import librosa

    noise = np.random.default_rng(0).normal(0, 1e-4, 3 * RATE).astype(np.float32)
    noise[RATE : 2 * RATE] += tone(1.0)
    found = levels.trimmed(noise, RATE, 30.0)
    expected, _ = librosa.effects.trim(noise, top_db=30, frame_length=640, hop_length=160)
    assert abs(found.size - expected.size) <= 320
    assert abs(found.size - RATE) <= 2 * 640
    long, short = (clip_features.compute(signal, FeatureSettings(trim=30.0)) for signal in (noise, found))
    np.testing.assert_allclose(long, short, rtol=1e-3, atol=1e-3)


def test_trimming_cuts_frames_by_decibels_below_the_loudest() -> None:
    soft = tone(1.0, 0.005)
    signal = np.concatenate([soft, tone(1.0, 0.1), soft])  # 26 dB below the middle
    assert levels.trimmed(signal, RATE, 24.0).size == pytest.approx(RATE, abs=1300)
    assert levels.trimmed(signal, RATE, 28.0).size == pytest.approx(3 * RATE, abs=300)


def test_log_mel_levels_span_80_decibels() -> None:
    mel = clip_features.compute(tone(0.5), FeatureSettings(kind="logmel", seconds=1.5))
    assert mel.max() - mel.min() == pytest.approx(80.0, abs=1e-4)


@given(st.integers(1600, 6000), st.integers(0, 5999), st.floats(5, 100))
def test_trimming_leaves_a_part_of_any_clip(samples: int, at: int, below: float) -> None:
    signal = np.zeros(samples, np.float32)
    signal[min(at, samples - 1)] = 0.5
    left = levels.trimmed(signal, RATE, below)
    assert 1600 <= left.size <= samples
    assert left.max() == 0.5


def test_a_level_is_a_number_none_or_peak() -> None:
    assert FeatureSettings(level=-20).level == -20.0
    with pytest.raises(ValidationError):
        FeatureSettings(level=float("nan"))


# -- dynamics ------------------------------------------------------------------------------------------------------


def moves(signal: np.ndarray) -> dict[str, float]:
    chosen = FeatureSettings(kind="dynamics")
    found = clip_features.compute(signal, chosen)
    assert found.shape == clip_features.shape(chosen) == (9 * 33,)
    return dict(zip(clip_features.names(chosen), found.tolist()))


def test_dynamics_are_those_of_the_shape_not_of_the_level() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, RATE).astype(np.float32)
    grows = (tone(1.0) + noise) * np.linspace(0.3, 1.0, RATE, dtype=np.float32)
    soft, loud = moves(0.1 * grows), moves(grows)
    for name, value in soft.items():
        assert loud[name] == pytest.approx(value, abs=0.02 + 1e-2 * abs(value))
    falls = moves(grows[::-1].copy())
    assert loud["dynamics.rms.late"] > 1 > -1 > falls["dynamics.rms.late"]
    assert loud["dynamics.rms.early"] < -1 < 1 < falls["dynamics.rms.early"]
    assert loud["dynamics.rms.rising"] > 0.9 > 0.1 > falls["dynamics.rms.rising"]


def test_statistics_of_known_contours() -> None:
    time = np.linspace(-1, 1, 201, dtype=np.float32)
    line, bow = 3 * time + 5, 2 * time**2
    found = dict(zip(STATISTICS, statistics(np.stack([line, bow]))))
    assert found["above50"][0] == pytest.approx(0.5, abs=0.01)
    assert found["above90"][0] == pytest.approx(0.1, abs=0.01)
    assert found["rising"] == pytest.approx([1.0, 0.5])
    assert found["curve"] == pytest.approx([0.0, 2.0], abs=1e-3)
    assert found["error"] == pytest.approx([0.0, bow.std()], abs=1e-3)
    assert found["early"][0] == pytest.approx(-2.0, abs=0.03)
    assert found["late"][0] == pytest.approx(2.0, abs=0.03)
    still = statistics(np.full((1, 1), 7.0, np.float32))
    assert np.abs(still).max() == 0


# -- covariance ----------------------------------------------------------------------------------------------------


def test_the_covariance_is_that_of_the_contours_and_their_delayed_copies() -> None:
    """By its exponential: the covariance of the frames that count, and what is added to its diagonal."""
    from scipy.linalg import expm

    draws = np.random.default_rng(0)
    values = np.cumsum(draws.normal(size=(3, 90)), axis=1).astype(np.float32)
    frames = draws.random(90) < 0.7
    late = [np.concatenate([values[:, lag:], np.repeat(values[:, -1:], lag, axis=1)], axis=1) for lag in LAGS]
    plain = np.cov(np.concatenate([values, *late])[:, frames], bias=True)
    expected = plain + (SHRUNK * np.trace(plain) / 9 + LEAST) * np.eye(9)
    np.testing.assert_allclose(expm(log_covariance(values, frames)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 300])
def test_contours_that_stand_still_have_a_covariance(frames: int) -> None:
    found = log_covariance(np.ones((4, frames), np.float32), np.ones(frames, dtype=bool))
    np.testing.assert_allclose(found, np.log(LEAST) * np.eye(12), atol=1e-9)


def test_the_covariance_is_that_of_the_movement_not_of_the_level() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, RATE).astype(np.float32)
    grows = (tone(1.0) + noise) * np.linspace(0.3, 1.0, RATE, dtype=np.float32)
    chosen = FeatureSettings(kind="covariance")
    soft, loud, still = (clip_features.compute(signal, chosen) for signal in (0.1 * grows, grows, tone(1.0) + noise))
    np.testing.assert_allclose(soft, loud, atol=0.02)
    place = clip_features.names(chosen).index("covariance.shape.loudness.loudness")
    assert loud[place] > still[place] + 0.5
