"""A new topology file during a run: one more peer, another graph, another key. It takes effect at an agreed round.

A file of the present epoch may change addresses and keys only, and takes effect immediately. A file of a later epoch is
announced to all peers (network.epochs); at the agreed round each peer writes a checkpoint, leaves its neighbours, and
begins again with the new topology, as after a restart of all peers.
"""

from __future__ import annotations

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.base.wording import peer_list
from p2pser.config import Config
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import Topology
from p2pser.models import for_run
from p2pser.models.widths import widths
from p2pser.network import events
from p2pser.network.epochs import Epochs
from p2pser.network.mixer import NetworkMixer
from p2pser.network.past import PastExchanges
from p2pser.network.rates import Bucket
from p2pser.peer.identity import identify
from p2pser.peer.reporter import Reporter
from p2pser.run.fitting import fitting
from p2pser.run.setup import EPOCH, lead
from p2pser.wire.messages import Header, Phase

AGAIN = 4
"""Rounds after which changed notices are sent again, since a broken connection loses them."""
RATE, AT_ONCE = 1.0, 16
"""Limits of notices that are passed on immediately, a second on average and in a row; others are passed on at the end
of the round. Without limits a hostile neighbour could fill the queues of all peers, in the place of rows."""


class Anew(Exception):
    """This peer continues as if its process were started again.

    reason : in its farewell. does : what it does, for the user. topology : from now on. past : its open exchanges.
    expected : the peers that were in the run before, and come again; None: the run has not begun, and this peer waits
    for the same peers as before.
    """

    def __init__(self, reason: str, does: str, topology: Topology, past: PastExchanges,
                 expected: frozenset[int] | None = None) -> None:
        super().__init__(reason)
        self.does, self.topology, self.past, self.expected = does, topology, past, expected


class NextEpoch(Anew):
    """A later topology file takes effect now."""

    def __init__(self, topology: Topology, past: PastExchanges, expected: frozenset[int] | None = None) -> None:
        super().__init__(f"epoch {topology.epoch}", f"goes on with epoch {topology.epoch} of the topology file",
                         topology, past, expected)


