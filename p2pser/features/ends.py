"""Whether a recording's file ends before its end, as that of a cut transfer or a full disk does."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from p2pser.features.mp3_frames import lacks_frames

HEAD, TAIL = 4096, 1 << 17
"""So much of a file's beginning and end is looked at [B]; a page of Ogg has at most 65,307."""

OPEN = 0x7FFFFFFF
"""Sizes from here on mean "to the end", as programs write that do not know it."""


def early(recording: Path | bytes) -> str | None:
    """Return why a recording ends before its end: a WAV file has fewer samples than its header says, an Ogg file no
    last page, an MP3 file fewer bytes than its header says or a cut last frame.

    None for other files: a cut FLAC file cannot be read. An MP3 file without such a header that is cut between two
    frames looks whole.
    """
    try:
        with io.BytesIO(recording) if isinstance(recording, bytes) else recording.open("rb") as file:
            return _why(file)
    except OSError:
        return None


def early_note(recordings: Iterable[Path]) -> tuple[str, ...]:
    """Return a note on those of the recordings that end early, if any: how many, and how many for each reason."""
    why = {path: reason for path in recordings if (reason := early(path)) is not None}
    if not why:
        return ()
    reasons = "; ".join(f"{count} × {reason}" for reason, count in Counter(why.values()).most_common())
    ends, by = ("recording ends", "counts") if len(why) == 1 else ("recordings end", "count")
    return (f"{len(why)} {ends} early (a cut transfer, a full disk), and {by} by what there is: {reasons}; first "
            f"{next(iter(why))}",)


def _why(file: BinaryIO) -> str | None:
    head, size = file.read(HEAD), file.seek(0, io.SEEK_END)
    if head[:4] == b"OggS":
        file.seek(max(0, size - TAIL))
        return "the Ogg file has no last page" if _without_last_page(file.read()) else None
    if (samples := wav_samples(head)) is not None:
        place, length = samples
        lacks = length < OPEN and place + length > size
        return "the WAV file has fewer samples than its header says" if lacks else None
    return lacks_frames(file, head, size)


def wav_samples(head: bytes | bytearray) -> tuple[int, int] | None:
    """Return where the samples begin in a WAV file, and how long its header says that they are [B]; None where the
    beginning of the file, ``head``, does not have them.
    """
    place = 12
    while head[:4] == b"RIFF" and head[8:12] == b"WAVE" and place + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, place)
        place += 8
        if name == b"data":
            return place, length
        place += length + length % 2
    return None


def _without_last_page(tail: bytes) -> bool:
    """Whether the last page is cut, or is not marked as the last one of its stream (RFC 3533, section 6)."""
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + 27:
        return True
    segments = tail[place + 27:place + 27 + tail[place + 26]]
    whole = len(segments) == tail[place + 26] and len(tail) >= place + 27 + len(segments) + sum(segments)
    return not (whole and tail[place + 5] & 4)
