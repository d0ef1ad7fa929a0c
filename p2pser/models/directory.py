"""A model on disk: ``model.safetensors`` (the parameters by name) and ``card.json`` (all else that a prediction needs).

The card describes the model's input (feature settings and statistics), its output (labels), its training and the
training clips. It names no speaker and holds no recording. Reading the directory executes none of its content.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base.atomic import new_folder, patient, put
from p2pser.base.documents import read_text
from p2pser.base.errors import CorpusError, ModelError
from p2pser.base.registries import FAMILIES, FEATURES
from p2pser.base.version import __version__
from p2pser.config import Config, FeatureSettings, ModelSettings
from p2pser.config.model import without_moved
from p2pser.config.privacy import LAW
from p2pser.config.problems import validated
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.corpora.manifest import ARRAYS
from p2pser.features import clip_features, encoders
from p2pser.features.clip_features import settings_key
from p2pser.features.kind import kind_class
from p2pser.features.normalisation import Statistics
from p2pser.models import label_names
from p2pser.models.facts import Facts
from p2pser.models.heard import Heard, nearest
from p2pser.models.origin import Origin
from p2pser.models.sets import Sets

if TYPE_CHECKING:
    from torch import Tensor, nn

    from p2pser.features.federation import Federation
    from p2pser.models.rows import Schema

FORMAT = 1
"""Version of the directory's format; a reader refuses newer ones."""

WEIGHTS, CARD, NETWORK = "model.safetensors", "card.json", "network.onnx"

SYNTHETIC_WARNING = ("trained on synthetic speech: for trying the system only; "
                     "its answers for real recordings mean nothing")

USE = ("It rates the emotion with which speech like that of its training is labelled. It does not measure what a "
       f"person feels, and errs more for other speech. Not for work and education: {LAW}.")