class Retired(Exception):
    """A later topology file retires this peer: it leaves the run permanently."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"retired in epoch {epoch}")
        self.epoch = epoch


class Growth:
    """Takes topology files during a run. Make it before the peer meets its neighbours, which may announce at once.

    Parameters
    ----------
    config, topology, me, incarnation : the run's, and the peer's.
    mixer : carries the notices. reporter : reports them.
    """

    def __init__(self, config: Config, topology: Topology, me: int, incarnation: int, mixer: NetworkMixer,
                 reporter: Reporter) -> None:
        self._config, self._topology, self._me, self._mixer, self._reporter = config, topology, me, mixer, reporter
        self._epochs = Epochs(me, incarnation, topology.graph, config.training.rounds,
                              1 if topology.schedule is None else lead(topology))
        self._next: Topology | None = None
        self._sent = 0
        self._said: tuple[int, ...] = ()
        self._changed_in = 0
        """The round in which the notices changed last."""
        self._often, self._owed = Bucket(RATE, AT_ONCE), False
        """The limit of immediate notices, and whether some wait for the end of the round."""
        mixer.on(EPOCH, self._take)

    def read(self, topology: Topology) -> str:
        """Take a topology file; return a sentence about its effect.

        Raises TopologyError or ConfigError where it cannot take effect, NextEpoch or Retired where it does immediately.
        """
        me, running, newest = self._me, self._topology, self._next or self._topology
        if topology.epoch == newest.epoch:
            self._same(topology, newest)
            return self._contacts(topology) if topology.epoch == running.epoch else \
                f"peer {me} has read epoch {topology.epoch} of the topology file already"
        if topology.epoch < newest.epoch:
            raise TopologyError(f"the file has epoch {topology.epoch}, and peer {me} has epoch {newest.epoch} already: "
                                f"get the newer file, or raise the epoch of this one above {newest.epoch}")
        fits(self._config, running, topology, me)
        phase, round = self._mixer.io.progress.phase, self._mixer.io.progress.round
        if phase is Phase.START:
            if me in topology.retired:
                raise Retired(topology.epoch)
            raise NextEpoch(topology, self._mixer.exchange.carried())
        if phase >= Phase.CONSENSUS:
            raise TopologyError(f"the rounds of the run are over, and epoch {topology.epoch} comes too late for it")
        if self._next is not None and self._epochs.changes():
            raise TopologyError(f"epoch {newest.epoch} is about to take effect: give epoch {topology.epoch} afterwards")
        self._next = topology
        self._epochs.read(topology.epoch, bytes.fromhex(topology.digest()),
                          set(topology.retired) - set(running.retired), round)
        self._spread(max(0, round))
        self._reporter.event("epoch_read", epoch=topology.epoch, digest=topology.digest())
        self._tell_differing()
        return f"peer {me} has read epoch {topology.epoch} of the topology file, which takes effect when all have it"

    def observe(self, event: events.Event) -> None:
        """Send the notices to a neighbour that has connected."""
        if isinstance(event, events.Up) and self._epochs.notices:
            self._send((event.peer,))

    def round_over(self, following: int) -> None:
        """Check before round ``following`` whether the file takes effect. Raises NextEpoch or Retired if it does."""
        gone = self._gone()
        if self._epochs.lose(gone) | self._epochs.settle() | self._owed or following == self._changed_in + AGAIN:
            self._spread(following)
        if self._next is None:
            notice = self._epochs.retired([j for j in self._mixer.neighbours if j not in gone])
            if notice is not None and notice.change <= following < self._config.training.rounds:
                raise Retired(notice.epoch)
            return
        self._tell_lacking()
        if self._epochs.due(following) and following < self._config.training.rounds:
            if self._me in self._next.retired:
                raise Retired(self._next.epoch)
            dead = filter(self._mixer.roster.died, self._mixer.neighbours)  # this peer has waited for them already
            raise NextEpoch(self._next, self._mixer.exchange.carried(), self._epochs.alike().difference(dead))

    def rounds_over(self) -> None:
        """Report a file that has not taken effect by the end of the last round."""
        if self._next is not None:
            self._reporter.tell("epoch_late", f"the run of peer {self._me} ends before epoch {self._next.epoch} of the "
                                "topology file took effect", epoch=self._next.epoch)
            self._next = None

    # Inside -----------------------------------------------------------------------------------------------------

    def _same(self, topology: Topology, known: Topology) -> None:
        """Raise TopologyError where two files of one epoch describe different graphs."""
        if topology.digest() != known.digest():
            raise TopologyError(f"the file describes another graph ({topology.digest()[:12]}) than peer {self._me} has "
                                f"({known.digest()[:12]}), and both have epoch {known.epoch}: write 'epoch: "
                                f"{known.epoch + 1}' into it, at all peers")

    def _contacts(self, topology: Topology) -> str:
        changed = self._mixer.io.replace_contacts(identify(self._config, topology, self._me).neighbours)
        who = peer_list(changed) if changed else "no neighbour"
        return f"peer {self._me} has read the topology again: another address or key of {who}"

    def _take(self, peer: int, header: Header, payload: memoryview) -> None:
        if not self._epochs.receive(peer, payload, self._gone()):
            return
        round = max(0, self._mixer.io.progress.round)
        self._epochs.settle()
        if self._often.take(self._mixer.io.clock()):
            self._spread(round)
        else:
            self._owed = True
        self._tell_differing()

    def _gone(self) -> list[int]:
        return [j for j in self._mixer.neighbours if self._mixer.roster.gone(j)]

    def _tell_differing(self) -> None:
        for other, digest in self._epochs.differing().items():
            self._reporter.tell("epoch_differs", f"peer {other} has another topology file of epoch "
                                f"{self._epochs.notices[other].epoch} ({digest.hex()[:12]}) than peer {self._me}: "
                                "neither takes effect; give all peers one file of a higher epoch", peer=other)

    def _tell_lacking(self) -> None:
        lacking = self._epochs.lacking()
        if lacking and lacking != self._said and self._next is not None:
            self._reporter.tell("epoch_waits", f"epoch {self._next.epoch} of the topology file waits for "
                                f"{peer_list(lacking)}: give it to them, and send them SIGHUP",
                                peers=list(lacking), epoch=self._next.epoch)
        self._said = lacking

    def _spread(self, round: int) -> None:
        """Send all notices to all neighbours."""
        self._changed_in, self._owed = round, False
        self._send(tuple(j for j in self._mixer.neighbours if self._mixer.roster.takes_part(j)))

    def _send(self, peers: tuple[int, ...]) -> None:
        if not self._epochs.notices:
            return
        self._sent += 1
        for j in peers:
            self._mixer.send(j, Step(EPOCH, self._sent), self._epochs.encode(), "", 0)


def fits(config: Config, before: Topology, after: Topology, me: int) -> None:
    """Raise TopologyError or ConfigError where a run cannot continue with another topology."""
    if me >= after.size:
        raise TopologyError(f"the file has no peer {me}")
    if before.hub != after.hub:
        raise TopologyError(f"the hub is {before.hub} in this run and {after.hub} in the file, and it holds the state "
                            "of the algorithm: keep the hub")
    if for_run(config, before.size) != for_run(config, after.size):
        raise TopologyError(f"the size of the model {config.model.name} follows from the number of peers, "
                            f"{before.size} in this run and {after.size} in the file: start all peers with it under "
                            "another name (--name)")
    if widths(config.model, after.size)[me] != widths(config.model, before.size)[me]:
        raise ConfigError(f"peer {me} would have another width of its model")
    if me in after.retired:
        return
    identify(config, after, me)
    fitting(config, after)
