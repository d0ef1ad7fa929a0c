"""The memory that is free for a process here."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of the C library's mallopt."""
_USUAL = {_TRIM_THRESHOLD: 128 << 10, _MMAP_MAX: 65536}


@contextlib.contextmanager
def keep_freed() -> Iterator[None]:
    """Within it, this process keeps large pieces of memory that it frees, and takes them again, where the C library is
    glibc; at the end it gives them back.

    Without it each piece above 32 MiB comes from the system and goes back to it: for the rows of 100 models of 96,000
    parameters the page faults cost as much as half of all that a round computes.
    """
    with contextlib.suppress(OSError, AttributeError):
        _mallopt({_MMAP_MAX: 0, _TRIM_THRESHOLD: (1 << 31) - 1})
    try:
        yield
    finally:
        with contextlib.suppress(OSError, AttributeError):
            _mallopt(_USUAL)
            ctypes.CDLL(None).malloc_trim(0)


def _mallopt(options: Mapping[int, int]) -> None:
    set_option = ctypes.CDLL(None).mallopt
    for option, value in options.items():
        set_option(option, value)


def available() -> int | None:
    """Return the bytes that Linux, or the container, can still give; None where neither says."""
    free = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    with contextlib.suppress(OSError, ValueError):  # a container's own limit
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        free = limit - used if free is None else min(free, limit - used)
    return free
