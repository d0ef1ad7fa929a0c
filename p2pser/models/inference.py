"""The outputs of a network for normalised features."""

from __future__ import annotations

import os
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BATCH = 256
"""The most clips that a network computes at once, which bounds the memory."""


@cache
def forks_with_one_thread() -> None:
    """Let the processes that are forked from this one from now on begin with one thread of torch.

    The threads in which torch computed before a fork do not exist after it, and the first job for them would never end.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def logits(module: nn.Module, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, classes) float32 for normalised features (n, ...) float32, without dropout and gradients."""
    if len(features) == 0:
        raise ValueError("there are no clips to predict")
    was = module.training
    module.eval()
    try:
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
            parts = [module(part) for part in torch.split(values, BATCH)]
            result: NDArray[np.float32] = torch.cat(parts).numpy().copy()
            return result
    finally:
        module.train(was)
