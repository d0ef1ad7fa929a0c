"""How a peer enters the run: at the start, from a checkpoint, or by joining its neighbours."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from torch import Tensor

from p2pser.base.errors import P2PSERError
from p2pser.base.wording import peer_list
from p2pser.gossip.algorithm import State
from p2pser.gossip.mixer import Breaks
from p2pser.network.awaited import LONGEST
from p2pser.network.exchange import DeliveryStatus
from p2pser.network.mixer import NetworkMixer
from p2pser.network.roster import TRAINS
from p2pser.peer.growth import Anew
from p2pser.peer.handover import wait_for_model
from p2pser.peer.join_state import Joining, JoinState
from p2pser.peer.labelling import Labelling
from p2pser.peer.recorder import Checkpoints
from p2pser.peer.reporter import Reporter
from p2pser.peer.scaling import ScalingChoice
from p2pser.peer.waits import Waits
from p2pser.run.rounds import begin_edges_anew, mend
from p2pser.run.session import Session
from p2pser.run.setup import ROLL_CALL, STATISTICS, RollCall, roll_call, weighs
from p2pser.wire.messages import Phase


@dataclass(frozen=True)
class Entry:
    """What a peer enters the run with.

    call : the roll call. start : the first round. state : the state at its start; None: the initial parameters.
    sums : (S,) of the statistics. joined : whether the peer has joined a running run.
    """

    call: RollCall
    start: int
    state: State | None
    sums: Tensor
    joined: bool


class Entrance:
    """Brings a peer into the run. Parameters: those of its process.

    expected : after a change of the topology, the peers that were in the run before; None at a start.
    scaling : agrees with the other peers on the scaling of features.
    labelling : agrees with the other peers on the emotions; None: they are known.
    """

    def __init__(self, session: Session, mixer: NetworkMixer, joining: Joining, checkpoints: Checkpoints,
                 reporter: Reporter, waits: Waits, scaling: ScalingChoice, expected: frozenset[int] | None = None,
                 labelling: Labelling | None = None) -> None:
        self._waits, self._expected, self._labelling, self._scaling = waits, expected, labelling, scaling
        self.session, self.mixer, self.joining = session, mixer, joining
        self.checkpoints, self.reporter, self.me = checkpoints, reporter, mixer.me
        self._mute: set[int] = set()
        """The neighbours that reported the end of the run, made no progress there, and handed no model over."""
        self._unproven: set[int] = set()
        """The neighbours that reported that they train, and sent no state in time."""
        network = session.config.network
        self._longest = math.inf if network.start_timeout is None else \
            network.start_timeout + LONGEST * network.round_timeout
        """Longest wait for neighbours that report a later phase than the start without sending a state or a model [s].
        """

    def enter(self) -> Entry:
        """Meet the neighbours, agree with them on the first round, and return the entry.

        Afterwards a neighbour that is started again is admitted.
        """
        entry = self._entered()
        self._admit()
        return entry

    def _entered(self) -> Entry:
        joined = self._meet()
        if joined is not None:
            return self._joined(joined)
        call = self._roll_call()
        if (joined := self._left_behind(ROLL_CALL)) is not None:
            return self._joined(joined)
        self._tell(call)
        if self.me in call.newcomers:
            joined = self._join(set(self.mixer.neighbours) - call.newcomers)
            self.joining.newcomers(call.newcomers - set(self.mixer.training()))
            return self._joined(joined)
        if self._labelling is not None:
            self._labelling.called(call)
        call = self._shared(self._scaling.called(call))
        self.joining.newcomers(call.newcomers)
        entry = self._resumed(call) if call.resume else self._began(call)
        self.joining.joined()
        return entry

    def _admit(self) -> None:
        """Let neighbours take part that are started again, or start late."""
        algorithm, counts = self.session.algorithm, () if self.session.topology.schedule is None else TRAINS
        self.mixer.io.admit(True, lockstep=not algorithm.asynchronous,
                            progress_counts=(*TRAINS, Phase.CONSENSUS) if algorithm.served else counts)

    # The three ways in ------------------------------------------------------------------------------------------

    def _began(self, call: RollCall) -> Entry:
        self._rewind(0)  # the peer may have been killed before its first checkpoint
        self.mixer.enter(Phase.SETUP, STATISTICS)
        sums = self.session.statistics(call.cut)
        joined = self._left_behind(STATISTICS)
        return Entry(call, 0, None, sums, False) if joined is None else self._joined(joined)

    def _resumed(self, call: RollCall) -> Entry:
        state, sums, same = self.checkpoints.load(call.resume)
        if same:
            afresh = tuple((self.me, j) for j in self.mixer.neighbours if j in call.newcomers)
            mend(self.session.algorithm, state, self.mixer, Breaks(afresh, afresh))
        else:
            begin_edges_anew(self.session.algorithm, state, self.mixer)
        self._rewind(call.resume)
        if (ended := self.checkpoints.ended_after) is not None:
            self.reporter.say(f"peer {self.me} goes on after {ended} rounds; the model of that time stays until "
                              f"there is a new one, and then as model-{ended}")
        self.reporter.event("resumed", round=call.resume)
        return Entry(call, call.resume, state, sums, False)

    def _joined(self, joined: JoinState) -> Entry:
        if not self.mixer.training():  # they have reached their end since they sent the state
            self._ending()
        self.joining.joined()
        self.reporter.event("joined", host=joined.sender, round=joined.round)
        start = self.mixer.next_round(joined.round - 1)
        if self.me == self.session.topology.hub:  # a client waits for the download of its own round
            start = min([joined.round, *(max(0, at) for at in self.mixer.roster.rounds().values())])
        own = self._memory()
        self._set_aside(start)
        return Entry(joined.call, start, replace(own, rows={**own.rows, "x": joined.x[None].clone()}), joined.sums,
                     True)

    def _memory(self) -> State:
        """Return the state that this peer keeps beside the parameters of a neighbour: with a server its optimiser and
        control variates, since no neighbour holds the other half of these.
        """
        rounds = self.checkpoints.available()
        return self.checkpoints.load(max(rounds))[0] if rounds and self.session.algorithm.served else State({})

    def _rewind(self, start: int) -> None:
        self.reporter.telemetry.rewind(start)
        self._set_aside(start)

    def _set_aside(self, start: int) -> None:
        if rounds := self.checkpoints.set_aside_after(start):
            self.reporter.tell("set_aside", f"peer {self.me} sets aside its checkpoints of rounds "
                               f"{', '.join(map(str, rounds))}, since the others go on from round {start}; they are in "
                               f"{self.checkpoints.folder} until the run has finished", rounds=rounds, start=start)

    # What the neighbours report ---------------------------------------------------------------------------------

    def _meet(self) -> JoinState | None:
        """Wait for the neighbours. If they train already, return the join state that one of them sends, else None."""
        network = self.session.config.network
        while True:
            self.mixer.connect(network.start_timeout, network.refused_wait, self._waiting, self._expected)
            self._waits.met()
            if self._ending():
                continue
            claim = set(self.mixer.training())
            if not claim - self._unproven:
                if claim:
                    self.mixer.begin(joining=False)
                return None
            self.reporter.say(f"the run is in progress: peer {self.me} waits for the state of a neighbour")
            if (joined := self._receive()) is not None:
                self.mixer.begin(joining=True)
                return joined
            self._unproven |= claim

    def _ending(self) -> bool:
        """Wait for the model if neighbours are in the last phase; its arrival ends this peer's run (peer.handover).

        Returns whether this peer has waited in vain.
        """
        if not (ending := set(self.mixer.roster.ending()) - self._mute):
            return False
        self.reporter.waiting(f"waiting for the model of {peer_list(sorted(ending))}: the run is at its end")
        patience = self.session.config.network.round_timeout
        longest = LONGEST * patience if self.mixer.training() else math.inf  # these neighbours may send their state
        self._mute = wait_for_model(self.mixer, self._mute, patience, min(self._longest, longest))
        return True

    def _waiting(self, sentence: str) -> None:
        """Report which neighbours this peer waits for, and what to do if the run has ended without it."""
        helps = ""
        if (ended := self.checkpoints.ended_after) is not None:
            helps = (f"; the run had ended after {ended} rounds: start them with --rounds "
                     f"{self.session.config.training.rounds} too")
        elif self.checkpoints.available():
            helps = "; if they have finished the run, start one of them again with the same command: it has the model"
        self._waits.meeting(sentence, helps)

    def _roll_call(self) -> RollCall:
        """Call the roll with the neighbours."""
        self.mixer.enter(Phase.SETUP, ROLL_CALL)
        self.joining.set_up()
        own, checkpoints, session = self.session.cohort.participants[0], self.checkpoints, self.session
        clips = len(own.examples) if weighs(session.config.gossip, session.topology) else None
        labels = None if self._labelling is None else self._labelling.own
        return roll_call(self.mixer, session.topology, self.me, checkpoints.available(), clips, own.width,
                         rounds=session.config.training.rounds, reach=checkpoints.reach, labels=labels,
                         scales=self._scaling.own)

    def _tell(self, call: RollCall) -> None:
        """Report answers that do not fit, and peers that join the others."""
        for peer, reason in call.refused.items():
            self.reporter.tell("refused_answer", f"{reason}: it counts as a peer without checkpoints", peer=peer)
        if call.newcomers:
            who = ", ".join(map(str, sorted(call.newcomers)))
            self.reporter.tell("newcomers", f"the peers resume at round {call.resume}; peers that lack a checkpoint of "
                               f"it, and join the others: {who}", peers=sorted(call.newcomers), round=call.resume)

    def _shared(self, call: RollCall) -> RollCall:
        """Determine which entries of their rows the peers exchange; return the roll call with the widths that count.

        If the widths are impossible together, the width of more than half of the peers counts for all; the rows of the
        others will not fit. So a peer that reports a wrong width ends only its own run.
        """
        try:
            self.session.share(call)
            return call
        except P2PSERError as error:
            usual, number = Counter(call.widths.values()).most_common(1)[0]
            odd = [i for i, width in sorted(call.widths.items()) if width != usual]
            if not odd or self.me in odd or 2 * number <= len(call.widths):
                raise
            for peer in odd:
                self.reporter.tell("refused_answer", f"peer {peer} reports that the width of its model is "
                                   f"{call.widths[peer]:g}, and the run goes on without it: {error}", peer=peer)
        call = replace(call, widths=dict.fromkeys(call.widths, usual))
        self.session.share(call)
        return call

    def _left_behind(self, round: int) -> JoinState | None:
        """Return the state of a neighbour if the neighbours have continued without this peer in this set-up round.

        None if they have not, or none of them sends its state: then this peer begins with the others. Neighbours that
        are in a later round of the set-up still wait for this peer, except those that have reported otherwise because
        they began before it came.
        """
        left_out = {(j, status) for step, j, status in self.mixer.left_out if step.round == round}
        skipped = any(status is DeliveryStatus.SKIPPED for _, status in left_out)
        here = self.mixer.roster.here()
        alone = bool(here) and here == set(self.mixer.roster.returning()) == {j for j, _ in left_out} & here
        if not alone and not (skipped and self.mixer.training()):
            return None
        self.reporter.say(f"peer {self.me} waits for the state of a neighbour")
        return self._receive(endless=True)

    def _join(self, expected: Collection[int]) -> JoinState:
        """Wait for the state of neighbours that resume at a checkpoint that this peer lacks.

        expected : the neighbours that will send it without a request.
        """
        self.reporter.say(f"peer {self.me} waits for the state of a neighbour")
        joined = self._receive(expected, endless=True)
        if joined is None:
            raise P2PSERError("no neighbour that resumes from a checkpoint has sent its state: start this peer again, "
                              "and it joins them")
        return joined

    def _receive(self, expected: Collection[int] = (), *, endless: bool = False) -> JoinState | None:
        """Return the first join state that fits this peer's model; None where no neighbour can send one.

        Raises Anew where all neighbours have left, if ``endless``: those that are started again would set this peer
        apart, since it asks for a state, and might be too few without it.
        """
        session = self.session
        self._admit()  # all neighbours that can send a state may be started again meanwhile
        counted = weighs(session.config.gossip, session.topology)
        own = {self.me: len(session.cohort.participants[0].examples)} if counted else {}
        while (joined := self.joining.receive(expected, endless=endless, longest=self._longest)) is not None:
            call = replace(joined.call, clips={**joined.call.clips, **own})
            try:
                self.session.share(call)
                row = self.session.fitted(joined.sender, joined.x)
                self._scaling.heard(call, joined.sums)
            except P2PSERError as error:
                self.joining.refuse(joined, str(error))
                continue
            if joined.differing:
                others = ", ".join(map(str, joined.differing))
                self.reporter.tell("states_differ", f"peer {self.me} takes the state of peer {joined.sender}; the "
                                   f"state of {others} is of another run: find out which of them is wrong",
                                   taken=joined.sender, differing=list(joined.differing))
            if len(joined.senders) == 1 < len(self.mixer.neighbours):
                self.reporter.say(f"peer {self.me} takes the state of peer {joined.sender} alone, which no other "
                                  "neighbour has confirmed")
            return replace(joined, x=row, call=call)
        if endless and self.joining.left_alone:
            raise Anew("it begins anew", "begins anew, since all of its neighbours have left", session.topology,
                       self.mixer.exchange.carried(), self._expected)
        return None
