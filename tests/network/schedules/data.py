"""The clips of made-up peers: few numbers, so that a schedule's time is the network's."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.corpora.spread import AUTO
from p2pser.features.federation import Examples, Federation, no_examples

LABELS, SIZE = ("calm", "cross"), 3


def examples(peer: int, clips: int = 6, classes: int = len(LABELS), size: int = SIZE) -> Examples:
    """The clips of a peer, of its one speaker: the emotions take turns."""
    draw = np.random.default_rng(peer)
    labels = np.arange(clips) % classes
    features = draw.normal(size=(clips, size)) + 2 * np.eye(classes, size)[labels]
    return Examples(features.astype(np.float32), labels.astype(np.int64), (f"s{peer}",) * clips,
                    tuple(f"{peer}-{k}.wav" for k in range(clips)))


@functools.cache
def federation(me: int, hub: int | None, agreed: bool = False) -> Federation:
    """The data of one peer; nothing is held out.

    agreed : whether the peers agree on how features are scaled. Every third has as many speakers as clips.
    """
    own = no_examples((SIZE,)) if me == hub else examples(me, 6 + me % 3)
    clips = tuple(Clip(Path(name), speaker if me % 3 else name, LABELS[label])
                  for name, speaker, label in zip(own.paths, own.speakers, own.labels))
    return Federation(LABELS, {me: own}, None, Split("none", (), (), (), False), Corpus("numbers", "1", clips),
                      AUTO if agreed else "none", [], 0, ((),) * me + (tuple(range(len(clips))),))
