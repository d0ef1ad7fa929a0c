"""The samples of a recording's file, block by block: through libsndfile, or through PyAV (extra ``media``)."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from p2pser.base.errors import CorpusError
from p2pser.corpora.files import MEDIA

if TYPE_CHECKING:
    import soundfile
    from numpy.typing import NDArray

BLOCK = 1 << 18
"""Frames decoded at a time."""

LOWEST_RATE = 1000
"""The lowest sampling rate of speech [Hz]; a lower one in a damaged header would be resampled to gigabytes."""

_MOST_FRAMES_PER_BYTE = 2000
"""No codec here stores so many frames in one byte, not even of silence (FLAC: 350)."""


_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass
class Decoder:
    """An open recording.

    ``rate`` in Hz. ``frames`` by the header; None where it does not say, or what it says cannot be. ``blocks`` yields
    the samples, (n, channels) float32, once; it raises CorpusError where the file is damaged.
    """

    rate: int
    frames: int | None
    blocks: Iterator[NDArray[np.float32]]


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[Decoder]:
    """Open a recording. A CorpusError, raised where it cannot be read or by the body, gets the path."""
    path = Path(path)
    try:
        wrong = _unreadable(path)
        if wrong:
            raise CorpusError(wrong)
        with (_media if path.suffix.lower() in MEDIA else _sound)(path) as decoder:
            if decoder.rate < LOWEST_RATE:
                raise CorpusError(f"its header gives a sampling rate of {decoder.rate} Hz: it is damaged")
            yield decoder
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from None


@contextlib.contextmanager
def _sound(path: Path) -> Iterator[Decoder]:
    import soundfile

    class Forward(soundfile.SoundFile):  # type: ignore[misc]  # the library has no types
        """After each read soundfile seeks to where the header says that the block ends: this one does not seek."""

        def seekable(self) -> bool:
            return False

    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Forward(_with_sizes(path) or str(path)))
        except (OSError, RuntimeError) as error:
            raise CorpusError(_sentence(error)) from None
        possible = 0 < file.frames <= _MOST_FRAMES_PER_BYTE * path.stat().st_size
        yield Decoder(file.samplerate, file.frames if possible else None, _sound_blocks(file))


def _sound_blocks(file: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    try:
        while True:
            block = file.read(BLOCK, dtype="float32", always_2d=True)
            if len(block) == 0:
                return
            yield block
    except (OSError, RuntimeError) as error:
        raise CorpusError(_sentence(error)) from None


def _with_sizes(path: Path) -> BinaryIO | None:
    """Return a WAV file whose sizes are 0 with sizes that mean "to the end"; None for every other file.

    Programs that write to a pipe leave 0 where they cannot go back; libsndfile takes it as no samples.
    """
    with path.open("rb") as file:
        head = bytearray(file.read(4096))
        if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            return None
        place = 12
        while place + 8 <= len(head):
            name, size = struct.unpack_from("<4sI", head, place)
            if name == b"data":
                if size != 0:
                    return None
                head[4:8] = head[place + 4:place + 8] = b"\xff\xff\xff\xff"
                return io.BytesIO(bytes(head) + file.read())
            place += 8 + size + size % 2
    return None


@contextlib.contextmanager
def _media(path: Path) -> Iterator[Decoder]:
    try:
        import av
    except ImportError:
        raise CorpusError(f"{path.suffix} files need the extra media: pip install 'p2pser[media]'") from None
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise CorpusError(_sentence(error)) from None
    with container:
        stream = next(iter(container.streams.audio), None)
        if stream is None or not stream.rate:
            raise CorpusError("it holds no sound")
        yield Decoder(stream.rate, None, _media_blocks(container, stream.rate))


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


def _unreadable(path: Path) -> str | None:
    """Return why the first bytes of a file are not those of a recording, or None."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except IsADirectoryError:
        return "it is a folder"
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"it cannot be opened ({error.strerror})"
    if not head:
        return "it is empty"
    if head.startswith(_LFS):
        return "it is a git-LFS pointer, not the recording: run `git lfs pull` in its repository"
    if _is_text(head):
        return f"it is a text file named {path.suffix or 'like a recording'}"
    return None


def _is_text(head: bytes) -> bool:
    if any(byte < 9 or 13 < byte < 32 for byte in head):
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3  # only the last character is cut
    return True
