"""Features to predictions: one family of networks a file, and the table of their names.

The start of training is a function of the seed alone: parameters are drawn with numpy's Philox (uniform, in
the order of the module's parameters), never from torch's global generator, so that every peer begins with the
same bits. No family keeps running statistics: all of a model is in its parameters, which are what gossip
averages.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import TYPE_CHECKING

from p2pser.base import seeding
from p2pser.base.errors import ModelError, nearest
from p2pser.config import ModelSettings
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.models import widths

if TYPE_CHECKING:
    from torch import nn

FAMILIES = {
    "mlp": "p2pser.models.mlp",
    "cnn1d-shallow": "p2pser.models.cnn1d_shallow",
    "cnn1d": "p2pser.models.cnn1d",
    "cnn2d": "p2pser.models.cnn2d",
    "crnn": "p2pser.models.crnn",
    "gru": "p2pser.models.gru",
    "lstm": "p2pser.models.lstm",
    "svm": "p2pser.models.svm",
    "xgb": "p2pser.models.xgb",
}
"""Name of a family to its module, which has ``make(settings, shape, classes) -> nn.Module``, parameters undrawn, and
``SETTINGS``, the fields of ``model`` that count for it.
"""


def names() -> list[str]:
    """Return the names of the families, sorted."""
    return sorted(FAMILIES)


def family(name: str) -> ModuleType:
    """Return the module of a family. Raises ModelError for an unknown name (naming the nearest)."""
    if name not in FAMILIES:
        raise ModelError(f"there is no model {name!r}{nearest(name, FAMILIES)}")
    return importlib.import_module(FAMILIES[name])


def outputs(task: str, classes: int) -> int:
    """Return how many numbers a model gives for a clip: a score a class, then arousal, valence and dominance, as
    ``training.task`` says.
    """
    return (0 if task == "dimensions" else classes) + (0 if task == "classes" else len(DIMENSIONS))


def build(settings: ModelSettings, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Return a new network for features of ``shape`` (without the batch), its parameters drawn from (seed,
    "init").

    shape: (D,) of functionals or (bands, frames) of a matrix. classes: number of outputs (``outputs``), at least 2.
    The network maps (n, *shape) float32 to logits (n, classes).

    Raises ModelError for an unknown name (naming the nearest), for a shape that the family cannot take, and for
    several widths, or one below 1 where the family has one only.
    """
    make = family(settings.name).make
    if classes < 2:
        raise ModelError(f"a model needs at least 2 emotions to tell apart, not {classes}; "
                         "check the corpus's labels")
    widths.only(settings)
    module: nn.Module = make(settings, tuple(shape), classes)
    initialise(module, seed)
    if callable(seeded := getattr(module, "seeded_", None)):
        seeded(seed)
    return module


def initialise(module: nn.Module, seed: int) -> None:
    """Draw the module's parameters in place from (seed, "init").

    Weights of linear and convolutional layers: uniform within 1/sqrt(fan_in) (LeCun et al. 1998, as torch
    does), or within sqrt(6/fan_in) where a layer has ``he = True`` (He et al. 2015), or within a layer's
    ``bound`` (recurrent layers: 1/sqrt(hidden), as torch does; orthogonal ones would come out of a QR
    decomposition, whose last bits differ from machine to machine); their biases 0. Norms: scale 1, shift 0.
    A layer with ``empty = True`` begins with zeros (trees). What a layer's ``drawn_`` sets comes last.
    """
    import torch

    draws = seeding.generator(seed, "init")
    with torch.no_grad():
        for layer in module.modules():
            own = dict(layer.named_parameters(recurse=False))
            for name, parameter in own.items():
                if name.startswith("bias") or getattr(layer, "empty", False):
                    parameter.zero_()
                elif parameter.dim() == 1:
                    parameter.fill_(1.0)
                else:
                    fan_in = parameter[0].numel()
                    bound = getattr(layer, "bound", math.sqrt((6.0 if getattr(layer, "he", False) else 1.0) / fan_in))
                    values = (draws.random(parameter.shape) * 2.0 - 1.0) * bound
                    parameter.copy_(torch.from_numpy(values))
            if callable(drawn := getattr(layer, "drawn_", None)):
                drawn()