@dataclass(frozen=True)
class Card:
    """A model's card.

    Parameters
    ----------
    labels : the emotions, in the order of the outputs.
    shape : of one clip's features.
    model : settings of the model.
    features : settings of the features.
    normalise : none, global, speaker or public (``features.normalise``).
    statistics : of all training clips; None where there is no normalisation.
    corpus : the training clips.
    training : facts of the training, plain values: peers, rounds, algorithm, topology, seed and the like.
    selection : how this model was selected.
    temperature : the divisor of logits before the softmax (``p2pser.evaluation.calibration``); None: not fitted, so 1.
    heard : figures and temperatures on speakers outside the training, by the number of a speaker's clips that give
        their statistics, ascending; () where none were measured.
    sets : thresholds of sets of emotions, by the same numbers; () where they were not calibrated.
    task : classes, dimensions (no labels) or both. Outputs are a logit per label, then arousal, valence and dominance
        from -1 to 1.
    facts : its test, an audit of the run, and the energy of the run.
    """

    labels: tuple[str, ...]
    shape: tuple[int, ...]
    model: ModelSettings
    features: FeatureSettings
    normalise: str
    statistics: Statistics | None
    corpus: Origin
    training: Mapping[str, Any] = field(default_factory=dict)
    selection: str = "none: the consensus after the last round"
    temperature: float | None = None
    task: str = "classes"
    heard: tuple[Heard, ...] = ()
    sets: tuple[Sets, ...] = ()
    facts: Facts = field(default_factory=Facts)

    def require_recordings(self) -> None:
        """Raise ModelError where the model was trained on features that p2pser cannot compute from recordings."""
        if self.corpus.name == ARRAYS:
            raise ModelError("the model was trained on its user's own feature arrays, which p2pser cannot compute from "
                             "recordings: pass such features to Predictor.answers")

    @property
    def reads_words(self) -> bool:
        """Whether some of the features are of the spoken words."""
        return any(kind_class(name).of_words for name in self.features.kinds)

    def require_sense(self) -> None:
        """Raise ValueError where the entries cannot be those of one model."""
        if not label_names.are_distinct(self.labels):
            raise ValueError("its labels are not names that differ, by more than case and blanks")
        if self.labels and self.task == "dimensions":
            raise ValueError("it has labels, and its task is dimensions")
        if self.normalise not in ("none", "global", "speaker", "public"):
            raise ValueError(f"there is no normalisation {self.normalise!r}")
        if type(seed := self.training.get("seed", 0)) is not int:
            raise ValueError(f"its seed is {seed!r}, not a whole number")
        if not self.shape or min(self.shape) < 1 or math.prod(self.shape) > 10**8:
            raise ValueError(f"its features have the shape {self.shape}")
        if self.statistics is not None and self.statistics.mean.shape != self.shape[:1]:
            raise ValueError("its statistics are of another number of features")

    def temperature_for(self, clips: int) -> float:
        """Return the divisor of logits where ``clips`` clips of a speaker give the statistics."""
        known = nearest(self.heard, clips)
        return known.temperature if known is not None else self.temperature or 1.0

    def sets_for(self, clips: int) -> Sets | None:
        """Return the thresholds of sets where ``clips`` clips of a speaker give the statistics; None: not known."""
        return max((sets for sets in self.sets if sets.heard <= clips), key=lambda sets: sets.heard, default=None)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The predicted dimensions, in the order of the outputs, after the labels."""
        return () if self.task == "classes" else DIMENSIONS

    @property
    def seed(self) -> int:
        """The seed of the run, from which some models draw fixed random features (svm)."""
        return int(self.training.get("seed", 0))

    @classmethod
    def of(cls, config: Config, federation: Federation, statistics: Statistics | None,
           **training: Any) -> Card:
        """Return the card of a model trained with these settings on that federation.

        statistics : of all peers' training clips. training : its facts (peers, topology, …) beside its settings.
        """
        return cls(
            labels=federation.labels, shape=clip_features.shape(config.features), model=config.model,
            features=config.features, normalise=federation.normalise, statistics=statistics,
            corpus=Origin.of(config, federation.corpus, chain.from_iterable(federation.held)),
            task=config.training.task,
            training={**config.training.model_dump(mode="json"), "seed": config.seed,
                      "weighting": config.gossip.weighting, "algorithm": config.gossip.algorithm,
                      "augment": config.augment.model_dump(mode="json", exclude_defaults=True), **training})

    @property
    def warning(self) -> str:
        """A warning for users of the model, or ``""``."""
        made = [name for name in self.corpus.corpora if name.partition(":")[0] == "synthetic"]
        if made and not self.corpus.synthetic:
            return f"trained partly on synthetic speech ({', '.join(made)}): for trying the system only"
        return SYNTHETIC_WARNING if self.corpus.synthetic else ""

    def to_dict(self, schema: str) -> dict[str, Any]:
        """Return the content of ``card.json``; ``schema`` is the digest of the rows."""
        return {
            "format": FORMAT, "p2pser": __version__, "warning": self.warning, "use": USE,
            "task": self.task, "labels": list(self.labels), "dimensions": list(self.dimensions),
            "id2label": {str(k): label for k, label in enumerate(self.labels)},
            "label2id": {label: k for k, label in enumerate(self.labels)},
            "model": self.model.model_dump(mode="json"), "shape": list(self.shape), "schema": schema,
            "features": clip_features.portable(self.features).model_dump(mode="json"),
            "features_key": settings_key(self.features),
            "normalise": self.normalise,
            "statistics": None if self.statistics is None else self.statistics.to_dict(),
            "corpus": self.corpus.to_dict(), "training": dict(self.training), "selection": self.selection,
            "temperature": self.temperature, "heard": [figures.to_dict() for figures in self.heard],
            "sets": [sets.to_dict() for sets in self.sets], **self.facts.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], where: str, encoder: str | None = None) -> Card:
        """Return the card of ``card.json``. where : its name, for errors. encoder : the folder or name of its encoder.

        Raises ModelError where its format is newer, its features were computed by other code, or it is not a card.
        """
        version = document.get("format")
        if type(version) is not int or version < 1:
            raise ModelError(f"{where} is not a p2pser model card: it has no format number, or one below 1")
        if version > FORMAT:
            raise ModelError(f"{where} has format {version}, written by p2pser {document.get('p2pser')}; "
                             f"this p2pser {__version__} reads up to format {FORMAT}: install a newer one")
        try:
            stored = document["statistics"]
            card = cls(
                labels=tuple(map(str, document["labels"])), shape=tuple(map(int, document["shape"])),
                model=_model(document["model"], where),
                features=_features(document["features"], where, encoder),
                normalise=str(document["normalise"]),
                statistics=None if stored is None else Statistics.from_dict(stored),
                corpus=Origin.read(document["corpus"]), training=dict(document["training"]),
                selection=str(document["selection"]), temperature=_temperature(document.get("temperature")),
                task=_task(document), heard=Heard.read(document.get("heard", ())),
                sets=Sets.read(document.get("sets", ())), facts=Facts.read(document))
            key = document["features_key"]
            card.require_sense()
            label_names.require_names(card.labels, document)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, CorpusError) as error:
            problem = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise ModelError(f"{where} is damaged: {problem}") from None
        if key != settings_key(card.features) and encoder is not None:
            form = encoders.form_of(encoder)
            raise ModelError(f"{where} was trained with another {form.of} encoder than {encoder} "
                             f"({document['features'].get(form.setting.removeprefix('features.'))})")
        if key != settings_key(card.features):
            raise ModelError(f"{where} was trained on features as another version of p2pser computes them "
                             f"({key}); use p2pser {document.get('p2pser')}, or train again")
        return card


def _features(document: Mapping[str, Any], where: str, encoder: str | None) -> FeatureSettings:
    """Return the stored settings of features, with ``encoder`` (of speech or of text) in place of the stored one.

    Raises ModelError where a kind is not installed, or the features need no such encoder.
    """
    given = {}
    if encoder is not None:
        form = encoders.form_of(encoder)
        name = form.setting.removeprefix("features.")
        if document.get(name) is None:
            raise ModelError(f"{where} uses no {form.of} encoder: leave --encoder out")
        given = {name: encoder}
    for name in str(document.get("kind", "functionals")).split("+"):
        if name not in FEATURES:
            raise ModelError(f"{where} needs the feature kind {name!r}, which is not installed (known: "
                             f"{', '.join(FEATURES)}): install the package that defines it")
    return validated(FeatureSettings, {**document, **given})


def _model(document: Mapping[str, Any], where: str) -> ModelSettings:
    """Return the stored settings of a model. Raises ModelError where its family is not installed."""
    name = document.get("name", "mlp")
    if name not in FAMILIES:
        raise ModelError(f"{where} is a model of the family {name!r}, which is not installed "
                         f"(known: {', '.join(FAMILIES)}): install the package that defines it")
    return validated(ModelSettings, without_moved(document))


def _task(document: Mapping[str, Any]) -> str:
    task = document.get("task", "classes")
    if task not in ("classes", "dimensions", "both") or \
            list(document.get("dimensions", ())) != ([] if task == "classes" else list(DIMENSIONS)):
        raise ValueError(f"its task is {task!r} with the dimensions {document.get('dimensions')}")
    return str(task)


def _temperature(value: Any) -> float | None:
    if value is not None and not 0 < float(value) < math.inf:
        raise ValueError(f"its temperature is {value}, which must be above 0")
    return None if value is None else float(value)


def _text(card: Card, schema: Schema) -> str:
    """Return the text of ``card.json``."""
    return json.dumps(card.to_dict(schema.digest()), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def save(path: Path | str, row: Tensor, schema: Schema, card: Card) -> None:
    """Write a model directory, whole or not at all.

    Parameters
    ----------
    path : the new directory.
    row : (D,) any float dtype, stored as float32.
    schema : names and shapes of the parameters.
    card : the model's card.

    Raises
    ------
    ModelError : where ``path`` exists or cannot be written, or a parameter is not finite.
    """
    path = Path(path)
    if path.exists():
        raise ModelError(f"{path} exists already; remove it, or write the model elsewhere")
    try:
        write(path, row, schema, card)
    except OSError as error:
        raise ModelError(f"cannot write the model {path}: {error.strerror or error}") from None


@patient
def write(path: Path, row: Tensor, schema: Schema, card: Card, *, private: bool = False) -> None:
    """Write a model directory as ``save`` does; ``private``: for this user only.

    Raises OSError where it cannot be written, ModelError where a parameter is not finite.
    """
    import torch
    from safetensors.numpy import save as pack

    values = row.detach().to("cpu", torch.float32).contiguous()
    if not bool(torch.isfinite(values).all()):
        raise ModelError(f"the model for {path} has parameters that are not finite; it is not written")
    text = _text(card, schema)
    # A single entry: safetensors writes several in any order, and equal models should be equal files.
    weights = pack({name: view.numpy() for name, view in schema.views(values)}, metadata={"schema": schema.digest()})
    with new_folder(path, private=private) as folder:
        (folder / WEIGHTS).write_bytes(weights)
        (folder / CARD).write_text(text, encoding="utf-8")


@patient
def replace_card(path: Path, schema: Schema, card: Card) -> None:
    """Replace the card of a model directory of this user's, whole or not at all. Raises OSError where that fails."""
    put(path / CARD, _text(card, schema).encode(), mode=0o600)


