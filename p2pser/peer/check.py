"""``p2pser peer --check``: dial the neighbours, compare HELLOs, measure the links, and leave. Joins no run."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from queue import Empty
from typing import Any

from p2pser.base.errors import CorpusError
from p2pser.network import events
from p2pser.network.io import IOThread
from p2pser.peer.identity import identify
from p2pser.peer.labelling import require_own
from p2pser.peer.process import Peer

PINGS = 5
"""PINGs sent one after the other; the shortest round-trip time counts."""
BURST = 16
"""PINGs sent at once, with a payload, to measure the rate."""
BURST_BYTES = 60_000
"""Payload of each of them [B]."""
ANSWER_TIMEOUT = 5.0
"""Seconds in which a neighbour must answer."""
CHECK_INCARNATION = 2**32 - 1
"""Incarnation of a checking process: its PINGs are no traffic of the peer whose id it uses."""


def check_neighbours(peer: Peer, timeout: float = ANSWER_TIMEOUT) -> dict[str, Any]:
    """Return what ``--check`` prints: ``fits`` and, for each neighbour, whether it answers and fits, and how fast.

    A neighbour answers if it is running, or checking too. One that cannot be dialled must check from its own side. The
    rate is that of acknowledged messages of 60 kB. Raises what ``Peer.run`` raises before it dials (ConfigError,
    CorpusError, …).
    """
    identity = identify(peer.config, peer.topology, peer.me)
    cohort, _ = peer.prepare()
    ours = replace(peer.hello(cohort, CHECK_INCARNATION), role="check")
    io = IOThread(ours, identity.keys, None, identity.neighbours, peer.config.network, max_row_bytes=1 << 20)
    io.start()
    try:
        answers = {j: with_emotions(answer, cohort.federation.labels, peer.me) for j, answer in
                   _answers(io, [n.peer for n in identity.neighbours if n.address is not None], timeout).items()}
        lines = [_line(io, n.peer, n.address, answers.get(n.peer), timeout) for n in identity.neighbours]
    finally:
        io.close("checked", flush=0.0)
    fits = all(line["fits"] for line in lines if line["address"] is not None)
    return {"peer": peer.me, "fits": fits, "neighbours": lines}


def with_emotions(answer: events.Up | events.Refused, own: Collection[str], me: int) -> events.Up | events.Refused:
    """Return a neighbour's answer; a refusal where its run has begun without an emotion of this peer's clips.

    own : the emotions of this peer's clips. me : this peer.
    """
    try:
        if isinstance(answer, events.Up) and answer.hello.labels:
            require_own(own, answer.hello.labels, me)
    except CorpusError as error:
        return events.Refused(answer.peer, str(error), by_us=True)
    return answer


def _answers(io: IOThread, peers: list[int], timeout: float) -> dict[int, events.Up | events.Refused]:
    answers: dict[int, events.Up | events.Refused] = {}
    deadline = time.monotonic() + timeout
    while len(answers) < len(peers):
        event = _next(io, deadline)
        if event is None:
            break
        if isinstance(event, (events.Up, events.Refused)):
            answers.setdefault(event.peer, event)
    return answers


def _line(io: IOThread, j: int, address: str | None, answer: events.Up | events.Refused | None,
          timeout: float) -> dict[str, Any]:
    line: dict[str, Any] = {"peer": j, "address": address, "answers": answer is not None, "fits": False,
                            "rtt_ms": None, "rate_mb_s": None}
    if address is None:
        return {**line, "sentence": f"peer {j} cannot be dialled, it dials us: check from its side"}
    if answer is None:
        return {**line, "sentence": f"peer {j} at {address}: no answer within {timeout:g} s"}
    if isinstance(answer, events.Refused):
        return {**line, "sentence": f"peer {j} at {address}: does not fit: {answer.reason}"}
    times = [seconds for _ in range(PINGS) if (seconds := _ping(io, j, 1, 0, timeout)) is not None]
    burst = _ping(io, j, BURST, BURST_BYTES, timeout)
    rtt = min(times, default=None)
    rate = BURST * BURST_BYTES / burst / 1e6 if burst else None
    measured = f"round-trip time {rtt * 1e3:.2f} ms" if rtt is not None else "no answer to a PING"
    measured += f", {rate:.1f} MB/s" if rate is not None else ""
    return {**line, "fits": rtt is not None, "rtt_ms": rtt and rtt * 1e3, "rate_mb_s": rate,
            "sentence": f"peer {j} at {address}: fits, {measured}"}


def _ping(io: IOThread, j: int, count: int, payload: int, timeout: float) -> float | None:
    """Send ``count`` PINGs at once; return the seconds until the last answer, or None where one is missing."""
    started = time.monotonic()
    for _ in range(count):
        io.ping(j, payload)
    while count:
        event = _next(io, started + timeout)
        if event is None:
            return None
        if isinstance(event, events.Ponged) and event.peer == j:
            count -= 1
    return time.monotonic() - started


def _next(io: IOThread, deadline: float) -> events.Event | None:
    try:
        return io.events.get(timeout=max(0.0, deadline - time.monotonic()))
    except Empty:
        return None
