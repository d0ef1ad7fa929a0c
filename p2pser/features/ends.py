"""Whether a recording's file ends before its end, as that of a cut transfer or a full disk does."""

from __future__ import annotations

import io
import struct
from pathlib import Path

HEAD, TAIL = 4096, 1 << 17
"""So much of a file's beginning and end is looked at [B]; a page of Ogg has at most 65,307."""

OPEN = 0x7FFFFFFF
"""Sizes from here on mean "to the end", as programs write that do not know it."""


def ends_early(recording: Path | bytes) -> bool:
    """Whether a WAV file has fewer samples than its header says, or an Ogg file has no last page.

    False for other files: a cut FLAC file cannot be read, and MP3 has no end.
    """
    try:
        with io.BytesIO(recording) if isinstance(recording, bytes) else recording.open("rb") as file:
            head, size = file.read(HEAD), file.seek(0, io.SEEK_END)
            if head[:4] == b"OggS":
                file.seek(max(0, size - TAIL))
                return _without_last_page(file.read())
    except OSError:
        return False
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE" and _lacks_samples(head, size)


def _lacks_samples(head: bytes, size: int) -> bool:
    place = 12
    while place + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, place)
        if name == b"data":
            return bool(length < OPEN and place + 8 + length > size)
        place += 8 + length + length % 2
    return False


def _without_last_page(tail: bytes) -> bool:
    """Whether the last page is cut, or is not marked as the last one of its stream (RFC 3533, section 6)."""
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + 27:
        return True
    segments = tail[place + 27:place + 27 + tail[place + 26]]
    whole = len(segments) == tail[place + 26] and len(tail) >= place + 27 + len(segments) + sum(segments)
    return not (whole and tail[place + 5] & 4)
