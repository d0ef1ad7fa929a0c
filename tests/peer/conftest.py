"""A crew of peers in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crew import Crew


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    one = Crew(tmp_path)
    yield one
    one.close()
