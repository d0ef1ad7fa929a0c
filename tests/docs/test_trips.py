"""The trips that docs/design.md tells of are those that values take."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("name", "told", "most"), [("row", "**A parameter row**", 14),
                                                    ("recording", "**A recording**", 25)])
def test_a_trip_enters_the_files_that_the_page_names(name: str, told: str, most: int) -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    text = page.split(told)[1].split("\n- **")[0]
    named = {file.rpartition("/")[2] for file in re.findall(r"`([\w/]+\.py)`", text)}
    for _ in range(3):  # on a busy machine a row may come late, or be sent again, and then enters other files too
        done = subprocess.run([sys.executable, ROOT / "scripts" / "trips", name], cwd=ROOT, capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
        entered = set(re.findall(r"^ +\d+ (\S+\.py)", done.stdout, flags=re.MULTILINE))
        if len(entered) <= most:
            break
    assert {file.rpartition("/")[2] for file in entered} == named
    assert len(entered) <= most
    assert f" {len(entered)} files" in " ".join(text.split())
