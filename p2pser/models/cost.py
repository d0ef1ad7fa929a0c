"""The cost of a network: numbers that peers exchange, and multiply-adds of a prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

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
    was, counter = module.training, _Counter()  # type: ignore[no-untyped-call]
    module.eval()
    try:
        with counter, torch.no_grad():
            module(torch.zeros(1, *shape))
    finally:
        module.train(was)
    return Cost(Schema.of(module).size, counter.operations // 2)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations by torch's formulas, two per multiply-add. torch's own counter takes three seconds to import
    torch._dynamo.
    """

    operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _recurrent if func.overloadpacket == torch.ops.aten.mkldnn_rnn_layer else flop_registry.get(
            func.overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=out)
        return out


def _recurrent(inputs: Tensor, from_inputs: Tensor, from_states: Tensor, *_: Any, **__: Any) -> int:
    """Return the operations, two per multiply-add, of the CPU kernel of one direction of a recurrent layer."""
    steps, clips = inputs.shape[:2]
    return 2 * steps * clips * (math.prod(from_inputs.shape) + math.prod(from_states.shape))
