"""The file of a grid (``GRID.yaml``), validated as a whole before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from p2pser.base.documents import OUTSIDE_BYTES, read_text, read_yaml
from p2pser.base.errors import ConfigError, nearest
from p2pser.base.wording import listed
from p2pser.config import Config, configured
from p2pser.config.problems import validated
from p2pser.config.section import Section, UserPath
from p2pser.experiments.conditions import FaultSettings
from p2pser.simulation.links import LINES

UNDISTURBED = "none"
"""The name of the conditions in which nothing goes wrong; every grid has them."""
AXES = {"corpus.name": "corpora", "corpus.data": "corpora", "corpus.partition": "partitions", "corpus.fold": "folds",
        "gossip.algorithm": "algorithms"}
"""The settings that a grid has an axis for, which would replace them."""


class Grid(Section):
    """What a grid combines: each value of each axis with all values of the others."""

    name: str = Field("", description="name in the report; default: the file's")
    topologies: tuple[str, ...] = Field(description="topology files, or names of shipped ones", min_length=1)
    algorithms: tuple[str, ...] = Field(
        ("dfedavg",), description="gossip algorithms, each NAME[:PARAMETER=VALUE][:SECTION.FIELD=VALUE]...",
        min_length=1)
    peers: tuple[int, ...] = Field((16,), description="numbers of peers", min_length=1)
    partitions: tuple[str, ...] = Field(("auto",), description="partitions over the peers (corpus.partition)",
                                        min_length=1)
    corpora: dict[str, UserPath | None] = Field(
        {"synthetic": None}, description="the folder of each corpus, by name; null for synthetic", min_length=1)
    folds: tuple[int, ...] | None = Field((0,), description="folds that are held out in turn: numbers, or all")
    seeds: int = Field(3, ge=1, description="number of seeds, counted from settings' seed on")
    faults: dict[str, FaultSettings] = Field(
        {}, description="conditions by name, beside those without any fault")
    network: str = Field("wan", description="links by which seconds are predicted: lan, wan or phone")
    step_seconds: float = Field(0.05, gt=0, description="predicted seconds of a local step")
    target: float = Field(0.95, gt=0, le=1, description="share of the pooled model's UAR that a run shall reach")
    tune: dict[str, tuple[Any, ...]] = Field(
        {}, description="values to choose from on inner folds, by setting, for each scheme and baseline")
    inner: int = Field(3, ge=2, description="number of inner folds")
    settings: dict[str, Any] = Field({}, description="settings of all runs, by name: training.rounds: 30")

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if name in (".", "..") or {"/", "\\", "\0"} & set(name):
            raise ValueError("it is the name of a folder below runs/: write it without slashes")
        return name

    @field_validator("corpora", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """Read a name or a list of names as corpora without a folder."""
        names = listed(value) if isinstance(value, str) else value
        return dict.fromkeys(names) if isinstance(names, (list, tuple)) else names

    @field_validator("folds", mode="before")
    @classmethod
    def _all_folds(cls, value: Any) -> Any:
        return None if value == "all" else value

    @field_validator("topologies", "algorithms", "peers", "partitions", "folds")
    @classmethod
    def _once(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        for value in values or ():
            if (values or ()).count(value) > 1:
                raise ValueError(f"{value!r} is given twice: name each once")
        return values

    @field_validator("faults", mode="before")
    @classmethod
    def _faults(cls, value: Any) -> Any:
        """Validate each condition by itself, so that a message names the condition and the nearest setting."""
        if not isinstance(value, Mapping):
            return value
        conditions = {}
        for name, fault in value.items():
            try:
                conditions[name] = validated(FaultSettings, fault if fault is not None else {})
            except ValueError as error:
                raise ValueError(f"in {name!r}: {error}") from None
        return conditions

    @field_validator("faults")
    @classmethod
    def _harm(cls, faults: dict[str, FaultSettings]) -> dict[str, FaultSettings]:
        """Leave out the undisturbed conditions, which every grid has."""
        for name, fault in faults.items():
            if name != UNDISTURBED and fault.harmless:
                raise ValueError(f"in {name!r} nothing goes wrong: give it deaths, loss, delay, absences or hostile")
            if name == UNDISTURBED and not fault.harmless:
                raise ValueError(f"{UNDISTURBED!r} is the name of the conditions without faults: choose another")
        return {name: fault for name, fault in faults.items() if name != UNDISTURBED}

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        if name not in LINES:
            raise ValueError(f"there is no simulated network {name!r}{nearest(name, LINES)}")
        return name

    @property
    def tuning(self) -> str:
        """The grid of settings as ``planning.plan`` takes it."""
        return ";".join(f"{name}={','.join(map(str, values))}" for name, values in self.tune.items())

    @property
    def conditions(self) -> dict[str, FaultSettings]:
        """All conditions by name, the undisturbed ones first."""
        return {UNDISTURBED: FaultSettings(), **self.faults}

    def config(self, corpus: str, partition: str) -> Config:
        """Return the settings of the runs on a corpus under a partition. Raises ConfigError for a wrong one."""
        own: dict[str, Any] = {
            "corpus.name": corpus, "corpus.data": self.corpora[corpus], "corpus.partition": partition}
        for name, axis in AXES.items():
            if name in self.settings:
                raise ConfigError(f"settings: {name} is an axis of the grid: give it under {axis}")
        return configured({**self.settings, **own})


def parse(tree: Any, where: str) -> Grid:
    """Return the grid of a mapping; ``where`` names its source in errors (ConfigError)."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where} must hold a mapping such as {{topologies: [ring, torus], seeds: 3}}, not a "
                          f"{type(tree).__name__}")
    if "topologies" not in tree:
        for key in tree:
            if key not in Grid.model_fields:
                raise ConfigError(f"{where}: there is no setting {str(key)!r}{nearest(str(key), Grid.model_fields)}")
        raise ConfigError(f"{where} names no topologies: give at least one, such as topologies: [ring, torus]")
    try:
        return validated(Grid, tree)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def load(path: Path) -> Grid:
    """Return the grid of a file. Raises ConfigError where it cannot be read or something in it is wrong."""
    tree = read_yaml(read_text(path, "the grid", ConfigError, OUTSIDE_BYTES), f"the grid {path}", ConfigError)
    grid = parse(tree, f"the grid {path}")
    return grid if grid.name else grid.model_copy(update={"name": path.stem})
