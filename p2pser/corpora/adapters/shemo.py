"""ShEMO, Sharif emotional speech database (Mohamad Nezami et al., Language Resources and Evaluation 53, 2019).

Persian, 87 speakers of radio plays, six emotions. A name is speaker (gender, 2 digits), emotion (letter), number:
``F07W05.wav``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.manifest import Clip

EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness", "W": "surprise", "F": "fear"}


@CORPORA.register("shemo")
class Shemo(NamedClips):
    """Reads ShEMO."""

    name = "shemo"
    about = About(
        title="ShEMO, Sharif emotional speech database",
        languages=("fa",),
        speakers="87 (31 f, 56 m)",
        clips=3000,
        emotions=6,
        names="F07W05.wav",
        licence="for research; see the publisher's page",
        source="GitHub mansourehk/ShEMO, or pariajm/sharif-emotional-speech-dataset",
        reference="Mohamad Nezami et al., ShEMO: a large-scale validated database for Persian speech emotion "
                  "detection, Language Resources and Evaluation 53, 2019",
    )
    pattern = re.compile(r"(?P<speaker>[FM]\d\d)(?P<emotion>[A-Z])\d\d+")
    emotions = EMOTIONS
    fields = "F07W05.wav: speaker, emotion, number"

    def stem(self, path: Path) -> str:
        """Return the stem in upper case."""
        return path.stem.upper()

    def clip(self, path: Path, parts: re.Match[str]) -> Clip:
        """Return the clip."""
        speaker = parts["speaker"]
        return Clip(path=path, speaker=speaker, emotion=EMOTIONS[parts["emotion"]], gender=speaker[0].lower(),
                    language="fa")
