"""The set-up of a run by all peers before they train: the roll call, and the round at which they resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack
import networkx as nx
import numpy as np

from p2pser.base.errors import RemoteProtocolError
from p2pser.base.registries import ALGORITHMS
from p2pser.config import GossipSettings
from p2pser.corpora.spread import agreed, is_in_parts
from p2pser.gossip.agreement.flood import Knowledge, flood_knowledge, most_slots
from p2pser.gossip.mixer import Mixer
from p2pser.gossip.reading import unpacked
from p2pser.graph.spec import Topology
from p2pser.graph.summary import diameter

MODEL, ROLL_CALL, STATISTICS, JOIN = -4, -3, -2, -1
"""The set-up rounds: the model for a peer that missed the end, the roll call, the statistics of features and targets,
the state for a peer that joins.

Training has the rounds 0 .. R-1; the cut edges are flooded in round R, the final consensus is in round R + 1.
"""
EPOCH = -6
"""The round in which new topology files are announced (``network.epochs``); each has a slot of its own."""
JUMP = -5
"""The round of messages which report that their sender has jumped to a later round, which is their slot."""
CALIBRATION = 2**30
"""Lower bound of the rounds of a run's calibration (``calibration_round``), above all rounds of training."""
VOTES = {"speaker": b"s", "global": b"g"}
"""A peer's votes on the scaling of features, once it knows how far each peer's clips are spread over the emotions."""
SAMPLED_EXCHANGES = 16
"""Number of exchanges of a random schedule from which the lead of its peers is estimated."""


@dataclass(frozen=True)
class RollCall:
    """The results of the roll call, over all reachable peers.

    resume : the round at which the peers with its checkpoint resume; 0: all start from the initial parameters.
    clips : the number of training clips by peer, if W is weighted by it.
    cut : the edges to peers that did not come or do not fit.
    widths : the width of each peer's model.
    newcomers : the peers without a checkpoint of ``resume``, which join the others.
    refused : why the answer of a peer does not count; the peer is treated as one without clips and checkpoints.
    labels : the emotions of all peers, sorted, if the peers agree on them; else ().
    normalise : how features are scaled, if the peers agree on it; else "".
    """

    resume: int
    clips: Mapping[int, int]
    cut: frozenset[tuple[int, int]]
    widths: Mapping[int, float] = field(default_factory=dict)
    newcomers: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    normalise: str = ""


@dataclass(frozen=True)
class Scales:
    """A peer's part in the choice of the scaling of features.

    spread : of its clips (``corpora.spread.in_parts``); None: it has no clips. classes : the number of emotions if
    settings fix them, else 0.
    """

    spread: int | None
    classes: int = 0


@dataclass(frozen=True)
class _Answer:
    rounds: frozenset[int] = frozenset()
    clips: int | None = None
    width: float = 1.0
    spread: int | None = None


def roll_call(mixer: Mixer, topology: Topology, peer: int, checkpoints: Iterable[int], clips: int | None,
              width: float = 1.0, *, rounds: int, reach: int | None = None,
              labels: Collection[str] | None = None, scales: Scales | None = None) -> RollCall:
    """Call the roll: send this peer's answer to all reachable peers, and return the results of all answers.

    An invalid answer of another peer is not an error.

    Parameters
    ----------
    mixer : carries the flood, in round ``ROLL_CALL``.
    topology : the run's topology.
    peer : the hosted peer.
    checkpoints : the rounds of which it has a checkpoint.
    clips : the number of its training clips if W is weighted by it, else None: then it is not sent.
    width : the width of its model; 1 is not sent.
    rounds : R; no peer can have a checkpoint of a later round.
    reach : see ``resume_round``.
    labels : the emotions of this peer's clips, if the peers agree on those to learn; else None.
    scales : this peer's part in the choice of the scaling of features, if the peers agree on it; else None.
    """
    answer: dict[str, object] = {"rounds": sorted({0, *checkpoints})}
    answer |= ({} if clips is None else {"clips": clips}) | ({} if width == 1 else {"width": width})
    answer |= {} if scales is None or scales.spread is None else {"spread": scales.spread}
    graph, own = topology.graph, None if labels is None else {peer: labels}
    knowledge = flood_knowledge(mixer, ROLL_CALL, {peer: msgpack.packb(answer)}, graph, labels=own)[peer]
    answers, refused = {}, {}
    for other, value in knowledge.reachable_values().items():
        try:
            answers[other] = _parse(value, other, rounds, counted=clips is not None, scaled=scales is not None)
        except RemoteProtocolError as error:
            answers[other], refused[other] = _Answer(), str(error)
    normalise = ""
    if knowledge.labels is not None or scales is not None:
        spreads = [each.spread for each in answers.values() if each.spread is not None]
        labels, normalise = _settled(mixer, graph, knowledge, spreads, scales)
    held = {other: each.rounds for other, each in answers.items()}
    resume = resume_round(held.values(), reach)
    newcomers = frozenset(other for other, its in held.items() if resume and resume not in its)
    counts = {other: each.clips or 0 for other, each in answers.items()} if clips is not None else {}
    return RollCall(resume, counts, knowledge.cut_edges(),
                    {other: each.width for other, each in answers.items()}, newcomers, refused, tuple(labels or ()),
                    normalise)


