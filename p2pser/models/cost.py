"""The cost of a network: numbers that peers exchange, and multiply-adds of a prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from p2pser.models.rows import Schema

BYTES = 4
"""Bytes of a parameter, in memory and in a dense message."""


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    parameters : D, the length of a row; a dense message to a neighbour has ``BYTES`` times as many bytes.
    operations : multiply-adds of one clip's prediction, in matrix products and convolutions; 0 for trees. A training
        step takes about three times as many per clip.
    """

    parameters: int
    operations: int


def cost(module: nn.Module, shape: tuple[int, ...]) -> Cost:
    """Return the cost of a network for features of ``shape`` (without the batch)."""
    was = module.training
    module.eval()
    kernel = {torch.ops.aten.mkldnn_rnn_layer: _recurrent}
    try:
        with FlopCounterMode(display=False, custom_mapping=kernel) as counter, torch.no_grad():
            module(torch.zeros(1, *shape))
    finally:
        module.train(was)
    return Cost(Schema.of(module).size, counter.get_total_flops() // 2)


def _recurrent(inputs: Sequence[int], from_inputs: Sequence[int], from_states: Sequence[int], *_: Any,
               **__: Any) -> int:
    """Return the operations, two per multiply-add, of the CPU kernel of one direction of a recurrent layer."""
    steps, clips = inputs[:2]
    return 2 * steps * clips * (math.prod(from_inputs) + math.prod(from_states))
