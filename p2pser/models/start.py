"""A model to start from: the parameters of a model directory replace the initial ones, outputs are matched by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from p2pser import models
from p2pser.base.errors import ModelError
from p2pser.config import Config, FeatureSettings, ModelSettings
from p2pser.features import clip_features
from p2pser.models import directory
from p2pser.models.rows import Schema, digest
from p2pser.models.widths import of_width


@dataclass(frozen=True)
class Start:
    """The model in a directory.

    card : its card. parameters : its parameters by name. digest : 16 hex digits over its labels and parameters.
    seeded : whether it has fixed random numbers, drawn from the seed of its run.
    """

    card: directory.Card
    parameters: dict[str, Tensor]
    digest: str
    seeded: bool

    @classmethod
    def of(cls, config: Config) -> Start | None:
        """Return the model that a run's settings name (``peer.start``); None: none.

        Raises ModelError where it cannot be read.
        """
        if (path := config.peer.start) is None:
            return None
        module, card = directory.load(path)
        labels = "\0".join((card.task, *card.labels)).encode()
        mark = hashlib.blake2b(digest(Schema.of(module).flatten(module)).encode() + labels, digest_size=8).hexdigest()
        return cls(card, {name: value.detach() for name, value in module.named_parameters()}, mark,
                   callable(getattr(module, "seeded_", None)))

    @property
    def facts(self) -> dict[str, str]:
        """The entry in the card of a run that starts from it."""
        return {"digest": self.digest, "name": f"{self.card.model.name} trained on {self.card.corpus.name}"}

    def require_fit(self, config: Config, normalise: str) -> None:
        """Raise ModelError where a run cannot start from this model.

        config : the run's settings. normalise : the run's normalisation of features.
        """
        family, card = models.family(config.model), self.card
        if family.boosts or models.family(card.model).boosts:
            raise ModelError("a run of trees cannot start from a model, nor from one of trees: they grow in the "
                             "rounds of one run; leave --from out")
        of_family = asdict(models.family(card.model)) if card.model.name == config.model.name else {}
        for what, there, here in (
                ("model.name", card.model.name, config.model.name), ("training.task", card.task, config.training.task),
                *((f"model.{field}", getattr(card.model, field), getattr(config.model, field))
                  for field in family.uses if field not in ("dropout", "width")),
                *((f"model.parameters.{name}", value, getattr(family, name)) for name, value in of_family.items()),
                *_features(card.features, config.features), ("features.normalise", card.normalise, normalise)):
            if there != here:
                raise ModelError(f"the model to start from has {what}={_written(there)}, and this run has "
                                 f"{_written(here)}: set {what} as it was, or leave --from out")
        if card.model.width != (1.0,):
            raise ModelError(f"the model to start from is a narrow one (model.width={card.model.width[0]:g}): start "
                             "from one of width 1")
        if self.seeded and card.seed != config.seed:
            raise ModelError(f"the model to start from draws fixed numbers from the seed {card.seed}, and this run has "
                             f"the seed {config.seed}: set --seed {card.seed}")

    def in_words(self, labels: Sequence[str]) -> str:
        """Return a sentence on the emotions that a run over ``labels`` shares with the model."""
        before = self.card.labels
        parts = {"takes over": [name for name in labels if name in before],
                 "begins anew with": [name for name in labels if name not in before],
                 "leaves out": [name for name in before if name not in labels]}
        return f"the run starts from a model ({self.facts['name']}, digest {self.digest}, features.normalise=" \
            f"{self.card.normalise}) and " + ", ".join(
            f"{verb} {' and '.join(names)}" for verb, names in parts.items() if names)

    def row(self, model: ModelSettings, shape: Sequence[int], labels: Sequence[str], drawn: Tensor) -> Tensor:
        """Return the initial row (D,) of a run.

        Parameters
        ----------
        model, shape : of the run's whole network.
        labels : the emotions of the run, () where they are not known yet.
        drawn : (D,), its drawn parameters, which outputs that the model lacks keep.

        Raises
        ------
        ModelError : where a parameter has no dimension of one entry per output.
        """
        task, dimensions = self.card.task, self.card.dimensions
        before = [*self.card.labels, *dimensions]
        now = [*(labels or ("", " ")), *dimensions]
        places = [(k, before.index(name)) for k, name in enumerate(now) if name in before]
        with torch.device("meta"):
            schemas = [Schema.of(models.sketch(of_width(model, 1.0), tuple(shape), models.outputs(task, classes)))
                       for classes in (len(now) - len(dimensions), len(now) - len(dimensions) + 1)]
        row = drawn.clone()
        for (name, value), (_, more) in zip(schemas[0].views(row), schemas[1].entries):
            old = self.parameters[name]
            axes = [axis for axis, (size, grown) in enumerate(zip(value.shape, more)) if size != grown]
            if not axes:
                value.copy_(old)
                continue
            axis = axes[0]
            if len(axes) > 1 or value.shape[axis] != len(now) or old.shape[axis] != len(before):
                raise ModelError(f"a run of the family {model.name!r} cannot start from a model, as its parameter "
                                 f"{name} has no entry for each output: leave --from out")
            for new, kept in places:
                value.select(axis, new).copy_(old.select(axis, kept))
        return row


def begun(config: Config) -> Config:
    """Return the settings with the scaling of features of the model to start from, where ``auto`` leaves it open.

    Raises ModelError where the model's card cannot be read.
    """
    if config.peer.start is None or config.features.normalise != "auto":
        return config
    card, _ = directory.read_card(config.peer.start)
    return config.with_settings([f"features.normalise={card.normalise}"])


def _features(there: FeatureSettings, here: FeatureSettings) -> list[tuple[str, object, object]]:
    """Return (setting, value there, value here) of each setting of features, where these are not the same; else []."""
    if clip_features.settings_key(there) == clip_features.settings_key(here) and \
            clip_features.shape(there) == clip_features.shape(here):
        return []
    return [(f"features.{field}", getattr(there, field), getattr(here, field))
            for field in FeatureSettings.model_fields if field != "normalise"]


def _written(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
