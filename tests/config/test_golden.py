"""No default changes unseen."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path


def test_defaults_are_the_golden_ones() -> None:
    spec = importlib.util.spec_from_file_location("golden", Path(__file__).with_name("golden.py"))
    assert spec is not None
    assert spec.loader is not None
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    expected = json.loads(golden.GOLDEN.read_text(encoding="utf-8"))
    assert golden.current() == expected, "run tests/config/golden.py where a default was meant to change"
