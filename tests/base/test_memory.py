"""Freed memory is kept for as long as a simulation asks for it, and then goes back to the system."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from p2pser.base.memory import keep_freed

MEGABYTES = 400


def resident() -> float:
    """The memory of this process [MB]."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


@pytest.mark.skipif(not Path("/proc/self/status").exists() or not hasattr(ctypes.CDLL(None), "mallopt"),
                    reason="the C library is not glibc")
def test_freed_memory_is_kept_within_a_simulation_alone() -> None:
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()
    with keep_freed():
        pieces = [np.ones(12_500) for _ in range(10 * MEGABYTES)]  # of 0.1 MB
        assert resident() - before > 0.9 * MEGABYTES
        del pieces
        assert resident() - before > 0.9 * MEGABYTES
    assert resident() - before < 0.2 * MEGABYTES
