"""The messages before training, without those of the statistics: HELLO and WELCOME, and the flood of the roll call."""

from __future__ import annotations

import msgpack

from p2pser.config import Config
from p2pser.corpora.labels import agreed_by_peers
from p2pser.gossip.agreement.flood import flood_knowledge, most_slots
from p2pser.graph.spec import Topology
from p2pser.graph.summary import diameter
from p2pser.run.setup import ROLL_CALL
from p2pser.simulation.mixer import SimulatedMixer
from p2pser.wire.messages import encode_body

GREETING = -9
"""The round of the simulated HELLO and WELCOME."""
GREETINGS = 2
"""The messages with the settings over each edge: HELLO and WELCOME."""
PLAYED_UP_TO = 16
"""Number of peers up to which every message of the roll call is simulated."""
OTHER_FIELDS = 300
"""Bytes of a HELLO beside its settings."""


def meet(mixer: SimulatedMixer, config: Config, topology: Topology) -> None:
    """Simulate HELLO, WELCOME and the roll call of all peers, where the mixer has a timeline."""
    timeline, weights = mixer.timeline, mixer.weights
    if timeline is None:
        return
    hello = len(encode_body(msgpack.unpackb(msgpack.packb(dict(config.shared()), default=str)))) + OTHER_FIELDS
    timeline.play(GREETING, GREETINGS, weights.to, weights.source, hello)
    floods = 2 if agreed_by_peers(config) or config.features.normalise == "auto" else 1
    answer, labels = msgpack.packb({"rounds": [0]}), config.corpus.labels or ()
    for flood in range(floods):
        if topology.size > PLAYED_UP_TO:  # a message holds the answers that its sender has: half of all, on average
            timeline.play(ROLL_CALL - flood, diameter(topology.graph) + 2, weights.to, weights.source,
                          topology.size * (len(answer) + 5) // 2)
        else:
            flood_knowledge(mixer, ROLL_CALL, dict.fromkeys(mixer.peers, answer if not flood else b"s"), topology.graph,
                            first=flood * most_slots(topology.graph),
                            labels=dict.fromkeys(mixer.peers, labels) if agreed_by_peers(config) else None)
