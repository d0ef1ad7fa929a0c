"""Pictures of predictions: they are drawn, in the format of their ending, whatever is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.evaluation.calibration import reliability
from p2pser.experiments.report.predictions import confusion_picture, reliability_picture


def test_confusion_matrices_side_by_side(tmp_path: Path) -> None:
    labels = ["anger", "fear", "neutral"]
    table = np.array([[8, 1, 1], [0, 5, 5], [0, 0, 0]])
    confusion_picture(tmp_path / "a" / "one.svg", {"gossip": table}, labels)
    text = (tmp_path / "a" / "one.svg").read_text(encoding="utf-8")
    assert text.count("<!-- 80 -->") == 1
    assert text.count("<!-- 50 -->") == 2
    assert "<!-- gossip   UAR (b) 0.650 -->" in text
    confusion_picture(tmp_path / "four.png", dict.fromkeys("abcd", table), labels)
    assert (tmp_path / "four.png").read_bytes().startswith(b"\x89PNG")


def test_reliability_before_and_after(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    chances = draws.dirichlet([1, 1, 1], 200)
    targets = draws.integers(0, 3, 200)
    ways = {"before": reliability(chances, targets), "after scaling": reliability(chances**0.5 / (
        chances**0.5).sum(1, keepdims=True), targets)}
    reliability_picture(tmp_path / "r.svg", {"gossip": ways, "pooled": ways})
    text = (tmp_path / "r.svg").read_text(encoding="utf-8")
    assert text.count("<!-- after scaling -->") == 2


def test_what_cannot_be_drawn_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"let its name end in \.png"):
        confusion_picture(tmp_path / "a.gif", {"x": np.eye(2)}, ["a", "b"])
    (tmp_path / "a.png").mkdir()
    with pytest.raises(P2PSERError, match="cannot write"):
        confusion_picture(tmp_path / "a.png", {"x": np.eye(2)}, ["a", "b"])
