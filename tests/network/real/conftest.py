"""Fixtures for runs of real peers, and the time that their tests may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
from real_peers import Real, furthest, write_tones

from p2pser.features.federation import federate

TEST_TIMEOUT = 390.0
"""Longest time of a test of several runs on a busy machine [s]."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time than others have: they wait for events of several processes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT))


@pytest.fixture(scope="session")
def tones(own_folders: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a corpus of tones, whose features are in the session's cache already."""
    folder = tmp_path_factory.mktemp("tones")
    manifest = write_tones(folder)
    federate(Real(manifest, folder).config("none"), 6, workers=1)
    return manifest


@pytest.fixture
def real(tones: Path, tmp_path: Path) -> Real:
    """Runs of real peers in the test's own folder."""
    return Real(tones, tmp_path)


@pytest.fixture(scope="session")
def make_real(tones: Path) -> Callable[[Path], Real]:
    """``make_real(folder)``: runs of real peers in a folder that several tests share."""
    return lambda folder: Real(tones, folder)


@pytest.fixture(scope="module")
def own_forkserver() -> Iterator[None]:
    """Let the first run of a module start a forkserver, which imports what its settings need.

    In a forkserver that was started for other settings each peer imports that for itself: transformers takes 5 s.
    """
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


@pytest.fixture(name="furthest")
def furthest_fixture() -> Callable[[torch.Tensor], float]:
    """``furthest(rows)``: the largest relative difference between any two rows."""
    return furthest
