"""What the demo's launcher keeps of a run."""

from __future__ import annotations

import numpy as np
import pytest

from p2pser.experiments.demo import KEPT, Course


def test_sketches_of_early_rounds_become_distances() -> None:
    course = Course()
    for round in range(KEPT + 2):
        for peer, number in ((0, 1.0 + round), (1, 3.0 + round)):
            course.add({"peer": peer, "kind": "sketch", "round": round, "sketch": np.array([number]).tobytes()})
    course.add({"peer": 2, "kind": "sketch", "round": 1, "sketch": np.array([9.0]).tobytes()})  # comes far too late
    assert len(course.sketches) == KEPT
    distances = course.distances(KEPT + 3)
    assert distances[:3] == pytest.approx([1 / 2, 1 / 3, 1 / 4])
    assert distances[KEPT + 1] == pytest.approx(1 / (KEPT + 3))
    assert distances[KEPT + 2] is None
