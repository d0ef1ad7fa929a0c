"""What the tests of schedules share: the folder of their fake disks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from schedules.schedule import own_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for the peers' disks; schedules also set torch's number of threads, which is set back."""
    threads = torch.get_num_threads()
    yield own_folder()
    shutil.rmtree(own_folder().parent, ignore_errors=True)
    torch.set_num_threads(threads)
