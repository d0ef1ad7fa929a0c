"""``p2pser peer --check``: check this site, dial the neighbours, compare HELLOs, measure the links, and leave."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Empty
from typing import Any

from p2pser.base.errors import ConfigError, CorpusError, P2PSERError
from p2pser.network import events
from p2pser.network.io import IOThread
from p2pser.network.neighbour import Contact
from p2pser.peer import own_checks
from p2pser.peer.identity import Identity, address, identify
from p2pser.peer.labelling import require_own
from p2pser.peer.own_checks import Finding
from p2pser.peer.process import Peer
from p2pser.peer.reach import Reach, look
from p2pser.run.participant import Cohort

PINGS = 5
"""PINGs sent one after another; the shortest round-trip time counts."""
BURST = 16
"""PINGs sent at once, with a payload, to measure the rate."""
BURST_BYTES = 60_000
"""Payload of each PING of the burst [B]."""
ANSWER_TIMEOUT = 5.0
"""Seconds in which a neighbour must answer."""
STAY = 3.0
"""Seconds for which a check stays after the last answer."""
CHECK_INCARNATION = 2**32 - 1
"""Incarnation of a checking process, so that its messages are not taken for those of the running peer with its id."""
AT_ONCE = 16
"""Addresses that are dialled at the same time."""


def check(peer: Peer, timeout: float = ANSWER_TIMEOUT) -> dict[str, Any]:
    """Return what ``--check`` prints: ``fits``, the findings at this ``site``, and the ``neighbours``.

    A neighbour answers if it is running, or checking at the same time. A neighbour without an address must check from
    its own side. The rate is that of acknowledged messages of 60 kB. ``fits``: nothing needs correction here, and each
    neighbour with an address fits. Raises ConfigError and TopologyError where this peer does not exist or has no key.

    timeout : longest wait for the neighbours [s].
    """
    identity = identify(peer.config, peer.topology, peer.me)
    findings = own_checks.recordings(peer.config, peer.topology, peer.me)
    cohort = None
    if all(finding.fits for finding in findings):
        try:
            cohort, _ = peer.prepare()
        except P2PSERError as error:
            findings.append(Finding("run", str(error), fits=False))
    row, clips = (0, 0) if cohort is None else (cohort.schema.size, sum(
        participant.examples.features.nbytes for participant in cohort.participants))
    findings += own_checks.machine(peer.config, address(peer.config, peer.topology, peer.me), row, clips)
    heard: dict[int, dict[str, Any]] = {}
    silent = "the recordings or settings here must be corrected first, so nothing was compared"
    if cohort is not None:
        check = _Check(peer, identity, cohort, timeout)
        findings.append(check.port)
        heard = check.lines
        silent = f"it listens, but there was no connection within {timeout:g} s: compare the keys in the topology " \
                 "files, and check again"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lines = list(pool.map(lambda contact: heard.get(contact.peer) or _unheard(contact, silent),
                              identity.neighbours))
    fits = all(finding.fits for finding in findings) and \
        all(line["fits"] for line in lines if line["address"] is not None)
    return {"peer": peer.me, "fits": fits, "site": [finding.document() for finding in findings], "neighbours": lines}


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


class _Check:
    """Listens to the neighbours, and measures the link to each that fits. ``lines``: the findings by neighbour."""

    def __init__(self, peer: Peer, identity: Identity, cohort: Cohort, timeout: float) -> None:
        self._ours = replace(peer.hello(cohort, CHECK_INCARNATION), role="check")
        self._peer, self._identity, self._labels = peer, identity, cohort.federation.labels
        self._contacts = {contact.peer: contact for contact in identity.neighbours}
        self._waiting: list[events.Event] = []
        self.lines: dict[int, dict[str, Any]] = {}
        self._io, self.port = self._started()
        try:
            self._hear(time.monotonic() + timeout)
        finally:
            self._io.close("checked", flush=0.0)

    def _started(self) -> tuple[IOThread, Finding]:
        """Return this peer's end of the network, and whether it could listen."""
        listen = self._identity.listen
        io = self._made(listen)
        try:
            io.start()
        except ConfigError as error:
            io = self._made(None)
            io.start()
            return io, Finding("port", str(error), fits=False)
        if listen is None:
            return io, Finding("port", "none: this peer has the address none, so it only dials its neighbours")
        return io, Finding("port", f"{io.endpoint} is free")

    def _made(self, listen: str | None) -> IOThread:
        return IOThread(self._ours, self._identity.keys, listen, self._identity.neighbours, self._peer.config.network,
                        max_row_bytes=1 << 20)

    def _hear(self, deadline: float) -> None:
        """Wait for answers, and then a little longer if a neighbour is checking too, so that its check can finish."""
        until, stay = deadline, 0.0
        while (event := self._next(until)) is not None:
            if isinstance(event, (events.Up, events.Refused)):
                answer = with_emotions(event, self._labels, self._peer.me)
                if event.peer not in self.lines or not self.lines[event.peer]["fits"]:
                    self.lines[event.peer] = self._line(self._contacts[event.peer], answer)
                if isinstance(answer, events.Refused) or answer.hello.role == "check":
                    stay = STAY
                if len(self.lines) == len(self._contacts) and until == deadline:
                    until = min(deadline, time.monotonic() + stay)

    def _line(self, contact: Contact, answer: events.Up | events.Refused) -> dict[str, Any]:
        j, at = contact.peer, "which dials us" if contact.address is None else f"at {contact.address}"
        line = _line(contact, answers=True)
        if isinstance(answer, events.Refused):
            state = "wrong key" if answer.key else "does not fit"
            return {**line, "state": state, "sentence": f"peer {j} {at}: {state}: {answer.reason}"}
        times = [seconds for _ in range(PINGS) if (seconds := self._ping(j, 1, 0)) is not None]
        burst = self._ping(j, BURST, BURST_BYTES)
        rtt = min(times, default=None)
        rate = BURST * BURST_BYTES / burst / 1e6 if burst else None
        measured = f"round-trip time {rtt * 1e3:.2f} ms" if rtt is not None else "no answer to a PING"
        measured += f", {rate:.1f} MB/s" if rate is not None else ""
        also = "; it only checks too" if answer.hello.role == "check" else ""
        outcome = None if contact.address is None else look(contact.address)
        if outcome is not None and outcome.reach is not Reach.PEER:
            also += f"; it dials us, and we cannot dial it ({outcome.reach.value}): one way is enough"
        state = "fits" if rtt is not None else "no answer"
        return {**line, "fits": rtt is not None, "state": state, "rtt_ms": rtt and rtt * 1e3, "rate_mb_s": rate,
                "sentence": f"peer {j} {at}: {state}, {measured}{also}"}

    def _ping(self, j: int, count: int, payload: int) -> float | None:
        """Send ``count`` PINGs at once; return the seconds until the last answer, or None where one is missing."""
        started = time.monotonic()
        for _ in range(count):
            self._io.ping(j, payload)
        others: list[events.Event] = []
        while count:
            event = self._next(started + ANSWER_TIMEOUT)
            if event is None:
                break
            if isinstance(event, events.Ponged) and event.peer == j:
                count -= 1
            else:
                others.append(event)
        self._waiting += others
        return None if count else time.monotonic() - started

    def _next(self, deadline: float) -> events.Event | None:
        if self._waiting:
            return self._waiting.pop(0)
        try:
            return self._io.events.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            return None


def _line(contact: Contact, *, answers: bool) -> dict[str, Any]:
    """Return the line of a neighbour that does not fit, without a state."""
    return {"peer": contact.peer, "address": contact.address, "answers": answers, "fits": False, "rtt_ms": None,
            "rate_mb_s": None}


def _unheard(contact: Contact, silent: str) -> dict[str, Any]:
    """Return the line of a neighbour that has not answered. silent : the explanation where a peer does listen there."""
    line = _line(contact, answers=False)
    if contact.address is None:
        return {**line, "state": "dials us", "sentence":
                f"peer {contact.peer} cannot be dialled, it dials us: check from its side, or at the same time"}
    outcome = look(contact.address)
    state = "no connection" if outcome.reach is Reach.PEER else outcome.reach.value
    return {**line, "state": state, "sentence":
            f"peer {contact.peer} at {contact.address}: no answer: {state}: {outcome.sentence or silent}"}
