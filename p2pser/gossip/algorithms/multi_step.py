"""Decentralised federated averaging with several exchanges a round, plain or Chebyshev-accelerated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from p2pser.base.errors import ConfigError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import Config
from p2pser.gossip import requirements
from p2pser.gossip.agreement.consensus import chebyshev
from p2pser.gossip.algorithm import Algorithm, Local, State
from p2pser.gossip.mixer import Late, Mixer, Outbox, Step, add_flows, add_late
from p2pser.graph.spec import Topology
from p2pser.graph.spectral import slem


@ALGORITHMS.register("multi-step")
@dataclass(frozen=True, kw_only=True)
class MultiStep(Algorithm):
    """Local steps, then m exchanges: X <- P_m(W) local_K(X, r).

    Plain: P_m(W) = W^m (over a schedule the product of m matrices); the distance to the mean shrinks by slem^m or
    more. With ``chebyshev``: y_1 = W y_0, y_{k+1} = omega_{k+1} (W y_k - y_{k-1}) + y_{k-1}, so that the distance
    shrinks by 1 / T_m(1 / slem) <= slem^m, T_m the Chebyshev polynomial: the best polynomial in W of degree m for a
    given slem.

    Conserved: the mean of the rows (without ``chebyshev`` and with clip weighting: the clip-weighted mean). A late flow
    is settled with the weight that it would have had at the end of its round, so that Chebyshev conserves the mean too.

    References: T. Sun, D. Li, B. Wang, "Decentralized Federated Averaging", IEEE TPAMI 2022 (m = 1); G. H. Golub,
    R. S. Varga, "Chebyshev semi-iterative methods, successive overrelaxation iterative methods, and second order
    Richardson iterative methods", Numerische Mathematik 1961.
    """

    parts: ClassVar[bool] = True
    requires = (requirements.averaging,)

    exchanges: int = 2
    """m, 1 or more"""
    chebyshev: bool = False
    """accelerate; needs one symmetric W for all rounds, hence a static undirected graph and uniform weighting"""

    def __post_init__(self) -> None:
        if self.exchanges < 1:
            raise ConfigError(f"gossip.parameters.exchanges = {self.exchanges} must be 1 or more")

    @property
    def slots(self) -> int:
        """``exchanges``."""
        return self.exchanges

    @cached_property
    def omega(self) -> tuple[float, ...]:
        """The Chebyshev weight of each exchange of a round."""
        rate, weights = slem(self.context.topology.entries()), [1.0]
        for k in range(1, self.slots):
            weights.append(chebyshev(weights[-1], rate, k))
        return tuple(weights)

    def validate(self, config: Config, topology: Topology) -> Iterable[str]:
        """Refuse matrices that do not average, and with ``chebyshev`` all but one symmetric W."""
        super().validate(config, topology)
        if self.chebyshev:
            requirements.static_symmetric("multi-step with chebyshev", config, topology)
            requirements.uniform_weighting("multi-step with chebyshev", config, topology)
        return ()

    def round(self, state: State, local: Local, mixer: Mixer, round: int) -> State:
        """Take the local steps and mix at Step(round, 0 .. m-1)."""
        y = previous = local.train(state, round)
        for slot in range(self.slots):
            at = Step(round, slot)
            if not self.chebyshev:
                y = mixer.mix(y, at)
                continue
            mixer.post(at, Outbox(rows=y))
            inbox = mixer.collect(at)
            mixed = add_flows(y, replace(inbox, late=()), mixer.peers)
            if slot:
                mixed = (mixed - previous) * self.omega[slot] + previous
            # Added to both, a late flow is unchanged by the recursion, which preserves terms that are equal in both.
            late = self._settled(inbox.late)
            y, previous = add_late(mixed, late, mixer.peers), add_late(y, late, mixer.peers)
        state.rows["x"] = y
        return state

    def settle(self, state: State, late: tuple[Late, ...], peers: Sequence[int]) -> None:
        """Add the flows of rows that arrived after the last round."""
        super().settle(state, self._settled(late), peers)

    def _settled(self, late: Iterable[Late]) -> tuple[Late, ...]:
        return tuple(replace(flow, weight=flow.weight * self._response(flow.step.slot)) for flow in late)

    def _response(self, slot: int) -> float:
        """Return the value at the round's end of a flow of 1 in exchange ``slot``."""
        if not self.chebyshev:
            return 1.0
        before, now = 0.0, self.omega[slot]
        for omega in self.omega[slot + 1:]:
            before, now = now, omega * (now - before) + before
        return now
