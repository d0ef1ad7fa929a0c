"""Recordings of every kind come in as mono at the wanted rate, and unusable files say why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.base.errors import CorpusError
from p2pser.features import audio


def tone(seconds: float, rate: int, f0: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * f0 * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "aiff"])
def test_formats_that_libsndfile_reads(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, tone(0.5, 16000), 16000)
    signal = audio.read(path, 16000)
    assert signal.dtype == np.float32
    assert signal.shape == (8000,)
    assert np.abs(signal[1000:7000]).max() == pytest.approx(0.3, abs=0.03)
    assert audio.reason(path) is None
    assert audio.seconds(path) == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_pitch_and_level(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, rate), rate)
    signal = audio.read(path, 16000)
    assert abs(signal.size - 16000) <= 1
    spectrum = np.abs(np.fft.rfft(signal))
    assert np.argmax(spectrum) * 16000 / signal.size == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(signal**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.01)


def test_resampling_does_not_alias(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.5, 48000, 10000) + 0.01 * tone(0.5, 48000, 1000), 48000)
    signal = audio.read(path, 16000)
    assert np.abs(signal[800:-800]).max() < 0.01


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    left, right = tone(0.5, 16000), tone(0.5, 16000, 1000.0)
    soundfile.write(path, np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    assert np.allclose(audio.read(path, 16000), (left + right) / 2, atol=1e-6)


def test_a_very_quiet_recording_is_not_silent(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.01 * tone(0.5, 16000), 16000)
    assert np.abs(audio.read(path, 16000)).max() == pytest.approx(0.003, rel=0.1)


def unusable(folder: Path) -> dict[str, tuple[Path, str]]:
    """Return files that are not usable recordings, each with a part of the reason."""
    files = {
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n", "git lfs pull"),
        "text": ("Das ist nur Text, mit Umlauten: äöü.\n".encode() * 20, "text file named .wav"),
        "cut": (("x" * 511 + "ä" * 40).encode(), "text file named .wav"),
        "binary": (bytes(range(256)) * 4, "not a recording that can be read"),
        "empty": (b"", "it is empty"),
    }
    cases = {}
    for name, (content, why) in files.items():
        path = folder / f"{name}.wav"
        path.write_bytes(content)
        cases[name] = (path, why)
    soundfile.write(folder / "short.wav", tone(0.0999, 16000), 16000)
    cases["short"] = (folder / "short.wav", "shorter than 0.1 s")
    cases["missing"] = (folder / "missing.wav", "the file is missing")
    (folder / "folder.wav").mkdir()
    cases["folder"] = (folder / "folder.wav", "it is a folder")
    return cases


@pytest.mark.parametrize("name", ["lfs", "text", "cut", "binary", "empty", "short", "missing", "folder"])
def test_unusable_files_are_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    path, why = unusable(tmp_path)[name]
    found = audio.reason(path)
    assert found is not None
    assert why in found
    with pytest.raises(CorpusError, match=why) as error:
        audio.read(path, 16000)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_silence_is_refused_whatever_its_offset(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(16000, value), 16000)
    with pytest.raises(CorpusError, match="it is silent"):
        audio.read(path, 16000)


@pytest.mark.parametrize(("size", "silent"), [(0.9e-4, True), (1.1e-4, False)])
def test_what_counts_as_silent(size: float, silent: bool) -> None:
    samples = np.where(np.arange(3200) % 2, size, -size).astype(np.float32)
    if silent:
        with pytest.raises(CorpusError, match="it is silent"):
            audio.usable(samples, 16000, 16000)
    else:
        assert audio.usable(samples, 16000, 16000).size == 3200


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    signal = tone(0.5, 16000)
    signal[7] = np.nan
    soundfile.write(path, signal, 16000, subtype="FLOAT")
    with pytest.raises(CorpusError, match="not finite"):
        audio.read(path, 16000)


def test_a_truncated_recording_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    path.write_bytes(path.read_bytes()[:20000])
    assert audio.read(path, 16000).size == (20000 - 44) // 2
