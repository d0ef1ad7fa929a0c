"""Read recordings, and say why a file is not a usable recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base.errors import CorpusError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORTEST = 0.1
"""The shortest usable clip [s]."""

SILENCE = 1e-4
"""A clip whose samples nowhere differ from their mean by more is silent (full scale is 1: -80 dB)."""

NOT_FINITE = "it holds samples that are not finite numbers; export it again"

_LFS = b"version https://git-lfs.github.com/spec/"


def read(path: Path | str, sample_rate: int) -> NDArray[np.float32]:
    """Return a recording's samples (samples,), float32, full scale 1: channels averaged, resampled.

    ``sample_rate`` in Hz. Raises CorpusError where the file is missing, is a git-LFS pointer, text or in a
    format that libsndfile does not read, shorter than 0.1 s, silent, or holds samples that are not finite.
    """
    import soundfile

    path = Path(path)
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise CorpusError(f"{path}: {_unreadable(path) or _sentence(error)}") from None
    try:
        return usable(samples, rate, sample_rate)
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from None


def usable(samples: NDArray[np.float32], rate: int, sample_rate: int) -> NDArray[np.float32]:
    """Return samples (n,) or (n, channels) float32 at ``rate`` [Hz] as ``read`` returns those of a recording.

    Raises CorpusError where they are shorter than 0.1 s, silent, or not finite.
    """
    if len(samples) < SHORTEST * rate:
        raise CorpusError(_too_short(len(samples) / rate))
    signal: NDArray[np.float32] = mono(samples)
    if not np.isfinite(signal).all():
        raise CorpusError(NOT_FINITE)
    if float(np.abs(signal - signal.mean()).max()) <= SILENCE:
        raise CorpusError("it is silent")
    if rate != sample_rate:
        signal = _resample(signal, rate, sample_rate)
    return np.ascontiguousarray(signal, dtype=np.float32)


def mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples (n,) or (n, channels) with their channels averaged, (n,)."""
    if samples.ndim == 1:
        return samples
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def reason(path: Path | str) -> str | None:
    """Return why a file is not a usable recording, or None; only its header is read, so silence is not detected."""
    import soundfile

    path = Path(path)
    wrong = _unreadable(path)
    if wrong:
        return wrong
    try:
        info = soundfile.info(str(path))
    except (OSError, RuntimeError) as error:
        return _sentence(error)
    return _too_short(info.duration) if info.duration < SHORTEST else None


def seconds(path: Path | str) -> float:
    """Return a recording's length [s], from its header. Raises CorpusError where it cannot be read."""
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except (OSError, RuntimeError) as error:
        raise CorpusError(f"{path}: {_unreadable(Path(path)) or _sentence(error)}") from None


def _resample(signal: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    import soxr

    out: NDArray[np.float32] = soxr.resample(signal, rate, target, quality="HQ")
    return out


def _too_short(duration: float) -> str:
    return f"it lasts {duration:.3f} s, shorter than {SHORTEST} s"


def _sentence(error: Any) -> str:
    """Return libsndfile's message, without the path that it repeats."""
    message = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
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
