"""Schedules of whole peers: the same seed gives the same run, and no run breaks what must hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from schedules.command import lines
from schedules.schedule import Schedule, algorithms, own_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    threads = torch.get_num_threads()
    yield own_folder()
    torch.set_num_threads(threads)


def test_the_same_seed_gives_the_same_trace(folder: Path) -> None:
    first, second = (list(lines(Schedule(7, folder).run())) for _ in range(2))
    assert len(first) > 500
    assert first == second


def test_other_seeds_give_other_traces(folder: Path) -> None:
    assert list(lines(Schedule(2, folder, "dfedavg", "ring").run())) != \
        list(lines(Schedule(3, folder, "dfedavg", "ring").run()))


@pytest.mark.parametrize("seed", range(20))
def test_without_faults_every_algorithm_ends_with_one_model(folder: Path, seed: int) -> None:
    one = Schedule(seed, folder, faults=False).run()
    assert not one.violations
    assert all(machine.past[-1].ended[0] == "done" for machine in one.machines.values()), str(one)
    assert one.algorithm == algorithms()[seed]
