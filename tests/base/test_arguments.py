"""Arguments that do not fit their signature are named, with what to give."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2pser.base.arguments import check, several
from p2pser.base.errors import ConfigError
from p2pser.graph.spec import Topology, load


def called(*, count: int | None = 1, share: float = 0.5, exact: bool = False, name: str = "x",
           names: Sequence[str] = (),
           folds: Sequence[int] | None = None, path: str | os.PathLike[str] = "a", topology: Topology | None = None,
           tell: Callable[[int], None] | None = None, settings: Mapping[str, Any] | None = None,
           files: Iterable[Path | bytes] = (), array: Any = None) -> None:
    check(called, locals(), count=(1, 9), share=(None, 1))


@pytest.mark.parametrize("given", [
    {"count": 9}, {"count": None}, {"count": np.int64(3)}, {"share": 1}, {"share": np.float32(0.5)},
    {"share": float("-inf")}, {"exact": True}, {"exact": np.True_}, {"name": np.str_("x")}, {"names": "one"},
    {"names": ["one", "two"]}, {"names": np.array(["one"])}, {"folds": 3}, {"folds": np.array([3])},
    {"path": Path("a")}, {"path": "missing/a"}, {"topology": load("ring")}, {"tell": print}, {"settings": {}},
    {"files": [b""]}, {"array": object()}])
def test_what_fits_is_taken(given: dict[str, Any]) -> None:
    called(**given)


@pytest.mark.parametrize(("given", "words"), [
    ({"count": "3"}, "count is '3': give a whole number, 1 or more, 9 or less or None"),
    ({"count": 2.0}, "count is 2.0: give a whole number"), ({"count": True}, "count is True: give a whole number"),
    ({"count": 0}, "count is 0: give a whole number, 1 or more"), ({"count": 10}, "9 or less"),
    ({"share": "0.5"}, "share is '0.5': give a number"), ({"share": None}, "share is None: give a number"),
    ({"share": float("nan")}, "share is nan: give a number"), ({"share": float("inf")}, "share is inf: give a number"),
    ({"exact": "no"}, "exact is 'no': give True or False"), ({"exact": 1}, "exact is 1: give True or False"),
    ({"name": b"x"}, "name is b'x': give a text"), ({"names": [3]}, r"names is \[3\]: give texts"),
    ({"names": None}, "names is None: give texts"), ({"folds": "0"}, "folds is '0': give whole numbers or None"),
    ({"folds": [0.5]}, "give whole numbers or None"), ({"path": None}, "path is None: give a text or a path"),
    ({"path": "a\0b"}, r"path is 'a\\x00b', which cannot be a path here"),
    ({"path": "a" * 5000}, "which cannot be a path here"),
    ({"topology": "ring"}, r"topology is 'ring': give what p2pser\.topology returns or None"),
    ({"tell": 5}, "tell is 5: give a function or None"), ({"settings": ["x"]}, "give a mapping or None"),
    ({"files": "ab"}, "files is 'ab': give several recordings")])
def test_what_does_not_fit_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^called: .*{words}"):
        called(**given)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        called(count=list(range(100_000)))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_one_value_may_stand_for_several() -> None:
    assert several(Path("a")) == (Path("a"),)
    assert several(np.array([1, 2])) == (1, 2)
    assert several(()) == ()
