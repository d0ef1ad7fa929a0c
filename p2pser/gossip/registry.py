"""The gossip algorithms by name."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from p2pser.base.errors import ConfigError, nearest
from p2pser.config import Config
from p2pser.gossip import partial as sharing
from p2pser.gossip.algorithm import Algorithm
from p2pser.gossip.algorithms.adpsgd import ADPSGD
from p2pser.gossip.algorithms.choco import Choco
from p2pser.gossip.algorithms.clipping import SelfCentredClipping
from p2pser.gossip.algorithms.d2 import D2
from p2pser.gossip.algorithms.dfedavg import DFedAvg
from p2pser.gossip.algorithms.dpsgd import DPSGD
from p2pser.gossip.algorithms.fedavg import FedAvg
from p2pser.gossip.algorithms.fedopt import FedOpt
from p2pser.gossip.algorithms.gradient_tracking import GradientTracking
from p2pser.gossip.algorithms.kgt import KGT
from p2pser.gossip.algorithms.multi_step import MultiStep
from p2pser.gossip.algorithms.overlap import Overlap
from p2pser.gossip.algorithms.power_gossip import PowerGossip
from p2pser.gossip.algorithms.push_sum import PushSum
from p2pser.gossip.algorithms.quasi_global_momentum import QuasiGlobalMomentum
from p2pser.gossip.algorithms.relay import Relay
from p2pser.gossip.algorithms.robust_rules import Krum, Median, TrimmedMean
from p2pser.gossip.algorithms.scaffold import Scaffold
from p2pser.gossip.algorithms.stale import StaleGossip
from p2pser.gossip.algorithms.trees import Trees
from p2pser.models.widths import widths
from p2pser.topology.spec import Topology

ALGORITHMS: dict[str, type[Algorithm]] = {
    "dfedavg": DFedAvg,
    "d-psgd": DPSGD,
    "quasi-global-momentum": QuasiGlobalMomentum,
    "d2": D2,
    "gradient-tracking": GradientTracking,
    "k-gt": KGT,
    "push-sum": PushSum,
    "overlap": Overlap,
    "multi-step": MultiStep,
    "relay": Relay,
    "choco": Choco,
    "power-gossip": PowerGossip,
    "fedavg": FedAvg,
    "fedopt": FedOpt,
    "scaffold": Scaffold,
    "ad-psgd": ADPSGD,
    "stale-gossip": StaleGossip,
    "self-centred-clipping": SelfCentredClipping,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
    "trees": Trees,
}
"""Name of ``gossip.algorithm`` -> the algorithm."""


def algorithm(name: str, parameters: Mapping[str, Any] | None = None) -> Algorithm:
    """Return a fresh algorithm with its hyper-parameters (``gossip.parameters``), the rest by default.

    Raises ConfigError for an unknown name or parameter (with the nearest), or a value of the wrong type.

    >>> algorithm("dfedavg").slots
    1
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"gossip.algorithm: there is no {name!r}{nearest(name, ALGORITHMS)}")
    kind = ALGORITHMS[name]
    types = get_type_hints(kind)
    known = {field.name: types[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    given = dict(parameters or {})
    for key, value in given.items():
        if key not in known:
            hint = nearest(key, known) if known else "; it has none"
            raise ConfigError(f"gossip.parameters: {name} has no parameter {key!r}{hint}")
        given[key] = _typed(f"gossip.parameters.{key}", value, known[key])
    return kind(**given)


def hyper_parameters(kind: type[Algorithm]) -> list[dict[str, Any]]:
    """Return name, default and what is written below it of each of an algorithm's hyper-parameters."""
    about: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, Algorithm):
            about |= _written_below(one)
    return [{"name": field.name, "default": field.default, "about": about.get(field.name, "")}
            for field in fields(kind)]  # type: ignore[arg-type]


def _written_below(kind: type) -> dict[str, str]:
    """The texts below the annotated names of a class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    return {name.target.id: " ".join(str(ast.literal_eval(below.value)).split())
            for name, below in zip(definition.body, definition.body[1:])
            if isinstance(name, ast.AnnAssign) and isinstance(name.target, ast.Name) and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)}


def check(method: Algorithm, config: Config, topology: Topology) -> Iterable[str]:
    """Return the algorithm's warnings about a run. Raises ConfigError where it does not fit the run."""
    if method.boosts != (config.model.name == "xgb"):
        one, other = ("averages parameters", "trees") if config.model.name == "xgb" else ("spreads trees", "dfedavg")
        raise ConfigError(f"gossip.algorithm={config.gossip.algorithm} {one}, and model.name={config.model.name} has "
                          f"none: set gossip.algorithm={other}, or another model")
    if topology.hub is not None and not method.served:
        served = ", ".join(name for name, kind in ALGORITHMS.items() if kind.served)
        raise ConfigError(f"gossip.algorithm={config.gossip.algorithm} has no use for a hub, and {topology.name!r} has "
                          f"one (peer {topology.hub}): set gossip.algorithm to one with a server ({served}), or use "
                          "another topology, such as star.yaml")
    others = topology.schedule is not None or topology.weights != "metropolis"
    if config.gossip.weighting == "clips" and others and not (method.own_weights or method.served):
        raise ConfigError(f"gossip.weighting=clips needs a static undirected graph with Metropolis weights, and "
                          f"{topology.name!r} has others: set gossip.weighting=uniform, or gossip.algorithm=push-sum, "
                          "which weighs by itself")
    sharing.check(config.gossip.algorithm, method, topology, widths(config.model, topology.size), config.gossip.share)
    if config.training.fine_tune and method.boosts:
        raise ConfigError("training.fine_tune takes steps on parameters, and trees have none: set training.fine_tune=0")
    return method.check(config, topology)


def _typed(where: str, value: Any, kind: Any) -> Any:
    """Return a value as its field wants it (whole numbers where numbers are); ConfigError where it is not one."""
    allowed = getattr(kind, "__args__", (kind,))  # float | None has both
    if float in allowed and type(value) is int:
        return float(value)
    if type(value) not in allowed:
        names = " or ".join("none" if one is type(None) else one.__name__ for one in allowed)
        raise ConfigError(f"{where} = {value!r} must be {names}")
    return value
