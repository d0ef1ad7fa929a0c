"""Which entries of a row belong to the layer that reads the features."""

from __future__ import annotations

import math

from p2pser.models.rows import Schema


def first_layer(schema: Schema) -> int:
    """Return how many entries of a row, from the first on, are the first layer's weights and bias.

    Its gradient shows the inputs; that of later layers shows the labels more than the voices. Where the first two
    parameters are no weights with their bias (recurrent layers), all entries count.
    """
    (_, weight), (_, bias) = schema.entries[:2]
    return math.prod(weight) + bias[0] if bias == weight[:1] else schema.size
