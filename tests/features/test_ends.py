"""Recordings that end before their end, and those that do not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from p2pser.features.ends import early, early_note

RATE = 16000
LACKING = "the MP3 file has fewer bytes than its header says"
CUT = "the last frame of the MP3 file is cut"
SIZED = ("RF64", "W64", "AIFF", "CAF", "AU")
"""Formats beside WAV whose header has the size of the samples."""


def content(kind: str, rate: int = RATE, channels: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(rate * channels).reshape(-1, channels) / 5), rate, format=kind)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "reason"), [
    ("WAV", "the WAV file has fewer samples than its header says"), ("OGG", "the Ogg file has no last page"),
    ("MP3", LACKING), *((kind, f"the {kind} file has fewer samples than its header says") for kind in SIZED)])
def test_cut_recordings_are_told(kind: str, reason: str, tmp_path: Path) -> None:
    whole = content(kind)
    (tmp_path / "whole").write_bytes(whole)
    assert early(whole) is early(tmp_path / "whole") is None
    for share in (0.3, 0.7, 0.98):
        assert early(whole[: int(len(whole) * share)]) == reason


def test_others_are_not_told(tmp_path: Path) -> None:
    wav = content("WAV")
    assert early(wav[:40] + b"\xff\xff\xff\xff" + wav[44:20000]) is None  # of a pipe
    for other in (b"", b"RIFF", b"\xff\xfb", content("FLAC")[:5000], b"\xff\xfb\x90\x00" + bytes(2000)):
        assert early(other) is None
    assert early(tmp_path / "missing.wav") is None
    caf, au = content("CAF"), content("AU")
    size = caf.index(b"data") + 4
    assert early(caf[:size] + b"\xff" * 8 + caf[size + 8:9000]) is early(au[:8] + b"\xff" * 4 + au[12:9000]) is None
    for head in (b"RF64\xff\xff\xff\xffWAVEdata\xff\xff\xff\xff", b"RF64\0\0\0\0WAVEds64\0\0\0\0data\xff\xff\xff\xff"):
        assert early(head) is early(head + bytes(90)) is None
    for kind in ("WAV", *SIZED):  # cut in the header, or where nothing is known of the size
        whole, told = content(kind), f"the {kind} file has fewer samples than its header says"
        assert {early(whole[:size]) for size in range(60)} <= {None, told}


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_of_mp3_are_counted_where_no_table_does(rate: int, channels: int) -> None:
    whole = content("MP3", rate, channels)
    plain = whole.replace(b"Xing", b"none", 1).replace(b"Info", b"none", 1)
    assert plain != whole
    assert early(whole) is early(plain) is None
    assert early(whole[:-1]) == LACKING
    assert early(plain[:-1]) == early(plain[:-40]) == CUT


def test_tags_of_mp3_are_no_frames() -> None:
    whole = content("MP3")
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 5]) + bytes(2 * 128 + 5)
    last = b"TAG" + bytes(125)
    ape = b"APETAGEX" + bytes(4) + (32 + 50).to_bytes(4, "little") + bytes(16)
    for before in (b"", tag, tag + tag):
        for after in (b"", last, bytes(50) + ape, bytes(50) + ape + last):
            assert early(before + whole + after) is None
            assert early(before + whole[:-1] + after) == LACKING
    assert early(tag[:100]) == "the MP3 file ends in its first tag"


def test_they_are_counted_by_reason(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.wav", "b.mp3", "c.mp3", "d.wav")]
    for path, parts in zip(paths, (content("WAV")[:900], content("MP3")[:900], content("MP3")[:-9], content("WAV"))):
        path.write_bytes(parts)
    assert early_note(paths[3:]) == ()
    assert early_note(paths) == (
        f"3 recordings end early (a cut transfer, a full disk), and count by what there is: 2 × {LACKING}; 1 × the WAV "
        f"file has fewer samples than its header says; first {paths[0]}",)


STARTS = (b"", b"ID3", b"\xff\xfb\x90\x00", b"\xff\xf3\x88\xc4", b"RIFF", b"OggS")


@given(st.binary(max_size=300), st.sampled_from(STARTS))
def test_no_content_raises(junk: bytes, start: bytes) -> None:
    early(start + junk)
