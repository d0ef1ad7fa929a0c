"""The codecs of rows, and the validation of received rows.

A codec encodes a row of D numbers in one flat buffer, and decodes it. The header carries its wire name, so that a
receiver can decode the row without any other agreement. Codecs do not check whether numbers are finite.

``Received.row`` checks a message against the row that is due, before any arithmetic or allocation. The receiver knows
the codec that is due, since it posts in the same one; a message in another one raises RemoteProtocolError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from p2pser.base.errors import ConfigError, LocalProtocolError, P2PSERError, RemoteProtocolError
from p2pser.base.registries import COMPRESSORS
from p2pser.wire.messages import Buffer

WIRE_DTYPES: dict[str, tuple[torch.dtype, np.dtype[np.generic]]] = {
    "f4": (torch.float32, np.dtype("<f4")),
    "f8": (torch.float64, np.dtype("<f8")),
}
"""Dense wire names: the dtype in memory and the little-endian dtype on the wire."""


F = TypeVar("F", bound="Form")
T = TypeVar("T")
MAX_NAME = 16
"""Longest wire name [characters]: the header has no room for more."""
LARGEST = 1e6
"""A received number may be so many times as large as the largest of our own row (or as 1): honest peers train the same
model, and sums and squares of such numbers stay finite."""


class Codec(Protocol):
    """An encoding of rows. Sender and receiver both continue with ``decode(encode(x))``."""

    @property
    def name(self) -> str:
        """The name of the encoding, such as ``"dense"``."""

    def at(self, seed: int, peer: int, round: int) -> Codec:
        """Return the codec with the random draws of (seed, peer, round); itself if it draws nothing."""

    def shaped(self, shapes: Sequence[Sequence[int]]) -> Codec:
        """Return the codec for rows that hold tensors of these shapes; itself if the shapes do not matter."""

    def contraction(self, size: int) -> float:
        """Return delta in (0, 1]: |decode(encode(x)) - x|^2 <= (1 - delta) |x|^2 for rows of ``size`` numbers, in
        expectation if it draws.
        """

    def wire_name(self, row: Tensor) -> str:
        """Return the name in the header, by which ``codec`` finds the decoder (at most 16 characters)."""

    def encode(self, row: Tensor) -> memoryview | bytes:
        """Return the bytes of ``row`` (D,), possibly a view of the row, which must not change before it is sent."""

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return a row (size,) from ``buffer``, which it takes over: the row may be a view of a writable buffer.

        Raises RemoteProtocolError where the buffer cannot be a row of that size.
        """


def internal(default: T) -> T:
    """Return a dataclass field of a codec that is not a setting, such as the key of its draws."""
    value: T = field(default=default, metadata={"internal": True})
    return value


@dataclass(frozen=True)
class Form:
    """The base of all codecs: without random draws, and with the codec's name as wire name.

    A subclass is a frozen dataclass with a default for each field, registered in ``COMPRESSORS`` under its ``name``.
    Its fields are its settings, except those made by ``internal``. The bytes contain all that decoding needs: an
    instance with default settings decodes the bytes of any instance of its class.
    """

    name: ClassVar[str]

    def at(self: F, seed: int, peer: int, round: int) -> F:
        """Return itself (Codec.at)."""
        return self

    def shaped(self: F, shapes: Sequence[Sequence[int]]) -> F:
        """Return itself (Codec.shaped)."""
        return self

    def wire_name(self, row: Tensor) -> str:
        """Return the name (Codec.wire_name)."""
        return self.name


