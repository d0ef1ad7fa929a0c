"""Features: compared with librosa's, on signals with known properties, and finite for any signal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import CorpusError
from p2pser.config import FeatureSettings
from p2pser.features import clip_features, extractor, filters
from p2pser.features.extraction import extract

RATE = 16000
KINDS = ("functionals", "covariance", "dynamics", "logmel", "mfcc", "chroma")


def voice(f0: float, seconds: float = 1.0, rate: int = RATE, formants: tuple[float, ...] = ()) -> np.ndarray:
    """A pulse train with a falling spectrum, through resonances."""
    from scipy.signal import lfilter

    phase = np.arange(round(seconds * rate)) * f0 / rate
    signal = lfilter([1.0], np.poly([np.exp(-2 * np.pi * 150 / rate)] * 2), np.diff(np.floor(phase), prepend=0.0))
    for formant in formants:
        radius = np.exp(-np.pi * 80 / rate)
        signal = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * formant / rate), radius**2], signal)
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)


def named(signal: np.ndarray, rate: int = RATE) -> dict[str, float]:
    chosen = FeatureSettings(sample_rate=rate)
    return dict(zip(clip_features.names(chosen), clip_features.compute(signal, chosen).tolist()))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "cache"))
    paths = []
    for number in range(10):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], voice(100 + 20 * number, 0.3), RATE)
    return paths


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_shape_and_names_are_those_of_the_features(kind: str, rate: int, seconds: float) -> None:
    chosen = FeatureSettings(kind=kind, sample_rate=rate, n_mels=41, n_mfcc=13, seconds=0.5)
    found = clip_features.compute(voice(140, seconds, rate), chosen)
    assert found.shape == clip_features.shape(chosen)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    names = clip_features.names(chosen)
    assert len(set(names)) == len(names) == found.shape[0]


@pytest.mark.parametrize("kind", ["logmel", "mfcc", "chroma"])
def test_matrices_equal_librosa(kind: str) -> None:
    import librosa

    signal = voice(170, 1.0, formants=(600, 1500)) + np.random.default_rng(0).normal(0, 1e-2, RATE).astype(np.float32)
    chosen = FeatureSettings(kind=kind, seconds=1.0)
    if kind == "chroma":
        spectrum = np.abs(librosa.stft(signal, n_fft=2048, win_length=1600, hop_length=160)) ** 2
        expected = librosa.feature.chroma_stft(S=spectrum, sr=RATE, tuning=0.0)
    else:
        mel = librosa.feature.melspectrogram(y=signal, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=64)
        expected = librosa.power_to_db(mel, amin=1e-10, top_db=80)
    if kind == "mfcc":
        cepstrum = librosa.feature.mfcc(S=expected, n_mfcc=20)
        inner = librosa.feature.delta(cepstrum, width=5)
        found = clip_features.compute(signal, chosen)
        np.testing.assert_allclose(found[:20], cepstrum[:, :100], atol=2e-3)
        np.testing.assert_allclose(found[20:40, 4:-4], inner[:, 4:96], atol=2e-3)
        return
    np.testing.assert_allclose(clip_features.compute(signal, chosen), expected[:, :100], atol=2e-3)


@pytest.mark.parametrize("f0", [75, 110, 160, 230, 330, 450])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_pitch_is_found(f0: float, rate: int) -> None:
    found = named(voice(f0, rate=rate), rate)
    assert found["voice.f0.p50"] == pytest.approx(12 * np.log2(f0 / 27.5), abs=0.25)
    assert found["tempo.f0_range.value"] < 0.5
    assert found["tempo.voiced_share.value"] > 0.9


@pytest.mark.parametrize("formants", [(700.0, 1200.0), (350.0, 2100.0)])
def test_resonances_are_found(formants: tuple[float, float]) -> None:
    found = named(voice(110, formants=formants))
    assert found["voice.f1.p50"] == pytest.approx(formants[0], abs=120)
    assert found["voice.f2.p50"] == pytest.approx(formants[1], abs=150)


def test_a_gain_moves_the_level_and_nothing_of_pitch() -> None:
    signal = voice(180, formants=(500, 1500))
    soft, loud = named(signal * np.float32(0.1)), named(signal)
    assert loud["energy.rms.mean"] - soft["energy.rms.mean"] == pytest.approx(20, abs=0.1)
    assert loud["voice.f0.mean"] == pytest.approx(soft["voice.f0.mean"], abs=0.01)
    assert loud["shape.centroid.mean"] == pytest.approx(soft["shape.centroid.mean"], rel=0.01)
    assert loud["mfcc.1.mean"] == pytest.approx(soft["mfcc.1.mean"], abs=0.01)


def test_a_rising_voice_and_pauses_are_seen() -> None:
    phase = np.cumsum(np.linspace(120, 240, RATE)) / RATE
    glide = (0.2 * np.sign(np.sin(2 * np.pi * phase))).astype(np.float32)
    rising, falling = named(glide), named(glide[::-1].copy())
    assert rising["voice.f0.slope"] > 1 > -1 > falling["voice.f0.slope"]
    assert rising["tempo.f0_range.value"] == pytest.approx(12 * np.log2(228 / 126), abs=1.0)
    gap = np.zeros(RATE // 4, dtype=np.float32)
    paused = named(np.concatenate([voice(150, 0.5), gap, voice(150, 0.5), gap, voice(150, 0.5)]))
    assert paused["tempo.pause_longest.value"] == pytest.approx(0.25, abs=0.06)
    assert named(voice(150, 1.5))["tempo.pause_longest.value"] == 0


def test_frames_35_decibels_below_the_loudest_are_pauses() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    for decibels, share in ((-30.0, 0.85), (-40.0, 0.35)):
        signal = noise.copy()
        signal[RATE:] *= 10 ** (decibels / 20)
        signal[:4800] = 0  # a pause, from which the level of the background is known
        assert named(signal)["tempo.active_share.value"] == pytest.approx(share, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1600, 9000),
    seed=st.integers(0, 2**31),
    form=st.sampled_from(["noise", "click", "square", "dc", "ramp", "tiny", "silence"]),
    gain=st.floats(1e-7, 1.0),
    kind=st.sampled_from(KINDS),
)
def test_any_signal_gives_finite_features(samples: int, seed: int, form: str, gain: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    signal = {
        "noise": lambda: random.normal(size=samples),
        "click": lambda: np.eye(1, samples, samples // 2)[0],
        "square": lambda: np.sign(np.sin(np.arange(samples) * 0.05)),
        "dc": lambda: np.ones(samples),
        "ramp": lambda: np.linspace(-1, 1, samples),
        "tiny": lambda: np.full(samples, 1e-30),
        "silence": lambda: np.zeros(samples),
    }[form]() * gain
    with np.errstate(under="ignore"):
        found = clip_features.compute(signal, FeatureSettings(kind=kind))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1e6


def test_a_long_clip_is_cut_and_a_short_one_centred() -> None:
    chosen = FeatureSettings(kind="logmel", seconds=1.0)
    signal = voice(150, 3.0)
    middle = signal[RATE : 2 * RATE]
    np.testing.assert_array_equal(clip_features.compute(signal, chosen), clip_features.compute(middle, chosen))
    short = clip_features.compute(voice(150, 0.4), chosen).mean(axis=0)
    assert short[40:60].min() > short[:25].max() + 20
    assert short[40:60].min() > short[-25:].max() + 20


def test_functionals_of_a_very_long_clip_are_those_of_its_middle() -> None:
    middle = np.random.default_rng(3).normal(0, 0.1, 60 * 8000).astype(np.float32)
    around = np.ones(4000, dtype=np.float32)
    chosen = FeatureSettings(sample_rate=8000)
    found = clip_features.compute(np.concatenate([around, middle, around]), chosen)
    np.testing.assert_array_equal(found, clip_features.compute(middle, chosen))


def test_bad_clips_are_left_out_with_a_reason_and_the_others_go_on(clips: list[Path]) -> None:
    clips[2].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    soundfile.write(clips[4], np.zeros(RATE), RATE)
    clips[5].unlink()
    for workers in (1, 2):
        extraction = extract(clips, FeatureSettings(), workers=workers)
        found, left_out = extraction.features, extraction.left_out
        assert [one is None for one in found] == [k in (2, 4, 5) for k in range(10)]
        assert [path for path, _ in left_out] == [clips[2], clips[4], clips[5]]
        assert "git-LFS" in left_out[0][1]
        assert "silent" in left_out[1][1]
        assert "missing" in left_out[2][1]
        assert not any(str(path) in reason for path, reason in left_out)


@pytest.mark.parametrize("kind", ["functionals", "logmel"])
def test_helpers_compute_the_same_in_order(clips: list[Path], kind: str, monkeypatch: pytest.MonkeyPatch,
                                           tmp_path: Path) -> None:
    chosen = FeatureSettings(kind=kind)
    here = extract(clips, chosen, workers=1)
    monkeypatch.setenv("P2PSER_CACHE", str(tmp_path / "other"))
    there = extract([*clips, clips[0]], chosen, workers=2)
    assert (here.computed, there.computed, there.cached) == (10, 10, 0)
    for one, other in zip([*here.features, here.features[0]], there.features):
        np.testing.assert_array_equal(one, other)


def test_what_dead_helpers_leave_is_computed_here(clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def stillborn() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-c", "print('no JSON')"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)

    monkeypatch.setattr(extractor, "_start", stillborn)
    done = extract(clips, FeatureSettings(), workers=2)
    assert done.computed == 10
    assert all(one is not None for one in done.features)


def test_a_helper_answers_each_path(clips: list[Path]) -> None:
    chosen = FeatureSettings(kind="chroma", seconds=0.5)
    (clips[0].parent / "text.wav").write_text("not a recording")
    paths = [clips[3], clips[0].parent / "text.wav"]
    request = io.BytesIO("".join(line + "\n" for line in (
        json.dumps(["p2pser.features.kinds.chroma"]), chosen.model_dump_json(), "null",
        *(json.dumps(str(path)) for path in paths))).encode())
    answers = io.BytesIO()
    extractor.serve(request, answers)
    answers.seek(0)
    head = json.loads(answers.readline())
    found = np.frombuffer(answers.read(head["bytes"]), dtype="<f4").reshape(head["shape"])
    np.testing.assert_array_equal(found, extract([clips[3]], chosen).features[0])
    refused = json.loads(answers.readline())
    assert refused["shape"] is None
    assert "text" in refused["reason"]
    assert answers.read() == b""


def test_the_number_of_helpers() -> None:
    assert extractor.helpers(4, 7) == 1
    assert extractor.helpers(4, 8) == 2
    assert extractor.helpers(4, 1000) == 4
    assert extractor.helpers(1, 1000) == 1
    assert extractor.helpers(None, 100) == 1
    assert 1 <= extractor.helpers(None, 10**6) <= (os.cpu_count() or 1)
    with pytest.raises(CorpusError, match="use 1 or more"):
        extractor.helpers(0, 100)


HEAVY = """
import sys
from pathlib import Path
from p2pser.config import FeatureSettings
from p2pser.features import clip_features
from p2pser.features.extraction import extract
done = extract([Path(name) for name in sys.argv[3:]], FeatureSettings(), workers=1)
assert [done.computed, done.cached] == [int(sys.argv[1]), int(sys.argv[2])], done
print(*({"librosa", "numba", "soundfile", "scipy", "torch", "rich"} & set(sys.modules)))
"""


def test_features_load_only_what_they_need(clips: list[Path]) -> None:
    for path in clips:
        os.utime(path, (1e9, 1e9))

    def imported(computed: int, cached: int) -> set[str]:
        arguments = [sys.executable, "-c", HEAVY, str(computed), str(cached), *map(str, clips)]
        run = subprocess.run(arguments, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return set(run.stdout.split())

    assert imported(10, 0) == {"soundfile"}
    assert imported(0, 10) == set()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("size", [512, 2048])
@pytest.mark.filterwarnings("ignore:Empty filters")
def test_banks_equal_librosa(rate: int, size: int) -> None:
    import librosa.filters

    for bands, lowest in ((26, 0.0), (64, 20.0), (128, 0.0)):
        expected = librosa.filters.mel(sr=rate, n_fft=size, n_mels=bands, fmin=lowest)
        np.testing.assert_allclose(filters.mel(rate, size, bands, lowest), expected, rtol=0, atol=1e-15)
    expected = librosa.filters.chroma(sr=rate, n_fft=size, tuning=0.0)
    np.testing.assert_array_equal(filters.chroma(rate, size), expected.astype(np.float32))


def test_the_cosine_transform_is_the_usual_one() -> None:
    from scipy.fft import dct

    np.testing.assert_allclose(filters.cosine(64, 20), dct(np.eye(64), axis=0, norm="ortho")[:20], atol=1e-6)


def test_the_command(clips: list[Path]) -> None:
    from p2pser.cli.features import features as command

    table = clips[0].parent / "manifest.csv"
    table.write_text("path,speaker,emotion\n" + "".join(f"{k}.wav,s{k},joy\n" for k in range(10)))
    clips[9].write_text("not a recording")
    arguments = ["--corpus", "manifest", "--data", str(table), "--workers", "1"]
    first = CliRunner().invoke(command, [*arguments, "--json"])
    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    assert (document["clips"], document["computed"], document["cached"]) == (10, 9, 0)
    assert document["seconds"] == pytest.approx(2.7)
    assert document["times_real_time"] > 0
    assert [left["path"] for left in document["left_out"]] == [str(clips[9])]
    again = CliRunner().invoke(command, arguments)
    assert "0 computed, 9 read from the cache" in again.stdout
    assert f"left out: {clips[9]}" in again.stderr
    assert [Path(one).is_dir() for one in document["caches"]] == [True]


def test_the_kinds_are_listed() -> None:
    from p2pser.cli.features import features as command

    rows = json.loads(CliRunner().invoke(command, ["--list", "--json"]).stdout)
    assert [row["kind"] for row in rows] == [
        "chroma", "compare", "contours", "covariance", "dynamics", "egemaps", "encoder-states", "functionals",
        "logmel", "mfcc", "sentences", "ssl", "words"]
    mfcc = rows[9]
    assert (mfcc["form"], mfcc["version"], mfcc["parameters"]) == ("matrix", 2, {})
    assert mfcc["settings"] == ["sample_rate", "seconds", "hop", "n_mels", "n_mfcc", "deltas"]
    assert mfcc["from"].startswith("p2pser ")
    lines = CliRunner().invoke(command, ["--list"]).stdout.splitlines()
    assert lines[0].startswith("chroma          matrix  Chroma: the power in 12 pitch classes,")
    assert lines[6].startswith("encoder-states  ")
