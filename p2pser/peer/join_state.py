"""The join state: what neighbours send to a peer that joins a running run, or returns to it.

The peer asks every neighbour that trains. A neighbour answers at the start of its next round with that round, the roll
call, the statistics' sums, and its parameters. With these the peer takes the round's local steps and takes part in the
exchanges. Nothing is handed over of which the network conserves a sum: optimiser and algorithm begin afresh, and the
peer's former rows are discarded. If two neighbours answer, the parts that must be equal are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.gossip.agreement.statistics import relative_sums
from p2pser.gossip.partial import Parts
from p2pser.graph.spec import Topology
from p2pser.network import events
from p2pser.network.mixer import NetworkMixer
from p2pser.network.states import WATCHED, State
from p2pser.peer.parcels import Parcels
from p2pser.run.setup import JOIN, VOTES, RollCall
from p2pser.wire.messages import Header, Phase

TRAINING = (Phase.TRAIN, Phase.EXCHANGE)
AGREEMENT = 1e-6
"""Largest relative difference of two neighbours' sums, whose last bits may differ."""


@dataclass(frozen=True)
class JoinState:
    """The state that neighbour ``sender`` sent.

    round : the round that begins. call : the roll call. sums : (S,) of the statistics. x : (D,), parameters, or the
    part of them that the sender shares with this peer. differing : the senders whose answers differ from it. senders :
    those whose answers agree with it, its own included.
    """

    sender: int
    round: int
    call: RollCall
    sums: Tensor
    x: Tensor
    differing: tuple[int, ...] = ()
    senders: tuple[int, ...] = ()

    def agrees(self, other: JoinState) -> bool:
        """Whether the other state is of the same run; round and parameters may differ between senders."""
        same = (self.call.resume, self.call.clips, self.call.widths, self.call.normalise, self.sums.shape) == (
            other.call.resume, other.call.clips, other.call.widths, other.call.normalise, other.sums.shape)
        return same and relative_sums(self.sums, other.sums) <= AGREEMENT


