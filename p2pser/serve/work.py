"""The predictions of a server: what it grants, a few threads, and a bounded number of jobs that wait."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


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


class Gone(Exception):
    """The client of a job has gone."""


def wanted(items: Iterable[T], left: threading.Event) -> Iterator[T]:
    """Yield the items while the event is not set. Raises Gone then."""
    for item in items:
        if left.is_set():
            raise Gone
        yield item


class Workers:
    """Threads that predict, ``limits.workers`` at a time; they share the processor's cores."""

    def __init__(self, limits: Limits) -> None:
        self._room, self.jobs = limits.workers + limits.waiting, 0
        self._pool = ThreadPoolExecutor(limits.workers, "predict", *_shared_cores(limits.workers))

    async def run(self, job: Callable[[threading.Event], T], *, admitted: bool = False) -> T:
        """Return what a job returns; one whose caller is cancelled while it waits never begins. The event that a job
        gets is set when its caller is cancelled (``wanted``).

        Raises Busy where too many wait; one that is ``admitted`` always waits.
        """
        if self.jobs >= self._room and not admitted:
            raise Busy
        self.jobs += 1
        left = threading.Event()
        loop, future = asyncio.get_running_loop(), self._pool.submit(job, left)
        # Not when the caller is cancelled: a job that has begun takes its place until it ends.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            left.set()
            raise

    def _end(self) -> None:
        self.jobs -= 1

    def close(self) -> None:
        """End the threads after the jobs that they are doing."""
        self._pool.shutdown(cancel_futures=True)


def _shared_cores(workers: int) -> tuple[Any, ...]:
    """Return what each thread calls first: torch takes its share of the cores there. ONNX Runtime needs nothing."""
    if importlib.util.find_spec("torch") is None:
        return ()
    import torch

    return torch.set_num_threads, (max(1, torch.get_num_threads() // workers),)
