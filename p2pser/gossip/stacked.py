"""Several rows mixed as one: parts that must be lost or late together cross an edge in one message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from p2pser.gossip.mixer import Late, Mixer, Step


def mix_together(mixer: Mixer, at: Step, *rows: Tensor) -> tuple[Tensor, ...]:
    """Mix matrices of rows, each (B, ·), in one exchange; return the mixed matrices in order."""
    wide = mixer.mix(torch.cat(rows, dim=1), at)
    cuts = list(accumulate(part.shape[1] for part in rows))[:-1]
    return tuple(part.contiguous() for part in wide.tensor_split(cuts, dim=1))


def part_of(late: Sequence[Late], start: int, width: int) -> tuple[Late, ...]:
    """Return the late flows of columns ``start .. start+width-1`` of wide rows."""
    return tuple(replace(flow, own=flow.own[start : start + width], value=flow.value[start : start + width])
                 for flow in late)
