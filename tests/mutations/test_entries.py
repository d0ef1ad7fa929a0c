"""The faults of this folder fit the code as it is: scripts/mutate can apply each of them and run its tests."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted(Path(__file__).parent.glob("*.yaml"))
FIELDS = {"fault", "file", "old", "new", "tests"}


def wrong(entry: dict[str, str]) -> str:
    """Return what of an entry does not fit the code; empty where all does."""
    if entry.keys() != FIELDS or entry["old"] == entry["new"]:
        return "it has other fields, or changes nothing"
    file = ROOT / entry["file"]
    number = file.read_text(encoding="utf-8").count(entry["old"]) if file.exists() else 0
    return f"its old text occurs {number} times in {entry['file']}" if number != 1 else missing(entry["tests"])


def missing(arguments: str) -> str:
    """Return which tests that pytest's arguments name do not exist."""
    words = shlex.split(arguments)
    files = [ROOT / word.partition("::")[0] for word in words if word.startswith("tests/")]
    if not files or not all(file.exists() for file in files):
        return f"there are no {arguments}"
    text = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    names = [word.partition("::")[2].partition("[")[0] for word in words if "::" in word]
    selected = [word for key, value in pairwise(words) if key == "-k" for word in value.split()]
    names += [word for word in selected if word not in ("and", "or", "not")]
    return ", ".join(f"{name} is no test of {arguments}" for name in names if name not in text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_fault_has_its_place_and_its_tests(path: Path) -> None:
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    faults = [entry["fault"] for entry in entries]
    assert len(faults) == len(set(faults))
    assert {entry["fault"]: what for entry in entries if (what := wrong(entry))} == {}


def test_an_entry_that_does_not_fit_is_told() -> None:
    entry = {"fault": "No tests", "file": "setup.cfg", "old": "testpaths = tests", "new": "testpaths = docs",
             "tests": "tests/test_house.py -k about_one_thing"}
    assert wrong(entry) == ""
    assert "occurs 0 times" in wrong({**entry, "old": "testpaths = nowhere"})
    assert "changes nothing" in wrong({**entry, "new": entry["old"]})
    assert "there are no" in wrong({**entry, "tests": "tests/mutations/test_none.py"})
    assert "about_two_things" in wrong({**entry, "tests": "tests/test_house.py -k about_two_things"})
    assert "test_none" in wrong({**entry, "tests": "tests/test_house.py::test_none"})
