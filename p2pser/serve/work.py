"""The predictions of a server: a few threads, a bounded number of jobs that wait, and what one job may cost."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from p2pser.base.errors import CorpusError
from p2pser.features import decoding
from p2pser.inference.predictor import Predictor, most_probable
from p2pser.inference.timeline import timeline

T = TypeVar("T")

HIGHEST_RATE = 192_000
"""Rate up to which a recording may last as long as the limit says [Hz]; beyond, its samples are limited."""

SHORTEST_HOP, OVERLAP = 0.1, 20
"""The shortest hop [s], and in how many windows a sample may be: they bound the work for one recording."""


@dataclass(frozen=True)
class Limits:
    """What a server grants its clients.

    Attributes
    ----------
    max_bytes : longest body of a request.
    seconds : longest recording [s].
    timeout : longest time in which a body arrives [s].
    workers : predictions at the same time.
    waiting : predictions that may wait beyond those.
    streams : streams at the same time.
    idle : how long a stream may send nothing [s].
    """

    max_bytes: int = 50_000_000
    seconds: float = 600.0
    timeout: float = 60.0
    workers: int = 1
    waiting: int = 16
    streams: int = 4
    idle: float = 30.0

    @property
    def held(self) -> int:
        """Bytes of all bodies that are held at the same time."""
        return 4 * self.max_bytes


class Busy(Exception):
    """As many jobs as may wait are waiting."""


class Workers:
    """Threads that predict, ``limits.workers`` at a time; they share the processor's cores."""

    def __init__(self, limits: Limits) -> None:
        import torch

        self._room, self.jobs = limits.workers + limits.waiting, 0
        threads = max(1, torch.get_num_threads() // limits.workers)
        self._pool = ThreadPoolExecutor(limits.workers, "predict", torch.set_num_threads, (threads,))

    async def run(self, job: Callable[[], T], *, admitted: bool = False) -> T:
        """Return what a job returns. Raises Busy where too many wait; one that is ``admitted`` always waits."""
        if self.jobs >= self._room and not admitted:
            raise Busy
        self.jobs += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            self.jobs -= 1

    def close(self) -> None:
        """End the threads after the jobs that they are doing."""
        self._pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Question:
    """What a client asks of a recording: windows of ``window`` every ``hop`` seconds, or, where both are None, one
    answer; of each the ``top_k`` most probable emotions, or all.
    """

    top_k: int | None = None
    window: float | None = None
    hop: float | None = None

    def __post_init__(self) -> None:
        if self.hop is not None and self.window is not None and self.hop < max(SHORTEST_HOP, self.window / OVERLAP):
            raise CorpusError(f"a hop of {self.hop:g} s is too short here: give {SHORTEST_HOP:g} s or more, and a "
                              f"{OVERLAP}th of the window or more")

    def answer(self, predictor: Predictor, recording: bytes, longest: float) -> dict[str, Any]:
        """Return the answer for a recording. Raises CorpusError where it cannot be used or is longer than that [s]."""
        _require_length(recording, longest)
        shorten = functools.partial(most_probable, top_k=self.top_k)
        if self.window is not None and self.hop is not None:
            segments = timeline(predictor, recording, window=self.window, hop=self.hop)
            return {"note": predictor.note(), "segments": [shorten(segment.to_dict()) for segment in segments]}
        errors: list[tuple[Any, str]] = []
        for prediction in predictor.each([recording], errors=errors):
            return {**shorten(prediction.to_dict()), "note": predictor.note()}
        raise CorpusError(errors[0][1])


def _require_length(recording: bytes, longest: float) -> None:
    """Raise CorpusError where a recording is longer than that [s]: decoded, since a header may say anything."""
    with decoding.opened(recording) as decoder:
        frames, most = 0, longest * min(decoder.rate, HIGHEST_RATE)
        for block in decoder.blocks:
            frames += len(block)
            if frames > most:
                raise CorpusError(f"it is longer than {longest:g} s: cut it into parts")
