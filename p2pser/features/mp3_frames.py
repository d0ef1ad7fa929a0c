"""Whether an MP3 file has all its frames (ISO/IEC 11172-3 and 13818-3, layer III), as far as it says itself.

The first frame of most files holds no sound but a table, Xing's (also named Info) or Fraunhofer's (VBRI), with the
number of bytes of all frames. Without one, only a last frame that is cut shows.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

_KBITS = {3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
          2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}
"""Bit rates of layer III [kbit/s] by the two bits of the version: MPEG 1 (3); MPEG 2 (2), also of 2.5 (0)."""

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sampling rates [Hz] by version."""


class _Frame(NamedTuple):
    """What the header of a frame says. length : of the frame [B]. table : where a Xing table would begin in it."""

    version: int
    rate: int
    length: int
    table: int


def lacks_frames(file: BinaryIO, head: bytes, size: int) -> str | None:
    """Return why an MP3 file ends early; None where it does not, or is none. head : its beginning. size : [B]."""
    start = 0
    while head[:3] == b"ID3" and len(head) >= 10:
        start += 10 + sum(byte << 7 * (3 - k) for k, byte in enumerate(head[6:10])) + 10 * bool(head[5] & 0x10)
        file.seek(start)
        head = file.read(4096)
    first = _frame(head)
    if first is None:
        return "the MP3 file ends in its first tag" if start > size else None
    following = head[first.length:first.length + 4]
    if len(following) == 4 and not _alike(_frame(following), first):
        return None  # two bytes that look like a frame
    end = _without_tags(file, start, size)
    if (total := _bytes_told(head, first)) is not None:
        return "the MP3 file has fewer bytes than its header says" if end - start < total else None
    file.seek(start)
    return "the last frame of the MP3 file is cut" if _cut(file.read(end - start), first) else None


def _frame(header: bytes) -> _Frame | None:
    """Return what a frame's header says; None where these bytes begin no frame of layer III with a known length."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or rate == 3 or kbits in (0, 15):
        return None
    hertz = _RATES[version][rate]
    samples = 1152 if version == 3 else 576
    length = samples // 8 * _KBITS[3 if version == 3 else 2][kbits - 1] * 1000 // hertz + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Frame(version, hertz, length, 4 + side)


def _alike(frame: _Frame | None, other: _Frame) -> bool:
    return frame is not None and (frame.version, frame.rate) == (other.version, other.rate)


def _bytes_told(head: bytes, first: _Frame) -> int | None:
    """Return the bytes of all frames by the table in the first one; None where it does not say."""
    total = 0
    if head[first.table:first.table + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(head[first.table + 4:first.table + 8], "big")
        place = first.table + 8 + 4 * (flags & 1)
        total = int.from_bytes(head[place:place + 4], "big") if flags & 2 else 0
    elif head[36:40] == b"VBRI":
        total = int.from_bytes(head[46:50], "big")
    return total or None


def _without_tags(file: BinaryIO, start: int, size: int) -> int:
    """Return where the frames end: before the tags ID3v1 and APE at the end of the file."""
    end = size
    for name, length in ((b"TAG", 128), (b"APETAGEX", 32)):
        if end - length >= start:
            file.seek(end - length)
            tail = file.read(32)
            if tail.startswith(name):
                more = int.from_bytes(tail[12:16], "little") + 32 * (tail[23] >> 7) if length == 32 else length
                end = max(start, end - more)
    return end


def _cut(frames: bytes, first: _Frame) -> bool:
    """Whether the last of these frames is not whole. False once something else than a frame follows."""
    place = 0
    while place < len(frames):
        frame = _frame(frames[place:place + 4])
        if frame is None or not _alike(frame, first):
            return len(frames) - place < 4 and frames[place] == 0xFF
        place += frame.length
    return place > len(frames)