class Joining:
    """Sends and receives join states. Make it before the peer meets its neighbours, which may send at once.

    Parameters
    ----------
    mixer : carries the messages.
    topology, rounds : the run's topology, and R.
    sums : the possible lengths S of the statistics' sums.
    like : this peer's row (D,), whose dtype the parameters have.
    patience : longest wait for the second answer [s].
    grace : time after which an overdue answer is lost [s]; it is overdue once the neighbour has begun two rounds.
    ready : returns whether this peer can read an answer; until then it asks no neighbour.
    clock : returns the time [s].
    """

    def __init__(self, mixer: NetworkMixer, topology: Topology, rounds: int, *, sums: Collection[int], like: Tensor,
                 patience: float, grace: float, clock: Callable[[], float],
                 ready: Callable[[], bool] = lambda: True) -> None:
        self._mixer, self._topology, self._rounds = mixer, topology, rounds
        self._patience, self._grace, self._ready, self._clock = patience, grace, ready, clock
        self._parcels = Parcels(mixer, JOIN, "a join state", sums=sums, size=like.numel(), dtype=like.dtype,
                                read_facts=self._read_call, make=_state)
        self._states: dict[int, JoinState] = {}
        self._wanted = True
        self._asked_in: dict[int, int] = {}
        """The round in which each neighbour was when it was asked."""
        self._owing: dict[int, float] = {}
        """The neighbours whose state is overdue, and since when [s]."""
        self._silent: set[int] = set()
        """The neighbours whose overdue state is lost."""
        self._asking: set[int] = set()
        self._answered: dict[int, tuple[int, int]] = {}
        """Neighbour -> incarnation and request that were answered last: each request is answered once."""
        self.expect = self._parcels.expect
        mixer.on(JOIN, self._take)

    # The peer that joins --------------------------------------------------------------------------------------

    def observe(self, event: events.Event) -> None:
        """Ask a neighbour that trains as soon as its HELLO has come, and again when it returns."""
        if not self._wanted or not isinstance(event, events.Up | events.Changed):
            return
        if isinstance(event, events.Up):
            self._owing.pop(event.peer, None)
            self._silent.discard(event.peer)
        elif event.after not in WATCHED:
            self._parcels.lose(event.peer)
        if event.peer in self._mixer.training():
            self._ask(event.peer)

    def receive(self, expected: Collection[int] = (), *, endless: bool = False, longest: float = math.inf,
                ) -> JoinState | None:
        """Wait for join states and return one; None if no neighbour is left that could send one.

        expected : the neighbours that send one without a request. endless : wait for neighbours that may begin to
        train, as long as one of them makes progress, and for lost neighbours twice ``patience``. longest : longest wait
        for the first state if other neighbours wait for this peer [s].
        """
        first: float | None = None
        seen, quiet_since, end = self._seen(), self._clock(), self._clock() + longest
        while True:
            here, now = self._present(), self._clock()
            training = set(self._mixer.training())
            for peer in (here if endless else training) - self._states.keys():
                self._ask(peer)
            coming = (here & (training | set(expected))) - self._states.keys()
            if self._states:
                first = now if first is None else first
                chosen, agreeing = _chosen(self._states)
                coming -= self._silent
                if agreeing > 1 or not coming or now >= first + self._patience:
                    return chosen
                self._mixer.listen(min(first + self._patience, self._lost_at(coming)) - now)
                continue
            over = end if self._awaited() else math.inf
            if now >= over or (not coming and not (endless and self._may_come())):
                return None
            if coming or self._seen() != seen:
                seen, quiet_since = self._seen(), now
            until = quiet_since + 2 * self._patience
            if now >= until and not self._may_wait_for_others():
                return None
            until = min(until if now < until else math.inf, self._lost_at(coming), over)
            self._mixer.listen(None if until == math.inf else until - now)

    def _ask(self, peer: int) -> None:
        """Ask a neighbour, and once more if its state is overdue for too long.

        It answers at the start of the round after the request has arrived. Two rounds after the request was sent the
        answer is overdue; the grace covers rounds that are shorter than the latency.
        """
        if not self._ready():
            return
        progress, now = self._mixer.roster.progress(peer), self._clock()
        round = -(2**31) if progress is None else progress.round
        if now >= self._owing.get(peer, math.inf) + self._grace and not self._parcels.coming(peer):
            self._silent.add(peer)
            self._parcels.lose(peer)
        if self._parcels.ask(peer):
            self._asked_in[peer] = round
            self._owing.pop(peer, None)
        elif round > self._asked_in[peer] + 1:
            self._owing.setdefault(peer, now)

    def _lost_at(self, peers: Collection[int]) -> float:
        """Return when the first overdue state of these neighbours is lost [s]; a state that is arriving is not."""
        return min((since + self._grace for j, since in self._owing.items()
                    if j in peers and not self._parcels.coming(j)), default=math.inf)

    def _seen(self) -> dict[int, tuple[int, ...]]:
        """Return the progress of the neighbours, without the part that also changes while they only wait."""
        progress = {j: self._mixer.roster.progress(j) for j in self._present()}
        return {j: each[: None if each.phase is Phase.TRAIN else 3] for j, each in progress.items() if each is not None}

    def _may_wait_for_others(self) -> bool:
        """Whether a neighbour waits for peers that an operator has to start."""
        progress = [self._mixer.roster.progress(j) for j in self._present()]
        return any(each is None or each.phase is Phase.START for each in progress)

    def _awaited(self) -> bool:
        """Whether a neighbour is here that has not begun: it waits for this peer."""
        progress = [self._mixer.roster.progress(j) for j in self._present()]
        return any(each is None or each.phase <= Phase.SETUP for each in progress)

    def _may_come(self) -> bool:
        """Whether a neighbour is connected or may still connect; a banned neighbour may not."""
        return any(self._mixer.roster.state(j) is not State.BANNED for j in self._mixer.neighbours)

    @property
    def left_alone(self) -> bool:
        """Whether no neighbour is connected, and one may still connect."""
        return not self._present() and self._may_come()

    def refuse(self, state: JoinState, reason: str) -> None:
        """Forget a state that does not fit."""
        self._states.pop(state.sender, None)
        self._mixer.strike(state.sender, reason)

    def set_up(self) -> None:
        """Exclude from the roll call the neighbours that have asked for a state already."""
        for peer in self._asking:
            self._begins_afresh(peer)

    def joined(self) -> None:
        """Take no more states: this peer trains."""
        self._wanted = False
        for peer in self._mixer.neighbours:
            self._parcels.forget(peer)
        self._states.clear()

    def _present(self) -> set[int]:
        return self._mixer.hellos.keys() - self._mixer.lost.keys()

    # Its neighbours -------------------------------------------------------------------------------------------

    def newcomers(self, peers: Collection[int]) -> None:
        """Send a state to these neighbours, which lack a checkpoint according to the roll call."""
        self._asking |= set(peers) & set(self._mixer.neighbours)

    def answer(self, round: int, call: RollCall, sums: Tensor, x: Tensor, parts: Parts | None) -> None:
        """Send the join state to the neighbours that have asked for it.

        Parameters
        ----------
        round : the round that begins.
        call : the roll call.
        sums : (S,) float64, as ``Session.statistics`` returned them.
        x : this peer's parameters (D,).
        parts : which entries of a row cross each edge; None: all of them.
        """
        fields = {"round": round, **call_fields(call)}
        for peer in sorted(self._asking & self._present()):
            self._asking.discard(peer)  # the others are answered when they return
            request = self._mixer.hellos[peer].incarnation, self._parcels.request(peer)
            if self._answered.get(peer) == request or peer in self._mixer.training():
                continue
            self._answered[peer] = request
            if round < self._rounds:
                self._begins_afresh(peer)
            self._parcels.send(peer, fields, sums, x if parts is None else parts.cut(self._mixer.me, peer, x))

    def _begins_afresh(self, peer: int) -> None:
        """Let no exchange wait for a neighbour that waits for a join state."""
        if self._mixer.io.progress.phase in (Phase.SETUP, *TRAINING) and peer not in self._mixer.lost:
            self._mixer.apart(peer, f"peer {peer} is sent the state of the run")

    # Messages -------------------------------------------------------------------------------------------------

    def _take(self, peer: int, header: Header, payload: memoryview) -> None:
        if self._parcels.requested(peer, header):
            if len(payload):
                raise RemoteProtocolError(f"peer {peer} asked for a join state in another form", peer)
            self._asking.add(peer)
            self._begins_afresh(peer)
            return
        if not self._wanted or not self._ready():
            return
        state = self._parcels.take(peer, header, payload)
        if state is not None:
            self._states[peer] = state
            self._silent.discard(peer)

    def _read_call(self, payload: memoryview) -> tuple[int, RollCall]:
        fields = msgpack.unpackb(payload, strict_map_key=False)
        round, call = fields["round"], read_call(fields, self._topology, self._rounds)
        if type(round) is not int or not 0 <= round <= self._rounds:
            raise ValueError(f"round {round}")
        return round, call


