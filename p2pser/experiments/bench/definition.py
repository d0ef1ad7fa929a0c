"""The definition of a benchmark (a packaged YAML file), and what a scheme may change of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from p2pser.base.documents import read_text, read_yaml
from p2pser.base.errors import ConfigError, nearest
from p2pser.base.paths import packaged
from p2pser.config import Config
from p2pser.config.problems import validated
from p2pser.config.section import Section
from p2pser.experiments import grids
from p2pser.experiments.grid.file import Grid
from p2pser.experiments.schemes import Scheme, schemes_of
from p2pser.graph import spec

FOLDER = "experiments/bench/definitions"
"""The package's folder of definitions, each ``NAME-VERSION.yaml``."""

OWN = ("gossip.algorithm", "gossip.parameters")
"""What every scheme chooses: its algorithm, and the algorithm's own hyper-parameters."""


class Data(Section):
    """Digests of what all results have in common, so that another copy of the corpus is noticed."""

    clips: dict[str, str] = Field(description="number of clips and digest of their names and emotions, by speaker")
    folds: dict[int, str] = Field(description="digest of the test clips and of each peer's, over all seeds, by fold")


class Bench(Section):
    """A benchmark. Its file is never changed once results of it exist: a change makes a new version."""

    name: str = Field(description="its name, without the version")
    version: int = Field(ge=1, description="its version")
    about: str = Field(description="what it asks, in a sentence")
    source: str = Field(description="where its recordings come from")
    corpus: str = Field(description="corpus.name")
    partition: str = Field(description="corpus.partition")
    peers: int = Field(ge=2, description="number of peers")
    folds: tuple[int, ...] = Field(description="folds that are held out in turn")
    seeds: int = Field(ge=1, description="number of seeds, counted from 0")
    megabytes: float = Field(gt=0, description="budget: payload that a peer may send in all rounds, mean over peers")
    tune: dict[str, tuple[Any, ...]] = Field(description="values that inner folds choose from, by setting")
    inner: int = Field(ge=2, description="number of inner folds")
    free: tuple[str, ...] = Field(description="settings that a scheme may change, beside its own hyper-parameters")
    at_most: dict[str, int] = Field({}, description="settings that a scheme may lower")
    settings: dict[str, Any] = Field(description="all other settings, by name")
    data: Data = Field(description="digests of the clips and of how they are dealt out")

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def digest(self) -> str:
        """What results name the benchmark by: a digest of the whole definition."""
        tree = self.model_dump(mode="json")
        return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=16).hexdigest()

    @property
    def trials(self) -> set[tuple[int, int]]:
        """The (fold, seed) of all trials of a scheme."""
        return {(fold, seed) for fold in self.folds for seed in range(self.seeds)}

    def grid(self, topologies: Sequence[str], algorithms: Sequence[str], data: Path | None,
             settings: Sequence[str] = ()) -> Grid:
        """Return the benchmark with these schemes as a grid.

        Parameters
        ----------
        topologies : files, or names of shipped ones.
        algorithms : each with each topology, as in ``schemes.schemes_of``.
        data : the folder of the recordings.
        settings : of all schemes, each ``SECTION.FIELD=VALUE``; ``require_frozen`` says whether they may be set.

        Raises ConfigError where a setting is not written so.
        """
        given = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise ConfigError(f"--set {setting!r}: write it as section.field=value")
            given[name.strip()] = read_yaml(text, f"the value of --set {setting}", ConfigError)
        return Grid(name=str(self), topologies=tuple(topologies), algorithms=tuple(algorithms), peers=(self.peers,),
                    partitions=(self.partition,), corpora={self.corpus: data}, folds=self.folds, seeds=self.seeds,
                    tune=self.tune, inner=self.inner, settings={**self.settings, "seed": 0, **given})

    def require_frozen(self, grid: Grid) -> None:
        """Raise ConfigError where a scheme of a grid changes what the benchmark freezes, or tunes more than others."""
        frozen = self.grid(grid.topologies, grid.algorithms, grid.corpora[self.corpus])
        before, config = (each.config(self.corpus, self.partition) for each in (frozen, grid))
        given = [name for name, value in grid.settings.items() if value != frozen.settings.get(name)]
        self._require_same("--set", before, config)
        topologies = [spec.load(name, self.peers, config.seed) for name in grid.topologies]
        points = grids.grid(grid.tuning)
        for label, (_, scheme) in schemes_of(config, topologies, grid.algorithms, points, whole_names=True).items():
            for each in (scheme.config, *scheme.choices.values()):
                self._require_same(label, before, each)
            self._require_tuned(label, scheme, given, len(points))

    def _require_same(self, label: str, frozen: Config, config: Config) -> None:
        ours, theirs = dict(_settings(frozen)), dict(_settings(config))
        for name in (name for name in ours if ours[name] != theirs[name]):
            if name in self.at_most and theirs[name] <= self.at_most[name]:
                continue
            if name not in (*OWN, *self.free):
                may = f"may be lowered from {self.at_most[name]}" if name in self.at_most else \
                    f"is frozen at {ours[name]}"
                raise ConfigError(
                    f"{label}: {name}={theirs[name]} changes the benchmark {self}: {name} {may}; a scheme may choose "
                    f"its topology, algorithm and hyper-parameters, and {', '.join((*self.free, *self.at_most))}")

    def _require_tuned(self, label: str, scheme: Scheme, given: Sequence[str], points: int) -> None:
        if len(scheme.choices) > points:
            raise ConfigError(f"{label} chooses from {len(scheme.choices)} values, and {self} allows {points} on inner "
                              "folds: give fewer")
        for name in () if scheme.own_grid else self.tune:
            if name in [*given, *(setting.partition("=")[0] for setting in scheme.settings)]:
                raise ConfigError(f"{label} fixes {name}, which {self} chooses on inner folds: give up to {points} "
                                  f"values to choose from, such as {name}=0.05|0.1, or leave it out")


def _settings(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield all settings of a run, shared or not, by name."""
    for name, value in config.model_dump(mode="json").items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", own) for key, own in value.items())
        else:
            yield name, value


def names() -> list[str]:
    """Return all benchmarks, as NAME-VERSION, sorted."""
    return sorted(path.stem for path in packaged(FOLDER).glob("*.yaml"))


def load(name: str) -> Bench:
    """Return a benchmark: ``NAME-VERSION``, or the newest version of ``NAME``.

    Raises ConfigError where there is none of this name.
    """
    known = names()
    versions = [each for each in known if name in (each, each.rpartition("-")[0])]
    if not versions:
        raise ConfigError(f"there is no benchmark {name!r}{nearest(name, known)}")
    return read(packaged(FOLDER) / f"{max(versions, key=lambda each: int(each.rpartition('-')[2]))}.yaml")


def read(path: Path) -> Bench:
    """Return the benchmark of a file. Raises ConfigError where it cannot be read or something in it is wrong."""
    tree = read_yaml(read_text(path, "the benchmark", ConfigError), f"the benchmark {path}", ConfigError)
    try:
        return validated(Bench, tree)
    except ValueError as error:
        raise ConfigError(f"the benchmark {path}: {error}") from None
