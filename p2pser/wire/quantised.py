"""Quantising codecs: every number in a few bits, with a scale for each block of the row."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.base.registries import COMPRESSORS
from p2pser.wire.bits import pack, packed_bytes, unpack
from p2pser.wire.codec import Form, flat, float_bytes, floats, internal
from p2pser.wire.messages import Buffer

BLOCK = 256
"""Numbers that share a scale in ``qsgd`` and ``8-bit``."""

SIGN_BLOCK = 64
"""Numbers that share a scale in ``sign``."""


@COMPRESSORS.register("sign")
@dataclass(frozen=True)
class Sign(Form):
    """The sign of every number, and the mean magnitude of each block of 64: 1.25 bits each. Zeros count as positive.

    Bytes: bfloat16 scales, then the signs, 1 for negative. The squared error is 1 - |x|_1^2 / (b |x|_2^2) of a
    block's square, so at most 1 - 1/b of the row's. With one scale for the whole row, a few large numbers would make
    the contraction useless: in a trial CHOCO then stopped at 1e-3 of the first distance, and with blocks it did not.

    References: J. Bernstein, Y.-X. Wang, K. Azizzadenesheli, A. Anandkumar, "signSGD: Compressed Optimisation for
    Non-Convex Problems", ICML 2018; scaled as in S. P. Karimireddy, Q. Rebjock, S. U. Stich, M. Jaggi, "Error Feedback
    Fixes SignSGD and other Gradient Compression Schemes", ICML 2019.
    """

    name = "sign"

    def contraction(self, size: int) -> float:
        """Return delta: the squared error is at most 1 - delta of the row's square (of normal numbers 1 - 2/pi)."""
        return 1 / SIGN_BLOCK

    def encode(self, row: Tensor) -> bytes:
        """Return the bytes of ``row`` (D,) (Codec.encode)."""
        values = flat(row)
        blocks = _blocks(values, SIGN_BLOCK)
        counts = torch.full((len(blocks), 1), float(SIGN_BLOCK))
        if len(counts):
            counts[-1] -= blocks.numel() - len(values)
        scales = (blocks.abs().sum(1, keepdim=True) / counts).to(torch.bfloat16)
        codes: bytes = scales.view(torch.int16).numpy().astype("<i2", copy=False).tobytes()
        return codes + pack((values < 0).numpy(), 1)

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return the row (size,) float32 (Codec.decode)."""
        cut = 2 * _blocks_of(size, SIGN_BLOCK)
        view = _exact(buffer, size, cut + packed_bytes(max(size, 0), 1), "sign")
        signs = torch.from_numpy(unpack(view[cut:], size, 1).astype(np.float32)).mul_(-2).add_(1)
        codes = torch.from_numpy(np.frombuffer(view[:cut], dtype="<i2").astype(np.int16))
        return signs.mul_(codes.view(torch.bfloat16).to(torch.float32).repeat_interleave(SIGN_BLOCK)[:size])


@COMPRESSORS.register("qsgd")
@dataclass(frozen=True)
class QSGD(Form):
    """Stochastic rounding to ``levels`` steps of the norm of a block of 256: ceil(log2(2 levels + 1)) bits each.

    With y = |x_i| levels / |x|_2 of its block, the level is floor(y) or floor(y) + 1, so that its mean is y; the
    receiver decodes sign(x_i) level |x|_2 / (levels tau), tau = 1 + min(b / levels^2, sqrt(b) / levels), b = 256:
    divided by tau, the unbiased estimate is a contraction, with an expected squared error of at most 1 - 1/tau of the
    row's square.

    Bytes: u8 levels (1 .. 127), f4 |x|_2 / (levels tau) of each block, then the signed levels in fixed width. The draw
    follows from (seed, peer, round), see ``at``; without ``at`` all rows have the same draw.

    References: D. Alistarh, D. Grubic, J. Li, R. Tomioka, M. Vojnovic, "QSGD: Communication-Efficient SGD via Gradient
    Quantization and Encoding", NeurIPS 2017; shrunk as by A. Koloskova, S. U. Stich, M. Jaggi, ICML 2019.
    """

    levels: int = 7
    """levels of the magnitudes, 1 to 127"""
    key: int = internal(0)
    name = "qsgd"

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 127:
            raise ConfigError(f"qsgd rounds to 1 .. 127 levels, not {self.levels}")

    def at(self, seed: int, peer: int, round: int) -> QSGD:
        """Return the codec with the draw of (seed, peer, round)."""
        return replace(self, key=seeding.key(seed, "wire.qsgd", peer, round))

    @property
    def shrinkage(self) -> float:
        """tau, the divisor of the unbiased form."""
        return 1 + min(BLOCK / self.levels**2, math.sqrt(BLOCK) / self.levels)

    def contraction(self, size: int) -> float:
        """Return delta: the expected squared error is at most 1 - delta of the row's square."""
        return 1 / self.shrinkage

    def encode(self, row: Tensor) -> bytes:
        """Return the bytes of ``row`` (D,) (Codec.encode)."""
        values = flat(row)
        blocks = _blocks(values)
        norms = torch.linalg.vector_norm(blocks, dim=1, keepdim=True)
        steps = (blocks.abs() / norms).nan_to_num_(0.0).mul_(self.levels).clamp_(max=self.levels).reshape(-1)
        draw = np.random.Philox(key=self.key).random_raw(math.ceil(len(steps) / 2)).view(np.uint32)[: len(steps)]
        rounded = (steps.numpy() + draw.astype(np.float32) * np.float32(2.0**-32)).astype(np.int32)
        signed = np.where(blocks.reshape(-1).numpy() < 0, -rounded, rounded).clip(-self.levels, self.levels)
        scales = float_bytes(norms / (self.levels * self.shrinkage))
        return bytes([self.levels]) + scales + pack(signed[: len(values)] + self.levels, _width(self.levels))

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return the row (size,) float32 (Codec.decode)."""
        view = memoryview(buffer)
        levels = view[0] if view.nbytes else 0
        if not 1 <= levels <= 127:
            raise RemoteProtocolError(f"a qsgd row has {levels} levels, not 1 .. 127")
        cut = 1 + 4 * _blocks_of(size)
        _exact(buffer, size, cut + packed_bytes(max(size, 0), _width(levels)), "qsgd")
        steps = unpack(view[cut:], size, _width(levels))
        if (steps > 2 * levels).any():
            raise RemoteProtocolError(f"a qsgd row of {levels} levels has a number beyond them")
        return _scaled(torch.from_numpy(steps.astype(np.float32)).sub_(levels), view[1:cut])


@COMPRESSORS.register("8-bit")
@dataclass(frozen=True)
class EightBit(Form):
    """Every number in 8 bits: a whole multiple of 1/127 of the largest magnitude of its block of 256.

    Bytes: f4 (largest / 127) of each block, then i8 each. An error is at most 1/254 of the block's largest magnitude.
    """

    name = "8-bit"

    def contraction(self, size: int) -> float:
        """Return delta: the squared error is at most 1 - delta of the row's square."""
        return 1 - BLOCK / 254**2

    def encode(self, row: Tensor) -> bytes:
        """Return the bytes of ``row`` (D,) (Codec.encode)."""
        values = flat(row)
        blocks = _blocks(values)
        scales = (blocks.abs().amax(1, keepdim=True) / 127).to(torch.float32)
        steps = (blocks / scales).nan_to_num_(0.0).round_().clamp_(-127, 127).reshape(-1)[: len(values)]
        codes: bytes = steps.to(torch.int8).numpy().tobytes()
        return float_bytes(scales) + codes

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return the row (size,) float32 (Codec.decode)."""
        cut = 4 * _blocks_of(size)
        view = _exact(buffer, size, cut + max(size, 0), "8-bit")
        return _scaled(torch.from_numpy(np.frombuffer(view[cut:], dtype=np.int8).astype(np.float32)), view[:cut])



def _width(levels: int) -> int:
    return (2 * levels).bit_length()


def _blocks_of(size: int, block: int = BLOCK) -> int:
    return (max(size, 0) + block - 1) // block


def _blocks(values: Tensor, block: int = BLOCK) -> Tensor:
    """Return the row in blocks (ceil(D / block), block), the last filled with zeros."""
    return torch.nn.functional.pad(values, (0, _blocks_of(len(values), block) * block - len(values))).view(-1, block)


def _scaled(steps: Tensor, scales: memoryview) -> Tensor:
    """Multiply a row (size,) by the scale of each block, in place."""
    return steps.mul_(floats(scales).repeat_interleave(BLOCK)[: len(steps)])


def _exact(buffer: Buffer, size: int, nbytes: int, name: str) -> memoryview:
    view = memoryview(buffer)
    if size < 0 or view.nbytes != nbytes:
        raise RemoteProtocolError(f"a row of {size} numbers in the form {name} cannot be {view.nbytes} bytes; "
                                  "the peers run different models")
    return view