def _settled(mixer: Mixer, graph: nx.Graph, knowledge: Knowledge, spreads: Collection[int],
             scales: Scales | None) -> tuple[Collection[str] | None, str]:
    """Return the labels, and how features are scaled, after a second flood.

    The answer of a peer that was lost during the first flood has reached only some peers. So each peer floods the
    labels that it has received and the scaling that follows from the answers that it has received. The majority decides
    on the scaling; a tie means global.
    """
    peer, own, vote = knowledge.peer, None, b""
    if knowledge.labels is not None:
        own = {peer: knowledge.labels}
    if scales is not None:
        vote = VOTES[agreed(spreads, scales.classes or len(knowledge.labels or ()))]
    again = flood_knowledge(mixer, ROLL_CALL, {peer: vote}, graph, most=1, first=most_slots(graph), labels=own)[peer]
    count = Counter(again.reachable_values().values())
    elected = "speaker" if count[VOTES["speaker"]] > count[VOTES["global"]] else "global"
    return again.labels, elected if scales is not None else ""


def resume_round(held: Iterable[Collection[int]], reach: int | None = None) -> int:
    """Return the round at which peers resume; 0 if no peer has a checkpoint.

    Peers without a checkpoint do not count. The peers resume at the round that most of the others have, the newest of
    equally common ones: that is the newest common round if there is one. The peers that lack it join as newcomers.

    Parameters
    ----------
    held : the rounds above 0 of which each peer has a checkpoint.
    reach : the most rounds that the peers go back, from the newest that more than half of them have, for peers that
        were killed earlier; None: no limit. So one old or false answer costs only its sender's state.
    """
    count = Counter(round for rounds in held for round in set(rounds))
    holders = sum(1 for rounds in held if rounds)
    newest = max((round for round, number in count.items() if 2 * number > holders), default=0)
    first = 0 if reach is None else newest - reach
    return max((round for round in count if round >= first), key=lambda round: (count[round], round), default=0)


def _parse(value: bytes, peer: int, last: int, *, counted: bool, scaled: bool) -> _Answer:
    document = unpacked(value, "an answer to the roll call", peer)
    fields: dict[Any, Any] = document if isinstance(document, dict) else {}
    rounds, clips, width = fields.get("rounds", ()), fields.get("clips"), fields.get("width", 1.0)
    spread, optional = fields.get("spread"), {"width", "spread"} if scaled else {"width"}
    fits = set(fields) - optional == {"rounds", *(["clips"] if counted else [])}
    fits = fits and isinstance(rounds, tuple) and len(rounds) <= last + 1 and 0 in rounds
    fits = fits and all(type(round) is int and 0 <= round <= last for round in rounds)
    fits = fits and type(width) is float and 0 < width <= 1
    fits = fits and ("spread" not in fields or is_in_parts(spread))
    if not fits or (counted and (type(clips) is not int or not 0 <= clips < 2**53)):
        raise RemoteProtocolError(f"peer {peer} answered the roll call in another form", peer)
    return _Answer(frozenset(rounds) - {0}, clips, width, spread)


def calibration_round(rounds: int) -> int:
    """Return the first of the three rounds in which the peers calibrate the model of R = ``rounds`` rounds. They differ
    for each R, since a secure sum is made only once in each round, and a run may be continued after its end.
    """
    return CALIBRATION + 3 * (rounds % 2**28)


def comes(round: int, rounds: int) -> bool:
    """Whether a run of R = ``rounds`` rounds has exchanges in ``round``."""
    return round <= rounds + 1 or 0 <= round - calibration_round(rounds) < 3


def progress_round(round: int, rounds: int) -> int:
    """Return the round that a peer reports while it is in ``round`` of a run of R = ``rounds`` rounds: the calibration
    follows the final consensus. Neighbours would not wait for the messages of a peer that reports a much later round.
    """
    first = calibration_round(rounds)
    return round if round < first else rounds + 2 + round - first


def weighs(gossip: GossipSettings, topology: Topology) -> bool:
    """Whether W is weighted by clip counts, which all peers then learn. A hub and a secure sum apply their own weights.
    """
    return gossip.weighting == "clips" and topology.hub is None and not ALGORITHMS[gossip.algorithm].sums


def counts_for(gossip: GossipSettings, topology: Topology, clips: Mapping[int, int]) -> dict[int, int] | None:
    """Return the clip counts by which W is weighted; None if it is not.

    A peer that did not come counts as one clip; its edges are cut, so the value does not matter.
    """
    if not weighs(gossip, topology):
        return None
    return {i: max(1, clips.get(i, 1)) for i in range(topology.size)}


def lead(topology: Topology) -> int:
    """Return by how many exchanges a peer can be ahead of another while no peer is DEAD.

    A peer that has ended exchange e knows that its sources of e and its receivers of e - 1 have ended e - 1
    (network.exchange), and so on back: on a static undirected graph the lead is the diameter. For a random schedule,
    twice the largest lead of ``SAMPLED_EXCHANGES``.
    """
    if topology.schedule is None:
        return diameter(topology.graph)
    period, most = topology.schedule.period or SAMPLED_EXCHANGES, 0
    for end in range(period):
        known = np.eye(topology.size, dtype=np.float32)
        back = 0
        while not known.all() and back < 2 * period + 2 * topology.size:
            # Shifted by a multiple of the period, since the number of an exchange must not be negative.
            t = end + (2 * topology.size + 3) * period - back
            sources, receivers = topology.matrix(t) != 0, topology.matrix(t - 1).T != 0
            known = (known @ (np.eye(topology.size) + sources + receivers) > 0).astype(np.float32)
            back += 1
        most = max(most, back)
    return most if topology.schedule.period is not None else 2 * most


def kept_checkpoints(lead: int, every: int) -> int:
    """Return how many checkpoints to keep so that peers killed at different instants have one in common.

    lead : the most rounds by which a peer can be ahead of another. every : rounds between two checkpoints.
    """
    return -(-(lead + 1) // every) + 1
