"""A model as a flat row, which gossip averages, checkpoints store and messages carry.

``Schema.bind`` makes a module's parameters views of a row, and its gradients views of a flat buffer. Training then
changes the row itself, without copies, and an optimiser is a few operations on flat tensors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from p2pser.base.errors import ModelError

_GRADIENT = "_flat_gradient"
"""Where a module keeps its flat gradient buffer."""


def digest(row: Tensor) -> str:
    """Return 16 hex digits over the numbers of a row."""
    return hashlib.blake2b(row.detach().cpu().contiguous().numpy().data, digest_size=8).hexdigest()


def outline(row: Tensor) -> tuple[float, ...]:
    """Return the norm of a row (D,), then the sum of each of 16 equal parts of it, relative to the part's norm.

    Rows that differ in their last bits have nearly equal outlines, and rows from different draws do not. The sum of a
    part whose norm is less than 0.001 of the row's counts less: its numbers may be rounding errors.
    """
    pieces = row.detach().tensor_split(16)
    norms = [float(torch.linalg.vector_norm(piece, dtype=torch.float64)) for piece in pieces]
    sums = [float(piece.sum(dtype=torch.float64)) for piece in pieces]
    whole = math.hypot(*norms)
    return whole, *(total / (norm + 1e-3 * whole) if whole else 0.0 for total, norm in zip(sums, norms))


@dataclass(frozen=True)
class Schema:
    """Names and shapes of a module's parameters, in the order in which a row holds them. All float32."""

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, module: nn.Module) -> Schema:
        """Return the schema of a module.

        Raises ModelError where it keeps buffers (running statistics would escape the averaging) or parameters
        that are not float32.
        """
        for name, _ in module.named_buffers():
            raise ModelError(f"the model keeps state outside its parameters ({name}), which gossip would "
                             "not average; use layers without running statistics")
        for name, parameter in module.named_parameters():
            if parameter.dtype != torch.float32:
                raise ModelError(f"parameter {name} of the model is {parameter.dtype}; "
                                 "rows hold torch.float32 only")
        return cls(tuple((name, tuple(parameter.shape)) for name, parameter in module.named_parameters()))

    @property
    def size(self) -> int:
        """D: the number of parameters."""
        return sum(math.prod(shape) for _, shape in self.entries)

    def digest(self) -> str:
        """Return 16 hex digits over names, shapes, dtypes and order: peers whose digests differ cannot mix."""
        text = "\n".join(f"{name} f4 {'x'.join(map(str, shape))}" for name, shape in self.entries)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def flatten(self, module: nn.Module) -> Tensor:
        """Return a new row (D,) float32 with the module's parameters."""
        with torch.no_grad():
            parts = [parameter.detach().reshape(-1) for parameter in self._parameters(module)]
            return torch.cat(parts) if parts else torch.empty(0)

    def views(self, row: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, view of the row in the parameter's shape). Raises ModelError for a row of another size."""
        if row.shape != (self.size,):
            raise ModelError(f"a row of this model has {self.size} parameters, not shape {tuple(row.shape)}; "
                             "was it trained with other model settings?")
        at = 0
        for name, shape in self.entries:
            count = math.prod(shape)
            yield name, row[at : at + count].view(shape)
            at += count

    def bind(self, module: nn.Module, row: Tensor) -> Tensor:
        """Make the module's parameters views of ``row`` (D,) float32, contiguous; return the flat gradient
        buffer (D,).

        The gradients become views of that buffer, which belongs to the module and is kept between calls: set it to zero
        before each backward. Raises ModelError where row and module do not fit.
        """
        if row.dtype != torch.float32 or not row.is_contiguous():
            raise ModelError(f"a model is bound to a contiguous float32 row, not to {row.dtype} "
                             f"with strides {row.stride()}")
        gradient = module.__dict__.get(_GRADIENT)
        if gradient is None or gradient.numel() != self.size:
            gradient = torch.zeros_like(row)
            module.__dict__[_GRADIENT] = gradient
        parameters = self._parameters(module)
        for parameter, (_, value), (_, slope) in zip(parameters, self.views(row), self.views(gradient)):
            parameter.data = value
            parameter.grad = slope
        return gradient

    def rest(self, module: nn.Module, row: Tensor) -> None:
        """Make the module's parameters views of ``row`` (D,), which does not change, and free its gradients."""
        for parameter, (_, value) in zip(self._parameters(module), self.views(row)):
            parameter.data, parameter.grad = value, None
        module.__dict__.pop(_GRADIENT, None)

    def _parameters(self, module: nn.Module) -> list[nn.Parameter]:
        named = list(module.named_parameters())
        if tuple((name, tuple(parameter.shape)) for name, parameter in named) != self.entries:
            raise ModelError("the model's parameters are not those of this schema; "
                             "build both from the same settings")
        return [parameter for _, parameter in named]
