"""Hostile neighbours: real peers with a valid key, which from some round on send other messages than are due.

A lie replaces what a peer gives to its I/O thread (``Row``) or what its headers say of its progress, or floods a
neighbour over a connection of its own.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
import torch
from floods import FLOODS, flood
from torch import Tensor

from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.network.io import IOThread
from p2pser.peer.process import Peer
from p2pser.run.setup import JOIN, MODEL, ROLL_CALL
from p2pser.wire.codec import DENSE
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress

SETUP = range(-8, 0)
"""The rounds of the set-up, of join states and of other messages outside training."""


@dataclass(frozen=True)
class Row:
    """A message that a peer is about to send: to whom, the step, the bytes, and the header's codec, size, schema."""

    peers: tuple[int, ...]
    step: tuple[int, int]
    payload: Any
    fields: dict[str, Any]

    @property
    def is_row(self) -> bool:
        """Whether it holds an encoded row; else it is bytes."""
        return bool(self.fields.get("codec"))

    def holding(self, row: Tensor) -> Row:
        """Return the same message with another row, dense."""
        return replace(self, payload=DENSE.encode(row), fields={**self.fields, "codec": DENSE.wire_name(row),
                                                                "size": row.numel()})

    def bytes(self, payload: bytes) -> Row:
        """Return the same message with plain bytes."""
        return replace(self, payload=payload, fields={**self.fields, "codec": "", "size": 0, "schema": b""})


@dataclass
class Hostile:
    """What a lie knows: the run, and what the peer has sent."""

    config: Config
    topology: Topology
    me: int
    io: Any = None
    hello: Any = None
    """What the peer says of itself."""
    count: int = 0
    old: deque[Row] = field(default_factory=lambda: deque(maxlen=12))

    @property
    def rounds(self) -> int:
        return self.config.training.rounds

    def training(self, row: Row) -> bool:
        return 0 <= row.step[0] < self.rounds

    def size(self, row: Row) -> int:
        return max(1, int(row.fields.get("size", 0)))


Lie = Callable[[Hostile, Row], Sequence[Row]]


def _filled(value: float) -> Lie:
    """A row of one number, in each message of training that holds a row."""
    def lie(me: Hostile, row: Row) -> Sequence[Row]:
        return [row.holding(torch.full((me.size(row),), value)) if row.is_row and me.training(row) else row]
    return lie


def _sized(change: Callable[[int], int]) -> Lie:
    def lie(me: Hostile, row: Row) -> Sequence[Row]:
        return [row.holding(torch.full((change(me.size(row)),), 3.0)) if row.is_row and me.training(row) else row]
    return lie


def _bytes_for_a_row(me: Hostile, row: Row) -> Sequence[Row]:
    return [row.bytes(b"hello") if row.is_row and me.training(row) else row]


def _row_for_bytes(me: Hostile, row: Row) -> Sequence[Row]:
    return [row if row.is_row else row.holding(torch.ones(7))]


def _garbage(me: Hostile, row: Row) -> Sequence[Row]:
    """Random bytes of the right length in the right form."""
    noise = bytes(torch.randint(0, 256, (len(memoryview(row.payload).cast("B")) if len(row.payload) else 0,),
                                dtype=torch.uint8).tolist())
    return [replace(row, payload=noise) if me.training(row) else row]


def _bomb(me: Hostile, row: Row) -> Sequence[Row]:
    """17 bytes that stand for 2^32 - 1 numbers."""
    if not me.training(row):
        return [row]
    payload = struct.pack("<BQ", 8, 1) + struct.pack("<d", 1.0)
    return [replace(row, payload=payload, fields={**row.fields, "codec": "random-k", "size": 2**32 - 1,
                                                  "schema": b""})]


def _future(round: int | None) -> Lie:
    """Beside the due row one of a round that is far ahead; None: of the last one."""
    def lie(me: Hostile, row: Row) -> Sequence[Row]:
        far = me.rounds - 1 if round is None else round
        return [replace(row, step=(far, 0)), row] if me.training(row) else [row]
    return lie


def _replay(me: Hostile, row: Row) -> Sequence[Row]:
    """Each message of training again and again, and the oldest of the last 12 under the label of the newest."""
    if not me.training(row):
        return [row]
    me.old.append(row)
    return [*me.old, replace(row, payload=me.old[0].payload, fields=me.old[0].fields)]