@COMPRESSORS.register("dense")
@dataclass(frozen=True)
class Dense(Form):
    """All numbers of the row, little-endian: float32 is ``"f4"``, float64 is ``"f8"``.

    Without ``only`` the dtype on the wire is the row's, and decoding infers it from the number of bytes; with ``only``
    (a wire name) it is fixed, and other rows are converted before they are sent.

    >>> DENSE.wire_name(torch.zeros(3)), bytes(DENSE.encode(torch.ones(1)))
    ('f4', b'\\x00\\x00\\x80?')
    """

    only: str | None = internal(None)
    name = "dense"

    def contraction(self, size: int) -> float:
        """Return 1: no number changes."""
        return 1.0

    def wire_name(self, row: Tensor) -> str:
        """Return ``"f4"`` or ``"f8"``; LocalProtocolError for a dtype that has no dense form."""
        if self.only:
            return self.only
        for name, (dtype, _) in WIRE_DTYPES.items():
            if row.dtype == dtype:
                return name
        raise LocalProtocolError(f"a row of {row.dtype} has no dense form; convert it to float32 or float64")

    def encode(self, row: Tensor) -> memoryview | bytes:
        """Return the row's bytes, without a copy where it is contiguous and little-endian (Codec.encode)."""
        _one_dimension(row)
        dtype, wire = WIRE_DTYPES[self.wire_name(row)]
        values = row.detach().to("cpu", dtype).contiguous().numpy().astype(wire, copy=False)
        # memoryview.cast refuses empty arrays.
        return memoryview(values.data).cast("B").toreadonly() if values.size else b""

    def decode(self, buffer: Buffer, size: int) -> Tensor:
        """Return a row (size,): a view of the buffer if that is writable, else a copy (Codec.decode)."""
        view = memoryview(buffer)
        name = self.only or ("f8" if size and view.nbytes == 8 * size else "f4")
        wire = WIRE_DTYPES[name][1]
        if size < 0 or view.nbytes != wire.itemsize * size:
            raise RemoteProtocolError(
                f"a dense row of {size} numbers cannot be {view.nbytes} bytes; the peers run different models"
            )
        # A read-only buffer is copied: torch has no read-only tensors.
        values = np.frombuffer(view, dtype=wire).astype(wire.newbyteorder("="), copy=view.readonly)
        return torch.from_numpy(values)


DENSE: Codec = Dense()
"""The default codec: the row in its own dtype."""

_DECODERS: dict[str, Codec] = {name: Dense(name) for name in WIRE_DTYPES}


def codec(name: str) -> Codec:
    """Return the decoder for a wire name. Raises RemoteProtocolError where there is none."""
    if name not in _DECODERS:
        if name not in COMPRESSORS:
            known = ", ".join((*WIRE_DTYPES, *COMPRESSORS))
            raise RemoteProtocolError(
                f"a row arrived in the form {name!r}, unknown to this version (known: {known}); install the same "
                "version at all sites")
        _DECODERS[name] = compressor(name)
    return _DECODERS[name]


@dataclass(frozen=True, slots=True)
class Received:
    """A message before it is validated and decoded.

    sender : the neighbour. body : bytes, or a row of a peer in this process. form : the wire name of an encoded row's
    codec; empty for other bytes. size : the number of elements that the header of an encoded row gives.
    """

    sender: int
    body: Tensor | Buffer
    form: str = ""
    size: int = 0

    def row(self, dtype: torch.dtype, *sizes: int, form: Codec = DENSE, largest: float = math.inf,
            beside: Tensor | None = None) -> Tensor:
        """Return the row (D,).

        Parameters
        ----------
        dtype : the dtype that is due.
        sizes : the values of D that are due.
        form : the codec that is due.
        largest : the largest magnitude that a number may have; every number must be finite.
        beside : our own row (D,), which bounds the plausible magnitude of the numbers.

        Raises RemoteProtocolError where the message is no such row. The size is checked before anything is decoded.
        """
        size = self.body.numel() if isinstance(self.body, Tensor) else self.size
        if not isinstance(self.body, Tensor) and not self.form:
            raise self.refused("bytes where a row is due")
        if size not in sizes:
            due = " or ".join(map(str, sizes))
            raise self.refused(f"a row of {size} numbers where {due} are due; the peers run different models or "
                               "algorithms")
        if isinstance(self.body, Tensor):
            value = self.body
        else:
            due = form.wire_name(torch.empty(0, dtype=dtype))
            if self.form != due:
                raise self.refused(f"a row in the form {self.form!r} where {due!r} is due")
            value = self._decoded(self.body, size)
        if form is DENSE and value.dtype != dtype:
            raise self.refused(f"a row of {value.dtype} where {dtype} is due")
        if largest >= LARGEST and _surely_plausible(value):
            return value
        peak = magnitude(value)
        largest = largest if beside is None else min(largest, plausible(magnitude(beside)))
        if not peak <= largest or peak == math.inf:
            raise self.refused(f"a row whose largest number is {peak:g}, beyond what is plausible here"
                               if math.isfinite(peak) else "a row with numbers that are not finite")
        return value

    def octets(self, most: int) -> Buffer:
        """Return the bytes, at most ``most``. Raises RemoteProtocolError for a row, or for more bytes."""
        if isinstance(self.body, Tensor) or self.form:
            raise self.refused("a row where bytes are due")
        if len(self.body) > most:
            raise self.refused(f"{len(self.body)} bytes where at most {most} are due")
        return self.body

    def refused(self, what: str) -> RemoteProtocolError:
        """Return the error for an invalid message, which is ``what``."""
        return RemoteProtocolError(f"peer {self.sender} sent {what}", self.sender)

    def _decoded(self, body: Buffer, size: int) -> Tensor:
        try:
            value = codec(self.form).decode(body, size)
        except P2PSERError as error:
            raise self.refused(f"a row that cannot be read: {error}") from None
        except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            # A codec of an installed package may raise any of these.
            raise self.refused(f"a row that its codec cannot read ({type(error).__name__})") from None
        if value.shape != (size,):
            raise self.refused(f"a row that its codec reads as {tuple(value.shape)} numbers instead of {size}")
        return value


