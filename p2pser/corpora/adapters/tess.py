"""TESS, the Toronto emotional speech set (Pichora-Fuller and Dupuis, 2010).

English, two actresses, one younger and one older, 200 words in seven emotions. A name is speaker, word and emotion:
``OAF_back_angry.wav``; ``ps`` is pleasant surprise. One file of the original is named ``OA_bite_neutral``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.manifest import Clip

EMOTIONS = {"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "neutral": "neutral",
            "sad": "sadness", "ps": "surprise"}
SPEAKERS = {"oaf": "OAF", "oa": "OAF", "yaf": "YAF"}


@CORPORA.register("tess")
class Tess(NamedClips):
    """Reads TESS."""

    name = "tess"
    about = About(
        title="TESS, Toronto emotional speech set",
        languages=("en",),
        speakers="2 (2 f)",
        clips=2800,
        emotions=7,
        names="OAF_back_angry.wav",
        licence="CC BY-NC-ND 4.0",
        source="TSpace 1807/24487, or Borealis doi:10.5683/SP2/E8H2MF",
        reference="Pichora-Fuller and Dupuis, Toronto emotional speech set, University of Toronto, 2010",
    )
    pattern = re.compile(r"(?P<speaker>oaf|oa|yaf)_(?P<word>[a-z]+)_(?P<emotion>[a-z]+)")
    emotions = EMOTIONS
    fields = "OAF_back_angry.wav: speaker, word, emotion"
    split = "loso"

    def stem(self, path: Path) -> str:
        """Return the stem in lower case."""
        return path.stem.lower()

    def key(self, clip: Clip) -> tuple[str, str | None, str]:
        """Return speaker, emotion and word: OAF and OA are one speaker."""
        return clip.speaker, clip.emotion, clip.extra["text"]

    def clip(self, path: Path, parts: re.Match[str]) -> Clip:
        """Return the clip; ``extra``: the word."""
        word = parts["word"]
        return Clip(path=path, speaker=SPEAKERS[parts["speaker"]], emotion=EMOTIONS[parts["emotion"]], gender="f",
                    language="en", transcript=f"Say the word {word}.", extra={"text": word})
