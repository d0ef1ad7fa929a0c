"""A later topology file under every algorithm, in the simulation of whole peers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from p2pser.base.errors import P2PSERError
from p2pser.base.registries import ALGORITHMS
from p2pser.gossip.registry import create, validate
from p2pser.graph.spec import Topology, load
from p2pser.wire.messages import Phase
from schedules.faults import Fault, When
from schedules.growth import Growing
from schedules.schedule import algorithms, base, own_folder

GRAPHS = ("ring", "tree", "directed-exponential", "server", "complete")


@pytest.fixture
def folder() -> Iterator[Path]:
    threads = torch.get_num_threads()
    yield own_folder()
    shutil.rmtree(own_folder().parent, ignore_errors=True)
    torch.set_num_threads(threads)


def grown(algorithm: str) -> tuple[Topology, Topology]:
    """Return a graph on which the algorithm runs, and the same with more peers, of epoch 1."""
    config = base(algorithm, "uniform")
    for name in GRAPHS:
        before, after = (load(name, peers=size) for size in ((7, 8) if name == "complete" else (4, 5)))
        try:
            for each in (before, after):
                validate(create(algorithm, {}, config, each), config, each)
        except P2PSERError:
            continue
        return before, replace(after, epoch=1)
    raise AssertionError(algorithm)


@pytest.mark.parametrize("algorithm", algorithms())
def test_every_algorithm_goes_on_with_one_more_peer(folder: Path, algorithm: str) -> None:
    before, after = grown(algorithm)
    one = Growing(4, folder, algorithm, before, after)

    def grow(growing: Growing) -> None:
        growing.give(range(before.size))
        growing.start(before.size)

    phase = Phase.TRAIN if ALGORITHMS[algorithm].asynchronous else Phase.EXCHANGE
    one.faults = [Fault(When(0.0, 1, phase, 3), "one more peer", grow)]
    one.run()
    assert not one.violations
    assert {i: machine.past[-1].ended[0] for i, machine in one.machines.items()} == \
        dict.fromkeys(range(after.size), "done")
    assert [machine.past[-1].exit_code for machine in one.machines.values()] == [0] * after.size
    assert all(any("goes on with epoch 1" in said for said in one.sentences(i)) for i in range(before.size))
