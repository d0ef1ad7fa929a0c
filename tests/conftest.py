"""What all tests share: where the real corpora lie, and that nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# The floors' data: beside the checkout, or where the variable says.
SHARED_DATA = Path(os.environ.get("P2PSER_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real corpora (emodb/, ravdess/); the test is skipped where it is missing."""
    if not (SHARED_DATA / "emodb").is_dir():
        pytest.skip(f"the real corpora are not at {SHARED_DATA}; set P2PSER_SHARED_DATA to their folder")
    return SHARED_DATA
