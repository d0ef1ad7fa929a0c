"""Streams cut into windows: every sample is in a window, whatever the blocks in which they arrive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import CorpusError
from p2pser.features import audio
from p2pser.inference.windows import Resampler, Window, Windower, windows

RATE = 1000


def pushed(signal: np.ndarray, cuts: list[int], window: float, hop: float) -> tuple[list[Window], Window | None]:
    cutter = Windower(RATE, window, hop)
    found = [one for part in np.split(signal, sorted(cuts)) for one in cutter.push(part)]
    return found, cutter.rest()


@given(st.integers(0, 3000), st.lists(st.integers(0, 3000), max_size=5), st.integers(100, 900), st.integers(100, 900))
def test_windows_depend_on_the_stream_alone_and_cover_it(length: int, cuts: list[int], size: int, step: int) -> None:
    step = min(step, size)
    signal = np.arange(length, dtype=np.float32)
    cuts = [cut for cut in cuts if cut <= length]
    found, rest = pushed(signal, cuts, size / RATE, step / RATE)
    assert len(found) == (0 if length < size else 1 + (length - size) // step)
    for number, one in enumerate(found):
        assert one.start == pytest.approx(number * step / RATE)
        np.testing.assert_array_equal(one.samples, signal[number * step : number * step + size])
        assert one.end == pytest.approx(one.start + size / RATE)
    seen = {value for one in [*found, *([rest] if rest else [])] for value in one.samples.tolist()}
    missed = sorted(set(range(length)) - seen)
    # Only an end too short to be a window is left.
    assert not missed or (rest is None and missed[-1] - missed[0] + 1 == len(missed) and missed[-1] == length - 1
                          and length - len(found) * step < audio.SHORTEST * RATE)


@pytest.mark.parametrize(("length", "rest"), [
    (99, None), (150, (0, 150)), (1000, None), (1200, (500, 1200)), (1500, None), (1700, (1000, 1700)),
])
def test_the_rest_holds_samples_that_no_window_held(length: int, rest: tuple[int, int] | None) -> None:
    _, last = pushed(np.zeros(length, dtype=np.float32), [], 1.0, 0.5)  # windows of 1000 samples, one every 500
    assert (None if last is None else (round(last.start * RATE), round(last.end * RATE))) == rest


@pytest.mark.parametrize(("window", "hop"), [
    (0.05, 0.05), (1.0, 0.0), (1.0, -1.0), (1.0, 1.5), (0.5, 1e-6), (1.0, 0.09), (float("nan"), 1.0)])
def test_lengths_that_make_no_window_are_refused(window: float, hop: float) -> None:
    with pytest.raises(CorpusError, match="are not possible"):
        Windower(RATE, window, hop)


def test_the_level_is_that_of_the_loudest_moment() -> None:
    quiet = np.resize(np.float32([0.001, -0.001]), 1000)
    quiet[500:550] *= 500
    assert Window(0.0, RATE, quiet).level == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert Window(0.0, RATE, np.zeros(1000, np.float32)).level == -np.inf
    assert Window(0.0, RATE, np.resize(np.float32([0.3, 0.1]), 20)).level == pytest.approx(-20, abs=0.01)


def test_a_recording_is_read_in_windows_as_it_is_read_whole(tmp_path: Path) -> None:
    time = np.arange(int(3.3 * 44100)) / 44100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros_like(time)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44100)
    whole = audio.read(tmp_path / "a.wav", 16000)
    found = list(windows(tmp_path / "a.wav", 16000, 1.0, 0.5))
    assert [one.start for one in found] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert found[-1].end == pytest.approx(3.3, abs=1e-3)
    for one in found:
        first = round(one.start * 16000)
        np.testing.assert_allclose(one.samples, whole[first : first + len(one.samples)], atol=2e-3)


def test_resampling_block_by_block_is_resampling_at_once() -> None:
    signal = np.sin(np.arange(48000, dtype=np.float32) / 20)
    stream, whole = Resampler(48000, 16000), Resampler(48000, 16000)
    parts = [stream.push(block, last=k == 9) for k, block in enumerate(np.split(signal, 10))]
    np.testing.assert_allclose(np.concatenate(parts), whole.push(signal, last=True), atol=1e-6)
    assert Resampler(16000, 16000).push(signal) is signal


def test_a_file_that_is_not_a_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CorpusError, match="git-LFS pointer"):
        list(windows(tmp_path / "a.wav", 16000, 1.0, 0.5))
    with pytest.raises(CorpusError, match="missing"):
        list(windows(tmp_path / "none.wav", 16000, 1.0, 0.5))
    broken = np.zeros(16000, np.float32)
    broken[9000] = np.nan
    soundfile.write(tmp_path / "b.wav", broken, 16000, subtype="FLOAT")
    with pytest.raises(CorpusError, match="not finite"):
        list(windows(tmp_path / "b.wav", 16000, 1.0, 0.5))
