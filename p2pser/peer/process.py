"""One peer, from its recordings to the network's model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from p2pser.base.errors import P2PSERError
from p2pser.config import Config
from p2pser.features.federation import Federation, federate
from p2pser.gossip.agreement.consensus import Consensus, consensus, living_slem
from p2pser.gossip.agreement.flood import agree_on_cuts, without
from p2pser.gossip.agreement.statistics import statistics
from p2pser.gossip.algorithm import State
from p2pser.gossip.asynchronous import is_asynchronous
from p2pser.gossip.partial import Parts, cut_off, parts_of
from p2pser.gossip.registry import create, validate
from p2pser.gossip.requirements import exchanging_parts
from p2pser.models.directory import save
from p2pser.models.xgb import sized
from p2pser.network import events
from p2pser.network.asynchronous import AsynchronousDriver
from p2pser.network.exchange import DeliveryStatus
from p2pser.network.io import IOThread
from p2pser.network.mixer import NetworkMixer
from p2pser.peer import joining
from p2pser.peer.folder import PeerFolder
from p2pser.peer.identity import identify
from p2pser.peer.sketch import Sketch
from p2pser.peer.telemetry import Telemetry
from p2pser.run import checkpoint, setup
from p2pser.run.participant import OwnSide
from p2pser.run.rounds import run
from p2pser.topology.mixing import metropolis, slow_weights
from p2pser.topology.spec import Topology
from p2pser.training.fine_tuning import fine_tuned
from p2pser.training.learner import Learner, LocalWork
from p2pser.wire.messages import Phase

SUMS = "setup.sums"
"""The row of feature sums in a checkpoint, beside the algorithm's rows."""

Sink = Callable[[dict[str, Any]], None]


class Interrupted(Exception):
    """Somebody asked this peer to stop (Ctrl-C, SIGTERM)."""


@dataclass(frozen=True)
class Ending:
    """How a peer's run ended. ``finished`` is False where it was interrupted; ``summary`` is plain data."""

    finished: bool
    summary: dict[str, Any]


