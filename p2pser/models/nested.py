"""The networks of a run whose peers have different widths, and the places of their parameters in the whole row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from p2pser import models
from p2pser.config import ModelSettings
from p2pser.models.rows import Schema
from p2pser.models.widths import held, of_width


@dataclass(frozen=True)
class Nested:
    """A network of one width.

    held : (D,) bool, the entries of the whole network's row that are its parameters. start : (d,), its initial row.
    """

    module: nn.Module
    schema: Schema
    held: Tensor
    start: Tensor

    def own(self, row: Tensor) -> Tensor:
        """Return the network's row (d,), contiguous, of a row (D,) of the whole network."""
        return row[self.held] if len(self.start) < len(row) else row.contiguous()


def nest(settings: ModelSettings, shape: tuple[int, ...], outputs: int, seed: int,
         widths: Iterable[float], begin: Callable[[Tensor], Tensor] = lambda drawn: drawn) -> dict[float, Nested]:
    """Return the networks of these widths and the whole network (1.0), by width.

    Their initial parameters are those of the whole network.

    Parameters
    ----------
    settings : the model's settings.
    shape : of a clip's features.
    outputs : number of outputs, at least 2.
    seed : of the drawn parameters.
    widths : of the networks.
    begin : returns the initial row of the whole network, (D,), from its drawn parameters.

    Raises
    ------
    ModelError : as ``models.sketch`` and ``models.require_usable``, and where a network is not inside the whole one.
    """
    whole = models.build(of_width(settings, 1.0), shape, outputs, seed)
    schema = Schema.of(whole)
    models.require_usable(whole, settings, shape, outputs)
    start = begin(schema.flatten(whole))
    networks = {1.0: Nested(whole, schema, torch.ones(schema.size, dtype=torch.bool), start)}
    for width in sorted(set(widths) - {1.0}):
        narrow = models.build(of_width(settings, width), shape, outputs, seed)
        inside = held(whole, narrow)
        networks[width] = Nested(narrow, Schema.of(narrow), inside, start[inside])
    return networks
