"""The samples of a recording's file, block by block: through libsndfile, or through PyAV (extra ``media``)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from p2pser.base.errors import CorpusError
from p2pser.base.wording import extra
from p2pser.corpora.files import LFS, MEDIA
from p2pser.features.ends import wav_samples

if TYPE_CHECKING:
    import soundfile
    from numpy.typing import NDArray

Source: TypeAlias = "Path | io.BytesIO"
"""A recording's file, or its bytes."""

BLOCK = 1 << 18
"""Frames decoded at a time."""

LOWEST_RATE = 1000
"""The lowest sampling rate of speech [Hz]; a lower one in a damaged header would be resampled to gigabytes."""

_MOST_FRAMES_PER_BYTE = 2000
"""No codec here stores so many frames in one byte, not even of silence (FLAC: 350)."""

_ALONE = ("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "flac", "flv", "gsm", "loas", "matroska",
          "mov", "mp3", "mpeg", "mpegts", "ogg", "tta", "voc", "w64", "wav", "wv")
"""What PyAV may read, by FFmpeg's names: formats that hold their sound. Others name files and addresses to read from
(playlists, session descriptions), or wait for packets from the network."""

MOST_CHANNELS = 64
"""The most channels of a recording: a block of more, as a damaged header may ask for, would take gigabytes."""

LOUDEST = 8.0
"""Samples above this are not of full scale 1, but integers that were converted to floats: 18 dB above full scale."""


@dataclass
class Decoder:
    """An open recording.

    ``rate`` in Hz, ``channels`` by the header. ``frames`` by the header; None where it does not say, or what it says
    cannot be. ``blocks`` yields the samples, (n, channels) float32, once; it raises CorpusError where the file is
    damaged.
    """

    rate: int
    channels: int
    frames: int | None
    blocks: Iterator[NDArray[np.float32]]


@contextlib.contextmanager
def opened(recording: Path | str | bytes) -> Iterator[Decoder]:
    """Open a recording: a file, or the bytes of one. A CorpusError, raised where it cannot be read or by the body,
    begins with the path.
    """
    source = io.BytesIO(recording) if isinstance(recording, bytes) else Path(recording)
    try:
        wrong = _unreadable(source)
        if wrong:
            raise CorpusError(wrong)
        with _decoder(source) as decoder:
            if decoder.rate < LOWEST_RATE:
                raise CorpusError(f"its header gives a sampling rate of {decoder.rate} Hz: it is damaged")
            if decoder.channels > MOST_CHANNELS:
                raise CorpusError(f"its header gives {decoder.channels} channels, and a recording has {MOST_CHANNELS} "
                                  "at most: it is damaged")
            decoder.blocks = _of_full_scale(decoder.blocks)
            yield decoder
    except CorpusError as error:
        if isinstance(source, io.BytesIO):
            raise
        raise CorpusError(f"{source}: {error}") from None


@contextlib.contextmanager
def _decoder(source: Source) -> Iterator[Decoder]:
    """Open a recording with libsndfile, and what it cannot read with PyAV: a name may have a wrong ending, as that of
    an .m4a file that was renamed to .mp3. A name that asks for PyAV is opened with it first.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, Path) and source.suffix.lower() in MEDIA:
            yield stack.enter_context(_media(source))
            return
        try:
            decoder = stack.enter_context(_sound(source))
        except CorpusError as error:
            decoder = _otherwise(stack, source, error)
        yield decoder


def _otherwise(stack: contextlib.ExitStack, source: Source, refused: CorpusError) -> Decoder:
    """Return PyAV's decoder of a recording that libsndfile refused; raise ``refused`` where PyAV cannot read it either.

    Where PyAV is missing, the error names the extra for bytes only: a file's name says what it should be.
    """
    installed = importlib.util.find_spec("av") is not None
    if isinstance(source, io.BytesIO):
        source.seek(0)
    elif not installed:
        raise refused
    try:
        return stack.enter_context(_media(source))
    except CorpusError as error:
        raise (refused if installed else error) from None


@contextlib.contextmanager
def _sound(source: Source) -> Iterator[Decoder]:
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]  # the library has no types
        """After each read soundfile seeks to where the header says that the block ends: this one does not seek."""

        def seekable(self) -> bool:
            return False

    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Forward(_with_sizes(source) or (
                os.fsencode(source) if isinstance(source, Path) else source)))  # a name need not be UTF-8
        except (OSError, RuntimeError, TypeError) as error:  # TypeError: samples without a header, by the file's name
            raise CorpusError(_sentence(error)) from None
        size = source.stat().st_size if isinstance(source, Path) else len(source.getbuffer())
        possible = 0 < file.frames <= _MOST_FRAMES_PER_BYTE * size
        yield Decoder(file.samplerate, file.channels, file.frames if possible else None, _sound_blocks(file))


def _sound_blocks(file: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    try:
        while True:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
            if len(block) == 0:
                return
            yield block
    except (OSError, RuntimeError) as error:
        raise CorpusError(_sentence(error)) from None


def _of_full_scale(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Yield the blocks. Raises CorpusError where samples are far above full scale."""
    for block in blocks:
        peak = float(np.abs(block).max(initial=0.0))
        if LOUDEST < peak < math.inf:  # what is not finite has a sentence of its own
            raise CorpusError(f"its samples reach {peak:g}, and full scale is 1: export it again, as 16-bit integers")
        yield block