def _equivocate(me: Hostile, row: Row) -> Sequence[Row]:
    """Another row to each neighbour."""
    if not (row.is_row and me.training(row)):
        return [row]
    one = {j: replace(row.holding(torch.full((me.size(row),), 0.01 * (j + 1))), peers=(j,)) for j in row.peers}
    return list(one.values())


def _silent(me: Hostile, row: Row) -> Sequence[Row]:
    """Nothing in training, while the connection stays open and is answered on."""
    return [] if me.training(row) else [row]


def _flood_garbage(me: Hostile, row: Row) -> Sequence[Row]:
    return [row if row.is_row or me.training(row) else row.bytes(b"\xc1garbage")]


def _early_done(me: Hostile, row: Row) -> Sequence[Row]:
    """In each flood: the final word, with every edge cut."""
    if row.is_row or me.training(row):
        return [row]
    edges = sorted(sorted(edge) for edge in me.topology.graph.edges)
    return [row.bytes(msgpack.packb([True, [], edges]))]


def _everybody_dead(me: Hostile, row: Row) -> Sequence[Row]:
    """In the flood of the end: all edges but its own are cut."""
    if row.step[0] != me.rounds or row.is_row:
        return [row]
    edges = [edge for edge in sorted(sorted(edge) for edge in me.topology.graph.edges) if me.me not in edge]
    return [row.bytes(msgpack.packb([False, [[me.me, b""]], edges]))]


def _roll_call(me: Hostile, row: Row) -> Sequence[Row]:
    """In the roll call: answers in the name of all others, who have nothing and ask for round 10^6."""
    if row.step[0] != ROLL_CALL:
        return [row]
    answers = [[i, msgpack.packb([[0, 10**6], 10**9])] for i in range(me.topology.size)]
    return [row.bytes(msgpack.packb([True, answers, []]))]


def _forged(round: int) -> Lie:
    """False numbers in what it hands over in messages of this round: a join state, or the model."""
    def lie(me: Hostile, row: Row) -> Sequence[Row]:
        if row.step[0] != round or not row.is_row:
            return [row]
        dtype = torch.float64 if row.fields["codec"] == "f8" else torch.float32
        return [row.holding(torch.full((me.size(row),), 5.0, dtype=dtype))]
    return lie


def _two_faced(me: Hostile, row: Row) -> Sequence[Row]:
    """At the end, each neighbour is sent something else: other cut edges, then another row in the consensus."""
    if row.step[0] < me.rounds or row.is_row:
        return [row]
    told = []
    for j in row.peers:
        if row.step[0] == me.rounds:
            edges = [edge for edge in sorted(sorted(edge) for edge in me.topology.graph.edges) if j not in edge]
            told.append(replace(row.bytes(msgpack.packb([False, [[me.me, b""]], edges])), peers=(j,)))
        else:
            payload = bytearray(row.payload)
            payload[:8] = struct.pack("<d", 0.1 * (j + 1))  # its first number
            told.append(replace(row, payload=bytes(payload), peers=(j,)))
    return told


def _silent_outside(me: Hostile, row: Row) -> Sequence[Row]:
    """Nothing in set-up and at the end, while the connection stays open and is answered on."""
    return [row] if me.training(row) else []


def _setup_messages(me: Hostile, row: Row) -> Sequence[Row]:
    """Beside each message of training others of every set-up round, in every slot: join states, jumps, models."""
    if not me.training(row):
        return [row]
    me.count += 1
    forged = []
    for slot in range(5):
        step = (SETUP[me.count % len(SETUP)], slot)
        forged += [replace(row.holding(torch.full((me.size(row),), 5.0)), step=step),
                   replace(row.bytes(msgpack.packb({"round": 10**6, "resume": 0, "clips": {}, "widths": {},
                                                    "cut": [[0, 1]], "shape": [1, 4]})), step=step),
                   replace(row.bytes(b"\xc1"), step=step)]
    return [row, *forged]


