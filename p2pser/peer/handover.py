"""The handover of a finished run's model to a peer that missed the end of the run.

A peer has missed the end if a neighbour reaches it first: the peer was killed in the last phase, disconnected, or
started too late. A peer that ended alone, while neighbours that it can reach agreed with other peers, has missed it
too. It asks each such neighbour for the model, compares the answers if there are two, and ends with that model. A peer
that has its model stays for a while to answer, and so does a finished peer that is started again. If the latter had
not agreed with all peers, it asks too, and takes a model on which more peers agreed than on its own: so parts of a
network that ended separately can be united.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import msgpack
import torch
from torch import Tensor

from p2pser.base.errors import P2PSERError, RemoteProtocolError
from p2pser.gossip.agreement.consensus import relative_norm
from p2pser.gossip.partial import Parts
from p2pser.graph.spec import Topology
from p2pser.network import events
from p2pser.network.mixer import NetworkMixer
from p2pser.network.protocol import REDIAL_LOST
from p2pser.network.states import Cause, State
from p2pser.peer import outcome
from p2pser.peer.outcome import Outcome
from p2pser.peer.parcels import Parcels
from p2pser.run.setup import MODEL
from p2pser.wire.messages import Header, Phase, Progress

ANSWERS = 3
"""Most answers to one incarnation of a neighbour, and most that prolong the stay of a peer."""
PATIENCE = 10.0
"""Longest wait for the answer of a second neighbour at the run's end [s]."""
GREETING = REDIAL_LOST + 2.0
"""Longest wait for neighbours that have not connected [s]: one of them may be at the run's end too, and if only that
neighbour can dial, it dials every ``REDIAL_LOST`` seconds."""
AGREEMENT = 1e-5
"""Largest relative difference of two neighbours' models that count as equal; the final consensus usually leaves less.
"""


