"""Recordings of every kind come in as mono at the wanted rate, and unusable files say why."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from p2pser.base.errors import CorpusError
from p2pser.features import audio
from p2pser.inference.windows import windows


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


def flac_of(folder: Path, frames_in_header: int) -> Path:
    """Write one second of FLAC whose header (STREAMINFO, 36 bits from byte 21) gives so many frames; 0: unknown."""
    path = folder / "a.flac"
    soundfile.write(path, tone(1.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | frames_in_header >> 32
    content[22:26] = struct.pack(">I", frames_in_header & 0xFFFFFFFF)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("frames", [0, 2**36 - 1, 32000])
def test_a_flac_of_unknown_or_wrong_length_is_read_to_its_end(tmp_path: Path, frames: int) -> None:
    path = flac_of(tmp_path, frames)
    assert audio.read(path, 16000).size == 16000
    assert audio.reason(path) is None
    assert audio.seconds(path) == (2.0 if frames == 32000 else 1.0)


@pytest.mark.parametrize(("riff", "data"), [(0, 0), (32036, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000)])
@pytest.mark.parametrize("before", [b"", b"LIST\x05\x00\x00\x00abcde\x00"])
def test_a_wav_that_a_pipe_carried_is_read_to_its_end(tmp_path: Path, riff: int, data: int, before: bytes) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1.0, 16000), 16000)
    content = path.read_bytes()
    place = content.index(b"data")
    path.write_bytes(b"RIFF" + struct.pack("<I", riff) + content[8:place] + before + b"data" + struct.pack("<I", data)
                     + content[place + 8:])
    assert audio.seconds(path) == 1.0
    assert audio.reason(path) is None
    np.testing.assert_allclose(audio.read(path, 16000), tone(1.0, 16000), atol=1e-4)


def test_a_wav_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    assert audio.reason(tmp_path / "a.wav") == "it lasts 0.000 s, shorter than 0.1 s"


def test_where_one_channel_is_inverted_the_loudest_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([0.99 * tone(0.5, 16000), -tone(0.5, 16000)], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(path, 16000), -tone(0.5, 16000), atol=1e-6)


def test_an_absurd_sampling_rate_is_refused_before_the_clip_is_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, 16000), 1)
    with pytest.raises(CorpusError, match=r"a.wav: its header gives a sampling rate of 1 Hz: it is damaged"):
        audio.read(tmp_path / "a.wav", 16000)


def test_a_recording_too_long_for_a_clip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "LONGEST", 60)
    soundfile.write(tmp_path / "a.flac", np.resize(tone(1.0, 8000), 8000 * 90), 8000)
    with pytest.raises(CorpusError, match="it lasts longer than 1 minutes: cut it into clips"):
        audio.read(tmp_path / "a.flac", 16000)


@pytest.mark.parametrize("cut", [200, 3000, 9000])
@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_a_damaged_recording_is_read_or_refused_in_one_sentence(tmp_path: Path, extension: str, cut: int) -> None:
    path = tmp_path / f"a.{extension}"
    soundfile.write(path, tone(1.0, 16000), 16000)
    content = bytearray(path.read_bytes())
    content[cut:cut + 64] = np.random.default_rng(cut).bytes(64)
    path.write_bytes(content)
    damaged = ""
    try:
        signal = audio.read(path, 16000)
    except CorpusError as error:
        signal, damaged = np.zeros(1), str(error)
    assert np.isfinite(signal).all()
    assert damaged == "" or damaged.startswith(f"{path}: it ")
    assert "\n" not in damaged


def media(path: Path, codec: str, rate: int) -> Path:
    """Write one second of a tone through PyAV."""
    av = pytest.importorskip("av", reason="needs the extra media")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(tone(1.0, rate).astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.m4a", "aac", 44100), ("A.WEBM", "libopus", 48000),
                                                     ("a.aac", "aac", 16000), ("a.amr", "libopencore_amrnb", 8000)])
def test_recordings_of_phones_and_browsers_are_read(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = media(tmp_path / name, codec, rate)
    assert audio.reason(path) is None
    assert audio.seconds(path) == pytest.approx(1.0, abs=0.1)
    signal = audio.read(path, 16000)
    spectrum = np.abs(np.fft.rfft(signal))
    assert np.argmax(spectrum) * 16000 / signal.size == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(signal[2000:14000]**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.2)


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a"])
def test_a_recording_of_a_phone_may_have_another_ending(tmp_path: Path, name: str) -> None:
    path = media(tmp_path / "a.m4a", "aac", 44100).rename(tmp_path / name)
    assert audio.reason(path) is None
    assert np.array_equal(audio.read(path, 16000), audio.read(path.read_bytes(), 16000))


def test_what_neither_library_reads_is_refused_by_the_first(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs the extra media")
    (tmp_path / "a.wav").write_bytes(bytes(range(256)))
    sentence = "it is not a recording that can be read (Format not recognised)"
    assert (audio.reason(tmp_path / "a.wav"), audio.reason(bytes(range(256)))) == (sentence, sentence)


def test_more_channels_than_a_recording_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.repeat(tone(0.2, 16000)[:, None], 64, axis=1), 16000)
    assert audio.reason(path) is None
    soundfile.write(path, np.zeros((1, 1000)), 16000)  # a block of so many channels would take a gigabyte
    assert audio.reason(path) == "its header gives 1000 channels, and a recording has 64 at most: it is damaged"


def test_damaged_media_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = media(tmp_path / "a.m4a", "aac", 44100)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(CorpusError, match=r"a.m4a: it is not a recording that can be read \(\w"):
        audio.read(path, 16000)
    (tmp_path / "b.webm").write_bytes(np.random.default_rng(5).bytes(3000))
    assert "it is not a recording that can be read" in (audio.reason(tmp_path / "b.webm") or "")


def test_without_the_extra_the_reason_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(bytes(range(256)))
    assert audio.reason(tmp_path / "a.m4a") == ".m4a files need the extra media: pip install 'p2pser[media]'"
    (tmp_path / "a.m4a").rename(tmp_path / "a.wav")
    assert audio.reason(tmp_path / "a.wav") == "it is not a recording that can be read (Format not recognised)"


@pytest.mark.parametrize("scale", [128.0, 32768.0, 2.0**31])
def test_floats_of_the_scale_of_integers_are_refused(tmp_path: Path, scale: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.5, 16000) * scale, 16000, subtype="FLOAT")
    with pytest.raises(CorpusError, match=r"a.wav: its samples reach .*, and full scale is 1: export it again"):
        audio.read(path, 16000)
    with pytest.raises(CorpusError, match="its samples reach"):
        list(windows(path, 16000, 0.2, 0.1))
    soundfile.write(path, tone(0.5, 16000) * 4, 16000, subtype="FLOAT")  # too loud, and still of full scale 1
    assert np.abs(audio.read(path, 16000)).max() == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize("name", [b"M\xfcller.wav", b"M\xfcller.m4a", b"2026-11-30T10:15:00.m4a", b"http:a.m4a",
                                  b"-a.wav", b"%s%d.wav", b"a\n.wav", b"\xf0\x9f\x98\x80.m4a"])
def test_a_recording_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    if path.suffix == ".wav":
        with Path("plain.wav").open("wb") as file:
            soundfile.write(file, tone(1.0, 16000), 16000, format="WAV")
        Path("plain.wav").rename(path)
    else:
        media(Path("plain.m4a"), "aac", 16000).rename(path)
    assert audio.seconds(path) == pytest.approx(1.0, abs=0.1)
    assert audio.read(path, 16000).size == pytest.approx(16000, abs=1600)


ELSEWHERE = {
    "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=\x01\nc=IN IP4 127.0.0.1\nt=0 0\n"
                             b"m=audio 5004 RTP/AVP 0\n",
    "a list of files": b"ffconcat version 1.0\nfile other.wav\n#\x01\n",
    "a playlist": b"#EXTM3U\n#\x01\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n",
    "lyrics": b"[Reference]\nRef1=http://127.0.0.1:1/\n\x01",
}
"""Files that PyAV would take for recordings, and that name others, with a byte that is no text."""


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_file_that_names_others_is_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Else it could read files beside it, and wait for the network for ever."""
    pytest.importorskip("av", reason="needs the extra media")
    monkeypatch.chdir(tmp_path)
    soundfile.write("other.wav", tone(1.0, 16000), 16000)
    for suffix in (".m4a", ".mka"):
        Path(f"a{suffix}").write_bytes(ELSEWHERE[what])
        assert "it is not a recording that can be read" in (audio.reason(Path(f"a{suffix}")) or "")
    with pytest.raises(CorpusError, match="it is not a recording that can be read"):
        audio.read(ELSEWHERE[what], 16000)
