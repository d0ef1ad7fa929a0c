"""SAVEE, Surrey audio-visual expressed emotion (Haq and Jackson, 2010).

English, four men, seven emotions. A name is emotion (one or two letters) and sentence, in the speaker's folder or
after the speaker: ``DC/a01.wav`` or ``DC_a01.wav``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.corpora.adapters.about import About
from p2pser.corpora.adapters.files import by_names, counted
from p2pser.corpora.manifest import Clip, Corpus, assemble

ABOUT = About(
    title="SAVEE, Surrey audio-visual expressed emotion",
    languages=("en",),
    speakers="4 (4 m)",
    clips=480,
    emotions=7,
    names="DC/a01.wav or DC_a01.wav",
    licence="for research, by registration",
    source="the registration form of the University of Surrey: kahlan.eps.surrey.ac.uk/savee",
    reference="Haq and Jackson, Multimodal emotion recognition, in Machine Audition, IGI Global, 2010",
)
EMOTIONS = {"sa": "sadness", "su": "surprise", "a": "anger", "d": "disgust", "f": "fear", "h": "happiness",
            "n": "neutral"}
SPEAKERS = ("DC", "JE", "JK", "KL")

# The codes of two letters stand first: "sa01" is sadness, and no emotion is "s".
_NAME = re.compile(r"(?:(DC|JE|JK|KL)_)?(sa|su|a|d|f|h|n)(\d\d)")


def matches(path: Path) -> bool:
    """Return whether a file is named, and lies, as in SAVEE."""
    return isinstance(parse(path), Clip)


def parse(path: Path) -> Clip | str:
    """Return the clip that a file's name and folder describe, or why they describe none; ``extra``: sentence."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in SAVEE (e.g. DC/a01.wav)"
    speaker = parts[1] or path.parent.name
    if speaker not in SPEAKERS:
        return f"it names no speaker of SAVEE, nor does its folder ({', '.join(SPEAKERS)})"
    return Clip(
        path=path,
        speaker=speaker,
        emotion=EMOTIONS[parts[2]],
        gender="m",
        language="en",
        extra={"text": parts[3]},
    )


def load(data: Path, variant: str = "") -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Its default split is leave one speaker out.
    Raises CorpusError where the folder is missing, empty or holds no clip of SAVEE.
    """
    clips, left_out = by_names(data, parse, "named as in SAVEE (DC/a01.wav: speaker, emotion, sentence)",
                               key=lambda clip: (clip.speaker, clip.emotion, clip.extra["text"]))
    return assemble("savee", counted(len(clips), ABOUT.clips), clips, left_out, data, split="loso")
