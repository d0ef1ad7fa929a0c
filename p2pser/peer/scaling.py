"""The scaling of features in a run whose peers agree on it in the roll call (``features.normalise=auto``).

Each peer has its own recordings, and learns from the others only how far their clips are spread over the emotions. A
peer that comes later takes the choice from a join state or a model; a peer with checkpoints has it in its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from p2pser.base.errors import RemoteProtocolError
from p2pser.peer.folder import PeerFolder
from p2pser.peer.reporter import Reporter
from p2pser.run.participant import Cohort
from p2pser.run.setup import RollCall, Scales


class ScalingChoice:
    """Determines how the run scales features.

    Parameters
    ----------
    me, cohort : the peer's id, and its cohort, which scales the clips.
    folder, reporter : keep and report the choice.
    learned : called once it is known, unless it was known from the start.
    """

    def __init__(self, me: int, cohort: Cohort, folder: PeerFolder, reporter: Reporter,
                 learned: Callable[[], None]) -> None:
        self._me, self._cohort, self._folder, self._reporter = me, cohort, folder, reporter
        self._learned = learned
        if cohort.agrees_on_scaling and (how := folder.scaling()) is not None:
            cohort.scale(how)

    @property
    def own(self) -> Scales | None:
        """This peer's part of the choice in the roll call; None if settings fix the scaling."""
        if not self._cohort.agrees_on_scaling:
            return None
        federation = self._cohort.federation
        return Scales(federation.spread(self._me), len(federation.labels) if self._cohort.agreed else 0)

    def called(self, call: RollCall) -> RollCall:
        """Take the choice of the roll call, if the peers begin a run; return the roll call with the run's choice."""
        if not self._cohort.agrees_on_scaling:
            return call
        if not self._cohort.scaled:
            self._learn(call.normalise)
        return replace(call, normalise=self._cohort.federation.normalise)

    def heard(self, call: RollCall, sums: Tensor) -> None:
        """Take the run's choice from a neighbour's roll call, with its statistics' sums (S,).

        Raises RemoteProtocolError where these do not fit.
        """
        if not self._cohort.agrees_on_scaling:
            return
        known = self._cohort.federation.normalise if self._cohort.scaled else call.normalise
        if call.normalise not in ("global", "speaker") or call.normalise != known:
            raise RemoteProtocolError(f"its features are scaled in the way {call.normalise!r}")
        if len(sums) != self._cohort.length(known):
            raise RemoteProtocolError(f"it has {len(sums)} sums instead of {self._cohort.length(known)}")
        if not self._cohort.scaled:
            self._learn(known)

    def _learn(self, how: str) -> None:
        self._cohort.scale(how)
        self._folder.keep_scaling(how)
        self._learned()
        self._reporter.tell("scaling", f"peer {self._me}: {self._cohort.federation.why_normalised}", normalise=how)
