"""The transport alone: two processes that exchange rows in both directions, over p2pser's links and plain pyzmq.

Plain pyzmq is the floor: DEALER and ROUTER, frames of 64 KiB or of p2pser's largest chunk, and CURVE, without header,
credits, liveness or acknowledgement.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import zmq

FRAME, CHUNK = 65536, 524288
"""Bytes of a frame: the plain one's that all versions are compared with, and p2pser's largest."""

WARM_UP = 3
"""Exchanges before the clock starts: connecting, the handshake and the first credits are not transport."""


def measure(kind: str, size: int, exchanges: int) -> dict[str, float]:
    """Exchange a row of ``size`` bytes both ways ``exchanges`` times between two fresh processes.

    kind: a key of ENDS. Returns MB/s (both directions together, 10^6 bytes), the processor time of both ends per MB
    [ms], and how many rows of memory the larger end took more at its peak than before the first exchange.
    """
    end = ENDS[kind]
    context = multiprocessing.get_context("spawn")
    pipes = context.Pipe(), context.Pipe()
    ends = [context.Process(target=_end, args=(end, side, pipes[side][1], size, exchanges), daemon=True)
            for side in (0, 1)]
    for process in ends:
        process.start()
    try:
        # The listening end sends its port and key; the other one answers with its own key.
        pipes[1][0].send(_receive(pipes[0][0]))
        pipes[0][0].send(_receive(pipes[1][0]))
        (wall, cpu, memory), (_, other_cpu, other_memory) = _receive(pipes[0][0]), _receive(pipes[1][0])
    finally:
        for process in ends:
            process.join(10)
            process.kill()
    moved = 2 * size * exchanges / 1e6
    return {"MB/s": moved / wall, "CPU ms per MB": 1000 * (cpu + other_cpu) / moved,
            "rows": max(memory, other_memory) / size}


def _receive(pipe: Connection) -> Any:
    if not pipe.poll(60):
        raise SystemExit("one end of the transport benchmark did not answer within 60 s")
    return pipe.recv()


def _end(run: Callable[[int, Connection, int, int], tuple[float, float, int]], side: int, pipe: Connection,
         size: int, exchanges: int) -> None:
    pipe.send(run(side, pipe, size, exchanges))


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _timed(exchange: Callable[[int], None], exchanges: int) -> tuple[float, float, int]:
    """Seconds and processor seconds (all threads) of so many exchanges after the warm-up; bytes that they took."""
    before = _peak()
    for number in range(WARM_UP):
        exchange(number)
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(WARM_UP, WARM_UP + exchanges):
        exchange(number)
    return time.perf_counter() - wall, time.process_time() - cpu, _peak() - before


def _plain_curve(side: int, pipe: Connection, size: int, exchanges: int) -> tuple[float, float, int]:
    return _plain(side, pipe, size, exchanges, curve=True)


def _plain_large(side: int, pipe: Connection, size: int, exchanges: int) -> tuple[float, float, int]:
    return _plain(side, pipe, size, exchanges, curve=True, frame=CHUNK)


def _plain_open(side: int, pipe: Connection, size: int, exchanges: int) -> tuple[float, float, int]:
    return _plain(side, pipe, size, exchanges, curve=False)


def _plain(side: int, pipe: Connection, size: int, exchanges: int, curve: bool,
           frame: int = FRAME) -> tuple[float, float, int]:
    public, secret = zmq.curve_keypair()
    frames = [memoryview(bytes(min(frame, size - at))) for at in range(0, size, frame)]
    with zmq.Context() as context, context.socket(zmq.DEALER if side else zmq.ROUTER) as socket:
        socket.linger = 2000
        if curve:
            socket.curve_publickey, socket.curve_secretkey = public, secret
        prefix: list[bytes] = []
        if side == 0:
            socket.curve_server = int(curve)
            port = socket.bind_to_random_port("tcp://127.0.0.1")
            pipe.send((port, public))
            _receive(pipe)
            prefix = [socket.recv_multipart()[0]]  # the identity that a ROUTER answers to
        else:
            port, server = _receive(pipe)
            if curve:
                socket.curve_serverkey = server
            socket.connect(f"tcp://127.0.0.1:{port}")
            pipe.send(public)
            socket.send(b"")

        def exchange(number: int) -> None:
            for piece in frames:
                socket.send_multipart([*prefix, piece], copy=False)
            got = 0
            while got < size:
                got += len(socket.recv_multipart(copy=False)[-1])

        return _timed(exchange, exchanges)


def _ours(side: int, pipe: Connection, size: int, exchanges: int) -> tuple[float, float, int]:
    import networkx
    import torch

    from p2pser.config import NetworkSettings
    from p2pser.gossip.mixer import Outbox, Step
    from p2pser.graph.spec import Topology
    from p2pser.models.rows import Schema
    from p2pser.network import keys
    from p2pser.network.io import IOThread
    from p2pser.network.mixer import NetworkMixer
    from p2pser.network.neighbour import Contact
    from p2pser.wire.hello import Hello
    from p2pser.wire.messages import Phase

    torch.set_num_threads(1)
    schema = Schema.of(torch.nn.Linear(1, 1))
    topology = Topology("pair", networkx.path_graph(2), {}, "metropolis", {})
    hello = Hello("benchmark", side, 1, {}, topology.digest(), schema.digest(), (1.0,), ("a", "b"), 1)
    pair = keys.make()
    if side == 0:
        # The other end's key is needed before the listener is bound, so a free port is chosen beforehand.
        with zmq.Context() as context, context.socket(zmq.ROUTER) as probe:
            port = probe.bind_to_random_port("tcp://127.0.0.1")
        pipe.send((port, pair.public))
        neighbour, listen = Contact(1, None, _receive(pipe)), f"tcp://127.0.0.1:{port}"
    else:
        port, server = _receive(pipe)
        pipe.send(pair.public)
        neighbour, listen = Contact(0, f"tcp://127.0.0.1:{port}", server), None
    io = IOThread(hello, pair, listen, [neighbour], NetworkSettings(), size)
    mixer = NetworkMixer(io, topology, side, schema, clips=None, round_timeout=60.0)
    rows = torch.zeros(1, size // 4)

    def exchange(number: int) -> None:
        mixer.post(Step(number, 0), Outbox(rows=rows))
        if mixer.collect(Step(number, 0)).missing:
            raise SystemExit(f"exchange {number} went on without its row: {mixer.left_out}, {mixer.lost}")

    io.start()
    try:
        mixer.connect(30.0, 0.0, lambda sentence: None)
        mixer.enter(Phase.TRAIN, 0)
        return _timed(exchange, exchanges)
    finally:
        io.close("the benchmark is over", 2.0)


ENDS: dict[str, Callable[[int, Connection, int, int], tuple[float, float, int]]] = {
    "p2pser": _ours, "pyzmq with CURVE": _plain_curve, "pyzmq with CURVE and large frames": _plain_large,
    "pyzmq without CURVE": _plain_open,
}