def magnitude(row: Tensor) -> float:
    """Return the largest absolute value of a row; NaN if the row holds a NaN."""
    if not row.numel():
        return 0.0
    least, most = torch.aminmax(row)  # ten times as fast as the maximum norm; both are NaN if the row holds a NaN
    return max(-float(least), float(most))


def finite(row: Tensor) -> bool:
    """Whether all numbers of a row (D,) are finite."""
    return math.isfinite(float(torch.dot(row, row))) or math.isfinite(magnitude(row))


def _surely_plausible(row: Tensor) -> bool:
    """Whether the norm of a row (D,) shows that it is finite and plausible; it costs a quarter of ``magnitude``."""
    return float(torch.dot(row, row)) <= (LARGEST / 2) ** 2


def plausible(own: float) -> float:
    """Return the largest magnitude that a neighbour's row may have beside our own row of magnitude ``own``."""
    return LARGEST * max(1.0, own)


def compressor(name: str, settings: Mapping[str, object] | None = None) -> Codec:
    """Return the compressor ``name``, with those of ``settings`` that it has and defaults for its other settings.

    Raises ConfigError for an unknown name, or a value out of range.
    """
    kind = COMPRESSORS[name]
    if getattr(kind, "name", None) != name or len(name) > MAX_NAME:
        raise ConfigError(f"the compressor {name!r} of {COMPRESSORS.origin(name)} must have the class attribute name = "
                          f"{name!r}, of at most {MAX_NAME} characters")
    known = {setting.name for setting in settings_of(kind)}
    made: Codec = kind(**{key: value for key, value in (settings or {}).items() if key in known})
    return made


def settings_of(kind: type[Form]) -> list[Field[Any]]:
    """Return the settings of a codec: its fields except those made by ``internal``."""
    return [setting for setting in fields(kind) if not setting.metadata.get("internal")]


def flat(row: Tensor) -> Tensor:
    """Return an aligned copy (D,) of a row, float32 or float64, to be compressed.

    Sums and products may round differently by alignment, and a row of the simulator's matrix (N, D) must give the same
    bytes as that row at a peer. Raises LocalProtocolError for another dtype or more dimensions.
    """
    _one_dimension(row)
    if row.dtype not in (torch.float32, torch.float64):
        raise LocalProtocolError(f"a row of {row.dtype} has no compressed form; convert it to float32 or float64")
    return row.detach().to("cpu").clone(memory_format=torch.contiguous_format)


def float_bytes(numbers: Tensor) -> bytes:
    """Return numbers as little-endian float32."""
    return numbers.to(torch.float32).numpy().astype("<f4", copy=False).tobytes()


def floats(buffer: Buffer) -> Tensor:
    """Return the numbers (n,) of ``float_bytes``."""
    return torch.from_numpy(np.frombuffer(buffer, dtype="<f4").astype(np.float32))


def _one_dimension(row: Tensor) -> None:
    if row.dim() != 1:
        raise LocalProtocolError(f"a row has one dimension, this tensor has shape {tuple(row.shape)}")
