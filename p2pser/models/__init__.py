"""Features to predictions: families of models (``families``), their networks, and models as rows and on disk.

The start of training is a function of the seed alone: parameters are drawn with numpy's Philox (uniform, in the order
of the module's parameters), never from torch's global generator, so that all peers begin with the same bits. No family
keeps running statistics: the whole model is in its parameters, which are what gossip averages.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pser.base import seeding
from p2pser.base.errors import ModelError
from p2pser.base.registries import FAMILIES
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.models import widths
from p2pser.models.family import Family

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import Config, ModelSettings


def family(settings: ModelSettings) -> Family:
    """Return the family that the settings name, with its hyper-parameters."""
    chosen: Family = FAMILIES[settings.name].of(settings.parameters)
    return chosen


def for_run(config: Config, peers: int) -> Config:
    """Return the settings of a run of ``peers`` peers, with what the model's family takes from the run itself.

    Raises ConfigError where the family cannot do the run's task.
    """
    return family(config.model).for_run(config, peers)


def outputs(task: str, classes: int) -> int:
    """Return how many numbers a model gives for a clip: a score a class, then arousal, valence and dominance, as
    ``training.task`` says.
    """
    return (0 if task == "dimensions" else classes) + (0 if task == "classes" else len(DIMENSIONS))


def build(settings: ModelSettings, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Return a network of ``sketch``, with parameters drawn from (seed, "init")."""
    module = sketch(settings, shape, classes)
    initialise(module, seed)
    if callable(seeded := getattr(module, "seeded_", None)):
        seeded(seed)
    return module


def sketch(settings: ModelSettings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a new network whose parameters are not drawn yet: on torch's device ``meta`` it takes no memory.

    Parameters
    ----------
    settings : the model's settings.
    shape : of one clip's features: (D,) of functionals or (bands, frames) of a matrix.
    classes : number of outputs (``outputs``), at least 2.

    Returns
    -------
    A network that maps (n, *shape) float32 to logits (n, classes).

    Raises
    ------
    ModelError : for an unknown family (naming the nearest), for a shape that the family does not take, for several
        widths, and for a width below 1 where the family has one width only.
    """
    chosen, shape = family(settings), tuple(shape)
    if classes < 2:
        raise ModelError(f"a model needs at least 2 emotions to tell apart, not {classes}; "
                         "check the corpus's labels")
    widths.only(settings)
    if chosen.takes == "vector" and len(shape) != 1:
        raise ModelError(f"model {settings.name!r} takes functionals, one vector a clip, not features of shape "
                         f"{shape}; set features.kind=functionals or model.name=cnn2d")
    if chosen.takes == "matrix" and len(shape) != 2:
        kind = chosen.defaults.get("features.kind", "logmel")
        raise ModelError(f"model {settings.name!r} takes a matrix, bands by frames, not features of shape {shape}; "
                         f"set features.kind={kind} or model.name=mlp")
    if chosen.takes == "states" and len(shape) != 3:
        raise ModelError(f"model {settings.name!r} takes the states of a speech encoder, not features of shape "
                         f"{shape}; set features.kind=encoder-states or model.name=mlp")
    return chosen.build(settings, shape, classes)


def initialise(module: nn.Module, seed: int) -> None:
    """Draw the module's parameters in place from (seed, "init").

    Weights of linear and convolutional layers: uniform within 1/sqrt(fan_in) (LeCun et al. 1998, as in torch), or
    within sqrt(6/fan_in) where a layer has ``he = True`` (He et al. 2015), or within a layer's ``bound`` (recurrent
    layers: 1/sqrt(hidden), as in torch; orthogonal ones would come from a QR decomposition, whose last bits differ
    between machines); their biases 0. Norms: scale 1, shift 0. A layer with ``empty = True`` begins with zeros
    (trees). A layer's ``drawn_``, where it has one, changes its parameters afterwards.
    """
    import torch

    draws = seeding.generator(seed, "init")
    with torch.no_grad():
        for layer in module.modules():
            for name, parameter in layer.named_parameters(recurse=False):
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
