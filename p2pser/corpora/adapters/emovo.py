"""EMOVO (Costantini et al., LREC 2014).

Italian, six actors, the big six and neutral. A name is emotion, speaker and sentence: ``rab-f1-b1.wav``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.manifest import Clip

EMOTIONS = {"dis": "disgust", "gio": "happiness", "neu": "neutral", "pau": "fear", "rab": "anger", "sor": "surprise",
            "tri": "sadness"}


@CORPORA.register("emovo")
class Emovo(NamedClips):
    """Reads EMOVO."""

    name = "emovo"
    about = About(
        title="EMOVO",
        languages=("it",),
        speakers="6 (3 f, 3 m)",
        clips=588,
        emotions=7,
        names="rab-f1-b1.wav",
        licence="for research; see the publisher's page",
        source="Fondazione Ugo Bordoni: voice.fub.it/activities/corpora/emovo",
        reference="Costantini et al., EMOVO corpus: an Italian emotional speech database, LREC 2014",
    )
    pattern = re.compile(r"(?P<emotion>[a-z]{3})-(?P<speaker>[fm][123])-(?P<text>[a-z]\d)")
    emotions = EMOTIONS
    fields = "rab-f1-b1.wav: emotion, speaker, sentence"
    split = "loso"

    def stem(self, path: Path) -> str:
        """Return the stem in lower case."""
        return path.stem.lower()

    def clip(self, path: Path, parts: re.Match[str]) -> Clip:
        """Return the clip; ``extra``: sentence."""
        speaker = parts["speaker"]
        return Clip(path=path, speaker=speaker, emotion=EMOTIONS[parts["emotion"]], gender=speaker[0], language="it",
                    extra={"text": parts["text"]})
