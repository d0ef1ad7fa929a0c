"""The layer that reads the features, within a row."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pser.models.rows import Schema

NEGLIGIBLE = 3e-5
"""Numbers of an update, and its singular values, below this share of the largest are float32's rounding."""


def first_layer(schema: Schema) -> int:
    """Return how many entries of a row, from the first on, are the first layer's weights and bias.

    Its gradient shows the inputs; that of later layers shows the labels more than the voices. Where the first two
    parameters are no weights with their bias (recurrent layers), all entries count.
    """
    (_, weight), (_, bias) = schema.entries[:2]
    return math.prod(weight) + bias[0] if bias == weight[:1] else schema.size


def first_matrix(schema: Schema, update: Tensor) -> NDArray[np.float64] | None:
    """Return the update [W b] (H, F + 1) of the first layer y = W x + b; None where it is no matrix with a bias.

    The gradient is a sum of outer products, over the clips, of the outputs' gradients with the inputs [x 1].

    update : (D,), of the whole row, or of as many of its first entries as ``first_layer`` says.
    """
    (_, weight), (_, bias) = schema.entries[:2]
    if len(weight) != 2 or bias != weight[:1]:
        return None
    size = first_layer(schema)
    matrix = torch.cat([update[: size - weight[0]].view(weight), update[size - weight[0] : size, None]], dim=1)
    return matrix.numpy().astype(np.float64)