def load(path: Path | str, encoder: str | None = None) -> tuple[nn.Module, Card]:
    """Return the network, in evaluation mode, and its card.

    ``encoder``: the folder or Hugging Face name of the encoder, where the card's is not found.

    Raises ModelError where the directory is missing, damaged, from a newer version, or its parts do not fit together.
    """
    import torch

    from p2pser import models
    from p2pser.models.rows import Schema

    path = Path(path)
    card, digest = read_card(path, encoder)
    _require_size(card, path)
    module = models.build(card.model, card.shape, models.outputs(card.task, len(card.labels)), card.seed)
    schema = Schema.of(module)
    if schema.digest() != digest:
        raise ModelError(f"{path / CARD} describes parameters of another schema than {digest}: it was changed by hand")
    stored = _read_weights(path / WEIGHTS)
    shapes = {name: tuple(value.shape) for name, value in stored.items()}
    if shapes != dict(schema.entries) or any(value.dtype != "float32" for value in stored.values()):
        raise ModelError(f"{path / WEIGHTS} does not hold the parameters that {CARD} describes; copy the model again")
    if not all(bool(np.isfinite(value).all()) for value in stored.values()):
        raise ModelError(f"{path / WEIGHTS} holds parameters that are not finite; copy the model again, or train anew")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(stored[name]))
    return module.eval(), card


