"""Attacks of hostile peers, for tests and experiments; never part of an honest run.

A hostile peer follows the algorithm and its timing, and sends all its neighbours a row that is not its own. It knows
all honest rows of the same exchange (in the simulator, which hosts them) or the rows that its neighbours sent in the
previous exchange (in a process of its own). Wrong labels are no attack of this module: they are data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from p2pser.base import seeding
from p2pser.base.errors import ConfigError, nearest
from p2pser.gossip.mixer import Edges, Inbox, Mixer, Outbox, Step, mix_by_flows
from p2pser.gossip.reading import Read
from p2pser.gossip.secrets import Secrets
from p2pser.wire.codec import DENSE, Codec

T = TypeVar("T")


class Scene(NamedTuple):
    """The knowledge of a hostile peer. own (D,): the row of an honest peer in its place. known (M, D): honest rows."""

    own: Tensor
    known: Tensor
    seed: int
    at: Step


def sign_flip(scene: Scene, strength: float) -> Tensor:
    """- strength * own."""
    return scene.own * -strength


def large_norm(scene: Scene, strength: float) -> Tensor:
    """A row of norm ``strength`` in a direction drawn in every exchange, the same for all hostile peers."""
    draw = seeding.torch_generator(scene.seed, f"attack.{scene.at.slot}", round=scene.at.round)
    direction = torch.randn(len(scene.own), generator=draw, dtype=torch.float64)
    return direction * (strength / float(torch.linalg.vector_norm(direction)))


def same_value(scene: Scene, strength: float) -> Tensor:
    """Every coordinate ``strength``."""
    return torch.full_like(scene.own, strength)


def a_little_is_enough(scene: Scene, strength: float) -> Tensor:
    """mean - strength * standard deviation of the honest rows, by coordinate: it hides in their spread.

    M. Baruch, G. Baruch, Y. Goldberg, "A Little Is Enough: Circumventing Defenses for Distributed Learning",
    NeurIPS 2019.
    """
    known = scene.known.double()
    return known.mean(0) - strength * known.std(0, correction=0)


def inner_product(scene: Scene, strength: float) -> Tensor:
    """- strength * mean of the honest rows.

    C. Xie, O. Koyejo, I. Gupta, "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation",
    UAI 2020.
    """
    return -strength * scene.known.double().mean(0)


ATTACKS: dict[str, tuple[Callable[[Scene, float], Tensor], float]] = {
    "sign-flip": (sign_flip, 1.0),
    "large-norm": (large_norm, 1000.0),
    "same-value": (same_value, 1.0),
    "a-little-is-enough": (a_little_is_enough, 1.5),
    "inner-product": (inner_product, 0.1),
}
"""By name: the function that returns the row, and the default strength."""


@dataclass(frozen=True)
class Attack:
    """An attack of ``ATTACKS`` with its strength (None: the default). Raises ConfigError for an unknown name."""

    name: str
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.name not in ATTACKS:
            raise ConfigError(f"there is no attack {self.name!r}{nearest(self.name, ATTACKS)}")

    def row(self, scene: Scene) -> Tensor:
        """Return the row (D,) that is sent instead of ``scene.own``, in its dtype."""
        send, default = ATTACKS[self.name]
        return send(scene, default if self.strength is None else self.strength).to(scene.own.dtype)


class Hostile:
    """A ``gossip.mixer.Mixer`` over another mixer that replaces the rows posted by hostile peers.

    attacks: by peer. seed: of random attacks. The rows known to a hostile peer in a process of its own are not
    checkpointed: only honest peers resume bit for bit.
    """

    def __init__(self, mixer: Mixer, attacks: Mapping[int, Attack], seed: int = 0) -> None:
        self._mixer, self._attacks, self._seed = mixer, dict(attacks), seed
        self._received: dict[int, list[Tensor]] = {}

    @property
    def peers(self) -> tuple[int, ...]:
        """As in the other mixer."""
        return self._mixer.peers

    @property
    def size(self) -> int:
        """As in the other mixer."""
        return self._mixer.size

    @property
    def secrets(self) -> Secrets | None:
        """As in the other mixer."""
        return self._mixer.secrets

    def edges(self, at: Step) -> Edges:
        """As in the other mixer."""
        return self._mixer.edges(at)

    def receivers(self, peer: int, at: Step) -> tuple[int, ...]:
        """As in the other mixer."""
        return self._mixer.receivers(peer, at)

    def post(self, at: Step, out: Outbox) -> None:
        """Post with the rows of hostile peers replaced. Raises ConfigError for messages by edge: no attack has any."""
        if out.rows is None:
            raise ConfigError("attacks replace rows that are sent to all neighbours, and this algorithm sends a "
                              "different message over each edge: take one that mixes rows, such as dfedavg")
        rows = out.rows.clone()
        honest = [b for b, peer in enumerate(self.peers) if peer not in self._attacks]
        for b, peer in enumerate(self.peers):
            if peer in self._attacks:
                own = out.rows[b]
                received = self._received.get(peer)
                known = out.rows[honest] if honest else torch.stack(received) if received else own[None]
                rows[b] = self._attacks[peer].row(Scene(own, known, self._seed, at))
        self._mixer.post(at, Outbox(rows=rows, codec=out.codec))

    def collect(self, at: Step) -> Inbox[Tensor]:
        """Collect; hostile peers remember the received rows."""
        inbox = self._mixer.collect(at)
        self._received = {}
        for (peer, _), value in inbox.by_edge():
            if peer in self._attacks:
                self._received.setdefault(peer, []).append(value)
        return inbox

    def collect_messages(self, at: Step, read: Read[T]) -> Inbox[T]:
        """As in the other mixer."""
        return self._mixer.collect_messages(at, read)

    def mix(self, rows: Tensor, at: Step, codec: Codec = DENSE) -> Tensor:
        """Post, collect and add the flows; a hostile peer mixes into its own row, not into the row that it sent."""
        return mix_by_flows(self, rows, at, codec)
