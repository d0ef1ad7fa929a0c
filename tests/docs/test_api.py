"""The public names stay what they are, whatever is imported."""

from __future__ import annotations

import inspect
import pkgutil

import p2pser


def test_no_folder_takes_the_place_of_a_function() -> None:
    assert p2pser.topology("ring", peers=5).neighbours(0) == (1, 4)
    assert p2pser.topology("ring", peers=4).size == 4
    for name in p2pser.__all__:
        assert not inspect.ismodule(getattr(p2pser, name)), name


def test_no_folder_has_the_name_of_a_public_function() -> None:
    """Python sets a package's attribute to a folder of that name when the folder is first imported."""
    assert {module.name for module in pkgutil.iter_modules(p2pser.__path__)} & set(p2pser.__all__) == set()