class Peer:
    """A peer process's work. ``run`` does all of it; ``interrupt`` (from a signal handler) ends it early.

    fresh: forget an earlier run in the same folder. sink: hears every line of telemetry, sketches included.
    say: hears sentences for the person who watches. federation: where the recordings were read already.
    """

    def __init__(self, config: Config, topology: Topology, me: int, *, fresh: bool = False, sink: Sink | None = None,
                 say: Callable[[str], None] = lambda sentence: None,
                 federation: Federation | None = None) -> None:
        self.config, self.topology, self.me = sized(config, topology.size), topology, me
        self.folder = PeerFolder(config, topology, me)
        self._fresh, self._sink, self._say = fresh, sink, say
        self._federation = federation
        self._stop = False
        self._mixer: NetworkMixer | None = None
        self._driver: AsynchronousDriver | None = None
        self._telemetry: Telemetry | None = None
        self._start_of_round: tuple[int, State] | None = None
        self._sums: Tensor | None = None
        self._call: setup.RollCall | None = None
        self._pinned: list[int] | None = None
        self._parts: Parts | None = None
        self._sketch: Sketch | None = None
        self._own_row: Tensor | None = None
        self._keep = setup.kept_checkpoints(setup.lead(topology), config.peer.checkpoint_every)

    def interrupt(self) -> None:
        """Ask the peer to leave with a checkpoint; safe in a signal handler."""
        self._stop = True
        if self._mixer is not None:
            self._mixer.io.wake()

    def run(self) -> Ending:
        """Train, gossip and end with a model. Raises P2PSERError where that cannot be."""
        identity = identify(self.config, self.topology, self.me)
        if not self._fresh and (known := self.folder.finished()) is not None:
            self._say(f"peer {self.me} has finished this run: its model is at {self.folder.model}; "
                      "start over with --fresh, or give the next run another name (--name)")
            return Ending(True, known)
        incarnation = self.folder.claim(self._fresh)
        torch.set_num_threads(self.config.training.threads)
        with self.folder, Telemetry(self.folder.path, self._sink) as telemetry:
            self._telemetry = telemetry
            started = time.monotonic()
            self._own = own = self.prepare()
            hello = own.hello(incarnation)
            io = IOThread(hello, identity.keys, identity.listen, identity.neighbours, self.config.network,
                          max_row_bytes=max(1 << 20, 16 * own.schema.size + (1 << 16)))
            io.start()
            telemetry.event("listening", endpoint=io.endpoint, incarnation=incarnation)
            self._mixer = NetworkMixer(
                io, self.topology, self.me, own.schema, observe=self._observe, check=self._look_up,
                clips=hello.clips if self.config.gossip.weighting == "clips" and self.topology.hub is None else None,
                round_timeout=self.config.network.round_timeout, slots=self._algorithm.slots,
                rounds=self.config.training.rounds)
            if is_asynchronous(self._algorithm):
                self._driver = AsynchronousDriver(self._mixer, self._algorithm, seed=self.config.seed,
                                                  rounds=self.config.training.rounds)
            reason = "failed"
            try:
                final = self._take_part(self._mixer)
                reason = "done"
            except Interrupted:
                reason = "interrupted"
                return self._leave()
            finally:
                io.close(reason, flush=self.config.network.dead_after if reason == "done" else 1.0)
                telemetry.event("left", reason=reason)
            return self._end(self._mixer, final, time.monotonic() - started)

    # Before the network -------------------------------------------------------------------------------------

    def prepare(self) -> OwnSide:
        """Read the recordings and make the model."""
        config = self.config
        federation = self._federation or federate(config, self.topology.size, only=self.me, hub=self.topology.hub)
        for path, why in federation.left_out:
            self._event("clip_left_out", path=str(path), reason=why)
        for note in federation.notes:
            self._say(note)
        own = OwnSide(config, self.topology, self.me, federation)
        self._algorithm = create(config.gossip.algorithm, config.gossip.parameters, config, self.topology)
        for warning in validate(self._algorithm, config, self.topology):
            self._say(warning)
        if self._algorithm.asynchronous:
            # A peer may be any number of rounds ahead of another: what all have in common may be old.
            self._keep = config.training.rounds // config.peer.checkpoint_every + 1
        return own

    # With the network ---------------------------------------------------------------------------------------

    def _take_part(self, mixer: NetworkMixer) -> Consensus:
        config, topology, own = self.config, self.topology, self._own
        welcome = self._meet(mixer)
        available = checkpoint.available(self.folder.checkpoints)
        if welcome is None:
            mixer.enter(Phase.SETUP, setup.ROLL_CALL)
            call = setup.roll_call(mixer, topology, self.me, available, len(own.examples), own.width)
            if any(step.round == setup.ROLL_CALL and status is DeliveryStatus.SKIPPED
                   for step, _, status in mixer.left_out):
                raise P2PSERError("neighbours went on with the run while we called the roll: start this peer again, "
                                  "and it joins them")
        else:
            call = welcome.call
        counts = setup.counts_for(config.gossip.weighting, topology, call.clips)
        if counts and (warning := slow_weights(metropolis(topology.graph), metropolis(topology.graph, counts))):
            self._say(warning)
        self._parts = self._share(mixer, call)
        # What lies ahead of the common round belongs to a future in which somebody was left out.
        checkpoint.discard(self.folder.checkpoints, [round for round in available if round > call.resume])
        state = self._begin(mixer, call, welcome)
        assert self._sums is not None
        self._call = call
        mixer.io.accepts_rejoining = self._algorithm.joins and topology.schedule is None and self._parts is None
        local = own.local_work(self._sums, sum(call.clips.values()),
                               mixer.local_step if self._driver is None else self._driver.local_step)
        start = call.resume if welcome is None else mixer.next_round(welcome.round - 1)
        mixer.enter(Phase.TRAIN, start)
        begins = "joins the run in" if welcome is not None else "resumes at" if start else "starts with"
        self._say(f"peer {self.me} {begins} round {start}: "
                  f"{len(own.examples)} clips, {own.schema.size} parameters, {len(mixer.neighbours)} neighbours")

        def after_round(round: int, state: State) -> None:
            self._after_round(round, state, local, mixer)

        if self._driver is None:
            state = run(self._algorithm, state, local, mixer, config.training.rounds, start,
                        before_round=self._before_round, next_round=mixer.next_round, after_round=after_round)
        else:
            state = self._driver.run(state, local, start, before_round=self._before_round,
                                     after_round=after_round)
        rounds = config.training.rounds
        self._before_round(rounds, state)
        mixer.enter(Phase.CONSENSUS, rounds)
        self._training_bytes = mixer.payload_posted
        cut = agree_on_cuts(mixer, rounds, topology.graph, mixer.unreachable,
                            lambda late: self._algorithm.settle(state, late, mixer.peers))[self.me]
        mixer.exchange.close()
        if self._driver is not None:
            self._driver.close()
        if self._algorithm.consensus:
            mixer.enter(Phase.CONSENSUS, rounds + 1)
            groups = () if self._parts is None else self._parts.groups()
            for warning in cut_off(groups, without(topology.graph, cut), self.me):
                self._say(warning)
            final = consensus(
                mixer, self._algorithm.model(state), rounds + 1, topology, config.gossip.consensus_tolerance, cut=cut,
                slem=living_slem(topology, counts, cut, self.me, groups), observe=self._observe_consensus,
                max_exchanges=config.gossip.max_consensus_exchanges, parts=self._parts)
        else:
            # Who has finished before us has left too, and is not dead.
            reached = nx.node_connected_component(without(topology.graph, cut), self.me)
            mixer.enter(Phase.CONSENSUS, rounds + 1)
            final = self._algorithm.finish(state, mixer, rounds + 1, topology.graph,
                                           tuple(sorted(set(topology.graph) - reached)))
        mixer.enter(Phase.END, rounds + 1)
        save(self.folder.model, final.rows[0], own.schema, own.card())
        self._personal(final.rows[0], local.learners[0])
        return final

    def _meet(self, mixer: NetworkMixer) -> joining.Welcome | None:
        """Wait for the neighbours. Where they train already, return what one of them tells us."""
        while True:
            mixer.connect(self.config.network.start_timeout, self.config.network.refused_wait, self._waiting)
            if not mixer.training():
                return None
            self._say(f"peer {self.me} finds the run going on and waits to be told where it is")
            if (found := joining.welcomed(mixer, self._own.schema.size)) is not None:
                mixer.without_missing()
                return found

    def _personal(self, row: Tensor, learner: Learner) -> None:
        """Write this peer's own model beside the common one, where one is asked for."""
        if steps := self.config.training.fine_tune:
            self._own_row = fine_tuned(learner, row.to(torch.float32))
            card = replace(self._own.card(), selection="the consensus after the last round, then "
                                                       f"{steps} steps on peer {self.me}'s own clips")
            save(self.folder.personal, self._own_row, self._own.schema, card)

    def _share(self, mixer: NetworkMixer, call: setup.RollCall) -> Parts | None:
        """Let the mixer exchange what we share of our rows with each neighbour, now that all widths are known."""
        gossip, everybody = self.config.gossip, range(self.topology.size)
        widths = [call.widths.get(i, 1.0) for i in everybody]
        exchanging_parts(self._algorithm, self.topology, widths, gossip.share,
                    [i for i in everybody if i not in call.widths])
        held = {width: network.held for width, network in self._own.networks(widths).items()}
        parts = parts_of(widths, held, self._own.whole.schema, gossip.share, compact=True)
        if parts is not None:
            mixer.share(parts)
        if self._sink is not None:
            self._sketch = Sketch(self._own.schema.size, self.config.seed, None if parts is None
                                  else parts.everywhere(self.me))
        return parts

    def _begin(self, mixer: NetworkMixer, call: setup.RollCall, welcome: joining.Welcome | None) -> State:
        """Return the state to start from: a neighbour's, everybody's common checkpoint, or the initial parameters."""
        if welcome is not None:
            self._sums = welcome.sums
            self._event("joined", host=welcome.host)
            return State({"x": welcome.x[None].clone()})
        if self._telemetry is not None:
            self._telemetry.rewind(call.resume)  # to 0 too: killed before a common checkpoint
        if call.resume:
            rows, edges, _ = checkpoint.load(self.folder.checkpoints, call.resume)
            self._sums = rows.pop(SUMS)
            self._event("resumed", round=call.resume)
            return State(rows, edges)
        mixer.enter(Phase.SETUP, setup.STATISTICS)
        found = statistics(mixer, self._own.sums(), setup.STATISTICS, self.topology, cut=call.cut,
                           slem=living_slem(self.topology, None, call.cut, self.me))
        self._sums = found.rows
        self._event("statistics", exchanges=found.exchanges, distance=found.distance)
        return State({"x": self._own.initial[None].clone()})

    def _before_round(self, round: int, state: State) -> None:
        self._look_up()
        # Training changes the optimiser's rows in place: an interruption needs the round's start as it was.
        self._round_began = time.monotonic()
        self._start_of_round = round, State({name: rows.clone() for name, rows in state.rows.items()},
                                            {edge: dict(kept) for edge, kept in state.edges.items()})
        assert self._mixer is not None
        last = round == self.config.training.rounds
        reason = self._algorithm.ends(self.me, self._mixer.unreachable())
        if reason is not None:
            self._checkpoint(prune=False)
            raise P2PSERError(f"{reason}: training cannot go on; start all peers again with the same commands, and "
                              "they resume from the newest checkpoint that all have")
        if round and (round % self.config.peer.checkpoint_every == 0 or last):
            self._checkpoint()
        if last:
            return
        self._mixer.enter(Phase.TRAIN, round)
        for peer in self._mixer.exchange.returning:
            assert self._sums is not None
            assert self._call is not None
            joining.welcome(self._mixer, peer, round, self._call, self._sums, state.rows["x"][0])

    def _checkpoint(self, *, prune: bool = True) -> None:
        assert self._start_of_round is not None
        assert self._sums is not None
        round, state = self._start_of_round
        rows = {**state.rows, SUMS: self._sums}
        meta = {"round": round, "run": self.config.name, "peer": self.me, "schema": self._own.schema.digest()}
        try:
            checkpoint.save(self.folder.checkpoints, round, rows, state.edges, meta)
        except P2PSERError as error:
            # A full disk must not end a run that the neighbours depend on: the checkpoint before stays.
            self._event("checkpoint_failed", round=round, reason=str(error))
            self._say(str(error))
            return
        if prune:
            checkpoint.prune(self.folder.checkpoints, self._keep, self._pinned or ())

    def _after_round(self, round: int, state: State, local: LocalWork, mixer: NetworkMixer) -> None:
        record = {"peer": self.me, "round": round, "loss": local.losses[0], "distance": mixer.exchange.spread,
                  "seconds": time.monotonic() - self._round_began,
                  "bytes_sent": _bytes(mixer), "messages_late": mixer.exchange.messages_late,
                  "links": mixer.io.states()}
        if (round + 1) % self.config.peer.evaluate_every == 0 or round + 1 == self.config.training.rounds:
            record |= self._own.measured(self._algorithm.model(state)[0])
        if self._driver is not None:
            record |= {"distance": None, "asynchronous": self._driver.report()}
        if self._telemetry is not None:
            self._telemetry.metrics(**record)
        self._show(round=round, row=self._algorithm.model(state)[0])

    def _observe_consensus(self, exchange: int, rows: Tensor) -> None:
        self._look_up()
        self._show(exchange=exchange, row=rows[0])

    def _show(self, *, row: Tensor, **where: int) -> None:
        if self._sink is not None and self._sketch is not None:
            self._sink({"kind": "sketch", "peer": self.me, **where, "sketch": self._sketch.of(row)})

    # The end ------------------------------------------------------------------------------------------------

    def _end(self, mixer: NetworkMixer, final: Consensus, seconds: float) -> Ending:
        traffic = mixer.io.traffic().values()
        summary: dict[str, Any] = {
            "peer": self.me, "finished": True, "rounds": self.config.training.rounds,
            **self._own.measured(final.rows[0]), "model": str(self.folder.model), "consensus": final.converged,
            "consensus_distance": final.distance if math.isfinite(final.distance) else None,
            "consensus_exchanges": final.exchanges, "consensus_bytes": mixer.payload_posted - self._training_bytes,
            "bytes_sent": _bytes(mixer), "payload_sent": sum(link.payload_sent for link in traffic),
            "messages_sent": sum(link.messages_sent for link in traffic),
            "messages_late": mixer.exchange.messages_late, "drift": mixer.exchange.drift,
            "left_out": [[list(step), peer, status.value] for step, peer, status in mixer.left_out],
            "peers_dead": list(final.dead), "wall_s": seconds, "out": str(self.folder.path),
        }
        if self._own_row is not None:
            summary |= {"personal": str(self.folder.personal), "uar_personal": self._own.measured(self._own_row)["uar"]}
        if self._driver is not None:
            summary["asynchronous"] = self._driver.report()
        if not final.converged and self._algorithm.consensus:
            self._say(f"peer {self.me}: the final consensus was given up after {final.exchanges} exchanges at a "
                      f"difference of {final.distance:.1e}; raise gossip.max_consensus_exchanges")
        self.folder.finish(summary)
        self._event("finished", **summary)
        return Ending(True, summary)

    def _leave(self) -> Ending:
        round = None
        if self._start_of_round is not None:
            round = self._start_of_round[0]
            # One more than is kept: those that the others have too must stay.
            self._checkpoint(prune=False)
        where = f"with a checkpoint of round {round}" if round is not None else "before the first round"
        self._say(f"peer {self.me} leaves {where}; the same command resumes")
        return Ending(False, {"peer": self.me, "finished": False, "round": round, "out": str(self.folder.path)})

    # Looking around -----------------------------------------------------------------------------------------

    def _look_up(self) -> None:
        if self._stop:
            raise Interrupted

    def _waiting(self, sentence: str) -> None:
        self._event("waiting", sentence=sentence)
        self._say(f"peer {self.me} is {sentence}")

    def _observe(self, event: events.Event) -> None:
        match event:
            case events.Refused(peer, reason, by_us):
                who = f"peer {self.me} refused peer {peer}" if by_us else f"peer {peer} refused peer {self.me}"
                self._tell("refused", f"{who}: {reason}", peer=peer, reason=reason, by_us=by_us)
            case events.Suspected(peer, silence):
                self._tell("suspect", f"peer {peer} has been silent for {silence:.1f} s", peer=peer, silence=silence)
            case events.Recovered(peer):
                self._tell("alive", f"peer {peer} is back", peer=peer)
            case events.Died(peer, silence):
                self._pin()
                self._tell("dead", f"peer {peer} is DEAD after {silence:.1f} s of silence; the others go on",
                           peer=peer, silence=silence)
            case events.Left(peer, reason):
                if reason != "done":
                    self._pin()
                self._tell("bye", f"peer {peer} has left: {reason}", peer=peer, reason=reason)
            case events.Rejoined(peer):
                self._tell("rejoined", f"peer {peer} has come back and takes part from now on", peer=peer)
            case events.Up(peer, hello):
                self._event("up", peer=peer, incarnation=hello.incarnation, clips=hello.clips)
            case events.Trouble(peer, reason):
                self._tell("trouble", reason, peer=peer, reason=reason)
            case events.Paused(seconds):
                self._event("paused", seconds=seconds)
            case _:
                pass

    def _event(self, kind: str, **fields: Any) -> None:
        if self._telemetry is not None:
            self._telemetry.event(kind, **fields)

    def _tell(self, kind: str, sentence: str, **fields: Any) -> None:
        self._event(kind, **fields)
        self._say(sentence)

    def _pin(self) -> None:
        """Keep the checkpoints from before the first loss: they are what all have in common at the next start."""
        if self._pinned is None:
            self._pinned = checkpoint.available(self.folder.checkpoints)


def _bytes(mixer: NetworkMixer) -> int:
    return sum(link.bytes_sent for link in mixer.io.traffic().values())
