"""The messages that a peer receives, and its own rows, kept in its folder for an audit (``privacy.record``).

Each start of the peer writes a file of its own, so that a record which a kill has cut is the last of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgpack
import torch
from torch import Tensor

from p2pser.base.atomic import append_privately, append_whole
from p2pser.base.errors import ConfigError, RemoteProtocolError
from p2pser.gossip.mixer import Step
from p2pser.network.training_side import MessageHandler
from p2pser.peer.folder import PeerFolder
from p2pser.peer.telemetry import Telemetry
from p2pser.wire.codec import Received, codec
from p2pser.wire.messages import Header

SUFFIX = ".msgpack"
MESSAGE, SUMS, HELD, TRAINED = "message", "sums", "held", "trained"
"""The kinds of records: a message; the sums on which the peers agree in the set-up; the peer's own row at the start of
a round, and after its local work.
"""

FORMS = ([MESSAGE], 7), ([SUMS], 3), ([HELD], 3), ([TRAINED], 3)
"""The first field of each kind of record, and how many it has."""


class Recording:
    """Writes the records of one start of a peer, if its run is recorded.

    Messages of later rounds, and of the run's end, are kept without their payload. A full disk ends the recording, not
    the run.

    Parameters
    ----------
    folder : the peer's.
    start : the number of this start.
    rounds : the number of rounds whose messages are kept; 0: the run is not recorded.
    telemetry : receives an event where a recording ends early.
    """

    def __init__(self, folder: PeerFolder, start: int, rounds: int, telemetry: Telemetry) -> None:
        self._rounds, self._telemetry = rounds, telemetry
        self._file: IO[bytes] | None = None
        self._pack: Callable[[object], bytes] = msgpack.Packer().pack
        if not rounds:
            return
        try:
            folder.recordings.mkdir(mode=0o700, exist_ok=True)
            self._file = append_privately(folder.recordings / f"{start:06d}{SUFFIX}")
        except OSError as error:
            raise ConfigError(f"cannot write in {folder.recordings}: {error.strerror or error}; make room there, or "
                              "run without privacy.record") from None

    @property
    def on(self) -> bool:
        """Whether the run is recorded."""
        return self._file is not None

    @property
    def tap(self) -> MessageHandler | None:
        """The function that takes each message as it arrives; None where the run is not recorded."""
        return self._message if self.on else None

    def sums(self, row: Tensor, peers: int) -> None:
        """Keep the mean (S,) float64 over the peers of their sums in the set-up."""
        self._write(SUMS, peers, row.numpy().tobytes())

    def held(self, round: int, rows: Tensor) -> None:
        """Keep the row (1, D) float32 with which this peer begins a round, or the one after the last that is kept."""
        if round <= self._rounds:
            self._own(HELD, round, rows)

    def trained(self, round: int, rows: Tensor) -> None:
        """Keep the row (1, D) float32 after the local work of a round."""
        if round < self._rounds:
            self._own(TRAINED, round, rows)

    def close(self) -> None:
        """End the recording."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _message(self, sender: int, header: Header, payload: memoryview) -> None:
        kept = bytes(payload) if header.round < self._rounds else None
        self._write(MESSAGE, sender, header.round, header.slot, header.codec, header.size, kept)

    def _own(self, kind: str, round: int, rows: Tensor) -> None:
        self._write(kind, round, rows[0].detach().to(torch.float32).numpy().tobytes())

    def _write(self, *record: object) -> None:
        if self._file is None:
            return
        try:
            append_whole(self._file, self._pack(record))
        except OSError as error:
            self.close()
            self._telemetry.event("recording_ended", reason=f"cannot write the received messages: "
                                  f"{error.strerror or error}")


def records(folder: Path) -> Iterator[list[Any]]:
    """Yield the records in a peer's folder of recordings, in their order. Raises ConfigError where one is damaged."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            with path.open("rb") as file:
                for record in msgpack.Unpacker(file, use_list=True, max_buffer_size=1 << 31):
                    if not isinstance(record, list) or (record[:1], len(record)) not in FORMS:
                        raise ValueError(f"{record!r} is not a record")
                    yield record
        except (OSError, ValueError, msgpack.UnpackException) as error:
            raise ConfigError(f"cannot read the recorded messages {path}: {error}; record the run anew "
                              "(privacy.record)") from None


def received(record: list[Any]) -> tuple[Step, int, Received | None]:
    """Return the step and the sender of a recorded message, and the message with its row decoded; None in place of a
    message that was kept without its payload, or is invalid.
    """
    _, sender, round, slot, form, size, payload = record
    message = None if payload is None else Received(sender, bytearray(payload), form, size)
    if message is not None and form:
        try:
            dtype = torch.float64 if form == "f8" else torch.float32
            message = Received(sender, message.row(dtype, size, form=codec(form)))
        except RemoteProtocolError:
            message = None
    return Step(round, slot), sender, message


def numbers(octets: bytes, dtype: torch.dtype) -> Tensor:
    """Return the numbers of a row of the peer's own, (D,)."""
    return torch.frombuffer(bytearray(octets), dtype=dtype) if octets else torch.zeros(0, dtype=dtype)
