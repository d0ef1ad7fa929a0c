"""EMO-DB, the Berlin database of emotional speech (Burkhardt et al., Interspeech 2005).

German, ten actors, seven emotions. A name is speaker (2 digits), text (letter, 2 digits), emotion (letter),
take (letter): ``03a01Fa.wav``. The first published version holds 535 clips, version 2.0 holds 816.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.speech.corpora.files import by_names
from p2pser.speech.manifest import Clip, Corpus, assemble

EMOTIONS = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness",
            "N": "neutral"}
GENDERS = {"03": "m", "08": "f", "09": "f", "10": "m", "11": "m", "12": "m", "13": "f", "14": "f", "15": "m",
           "16": "f"}

_NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[a-z]\d\d)(?P<emotion>[A-Z])(?P<take>[a-z])")
_VERSIONS = {535: "1", 816: "2.0"}


def matches(path: Path) -> bool:
    """Return whether a file is named as in EMO-DB."""
    return isinstance(parse(path), Clip)


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none; ``extra``: text code and take."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in EMO-DB (e.g. 03a01Fa.wav)"
    if parts["emotion"] not in EMOTIONS:
        return f"EMO-DB has no emotion {parts['emotion']!r}"
    return Clip(
        path=path,
        speaker=parts["speaker"],
        emotion=EMOTIONS[parts["emotion"]],
        gender=GENDERS.get(parts["speaker"], ""),
        language="de",
        extra={"text": parts["text"], "take": parts["take"]},
    )


def load(data: Path) -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Its default split is leave one speaker out.
    Raises CorpusError where the folder is missing, empty or holds no clip of EMO-DB.
    """
    clips, left_out = by_names(data, parse, "EMO-DB (03a01Fa.wav: speaker, text, emotion, take)")
    version = _VERSIONS.get(len(clips), f"unknown, {len(clips)} clips")
    return assemble("emodb", version, clips, left_out, data, split="loso")
