"""TESS, the Toronto emotional speech set (Pichora-Fuller and Dupuis, 2010).

English, two actresses, one younger and one older, 200 words in seven emotions. A name is speaker, word and emotion:
``OAF_back_angry.wav``; ``ps`` is pleasant surprise. One file of the original is named ``OA_bite_neutral``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.corpora.adapters.about import About
from p2pser.corpora.adapters.files import by_names, counted
from p2pser.corpora.manifest import Clip, Corpus, assemble

ABOUT = About(
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
EMOTIONS = {"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "neutral": "neutral",
            "sad": "sadness", "ps": "surprise"}

_NAME = re.compile(r"(OAF|OA|YAF)_([a-z]+)_([a-z]+)", re.IGNORECASE)


def matches(path: Path) -> bool:
    """Return whether a file is named as in TESS."""
    return isinstance(parse(path), Clip)


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none; ``extra``: the word."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in TESS (e.g. OAF_back_angry.wav)"
    speaker, word, emotion = parts[1].upper(), parts[2].lower(), parts[3].lower()
    if emotion not in EMOTIONS:
        return f"TESS has no emotion {emotion!r}"
    return Clip(
        path=path,
        speaker="YAF" if speaker == "YAF" else "OAF",
        emotion=EMOTIONS[emotion],
        gender="f",
        language="en",
        transcript=f"Say the word {word}.",
        extra={"text": word},
    )


def load(data: Path, variant: str = "") -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Its default split is leave one speaker out.
    Raises CorpusError where the folder is missing, empty or holds no clip of TESS.
    """
    clips, left_out = by_names(data, parse, "named as in TESS (OAF_back_angry.wav: speaker, word, emotion)",
                               key=lambda clip: (clip.speaker, clip.extra["text"], clip.emotion))
    return assemble("tess", counted(len(clips), ABOUT.clips), clips, left_out, data, split="loso")
