"""The runs of a comparison: what each one is, its settings, and the file that keeps its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from p2pser.base.version import __version__
from p2pser.config import Config
from p2pser.experiments.conditions import Conditions
from p2pser.experiments.schemes import Scheme
from p2pser.features.clip_features import settings_key
from p2pser.graph.spec import Topology

BASELINES = ("pooled", "pooled-steps", "local-only", "server", "voting")
"""What gossip is compared with (``p2pser.experiments.baselines``); voting where a server has nothing to average."""

FORM = 1
"""Version of a result's file: a file of another version is computed again."""

LONGEST = 80
"""Bytes of a scheme, and of a point of a grid, in the name of a result's file: file systems allow it 255."""

Document: TypeAlias = "dict[str, Any]"
"""The result of a run as plain data, as its JSON file holds it."""


@dataclass(frozen=True)
class Job:
    """One run.

    Parameters
    ----------
    kind : ``gossip`` or one of ``BASELINES``.
    scheme : the label of a gossip run's scheme; ``""`` for a baseline.
    seed, fold : of the run.
    inner : (inner fold, number of inner folds); None for a run on the outer fold.
    value : the point of the grid that is tried on the inner fold.
    """

    kind: str
    scheme: str
    seed: int
    fold: int
    inner: tuple[int, int] | None = None
    value: str = ""

    @property
    def file(self) -> str:
        """The name of the result's file."""
        label = file_name(self.scheme)
        value = _shortened(self.value.replace("/", "_"))
        inner = "" if self.inner is None else f"-inner{self.inner[0]}of{self.inner[1]}-{value}"
        return f"{self.kind}{'-' + label if label else ''}-fold{self.fold}-seed{self.seed}{inner}.json"

    def __str__(self) -> str:
        inner = "" if self.inner is None else f", inner fold {self.inner[0]} {self.value}".rstrip()
        return f"{self.scheme or self.kind}, fold {self.fold}, seed {self.seed}{inner}"


def file_name(text: str) -> str:
    """Return a text with every character that a file name should not have replaced by ``_``, shortened if need be."""
    return _shortened("".join(letter if letter.isalnum() or letter in "-.=" else "_" for letter in text))


def _shortened(text: str) -> str:
    """Return a text of ``LONGEST`` bytes at most; the end of a longer one is a digest of the whole."""
    whole = text.encode(errors="surrogatepass")
    if len(whole) <= LONGEST:
        return text
    return f"{whole[:LONGEST - 9].decode(errors='ignore')}-{hashlib.blake2b(whole, digest_size=4).hexdigest()}"


def of_run(config: Config, seed: int, fold: int) -> Config:
    """Return the settings with another seed and fold. They are plain numbers, so that nothing is parsed again."""
    return config.model_copy(update={"seed": seed, "corpus": config.corpus.model_copy(update={"fold": fold})})


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison.

    Parameters
    ----------
    topologies : of each scheme of gossip, by its label, in the order of reports.
    schemes : by the same labels; under ``""`` that of all baselines.
    seeds, folds : of the runs.
    out : the folder of results; None: results are not kept.
    inner : how many inner folds serve the choice among a grid.
    kinds : the kinds of runs, of ``gossip`` and ``BASELINES``.
    chosen : the point of the grid that inner folds chose, by (kind, label, fold); empty before they have run.
    conditions : of the gossip runs on outer folds; None: nothing goes wrong, and no time is counted.
    data : the digest of the clips (``data_digest``).
    """

    topologies: Mapping[str, Topology]
    schemes: Mapping[str, Scheme]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    out: Path | None
    inner: int = 3
    kinds: tuple[str, ...] = ("gossip", *BASELINES)
    chosen: Mapping[tuple[str, str, int], str] = field(default_factory=dict)
    conditions: Conditions | None = None
    data: str = ""

    @property
    def config(self) -> Config:
        """The settings that all schemes start from."""
        return self.schemes[""].config

    @property
    def peers(self) -> int:
        """N, the same in all topologies."""
        return next(iter(self.topologies.values())).size

    @property
    def hub(self) -> int | None:
        """The peer that holds no clips, the same in all topologies; None where all peers hold some."""
        return next(iter(self.topologies.values())).hub

    @property
    def parts(self) -> list[tuple[str, str]]:
        """(kind, label) of each scheme and baseline, in the order of reports."""
        gossip = [("gossip", label) for label in self.topologies] if "gossip" in self.kinds else []
        return gossip + [(kind, "") for kind in BASELINES if kind in self.kinds]

    @property
    def tunes(self) -> bool:
        """Whether anything is chosen on inner folds."""
        return any(self.schemes[label].choices for _, label in self.parts)

    def selection(self, each: str, speakers: str = "training speakers that no peer trained on") -> str:
        """Return how settings were chosen, in words; ``each`` has its own choice, on inner folds of ``speakers``."""
        values = ", ".join(filter(None, self.schemes[""].choices))
        own = [f"{label.partition(':')[0]}: {', '.join(scheme.choices)}" for label, scheme in self.schemes.items()
               if scheme.own_grid]
        if not values and not own:
            return "none: settings as given, the model after the last round"
        return (f"the best of {'; '.join(filter(None, [values, *own]))} for each {each}, by the UAR over {self.inner} "
                f"inner folds of {speakers}; the model after the last round")

    def jobs(self) -> list[Job]:
        """Return the runs on the outer folds. Those of one (fold, seed) are together, since they share their data."""
        return [Job(kind, label, seed, fold) for fold in self.folds for seed in self.seeds
                for kind, label in self.parts]

    def tuning_jobs(self) -> list[Job]:
        """Return the runs on the inner folds, of the first seed."""
        return [Job(kind, label, self.seeds[0], fold, (number, self.inner), value) for fold in self.folds
                for number in range(self.inner) for kind, label in self.parts
                for value in self.schemes[label].choices]

    def settings(self, job: Job) -> Config:
        """Return the settings of a run."""
        scheme = self.schemes[job.scheme]
        value = job.value if job.inner is not None else self.chosen.get((job.kind, job.scheme, job.fold), "")
        return of_run(scheme.choices.get(value, scheme.config), job.seed, job.fold)

    def conditions_of(self, job: Job) -> Conditions | None:
        """Return the conditions of a run; None for baselines and on inner folds."""
        return self.conditions if job.kind == "gossip" and job.inner is None else None

    def fingerprint(self, job: Job) -> str:
        """Return the digest of what a kept result depends on: settings, features' code, data, graph, version."""
        settings, topology = self.settings(job), self.topologies.get(job.scheme)
        tree = {
            "form": FORM,
            "version": __version__,
            "settings": settings.shared(),
            "features": settings_key(self.config.features),
            "corpus": self.config.corpus.model_dump(mode="json", exclude={"fold"}),
            "gossip": settings.gossip.model_dump(mode="json"),
            "every": self.config.peer.evaluate_every,
            "peers": self.peers,
            "graph": "" if topology is None else topology.digest(),
            "job": [job.kind, job.seed, job.fold, job.inner],
            "data": self.data,
        }
        if self.hub is not None:
            tree["hub"] = self.hub
        if (width := settings.model.width) != (1.0,):
            tree["width"] = list(width)
        if (conditions := self.conditions_of(job)) is not None:
            tree["conditions"] = conditions.to_dict()
        return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=16).hexdigest()
