"""URDU (Latif et al., FIT 2018): Urdu, 400 utterances of 38 speakers of talk shows, four emotions.

A name is speaker, file and emotion with a number: ``SM1_F21_A021.wav``; the speaker's second character is the gender.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.manifest import Clip

EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}


@CORPORA.register("urdu")
class Urdu(NamedClips):
    """Reads URDU."""

    name = "urdu"
    about = About(
        title="URDU",
        languages=("ur",),
        speakers="38 (11 f, 27 m)",
        clips=400,
        emotions=4,
        names="SM1_F21_A021.wav",
        licence="see its repository; the authors ask to be cited",
        source="GitHub siddiquelatif/URDU-Dataset",
        reference="Latif et al., Cross lingual speech emotion recognition: Urdu vs. Western languages, FIT 2018",
    )
    pattern = re.compile(r"(?P<speaker>S[MF]\d+)_F\d+_(?P<emotion>[A-Z])\d+")
    emotions = EMOTIONS
    fields = "SM1_F21_A021.wav: speaker, file, emotion"

    def stem(self, path: Path) -> str:
        """Return the stem in upper case."""
        return path.stem.upper()

    def clip(self, path: Path, parts: re.Match[str]) -> Clip:
        """Return the clip."""
        speaker = parts["speaker"]
        return Clip(path=path, speaker=speaker, emotion=EMOTIONS[parts["emotion"]], gender=speaker[1].lower(),
                    language="ur")