def _with_sizes(source: Source) -> BinaryIO | None:
    """Return a WAV file whose sizes are 0 with sizes that mean "to the end"; None for every other file.

    Programs that write to a pipe leave 0 where they cannot go back; libsndfile takes it as no samples.
    """
    with _binary(source) as file:
        head = bytearray(file.read(4096))
        samples = wav_samples(head)
        if samples is None or samples[1] != 0:
            return None
        head[4:8] = head[samples[0] - 4:samples[0]] = b"\xff\xff\xff\xff"
        return io.BytesIO(bytes(head) + file.read())


@contextlib.contextmanager
def _media(source: Source) -> Iterator[Decoder]:
    try:
        import av
    except ImportError:
        which = f"{source.suffix} files" if isinstance(source, Path) else "it is no WAV, FLAC, MP3 or Ogg; others"
        raise CorpusError(f"{which} need the extra media: {extra('media')}") from None
    with contextlib.ExitStack() as stack:
        try:
            # A name may look like an address to FFmpeg (10:15.m4a), so it gets an open file.
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            container = stack.enter_context(av.open(file, options={
                "format_whitelist": ",".join(_ALONE), "protocol_whitelist": "none"}))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise CorpusError(_sentence(error)) from None
        stream = next(iter(container.streams.audio), None)
        if stream is None or not stream.rate:
            raise CorpusError("it holds no sound")
        yield Decoder(stream.rate, stream.channels, None, _media_blocks(container, stream.rate))


def _media_blocks(container: Any, rate: int) -> Iterator[NDArray[np.float32]]:
    import av

    resampler = av.AudioResampler(format="fltp", rate=rate)
    try:
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                yield np.ascontiguousarray(part.to_ndarray().T, dtype=np.float32)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise CorpusError(_sentence(error)) from None


def _sentence(error: Any) -> str:
    """Return a library's message, without the path that it repeats."""
    message = str(getattr(error, "error_string", "") or getattr(error, "strerror", "") or error).strip().rstrip(".")
    return f"it is not a recording that can be read ({message})"


@contextlib.contextmanager
def _binary(source: Source) -> Iterator[BinaryIO]:
    """Open a recording's bytes, from their beginning."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        source.seek(0)
        yield source
        source.seek(0)


def _unreadable(source: Source) -> str | None:
    """Return why the first bytes of a recording are not those of one, or None."""
    try:
        if isinstance(source, Path) and not stat.S_ISREG(mode := source.stat().st_mode):
            # Before it is opened: a pipe would wait for its writer.
            unread = "" if os.access(source, os.R_OK | os.X_OK) else " that cannot be read"
            return f"it is a folder{unread}" if stat.S_ISDIR(mode) else \
                "it is no file, but a pipe or a device (p2pser predict MODEL - reads standard input)"
        with _binary(source) as file:
            head = file.read(512)
    except FileNotFoundError:
        return "the file is missing"
    except (OSError, ValueError) as error:  # ValueError: no file can have the name
        return f"it cannot be opened ({getattr(error, 'strerror', None) or error})"
    if not head:
        return "it is empty"
    if head.startswith(LFS):
        return "it is a git-LFS pointer, not the recording: run `git lfs pull` in its repository"
    if _is_text(head):
        return f"it is a text file named {source.suffix or 'like a recording'}" if isinstance(source, Path) else \
            "it is text: send the bytes of a recording's file"
    return None


def _is_text(head: bytes) -> bool:
    if any(byte < 9 or 13 < byte < 32 for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # only the last character is cut
    return True
