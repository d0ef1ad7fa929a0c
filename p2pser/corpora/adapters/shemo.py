"""ShEMO, Sharif emotional speech database (Mohamad Nezami et al., Language Resources and Evaluation 53, 2019).

Persian, 87 speakers of radio plays, six emotions. A name is speaker (gender, 2 digits), emotion (letter), number:
``F07W05.wav``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.corpora.adapters.about import About
from p2pser.corpora.adapters.files import by_names, counted
from p2pser.corpora.manifest import Clip, Corpus, assemble

ABOUT = About(
    title="ShEMO, Sharif emotional speech database",
    languages=("fa",),
    speakers="87 (31 f, 56 m)",
    clips=3000,
    emotions=6,
    names="F07W05.wav",
    licence="for research; see the publisher's page",
    source="GitHub mansourehk/ShEMO, or pariajm/sharif-emotional-speech-dataset",
    reference="Mohamad Nezami et al., ShEMO: a large-scale validated database for Persian speech emotion detection, "
              "Language Resources and Evaluation 53, 2019",
)
EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness", "W": "surprise", "F": "fear"}

_NAME = re.compile(r"([FM])(\d\d)([A-Z])(\d\d+)")


def matches(path: Path) -> bool:
    """Return whether a file is named as in ShEMO."""
    return isinstance(parse(path), Clip)


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none."""
    parts = _NAME.fullmatch(path.stem.upper())
    if not parts:
        return "not named as in ShEMO (e.g. F07W05.wav)"
    if parts[3] not in EMOTIONS:
        return f"ShEMO has no emotion {parts[3]!r}"
    return Clip(
        path=path,
        speaker=parts[1] + parts[2],
        emotion=EMOTIONS[parts[3]],
        gender=parts[1].lower(),
        language="fa",
    )


def load(data: Path, variant: str = "") -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Raises CorpusError where the folder is missing, empty or holds no clip of ShEMO.
    """
    clips, left_out = by_names(data, parse, "named as in ShEMO (F07W05.wav: speaker, emotion, number)",
                               key=lambda clip: clip.path.stem.upper())
    return assemble("shemo", counted(len(clips), ABOUT.clips), clips, left_out, data)