def _state(sender: int, facts: tuple[int, RollCall], sums: Tensor, x: Tensor) -> JoinState:
    round, call = facts
    return JoinState(sender, round, call, sums, x)


def _chosen(states: dict[int, JoinState]) -> tuple[JoinState, int]:
    """Return the state that most senders agree with, and the number of these senders, its own included."""
    groups = {i: [j for j in states if states[i].agrees(states[j])] for i in sorted(states)}
    best = max(groups, key=lambda i: len(groups[i]))
    state, together = states[best], groups[best]
    differing = tuple(j for j in sorted(states) if j not in together)
    earliest = min(states[j].round for j in together)  # one sender alone cannot send a peer to a later round
    return JoinState(best, earliest, state.call, state.sums, state.x, differing, tuple(together)), len(together)


def call_fields(call: RollCall) -> dict[str, Any]:
    """Return the part of the roll call that a peer which was not in it needs, as plain data."""
    return {"resume": call.resume, "clips": dict(call.clips), "widths": dict(call.widths),
            "cut": sorted(map(list, call.cut)), **({"normalise": call.normalise} if call.normalise else {})}


def read_call(fields: Mapping[str, Any], topology: Topology, rounds: int) -> RollCall:
    """Return the roll call of ``call_fields``. Raises KeyError, TypeError or ValueError for another form."""
    resume, peers = fields["resume"], range(topology.size)
    if type(resume) is not int or not 0 <= resume <= rounds:
        raise ValueError(f"resumed from {resume}")
    clips, widths = ({int(i) if isinstance(i, str) else i: value for i, value in dict(fields[name]).items()}
                     for name in ("clips", "widths"))  # JSON has text keys only
    if not all(type(i) is int for i in (*clips, *widths)):
        raise ValueError("the peers")
    cut = {(i, j) for i, j in fields["cut"]}
    if not all(i in peers and type(n) is int and 0 <= n < 2**53 for i, n in clips.items()):
        raise ValueError("the numbers of clips")
    if not all(i in peers and type(width) is float and 0 < width <= 1 for i, width in widths.items()):
        raise ValueError("the widths")
    if not all(topology.graph.has_edge(*edge) for edge in cut):
        raise ValueError("the cut edges")
    if (how := fields.get("normalise", "")) not in ("", *VOTES):
        raise ValueError("how features are scaled")
    return RollCall(resume, clips, frozenset(cut), widths, normalise=how)
