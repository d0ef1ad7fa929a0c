"""Things of one kind by name: built in, registered by a decorator, or added by an installed package."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, TypeVar

from p2pser.base.errors import ConfigError, P2PSERError, in_one_line, nearest
from p2pser.base.version import __version__

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """The distribution (or script) that defines a registered thing, and its version."""

    source: str
    version: str

    @property
    def builtin(self) -> bool:
        """Whether it is part of p2pser."""
        return self.source == "p2pser"

    def __str__(self) -> str:
        return f"{self.source} {self.version}".strip()


class Registry(Generic[T]):
    """The things of one kind (algorithms, model families, …) by name.

    Built-in things are found without importing them: the module ``d_psgd`` of the folder ``package`` defines
    ``d-psgd`` and registers it when it is imported, on first use. Installed packages add theirs through the
    entry-point group ``group``, whose entries name the object or a module that registers it. An entry that cannot be
    loaded is reported by a warning and left out.

    Parameters
    ----------
    what : the singular noun that messages use ("algorithm").
    group : the entry-point group (``p2pser.algorithms``).
    package : the dotted name of the folder of built-in modules, one per name; ``None`` where there is none.
    modules : dotted names of modules that register several things each, imported on first use.
    error : the error that an unknown name raises.
    """

    def __init__(self, what: str, group: str, package: str | None = None, *, modules: Sequence[str] = (),
                 error: type[P2PSERError] = ConfigError) -> None:
        self.what, self.group = what, group
        self._package, self._modules, self._error = package, tuple(modules), error
        self._registered: dict[str, T] = {}
        self._sources: dict[str, str] = {}
        self._broken: set[str] = set()

    def register(self, name: str, *, module: str = "") -> Callable[[T], T]:
        """Return a decorator that registers an object under ``name``; ``module`` defines it (default: its own).

        Raises ConfigError where the name is no text, or another module has registered it.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"the name of a {self.what} is {in_one_line(repr(name), 80)}: give a text, such as "
                              f'"my-{self.what.split()[-1]}"')

        def decorate(thing: T) -> T:
            source = module or _module_of(thing)
            other = self._sources.get(name) or self._builtin.get(name)
            if other is not None and not _same_module(other, source):
                raise ConfigError(f"there are two {self.what}s named {name!r}, in {other} and in {source}: rename one "
                                  "of them")
            self._registered[name], self._sources[name] = thing, source
            return thing
        return decorate

    def __getitem__(self, name: str) -> T:
        """Return the thing of this name. Raises the registry's error, with the nearest known name, if it is unknown."""
        self._import_modules()
        if name not in self._registered and name in self._builtin:
            importlib.import_module(self._builtin[name])
        if name not in self._registered and name in self._entries and name not in self._broken:
            self._load(name)
        if name not in self._registered:
            raise self._error(f"there is no {self.what} {name!r}{nearest(name, self.names())}")
        return self._registered[name]

    def __contains__(self, name: object) -> bool:
        # Built-in names first: a search of the installed packages takes tens of milliseconds.
        return name in self._registered or name in self._builtin or name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """Return all known names, sorted, without importing built-in things or installed packages."""
        self._import_modules()
        return sorted((self._registered.keys() | self._builtin.keys() | self._entries.keys()) - self._broken)

    def items(self) -> list[tuple[str, T]]:
        """Return (name, thing) of all things that can be loaded, sorted by name."""
        pairs = []
        for name in self.names():
            try:
                pairs.append((name, self[name]))
            except P2PSERError:
                if name not in self._broken:
                    raise
        return pairs

    def origin(self, name: str) -> Origin:
        """Return the origin of the thing of this name. Raises the registry's error for an unknown name."""
        # Built-in names first: a search of the installed packages takes tens of milliseconds.
        if name not in self._builtin and name in self._entries:
            dist = self._entries[name].dist
            return Origin(dist.name, dist.version) if dist is not None else Origin(self._entries[name].value, "")
        self[name]
        source = self._sources[name]
        return Origin("p2pser", __version__) if source.split(".")[0] == "p2pser" else Origin(source, "")

    def module(self, name: str) -> str | None:
        """Return the module of a built-in thing, without importing it; None for other names."""
        return self._builtin.get(name)

    @cached_property
    def _builtin(self) -> dict[str, str]:
        if self._package is None:
            return {}
        folder = importlib.import_module(self._package).__path__
        return {module.name.replace("_", "-"): f"{self._package}.{module.name}"
                for module in pkgutil.iter_modules(folder)}

    @cached_property
    def _entries(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {entry.name: entry for entry in importlib.metadata.entry_points(group=self.group)}

    def _import_modules(self) -> None:
        for module in self._modules:
            if module not in sys.modules:
                importlib.import_module(module)

    def _load(self, name: str) -> None:
        entry = self._entries[name]
        try:
            thing: Any = entry.load()
            if isinstance(thing, ModuleType) and name not in self._registered:
                raise LookupError(f"the module {thing.__name__} registers no {self.what} of this name")
        except Exception as error:  # the code of another package may raise anything
            self._broken.add(name)
            warnings.warn(f"the {self.what} {name!r} of {self.origin(name)} cannot be loaded and is left out "
                          f"({type(error).__name__}: {error})", stacklevel=3)
            return
        if name not in self._registered:
            self.register(name)(thing)


def _module_of(thing: Any) -> str:
    return str(getattr(thing, "__module__", None) or getattr(thing, "__name__", None) or type(thing).__module__)


def _same_module(first: str, second: str) -> bool:
    """Whether two names are of the same module: a script is ``__main__``, and ``__mp_main__`` in its children."""
    main = ("__main__", "__mp_main__")
    return first == second or (first in main and second in main)
