"""Whether a recording's file ends before its end, as that of a cut transfer or a full disk does."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from p2pser.features.mp3_frames import lacks_frames

HEAD, TAIL = 4096, 1 << 17
"""So much of a file's beginning and end is looked at [B]; a page of Ogg has at most 65,307."""

OPEN = 0x7FFFFFFF
"""Sizes from here on mean "to the end", as programs write that do not know it; those of 64 bits from OPEN << 32 on."""


class _Chunks(NamedTuple):
    """A format of chunks. start : where the first one begins [B]. head : of a chunk, its name and size, as ``struct``
    has it. even : what sizes are padded to [B]. samples : how the name of the samples' chunk begins. most : sizes from
    here on are not known. own : whether a size counts the chunk's head too.
    """

    name: str
    start: int
    head: str
    even: int
    samples: bytes
    most: int = OPEN
    own: bool = False


_WAV = _Chunks("WAV", 12, "<4sI", 2, b"data")
_OTHERS = {b"FORM": _Chunks("AIFF", 12, ">4sI", 2, b"SSND"),
           b"RF64": _Chunks("RF64", 12, "<4sI", 2, b"data", OPEN << 32),
           b"caff": _Chunks("CAF", 8, ">4sq", 1, b"data", OPEN << 32),
           b"riff": _Chunks("W64", 40, "<16sQ", 8, b"data", OPEN << 32, own=True)}
"""Formats by their first bytes."""


def early(recording: Path | bytes) -> str | None:
    """Return why a recording ends before its end: a WAV, RF64, W64, AIFF, CAF or AU file has fewer samples than its
    header says, an Ogg file no last page, an MP3 file fewer bytes than its header says or a cut last frame.

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
    if (samples := _samples(head)) is not None:
        name, place, length = samples
        lacks = length >= 0 and place + length > size
        return f"the {name} file has fewer samples than its header says" if lacks else None
    return lacks_frames(file, head, size)


def _samples(head: bytes) -> tuple[str, int, int] | None:
    """Return the name of a file's format, where the samples begin, and their size by the header [B], -1 where it leaves
    that open; None where the beginning of the file, ``head``, does not have them.
    """
    if head[:4] == b".snd" and len(head) >= 12:
        place, length = struct.unpack_from(">II", head, 4)
        return "AU", place, length if length < OPEN else -1
    form = _OTHERS.get(head[:4], _WAV)
    found = wav_samples(head) if form is _WAV else _chunk(head, form)
    if found is None:
        return None
    place, length = found
    if form.name == "RF64" and length >= OPEN:  # the size is in its first chunk
        length = struct.unpack_from("<Q", head, 28)[0] if head[12:16] == b"ds64" and len(head) >= 36 else -1
    return form.name, place, length if length < form.most else -1


def wav_samples(head: bytes | bytearray) -> tuple[int, int] | None:
    """Return where the samples begin in a WAV file, and how long its header says that they are [B]; None where the
    beginning of the file, ``head``, does not have them.
    """
    return _chunk(head, _WAV) if head[:4] == b"RIFF" and head[8:12] == b"WAVE" else None


def _chunk(head: bytes | bytearray, form: _Chunks) -> tuple[int, int] | None:
    """Return where the chunk of samples begins, and its size by its head [B]; None where ``head`` does not have it."""
    place, size = form.start, struct.calcsize(form.head)
    while place + size <= len(head):
        name, length = struct.unpack_from(form.head, head, place)
        place += size
        length -= size * form.own
        if name.startswith(form.samples):
            return place, length
        place += max(0, length + -length % form.even)
    return None


def _without_last_page(tail: bytes) -> bool:
    """Whether the last page is cut, or is not marked as the last one of its stream (RFC 3533, section 6)."""
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + 27:
        return True
    segments = tail[place + 27:place + 27 + tail[place + 26]]
    whole = len(segments) == tail[place + 26] and len(tail) >= place + 27 + len(segments) + sum(segments)
    return not (whole and tail[place + 5] & 4)
