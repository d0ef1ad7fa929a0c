"""URDU (Latif et al., FIT 2018): Urdu, 400 utterances of 38 speakers of talk shows, four emotions.

A name is speaker, file and emotion with a number: ``SM1_F21_A021.wav``; the speaker's second character is the gender.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.corpora.adapters.about import About
from p2pser.corpora.adapters.files import by_names, counted
from p2pser.corpora.manifest import Clip, Corpus, assemble

ABOUT = About(
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
EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}

_NAME = re.compile(r"(S([MF])\d+)_(F\d+)_([A-Z])\d+", re.IGNORECASE)


def matches(path: Path) -> bool:
    """Return whether a file is named as in URDU."""
    return isinstance(parse(path), Clip)


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in URDU (e.g. SM1_F21_A021.wav)"
    emotion = EMOTIONS.get(parts[4].upper())
    if emotion is None:
        return f"URDU has no emotion {parts[4]!r}"
    return Clip(
        path=path,
        speaker=parts[1].upper(),
        emotion=emotion,
        gender=parts[2].lower(),
        language="ur",
    )


def load(data: Path, variant: str = "") -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Raises CorpusError where the folder is missing, empty or holds no clip of URDU.
    """
    clips, left_out = by_names(data, parse, "named as in URDU (SM1_F21_A021.wav: speaker, file, emotion)",
                               key=lambda clip: clip.path.stem.upper())
    return assemble("urdu", counted(len(clips), ABOUT.clips), clips, left_out, data)
