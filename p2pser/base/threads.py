"""torch's threads: their number changes the last bits of sums, so it must depend on the settings only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute with ``number`` threads within the block (or the decorated function)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
