"""The schemes of a comparison: the settings of an algorithm's runs, or of the baselines'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.config import Config
from p2pser.experiments.grids import grid
from p2pser.graph.spec import Topology


@dataclass(frozen=True)
class Scheme:
    """What the runs of a scheme have in common.

    Parameters
    ----------
    config : the settings of its runs. Each run takes its seed and its fold beside them.
    settings : what ``config`` has beside the comparison's settings, as ``section.field=value``.
    choices : the settings for each point of the grid that inner folds choose from, by the point's text; empty where
        nothing is chosen.
    own_grid : whether the grid is the scheme's own, not the comparison's.
    """

    config: Config
    settings: tuple[str, ...] = ()
    choices: Mapping[str, Config] = field(default_factory=dict)
    own_grid: bool = False

    @classmethod
    def of(cls, config: Config, settings: tuple[str, ...] = (), points: Sequence[str] = (),
           own_grid: bool = False) -> Scheme:
        """Parse the settings, once for the scheme and once for each point of its grid.

        Raises ConfigError where a setting does not exist or a value does not fit.
        """
        choices = {point: config.with_settings([*settings, *point.split(";")]) if point else config for point in points}
        return cls(config.with_settings(settings) if settings else config, settings, choices, own_grid)

    def require_same_clips(self) -> None:
        """Raise ConfigError for a setting that decides on the clips of a run, or that each run has of its own."""
        for setting in (*self.settings, *";".join(self.choices).split(";")):
            name = setting.partition("=")[0]
            if name in ("name", "seed") or name.startswith("corpus."):
                raise ConfigError(f"{setting}: schemes are compared on the same clips and seeds, so name, seed and "
                                  f"corpus are equal in all runs: give {name} for the whole comparison")


def schemes_of(config: Config, topologies: Sequence[Topology], algorithms: Sequence[str],
               points: Sequence[str], *, whole_names: bool = False) -> dict[str, tuple[Topology, Scheme]]:
    """Return each topology with each algorithm's scheme, by label.

    Parameters
    ----------
    config : the settings of the comparison.
    topologies : of equal size, with the same hub or none.
    algorithms : each ``NAME[:PARAMETER=VALUE][:SECTION.FIELD=VALUE]…``; empty: that of ``config``. An algorithm with a
        grid of its own has it as ``:SECTION.FIELD=VALUE|VALUE|…``.
    points : the comparison's grid (``grids.grid``).
    whole_names : each label names its topology and its algorithm, also where there is only one of them.

    Raises ConfigError where a label occurs twice, there is no topology, or an algorithm refuses its settings or
    topology; TopologyError where the topologies cannot be compared.
    """
    if not topologies:
        raise ConfigError("there is nothing to compare: name at least one topology, for example ring,torus")
    _check_comparable(topologies)
    schemes: dict[str, tuple[Topology, Scheme]] = {}
    for topology in topologies:
        for algorithm in algorithms or ("",):
            with_topology = whole_names or len(topologies) > 1 or not algorithm
            names = [topology.name] * with_topology + [algorithm] * bool(algorithm)
            label = " ".join(names)
            if label in schemes:
                raise ConfigError(f"{label!r} is named twice in the comparison: name each once")
            scheme = _scheme(config, algorithm, points)
            _check_algorithm(scheme.config, topology)
            schemes[label] = topology, scheme
    return schemes


def _scheme(config: Config, algorithm: str, points: Sequence[str]) -> Scheme:
    name, *parts = algorithm.split(":")
    if not name:
        return Scheme.of(config, points=points)
    settings = [part if "." in part.partition("=")[0] else f"gossip.parameters.{part}" for part in parts]
    varied = [setting for setting in settings if "|" in setting]
    if len(varied) > 1:
        raise ConfigError(f"{algorithm!r} chooses more than one setting ({', '.join(varied)}): give values to one")
    fixed = (f"gossip.algorithm={name}", *(setting for setting in settings if setting not in varied))
    own = grid("".join(varied).replace("|", ","))
    return Scheme.of(config, fixed, own or points, bool(own))


def _check_comparable(topologies: Sequence[Topology]) -> None:
    """Raise TopologyError where the clips would be partitioned differently."""
    by_name = {topology.name: topology for topology in topologies}
    if len({topology.size for topology in topologies}) > 1:
        sizes = ", ".join(f"{name} {topology.size}" for name, topology in by_name.items())
        raise TopologyError(f"the topologies have different numbers of peers ({sizes}): give one with --peers")
    if len({topology.hub for topology in topologies}) > 1:
        hubs = ", ".join(f"{name} {'none' if topology.hub is None else topology.hub}"
                         for name, topology in by_name.items())
        raise TopologyError(f"the topologies have different hubs ({hubs}), so their clips would be partitioned "
                            "differently: compare those without a hub; a server is among the baselines of every "
                            "comparison")


def _check_algorithm(config: Config, topology: Topology) -> None:
    """Raise ConfigError where the algorithm refuses its settings or the topology, before anything runs."""
    from p2pser.gossip.registry import create, validate

    validate(create(config.gossip.algorithm, config.gossip.parameters, config, topology), config, topology)