class ModelTaken(Exception):
    """Neighbours have handed over the model of the run, so this peer does not train."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"the model of peers {outcome.givers}")
        self.outcome = outcome


def wait_for_model(mixer: NetworkMixer, mute: Collection[int], patience: float, longest: float = math.inf) -> set[int]:
    """Wait for the model of neighbours in the last phase; it is raised as ModelTaken (``Handover.look_up``).

    mute : neighbours that this peer does not wait for; other code may add to it meanwhile. patience : longest time
    without any progress of theirs [s]. longest : longest wait in total [s].

    Returns ``mute`` and the neighbours that have handed no model over; the others have left.
    """
    roster, clock, silent = mixer.roster, mixer.io.clock, set[int]()
    known, until, end = None, clock(), clock() + longest
    while ending := set(roster.ending()).difference(mute, silent):
        if known != (known := {j: roster.progress(j) for j in ending}):
            until = min(clock() + patience, end)
        if clock() >= until:
            silent |= ending
        mixer.listen(until - clock())
    return silent.union(mute)


class Handover:
    """Asks for the model, and answers. Make it before the peer meets its neighbours, which may ask at once.

    Parameters
    ----------
    mixer : carries the messages.
    topology, rounds : the run's topology, and R.
    size, sums : the length of this peer's row, and the possible lengths of the statistics' sums.
    tolerance : largest relative difference that the final consensus leaves between two peers.
    say : receives messages for the user.
    ready : returns whether this peer can read an answer; until then it asks no neighbour.
    """

    def __init__(self, mixer: NetworkMixer, topology: Topology, rounds: int, *, size: int, sums: Collection[int],
                 tolerance: float, say: Callable[[str], None], ready: Callable[[], bool] = lambda: True) -> None:
        self._ready = ready
        self._mixer, self._topology, self._rounds, self._say = mixer, topology, rounds, say
        self._parcels = Parcels(mixer, MODEL, "a model", sums=sums, size=size, dtype=torch.float64,
                                read_facts=_read_facts, make=self._outcome, most=ANSWERS)
        self._agreement = max(AGREEMENT, 2 * tolerance)
        self._done: set[int] = set()
        """The neighbours that have reported that they have a model."""
        self._asking: set[int] = set()
        self._answers: Counter[tuple[int, int]] = Counter()
        """How often an incarnation of a neighbour was answered."""
        self._received: dict[int, Outcome] = {}
        self._first: float | None = None
        """When the first answer came."""
        self._wanted = True
        self._own: Outcome | None = None
        """This peer's own end, if it takes only a model on which more peers agreed."""
        self._no_better: set[int] = set()
        """The neighbours that have no such model."""
        self._offer: tuple[Outcome, Parts | None] | None = None
        self.expect = self._parcels.expect
        mixer.on(MODEL, self._take)

    def observe(self, event: events.Event) -> None:
        """Note which neighbours have a model."""
        match event:
            case events.Up(peer, _, progress):
                self._done.discard(peer)
                self._asking.discard(peer)
                self._forget(peer)
                self._note(peer, progress)
            case events.Progressed(peer, progress):
                self._note(peer, progress)
            case events.Changed(peer, cause=Cause.DONE):
                self._done.add(peer)
            case events.Changed(peer, after=State.LOST | State.ABSENT) if peer not in self._received:
                self._parcels.lose(peer)  # asked again when it is back
            case _:
                pass

    def _note(self, peer: int, progress: Progress) -> None:
        if progress.phase == Phase.END and progress.round >= self._rounds + 2:
            self._done.add(peer)

    def _forget(self, peer: int) -> None:
        self._parcels.forget(peer)
        self._received.pop(peer, None)

    # The peer that has missed the end ---------------------------------------------------------------------------

    def look_up(self, fit: Callable[[Outcome, int], Tensor]) -> None:
        """Ask the neighbours that have a model; raise ModelTaken once this peer takes theirs.

        fit : (outcome, sender) -> this peer's row (D,) float64; raises P2PSERError where it does not fit.

        Call it between messages, at ``NetworkMixer.wake_at`` at the latest. Raises P2PSERError where the neighbours
        hand over different models, and this peer has nothing else to do.
        """
        phase = self._mixer.io.progress.phase
        self._mixer.wake_at(None)  # a time in the past would end every wait at once
        if not self._wanted or (phase >= Phase.CONSENSUS and self._own is None):
            return
        if (not self._done and not self._received) or not self._ready():
            return  # the usual case, since this is called at each local step
        here = self._mixer.roster.here()
        for peer in sorted(self._done & here):
            self._parcels.ask(peer)
        if self._own is not None:
            least = self._behind(self._own)
            self._no_better |= {j for j, end in self._received.items() if self._behind(end) <= least}
            self._received = {j: end for j, end in self._received.items() if j not in self._no_better}
        if not self._received:
            return
        now = self._mixer.io.clock()
        self._first = now if self._first is None else self._first
        together = self._together()
        soon = {j for j in here if self._phase(j) >= Phase.CONSENSUS}
        patience = PATIENCE if soon - self._received.keys() else GREETING if self._mixer.roster.missing() else 0.0
        over = now >= self._first + patience
        # While other neighbours train, with this peer or not yet, a single neighbour does not end its run.
        others = here - self._done
        training = self._own is None and bool(others if phase >= Phase.TRAIN else
                                              others.intersection(self._mixer.roster.training()))
        if len(together) > 1 or (len(self._received) == 1 and over and not training):
            self._take_over(together, fit)
        elif len(self._received) > 1 and over and phase < Phase.TRAIN:
            who = " and ".join(map(str, sorted(self._received)))
            raise P2PSERError(f"peers {who} hand over different models, so peer {self._mixer.me} takes none: find out "
                              "which is right, and start this peer again with only that one running")
        if not over:
            self._mixer.wake_at(self._first + patience)

    def left_out(self, end: Outcome, longest: float) -> None:
        """Wait for the model of neighbours that have agreed with others, if this peer ended alone.

        It is raised as ModelTaken. If two parts of a network have each agreed, neither takes the other's model.

        longest : longest wait for neighbours without a model, whatever progress they report [s].
        """
        if not end.final.sought or self._behind(end)[0] > 1 or not self._mixer.roster.ending():
            return
        self._own = end
        self._mixer.listen()  # they may have answered before
        wait_for_model(self._mixer, self._no_better, 2 * PATIENCE, longest)

    def _behind(self, end: Outcome) -> tuple[int, int]:
        """Return the rank of a model: the number of peers that agreed on it, at least 1, then the lowest id first."""
        agreed = set(self._topology.members) - set(end.final.dead) if end.final.converged else set()
        return max(len(agreed), 1), -min(agreed) if len(agreed) > 1 else -self._topology.size

    def _phase(self, peer: int) -> int:
        progress = self._mixer.roster.progress(peer)
        return Phase.START if progress is None else progress.phase

    def _together(self) -> list[int]:
        """Return the largest group of senders that have handed over equal models."""
        def near(i: int, j: int) -> bool:
            first, second = self._received[i], self._received[j]
            if not (first.final.converged and second.final.converged):
                return first.final.converged == second.final.converged  # each keeps a model of its own
            return first.row.shape == second.row.shape and relative_norm(first.row, second.row) <= self._agreement

        groups = [[j for j in sorted(self._received) if near(i, j)] for i in sorted(self._received)]
        return max(groups, key=len)

    def _take_over(self, together: list[int], fit: Callable[[Outcome, int], Tensor]) -> None:
        for peer in list(together):
            end = self._received[peer]
            try:
                row = fit(end, peer)
            except P2PSERError as error:
                self._forget(peer)
                self._mixer.strike(peer, str(error))
                continue
            who = f"peers {' and '.join(map(str, together))}" if len(together) > 1 else \
                f"peer {peer} alone, which no other neighbour has confirmed"
            self._say(f"peer {self._mixer.me} finds the run at its end, and takes the model of {who}")
            self._wanted = False
            # Neighbours that took part and have left usually have the model; those that are here report it themselves.
            self._done |= set(self._mixer.neighbours) - set(end.final.dead) - self._mixer.roster.here()
            raise ModelTaken(replace(end, final=replace(end.final, rows=row[None]), givers=tuple(together)))

    # Its neighbours -------------------------------------------------------------------------------------------

    def offer(self, end: Outcome, parts: Parts | None, *, ask: bool = False) -> None:
        """Answer requests with this outcome from now on.

        parts : which entries of a row cross each edge. ask : ask neighbours for a model on which more peers agreed; it
        is raised as ModelTaken.
        """
        self._offer, self._wanted, self._own = (end, parts), ask, end if ask else None
        self._received.clear()
        self._mixer.wake_at(None)
        for peer in sorted(self._asking):
            self._answer(peer)

    def lacking(self) -> tuple[int, ...]:
        """Return the neighbours that are not known to have a model."""
        return tuple(j for j in self._mixer.neighbours if j not in self._done)

    def unanswered(self) -> bool:
        """Whether a neighbour that may have a model of more peers has not answered yet."""
        return self._own is not None and bool((self._done & self._mixer.roster.here()) - self._no_better)

    @property
    def answered(self) -> int:
        """The number of answers so far, at most ``ANSWERS`` for each neighbour: a neighbour that is started again and
        again does not keep this peer running.
        """
        often = Counter(peer for peer, _ in self._answers.elements())
        return sum(min(number, ANSWERS) for number in often.values())

    def _answer(self, peer: int) -> None:
        if self._offer is None or peer not in self._mixer.hellos:
            return
        self._asking.discard(peer)
        end, parts = self._offer
        row = end.row if parts is None else parts.cut(self._mixer.me, peer, end.row)
        self._parcels.send(peer, end.fields(), end.sums.double(), row.double())
        self._answers[peer, self._mixer.hellos[peer].incarnation] += 1
        self._say(f"peer {self._mixer.me} hands its model to peer {peer}")

    # Messages -------------------------------------------------------------------------------------------------

    def _take(self, peer: int, header: Header, payload: memoryview) -> None:
        if self._parcels.requested(peer, header):
            if len(payload) or self._answers[peer, self._mixer.hellos[peer].incarnation] >= ANSWERS:
                raise RemoteProtocolError(f"peer {peer} asks for the model too often, or in another form", peer)
            self._asking.add(peer)
            self._answer(peer)
            return
        if not self._parcels.was_asked(peer):
            raise RemoteProtocolError(f"peer {peer} sent a model that this peer has not asked for", peer)
        try:
            end = self._parcels.take(peer, header, payload)
        except RemoteProtocolError:
            self._forget(peer)
            raise
        if end is not None:
            self._received[peer] = end

    def _outcome(self, sender: int, facts: Mapping[str, Any], sums: Tensor, row: Tensor) -> Outcome:
        return outcome.read(facts, row, sums, self._topology, self._rounds)


def _read_facts(payload: memoryview) -> Mapping[str, Any]:
    fields = msgpack.unpackb(payload, strict_map_key=False)
    if not isinstance(fields, Mapping):
        raise ValueError("it has no facts about the end")
    return fields
