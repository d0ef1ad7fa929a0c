"""EMOVO (Costantini et al., LREC 2014).

Italian, six actors, the big six and neutral. A name is emotion, speaker and sentence: ``rab-f1-b1.wav``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.corpora.adapters.about import About
from p2pser.corpora.adapters.files import by_names, counted
from p2pser.corpora.manifest import Clip, Corpus, assemble

ABOUT = About(
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
EMOTIONS = {"dis": "disgust", "gio": "happiness", "neu": "neutral", "pau": "fear", "rab": "anger", "sor": "surprise",
            "tri": "sadness"}

_NAME = re.compile(r"([a-z]{3})-([fm][123])-([a-z]\d)")


def matches(path: Path) -> bool:
    """Return whether a file is named as in EMOVO."""
    return isinstance(parse(path), Clip)


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none; ``extra``: sentence."""
    parts = _NAME.fullmatch(path.stem.lower())
    if not parts:
        return "not named as in EMOVO (e.g. rab-f1-b1.wav)"
    if parts[1] not in EMOTIONS:
        return f"EMOVO has no emotion {parts[1]!r}"
    return Clip(
        path=path,
        speaker=parts[2],
        emotion=EMOTIONS[parts[1]],
        gender=parts[2][0],
        language="it",
        extra={"text": parts[3]},
    )


def load(data: Path, variant: str = "") -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Its default split is leave one speaker out.
    Raises CorpusError where the folder is missing, empty or holds no clip of EMOVO.
    """
    clips, left_out = by_names(data, parse, "named as in EMOVO (rab-f1-b1.wav: emotion, speaker, sentence)",
                               key=lambda clip: clip.path.stem.lower())
    return assemble("emovo", counted(len(clips), ABOUT.clips), clips, left_out, data, split="loso")
