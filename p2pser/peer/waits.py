"""Messages about a peer's waits: for which neighbours, since when, and what helps; at the start, in long rounds, and
where one neighbour makes all rounds long.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

from p2pser.base.wording import duration
from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.network.mixer import NetworkMixer
from p2pser.network.states import State
from p2pser.peer.identity import address
from p2pser.peer.reporter import Reporter
from p2pser.peer.view import RECENT, longest_round
from p2pser.wire.messages import Phase

REMIND = 15.0
"""Time until a peer that still waits for neighbours at the start reports it again [s]."""
AGAIN = 600.0
"""Time between further reports of one wait [s]."""
LOOK = 1.0
"""Time between two checks of the present exchange [s]."""
SHARE, LEAST = 0.5, 60.0
"""A neighbour is reported as slow where exchanges have waited for it alone for this share of the last rounds' time, and
for at least so long [s].
"""
SHOWN = 4
"""Most addresses in one sentence."""
_DOES = {Phase.START: "it has not begun", Phase.SETUP: "it prepares the run", Phase.TRAIN: "it trains in round {}",
         Phase.EXCHANGE: "it waits for messages itself, in round {}", Phase.CONSENSUS: "it is in the final consensus",
         Phase.END: "it has a model"}


class Waits:
    """Reports a peer's waits.

    Parameters
    ----------
    config, topology, me : the run's, and the peer's id.
    mixer : knows which neighbours an exchange waits for.
    reporter : receives sentences and events.
    clock : returns the time [s].
    """

    def __init__(self, config: Config, topology: Topology, me: int, mixer: NetworkMixer, reporter: Reporter,
                 clock: Callable[[], float]) -> None:
        self._config, self._topology, self._me = config, topology, me
        self._mixer, self._reporter, self._clock = mixer, reporter, clock
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._meeting: tuple[str, float] | None = None
        """The sentence shown at the start while neighbours are missing, and since when."""
        self._next_look, self._next_word, self._next_slow = clock(), 0.0, -math.inf
        self._alone: deque[dict[int, float]] = deque(maxlen=RECENT)
        """For how long the exchanges had waited for each neighbour alone, after each of the last rounds [s]."""
        self._stalled: int | None = None
        """The round that lasts too long."""

    def meeting(self, sentence: str, helps: str) -> None:
        """Report that the peer waits for neighbours before it begins: ``waiting for …``. helps : a further clause."""
        now = self._clock()
        self._meeting, self._next_word = (sentence, self._meeting[1] if self._meeting else now), now + REMIND
        self._reporter.waiting(self._where(sentence) + helps)

    def met(self) -> None:
        """Note that the peer waits for no neighbour at the start any more."""
        self._meeting = None

    def round_over(self, round: int, seconds: float) -> None:
        """Note that a round is over, which took ``seconds``."""
        self._seconds.append(seconds)
        if self._stalled is not None:
            self._reporter.say(f"peer {self._me}: round {round + 1} is over, after {duration(seconds)}")
            self._stalled = None
        self._slow()
        self._alone.append(dict(self._mixer.roster.alone))

    def look_up(self) -> None:
        """Report a wait that has become long; call it often."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK
        if self._meeting is not None:
            self._remind(*self._meeting, now)
            return
        awaited, waited = self._mixer.exchange.held_up(now)
        if awaited and waited > self._longest():
            self._stall(awaited, waited, now)

    # Inside -------------------------------------------------------------------------------------------------

    def _remind(self, sentence: str, since: float, now: float) -> None:
        if now >= self._next_word:
            self._next_word = now + AGAIN
            self._reporter.say(f"peer {self._me} is still {self._where(sentence)}, since {_clock_time(now - since)}: "
                               "start what is missing; the same command with --check distinguishes a firewall, another "
                               "program, a wrong key and a peer that is not started")

    def _stall(self, awaited: Sequence[int], waited: float, now: float) -> None:
        progress = self._mixer.io.progress
        at = progress.round
        if self._stalled == at and now < self._next_word:
            return
        self._stalled, self._next_word = at, now + AGAIN
        whom = {j: self._does(j) for j in awaited}
        where = "in the final consensus" if progress.phase >= Phase.CONSENSUS else \
            "before the first round" if at < 0 else f"in round {at + 1}"
        who = ", ".join(f"{self._at(j)} ({does})" for j, does in list(whom.items())[:SHOWN])
        more = f" and {len(whom) - SHOWN} more" if len(whom) > SHOWN else ""
        self._reporter.waiting(f"waiting {where} since {_clock_time(waited)} for {who}{more}: p2pser status at that "
                               "site says whether it trains slowly or waits itself",
                               round=at, peers=list(awaited), waits_for=whom)

    def _slow(self) -> None:
        """Report a neighbour whose rows alone took much of the last rounds' time; not a hub, for which all wait."""
        now, alone, total = self._clock(), self._mixer.roster.alone, sum(self._seconds)
        before = self._alone[0] if self._alone else alone
        j = max(alone, key=lambda j: alone[j] - before[j], default=None)
        if j is None or j == self._topology.hub or now < self._next_slow:
            return
        waited, rounds = alone[j] - before[j], len(self._seconds)
        if waited < max(LEAST, SHARE * total):
            return
        self._next_slow, share = now + AGAIN, min(1.0, waited / total)
        timeout = duration(self._config.network.round_timeout)
        reason = f"{share:.0%} of the time of the last {rounds} rounds were waits for it alone"
        self._reporter.tell("slow", f"peer {self._me} finds {self._at(j)} slow: {reason}. p2pser status at that site "
                            "says whether it trains slowly or waits itself; an exchange goes on without it where it "
                            f"reports no progress for {timeout} (network.round_timeout)", peer=j, reason=reason,
                            share=share, seconds=waited, rounds=rounds)

    def _longest(self) -> float:
        network = self._config.network
        usual = statistics.median(self._seconds) if self._seconds else None
        return network.round_timeout if usual is None else longest_round(usual, network.dead_after)

    def _does(self, j: int) -> str:
        """Return a neighbour's activity, by its last report of progress."""
        progress, silent = self._mixer.roster.progress(j), self._mixer.roster.state(j) is State.SUSPECT
        does = "it has not reported how far it is" if progress is None else _DOES[Phase(progress.phase)].format(
            progress.round + 1)
        return f"silent; before that, {does}" if silent else does

    def _where(self, sentence: str) -> str:
        """Return the sentence with the addresses of the missing neighbours."""
        roster = self._mixer.roster
        addresses = [address(self._config, self._topology, j) or "it dials us" for j in roster.missing()
                     if j not in roster.refusing()]
        more = ["…"] * (len(addresses) > SHOWN)
        return f"{sentence} ({', '.join([*addresses[:SHOWN], *more])})" if addresses else sentence

    def _at(self, j: int) -> str:
        where = address(self._config, self._topology, j)
        return f"peer {j} at {where}" if where else f"peer {j}"


def _clock_time(seconds_ago: float) -> str:
    """Return the local time so many seconds ago, as ``status`` prints times."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() - seconds_ago))
