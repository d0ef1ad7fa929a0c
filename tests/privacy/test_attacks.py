"""Attacks on made-up updates, whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser.privacy.attacks.inversion import candidates, likeness
from p2pser.privacy.attacks.templates import shadow_model


def test_a_unit_that_one_clip_moved_shows_the_clip() -> None:
    clips = np.array([[1.0, -2.0, 0.5], [3.0, 1.0, 0.0]])
    moved = np.array([[0.2, 0.0], [0.0, -0.5], [0.1, 0.3], [0.0, 0.0]])  # each unit by each clip
    matrix = moved @ np.concatenate([clips, np.ones((2, 1))], axis=1)
    inputs, seen = candidates(matrix, np.ones((4, 4), dtype=bool))
    assert inputs == pytest.approx(np.array([clips[0], clips[1], (clips[0] + 3 * clips[1]) / 4]))
    others = np.array([[-1.0, 2.0, -0.5], [0.0, 0.0, 1.0]])
    features = np.concatenate([2 * clips, others]).astype(np.float32)  # the length of a vector does not count
    # -clips[0] is most like clips[1], by -1 / sqrt(5.25 * 10); the last vector like clips[0], by .5 / sqrt(5.25).
    assert likeness(inputs, seen, features) == pytest.approx([1.0, 1.0, 0.0, 0.21822], abs=1e-5)


def test_an_update_without_a_first_layer_shows_nothing() -> None:
    inputs, seen = candidates(np.zeros((3, 5)), np.ones((3, 5), dtype=bool))
    assert inputs.shape == (0, 4)
    assert likeness(inputs, seen, np.ones((2, 4), dtype=np.float32)).tolist() == [0.0, 0.0]


def test_a_shadow_model_names_the_group_of_the_side_on_which_an_update_lies() -> None:
    draw = np.random.default_rng(2)
    towards = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    groups = ["f", "f", "f", "m", "m"]
    templates = np.stack([draw.normal(size=5) + (4 if group == "f" else -4) * towards for group in groups])
    for sign, group in ((4, "f"), (-4, "m")):
        scores = shadow_model((draw.normal(size=5) + sign * towards).astype(np.float32),
                              templates.astype(np.float32), groups, templates.mean(axis=0).astype(np.float32))
        assert scores.keys() == {"f", "m"}
        assert max(scores, key=lambda name: scores[name]) == group
        assert sum(scores.values()) == pytest.approx(0.0, abs=1e-6)  # the shares of all groups sum to 1 everywhere


def test_templates_that_are_all_alike_name_nobody() -> None:
    scores = shadow_model(np.ones(3, dtype=np.float32), np.ones((4, 3), dtype=np.float32), ["f", "f", "m", "m"],
                          np.ones(3, dtype=np.float32))
    assert scores == {"f": 0.0, "m": 0.0}


def test_directions_are_those_from_the_centre() -> None:
    templates, update = np.array([[2.0, 0.0], [0.0, 2.0]], dtype=np.float32), np.array([3.0, 0.0], dtype=np.float32)
    # Directions (1, 0) and (0, 1): K + I = 2 I, targets 1/2 and -1/2, and the update lies in the first direction.
    assert shadow_model(update, templates, ["f", "m"], np.zeros(2, dtype=np.float32)) == {"f": 0.25, "m": -0.25}
    # From (1, 0) the second is (-1, 2) / sqrt(5), and -1 / sqrt(5) its cosine with the others.
    cosine = -(5**-0.5)
    first, second = np.linalg.solve([[2, cosine], [cosine, 2]], [0.5, -0.5])
    scores = shadow_model(update, templates, ["f", "m"], np.array([1.0, 0.0], dtype=np.float32))
    assert scores["f"] == pytest.approx(first + cosine * second)