def _require_size(card: Card, path: Path) -> None:
    """Raise ModelError where the card's model is larger than the file of its parameters, before it takes memory."""
    import torch

    from p2pser import models

    try:
        with torch.device("meta"):  # tensors without memory
            sketch = models.sketch(card.model, card.shape, models.outputs(card.task, len(card.labels)))
        needed = 4 * sum(parameter.numel() for parameter in sketch.parameters())
        there = (path / WEIGHTS).stat().st_size
    except OSError as error:
        mend = ("it is for predictions only: use the model that it was exported from" if (path / NETWORK).is_file() else
                "copy the model again")
        raise ModelError(f"cannot read the parameters {path / WEIGHTS}: {error.strerror}; {mend}") from None
    except (ValueError, TypeError, IndexError, ArithmeticError, MemoryError, RuntimeError) as error:
        raise ModelError(f"{path / CARD} describes a model that cannot be built ({type(error).__name__}); copy the "
                         "model again") from None
    if needed > there:
        raise ModelError(f"{path / CARD} describes {needed} bytes of parameters, and {WEIGHTS} has {there}; copy the "
                         "model again")


def read_card(path: Path | str, encoder: str | None = None) -> tuple[Card, str]:
    """Return a model directory's card and the digest of its schema, without loading torch. Raises ModelError.

    ``encoder``: as for ``load``.
    """
    path = Path(path)
    where = path / CARD
    if not where.is_file():
        what = "it has no card.json" if path.exists() else "there is no folder"
        raise ModelError(f"{path} is not a model directory: {what}; a peer writes one, PEER/model/")
    try:
        document = json.loads(read_text(where, "the card", ModelError))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {where}: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ModelError(f"{where} is not a p2pser model card")
    return Card.from_dict(document, str(where), encoder), str(document.get("schema"))


def _read_weights(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:  # types numpy lacks
        raise ModelError(f"cannot read the parameters {path}: {' '.join(str(error).split())}; "
                         "copy the model again") from None
