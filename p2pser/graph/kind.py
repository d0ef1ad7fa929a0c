"""Kinds of graphs and schedules, and the decorators that add a kind: on the function that makes it."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from p2pser.base.errors import TopologyError
from p2pser.base.registries import GRAPHS, SCHEDULES
from p2pser.base.registry import Registry

MAX_PEERS = 200_000
"""The largest topology: a larger number is most likely a typo."""

MAX_SEED = 2**63 - 1

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kind: its type (int, float or str) and the values that it accepts."""

    type: type
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def requirement(self, value: object) -> str | None:
        """Return the requirement that ``value`` does not meet (``a whole number, 1 to 200000``); None: it is accepted.
        """
        if self.choices:
            return None if value in self.choices else f"one of {', '.join(self.choices)}"
        kinds = (int,) if self.type is int else (int, float)
        if isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        limits = f", {self.low} to {self.high}" if math.isfinite(self.high) else ""
        return f"{'a whole number' if self.type is int else 'a number'}{limits}"


@dataclass(frozen=True)
class GraphKind:
    """A kind of graph or schedule that topology files name: ``graph: {kind: NAME, peers: N, PARAMETER: VALUE}``.

    ``make(peers, **parameters)`` returns the graph (a DiGraph for one-way links) or the schedule. ``fits``, called
    likewise but without the seed, returns whether the kind exists with that many peers; ``needs`` is the condition in
    words.
    """

    name: str
    make: Callable[..., Any]
    description: str
    parameters: Mapping[str, Parameter]
    fits: Callable[..., bool]
    needs: str

    @property
    def random(self) -> bool:
        """Whether it is drawn from a seed."""
        return "seed" in self.parameters


def registered(registry: Registry[Any], name: str) -> GraphKind:
    """Return the kind of a name in GRAPHS or SCHEDULES.

    Raises TopologyError where a package registers something else than a kind under this name.
    """
    kind = registry[name]
    if not isinstance(kind, GraphKind):
        raise TopologyError(f"the {registry.what} {name!r} of {registry.origin(name)} is not one: its package must "
                            "decorate it with register_graph or register_schedule")
    return kind


def any_size(peers: int, **_: Any) -> bool:
    """Whether a kind that exists with every number of peers exists with this one."""
    return peers >= 1


def register_graph(name: str, *, fits: Callable[..., bool] = any_size, needs: str = "one peer or more",
                   limits: Mapping[str, tuple[float, float]] | None = None) -> Callable[[F], F]:
    """Return a decorator that adds a kind of graph.

    The decorated function is ``make(peers, parameter=default, …)``; it returns a connected networkx graph on the nodes
    0 … ``peers`` - 1, a DiGraph for one-way links. A topology file can set its parameters, whose annotations are int,
    float or ``Literal`` words, each also ``| None``. A parameter ``seed`` marks a random kind, which is drawn again
    until the graph is connected. The first line of the docstring is the description.

    Parameters
    ----------
    name : the value of ``kind`` in topology files.
    fits : ``fits(peers, **parameters)``, whether the graph exists with that many peers; the seed is not passed.
    needs : the condition in words, for the message where it does not fit: ``"a power of two of peers"``.
    limits : the smallest and largest value of numeric parameters. Default: whole numbers 1 to ``MAX_PEERS``, other
        numbers unlimited.

    Examples
    --------
    >>> @register_graph("wheel", fits=lambda peers: peers >= 4, needs="4 peers or more")
    ... def wheel(peers: int) -> nx.Graph:
    ...     '''A ring around a hub.'''
    ...     return nx.wheel_graph(peers)
    """
    return _register(GRAPHS, name, fits, needs, limits or {})


def register_schedule(name: str, *, fits: Callable[..., bool] = any_size, needs: str = "one peer or more",
                      limits: Mapping[str, tuple[float, float]] | None = None) -> Callable[[F], F]:
    """Return a decorator that adds a kind of schedule, as ``register_graph`` adds a kind of graph.

    The decorated function, or class, returns a ``p2pser.graph.schedule.Schedule``, whose mixing matrices depend only on
    the parameters, the seed and the number of the exchange. Parameters as in ``register_graph``.
    """
    return _register(SCHEDULES, name, fits, needs, limits or {})


def _register(registry: Registry[Any], name: str, fits: Callable[..., bool], needs: str,
              limits: Mapping[str, tuple[float, float]]) -> Callable[[F], F]:
    def decorate(make: F) -> F:
        description = (inspect.getdoc(make) or "").partition("\n")[0]
        kind = GraphKind(name, make, description, _parameters(make, limits), fits, needs)
        registry.register(name, module=make.__module__)(kind)
        return make
    return decorate


def _parameters(make: Callable[..., Any], limits: Mapping[str, tuple[float, float]]) -> dict[str, Parameter]:
    """Return the parameters of a kind without the number of peers, from the annotations of the function that makes it.
    """
    hints = get_type_hints(make)
    return {name: _parameter(name, hints[name], limits) for name in list(inspect.signature(make).parameters)[1:]}


def _parameter(name: str, hint: Any, limits: Mapping[str, tuple[float, float]]) -> Parameter:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (option for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is Literal:
        return Parameter(str, choices=get_args(hint))
    if name == "seed":
        return Parameter(int, 0, MAX_SEED)
    low, high = limits.get(name, (1, MAX_PEERS) if hint is int else (-math.inf, math.inf))
    return Parameter(hint, low, high)
