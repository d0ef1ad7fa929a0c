"""The public names stay what they are, whatever is imported."""

from __future__ import annotations

import inspect
import pkgutil

import p2pser


def test_no_folder_takes_the_place_of_a_function() -> None:
    assert p2pser.topology("ring", peers=5).neighbours(0) == (1, 4)  # imports p2pser.topology.spec
    assert p2pser.topology("ring", peers=4).size == 4
    for name in p2pser.__all__:
        assert not inspect.ismodule(getattr(p2pser, name)), name


def test_only_topology_is_a_folder_and_a_function() -> None:
    folders = {module.name for module in pkgutil.iter_modules(p2pser.__path__)}
    assert folders & set(p2pser.__all__) == {"topology"}
