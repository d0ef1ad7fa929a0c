"""The tables of docs/results.md are those of the figures that are kept beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = sorted((ROOT / "docs" / "figures").glob("secure-average-*.json"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_the_table_of_secure_average_is_that_of_its_figures(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import secure_average  # type: ignore[import-not-found]

    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for line in secure_average.lines(json.loads(kept.read_text(encoding="utf-8"))):
        assert line in text
