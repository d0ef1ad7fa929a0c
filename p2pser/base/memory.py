"""The memory that is free for a process here."""

from __future__ import annotations

import contextlib
from pathlib import Path


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
