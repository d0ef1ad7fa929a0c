"""Models: their families (``families``), their networks (``networks``), and models as rows and on disk.

Initial parameters are a function of the seed alone: they are drawn with numpy's Philox (uniform, in the order of the
module's parameters), never from torch's global generator, so that all peers begin with the same bits. No family keeps
running statistics: the whole model is in its parameters, which are what gossip averages.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pser.base import seeding
from p2pser.base.errors import ModelError, raised_as
from p2pser.base.registries import FAMILIES
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.models import widths
from p2pser.models.family import Family

if TYPE_CHECKING:
    from torch import nn

    from p2pser.config import Config, ModelSettings

_TAKES = {"vector": (1, "functionals, one vector a clip", "features.kind=functionals or model.name=cnn2d"),
          "matrix": (2, "a matrix, bands by frames", "features.kind={kind} or model.name=mlp"),
          "states": (3, "the states of a speech encoder", "features.kind=encoder-states or model.name=mlp")}
"""By ``Family.takes``: the number of dimensions of a clip's features, these in words, and what to set."""


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
    """Return the number of a model's outputs for a clip: a score for each class, arousal, valence and dominance, or
    both, as ``training.task`` is.
    """
    return (0 if task == "dimensions" else classes) + (0 if task == "classes" else len(DIMENSIONS))


def build(settings: ModelSettings, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Return the network of ``sketch`` with parameters drawn from (seed, "init"); parameters and errors as there."""
    module = sketch(settings, shape, classes)
    initialise(module, seed)
    if callable(seeded := getattr(module, "seeded_", None)):
        seeded(seed)
    return module


def sketch(settings: ModelSettings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a new network with uninitialised parameters: on torch's device ``meta`` it takes no memory.

    Parameters
    ----------
    settings : the model's settings.
    shape : of a clip's features: (D,) of functionals, (bands, frames) of a matrix, or that of an encoder's states.
    classes : number of outputs (``outputs``), at least 2.

    Returns
    -------
    A network that maps (n, *shape) float32 to logits (n, classes).

    Raises
    ------
    ModelError : for an unknown family (naming the nearest), for a shape that the family does not take, for several
        widths, for a width below 1 where the family has one width only, and where the family builds no network.
    """
    chosen, shape = family(settings), tuple(shape)
    if classes < 2:
        raise ModelError(f"a model needs at least 2 emotions to tell apart, not {classes}; "
                         "check the corpus's labels")
    widths.only(settings)
    dimensions, features, instead = _TAKES[chosen.takes]
    if len(shape) != dimensions:
        raise ModelError(f"model {settings.name!r} takes {features}, not features of shape {shape}; set "
                         + instead.format(kind=chosen.defaults.get("features.kind", "logmel")))
    with raised_as(ModelError, f"the model family {settings.name!r} builds no network for features of shape {shape} "
                               f"and {classes} outputs"):
        return _network(chosen.build(settings, shape, classes))


def _network(built: object) -> nn.Module:
    from torch import nn

    if not isinstance(built, nn.Module):
        raise TypeError(f"its build returned {type(built).__name__}, not a torch module")
    if any(map(nn.parameter.is_lazy, built.parameters())):
        raise TypeError("a lazy layer has no size yet: give its number of inputs")
    return built


def require_usable(module: nn.Module, settings: ModelSettings, shape: tuple[int, ...], outputs: int) -> None:
    """Raise ModelError where the network of a family has nothing to train, or does not map features (1, *shape) to
    scores (1, outputs): mistakes of a plug-in that training would hide, or not explain.
    """
    import torch

    name, by_gradient = settings.name, not family(settings).boosts
    if not any(parameter.numel() and (parameter.requires_grad or not by_gradient) for parameter in module.parameters()):
        raise ModelError(f"the network of the model family {name!r} has no parameters to train")
    was = module.training
    try:
        with torch.no_grad():
            scores = module.eval()(torch.zeros(1, *shape))
    except Exception as error:
        raise ModelError(f"the network of the model family {name!r} does not take features of shape {(1, *shape)} "
                         f"({type(error).__name__}: {error})") from error
    finally:
        module.train(was)
    if not isinstance(scores, torch.Tensor) or scores.shape != (1, outputs) or not scores.is_floating_point():
        told = f"{scores.dtype} {tuple(scores.shape)}" if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ModelError(f"the network of the model family {name!r} returns {told} for one clip, not float32 "
                         f"scores {(1, outputs)}")


def initialise(module: nn.Module, seed: int) -> None:
    """Draw the module's parameters in place from (seed, "init").

    Weights of linear and convolutional layers are uniform within 1/sqrt(fan_in) (LeCun et al. 1998, as in torch), or
    within sqrt(6/fan_in) where a layer has ``he = True`` (He et al. 2015), or within a layer's ``bound`` (recurrent
    layers: 1/sqrt(hidden), as in torch; orthogonal weights would come from a QR decomposition, whose last bits differ
    between machines). Biases are 0, scales of norms 1. All parameters of a layer with ``empty = True`` are 0 (trees). A
    layer's method ``drawn_``, if any, changes its parameters afterwards.
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