def _in_turn(me: Hostile, row: Row) -> Sequence[Row]:
    """Another lie in each message of training."""
    if not me.training(row):
        return [row]
    me.count += 1
    lie = ("wrong-size", "nan", "bytes-for-a-row", "garbage", "bomb", "one-number", "huge")[me.count % 7]
    return LIES[lie](me, row)


LIES: dict[str, Lie] = {
    "nan": _filled(float("nan")), "inf": _filled(float("inf")), "huge": _filled(3e38),
    "wrong-size": _sized(lambda size: size + 1), "one-number": _sized(lambda size: 1),
    "bytes-for-a-row": _bytes_for_a_row, "row-for-bytes": _row_for_bytes, "garbage": _garbage, "bomb": _bomb,
    "future": _future(10**6), "last-round": _future(None), "replay": _replay, "equivocate": _equivocate,
    "silent": _silent, "flood-garbage": _flood_garbage, "early-done": _early_done, "everybody-dead": _everybody_dead,
    "forged-state": _forged(JOIN), "forged-model": _forged(MODEL), "two-faced": _two_faced,
    "silent-outside": _silent_outside, "roll-call": _roll_call, "set-up": _setup_messages, "in-turn": _in_turn,
}
"""Lies in what a peer sends as rows and messages of exchanges."""
ALWAYS = {"roll-call", "early-done", "flood-garbage", "row-for-bytes", "forged-state", "forged-model",
          "silent-outside"}
"""Those that are told from the start."""


# In the headers -------------------------------------------------------------------------------------------------

def _far(me: Hostile, progress: Progress) -> Progress:
    return Progress(10**6, 0, Phase.EXCHANGE, 0)


def _at_end(me: Hostile, progress: Progress) -> Progress:
    return Progress(me.rounds + 2, 0, Phase.END, 0)


def _stalling(me: Hostile, progress: Progress) -> Progress:
    """Always in the same round, and always getting on in it."""
    me.count += 1
    return Progress(3, 0, Phase.TRAIN, me.count)


PROGRESS: dict[str, Callable[[Hostile, Progress], Progress]] = {
    "far-ahead": _far, "at-the-end": _at_end, "stalling": _stalling}
"""Lies about a peer's progress; one that stalls sends no rows either."""


ALL = (*LIES, *PROGRESS, *FLOODS)


@dataclass(frozen=True)
class Liar:
    """Makes a process's peer tell a lie (one of ``ALL``) from a round on; ``Life.change`` of a trial.

    seconds : how long a flood lasts.
    """

    lie: str
    since: int = 10
    seconds: float = 10.0

    def __call__(self, config: Config, topology: Topology, me: int) -> None:
        hostile = Hostile(config, topology, me)
        plain, lock, flooding, attach = IOThread.send, threading.Lock(), threading.Event(), Peer.attach

        def send(io: IOThread, peers: Any, step: tuple[int, int], payload: Any, **fields: Any) -> None:
            hostile.io = io
            row = Row(tuple(peers), tuple(step), payload, fields)
            due = self.lie in ALWAYS or step[0] >= self.since
            with lock:
                if due and self.lie in FLOODS and not flooding.is_set():
                    flooding.set()
                    threading.Thread(target=flood, args=(hostile, self.lie, self.seconds),
                                     daemon=True).start()
                told = LIES[self.lie](hostile, row) if due and self.lie in LIES else \
                    [] if due and self.lie == "stalling" and hostile.training(row) else [row]
            for one in told:
                plain(io, one.peers, one.step, one.payload, **one.fields)

        def attached(peer: Peer, hello: Hello, *rest: Any) -> IOThread:
            hostile.hello = hello
            return attach(peer, hello, *rest)

        Peer.attach = attached  # type: ignore[method-assign,assignment]
        IOThread.send = send  # type: ignore[method-assign,assignment]
        if self.lie in PROGRESS:
            self._misreport(hostile)

    def _misreport(self, hostile: Hostile) -> None:
        honest = IOThread.progress
        tell = PROGRESS[self.lie]

        def set_progress(io: IOThread, progress: Progress) -> None:
            late = progress.phase >= Phase.TRAIN and progress.round >= self.since
            honest.__set__(io, tell(hostile, progress) if late else progress)

        IOThread.progress = property(honest.__get__, set_progress)  # type: ignore[assignment]
