"""Nested networks of different widths: a narrow network has the first units of each hidden layer of the whole one.

A network of width w has the share w of the hidden units of the whole network, all inputs and outputs, and each of its
parameters is one of the whole network's.

With ``model.rescale`` its hidden activations are multiplied by 1 / w, as dropout scales those that it keeps: sums over
fewer units then have the size that the next layer expects. The scale is a part of the network, in training and in use.
Without it, the default, a wide network adds the contribution of its other units to the narrow network's sum: they
learn the remainder. With it they have to match the narrow network's units, and few peers train them (RAVDESS:
``benchmarks/widths.py``).

Source: E. Diao, J. Ding, V. Tarokh, "HeteroFL: Computation and Communication Efficient Federated Learning for
Heterogeneous Clients", ICLR 2021 (there the scale is used in training only, as all are evaluated as the whole network).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pser.base.errors import ConfigError, ModelError
from p2pser.base.registries import FAMILIES
from p2pser.config import ModelSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


def widths(settings: ModelSettings, peers: int) -> tuple[float, ...]:
    """Return the width of each of ``peers`` peers. Raises ConfigError for a setting of another number of widths."""
    if len(settings.width) == 1:
        return settings.width * peers
    if len(settings.width) != peers:
        raise ConfigError(f"model.width gives the widths of {len(settings.width)} peers, and there are {peers}: give "
                          "one for each, such as 0.25*4,0.5*2,1*2, or one for all")
    return settings.width


def width_of(settings: ModelSettings, peer: int) -> float:
    """Return the width of a peer; the largest where ``peer`` is not the id of a peer (pooled training)."""
    if len(settings.width) == 1:
        return settings.width[0]
    return settings.width[peer] if 0 <= peer < len(settings.width) else max(settings.width)


def of_width(settings: ModelSettings, width: float) -> ModelSettings:
    """Return the settings of a network of this width."""
    return settings.model_copy(update={"width": (width,)})


def only(settings: ModelSettings) -> float:
    """Return the width of the network to build.

    Raises ModelError where there are several widths, or the family has one width only.
    """
    if len(settings.width) != 1:
        raise ModelError(f"model.width gives {len(settings.width)} widths where one network is built: give one")
    if settings.width[0] != 1 and not FAMILIES[settings.name].narrows:
        narrowing = ", ".join(name for name, family in FAMILIES.items() if family.narrows)
        raise ModelError(f"model {settings.name!r} comes in one width: leave model.width at 1, or set model.name to "
                         f"one of {narrowing}")
    return settings.width[0]


def units(whole: int, width: float, multiple: int = 1) -> int:
    """Return the number of units at this width of a layer with ``whole`` units: a positive multiple of ``multiple``.

    >>> units(128, 0.25), units(10, 0.25), units(128, 0.1, 8)
    (32, 3, 16)
    """
    return min(whole, max(1, math.floor(whole / multiple * width + 0.5)) * multiple)


def scale(settings: ModelSettings, whole: int, kept: int) -> float:
    """Return the factor of the activations of a layer that has ``kept`` of its ``whole`` units."""
    return whole / kept if settings.rescale else 1.0


def held(whole: nn.Module, narrow: nn.Module) -> Tensor:
    """Return a mask (D,) of the entries of ``whole``'s row that are parameters of ``narrow``.

    They are the first entries along each dimension. Where a dimension holds several vectors side by side, they are the
    first entries of each vector: the gates of a recurrent layer, and the inputs of layers whose ``sources`` is above 1.
    Raises ModelError where ``narrow`` is not inside ``whole``.
    """
    import torch

    layers, parts = dict(narrow.named_modules()), []
    for path, layer in whole.named_modules():
        if path not in layers:
            raise ModelError(f"the narrow network has no layer {path}")
        own = dict(layers[path].named_parameters(recurse=False))
        for name, parameter in layer.named_parameters(recurse=False):
            inside = torch.ones((), dtype=torch.bool)
            for size, kept, blocks in zip(parameter.shape, own[name].shape, _blocks(layer, name, parameter.dim())):
                if kept > size or size % blocks or kept % blocks:
                    raise ModelError(f"the narrow network's {path}.{name} is not inside the whole one's")
                first = torch.arange(size) % (size // blocks) < kept // blocks
                inside = inside.unsqueeze(-1) & first
            parts.append(inside.reshape(-1))
    return torch.cat(parts)


def _blocks(layer: nn.Module, name: str, dimensions: int) -> tuple[int, ...]:
    """Return the number of vectors side by side along each dimension of a parameter."""
    from torch import nn

    gates = 3 if isinstance(layer, nn.GRU) else 4 if isinstance(layer, nn.LSTM) else 1
    sources = 1 if name.startswith("weight_hh") else int(getattr(layer, "sources", 1))
    return (gates, sources, *(1,) * dimensions)[:dimensions]
