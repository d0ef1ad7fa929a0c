"""The arguments of public calls, checked by the types that their signatures name: a wrong one gets a sentence."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeAlias

from p2pser.base.errors import ConfigError, in_one_line

Kind: TypeAlias = "tuple[Callable[[Any], bool], str]"
"""A test of a value, and what it must be, in words."""

MAKERS = {"Predictor": "p2pser.load", "Federation": "p2pser.federate", "Topology": "p2pser.topology",
          "Statistics": "Predictor.enrol"}
"""Classes of p2pser that arguments have, and what returns them."""


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or numpy, and no truth."""
    return isinstance(value, Integral) and not _truth(value)


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not _truth(value) and not math.isnan(value)


def _truth(value: Any) -> bool:
    return type(value).__name__ in ("bool", "bool_")  # numpy's too, without importing it


def _several(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: all(map(fits, several(value)))


KINDS: dict[str, Kind] = {
    "int": (is_whole, "a whole number"),
    "float": (_number, "a number"),
    "bool": (_truth, "True or False"),
    "str": (lambda value: isinstance(value, str), "a text"),
    "os.PathLike[str]": (lambda value: isinstance(value, os.PathLike), "a path"),
    "None": (lambda value: value is None, "None"),
    "Sequence[str]": (_several(lambda value: isinstance(value, str)), "texts"),
    "Sequence[int]": (_several(is_whole), "whole numbers"),
    "Mapping[str, Any]": (lambda value: isinstance(value, Mapping), "a mapping"),
    "Mapping[int, int]": (lambda value: isinstance(value, Mapping) and _several(is_whole)([*value, *value.values()]),
                          "a mapping from whole numbers to whole numbers"),
    "Mapping[str, tuple[float, float]]": (lambda value: isinstance(value, Mapping), "a mapping"),
    "Iterable[Path | bytes]": (lambda value: isinstance(value, Iterable) and not isinstance(value, (str, bytes)),
                               "several recordings, each a Path or bytes"),
    "list[tuple[Path, str]]": (lambda value: isinstance(value, list), "a list"),
}
"""The types of arguments that are checked, as signatures write them."""


def check(function: Callable[..., Any], given: Mapping[str, Any], **limits: tuple[float | None, float | None]) -> None:
    """Check the arguments of a call, whose first statement is ``check(function, locals())``.

    Parameters
    ----------
    function : what is called. An argument that may have a type that is not in ``KINDS`` or ``MAKERS`` is not checked.
    given : its arguments by name.
    limits : the smallest and the largest value of arguments that are numbers; None: there is none.

    Raises ConfigError for the first argument that does not fit.

    >>> def wait(seconds: "float | None") -> None:
    ...     check(wait, locals(), seconds=(0, None))
    >>> wait("3")
    Traceback (most recent call last):
    p2pser.base.errors.ConfigError: wait: seconds is '3': give a number, 0 or more or None
    """
    for name, hint in function.__annotations__.items():
        if name not in given:
            continue
        value = given[name]
        kinds = [_kind(part, limits.get(name, (None, None))) for part in re.split(r" \| (?![^\[]*\])", hint)]
        if not any(fits(value) for fits, _ in kinds):
            raise ConfigError(f"{function.__qualname__}: {name} is {in_one_line(repr(value), 80)}: give "
                              f"{' or '.join(words for _, words in kinds)}")
        if "os.PathLike[str]" in hint and isinstance(value, (str, os.PathLike)):
            try:
                os.lstat(value)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                pass  # the function that opens it says so
            except (OSError, ValueError) as error:  # too long a name, a character 0
                raise ConfigError(f"{function.__qualname__}: {name} is {in_one_line(repr(value), 80)}, which cannot be "
                                  f"a path here ({getattr(error, 'strerror', None) or error}): give another") from None


def _kind(part: str, limits: tuple[float | None, float | None]) -> Kind:
    """Return what a part of an annotation asks for."""
    if part in MAKERS:
        return lambda value: any(base.__name__ == part for base in type(value).__mro__), f"what {MAKERS[part]} returns"
    if part.startswith("Callable["):
        return callable, "a function"
    fits, words = KINDS.get(part, (lambda value: True, part))
    least, most = limits if part in ("int", "float") else (None, None)
    words += f", {least} or more" * (least is not None) + f", {most} or less" * (most is not None)
    return lambda value: fits(value) and (least is None or least <= value) and (most is None or value <= most), words


def several(given: Any) -> tuple[Any, ...]:
    """Return the values of an argument that takes several; one may be given by itself.

    >>> several("ring"), several(["ring", "star"]), several(3)
    (('ring',), ('ring', 'star'), (3,))
    """
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, (str, os.PathLike)) else (given,)
