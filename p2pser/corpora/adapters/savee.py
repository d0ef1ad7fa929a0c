"""SAVEE, Surrey audio-visual expressed emotion (Haq and Jackson, 2010).

English, four men, seven emotions. A name is emotion (one or two letters) and sentence, in the speaker's folder or
after the speaker: ``DC/a01.wav`` or ``DC_a01.wav``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.manifest import Clip

EMOTIONS = {"sa": "sadness", "su": "surprise", "a": "anger", "d": "disgust", "f": "fear", "h": "happiness",
            "n": "neutral"}
SPEAKERS = ("DC", "JE", "JK", "KL")


@CORPORA.register("savee")
class Savee(NamedClips):
    """Reads SAVEE."""

    name = "savee"
    about = About(
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
    # The codes of two letters come first: "sa01" is sadness, and no emotion is "s".
    pattern = re.compile(r"(?:(?P<speaker>DC|JE|JK|KL)_)?(?P<emotion>sa|su|a|d|f|h|n)(?P<text>\d\d)")
    emotions = EMOTIONS
    fields = "DC/a01.wav: speaker, emotion, sentence"
    split = "loso"

    def key(self, clip: Clip) -> tuple[str, str | None, str]:
        """Return speaker, emotion and sentence: the speaker is in the name or in the folder."""
        return clip.speaker, clip.emotion, clip.extra["text"]

    def clip(self, path: Path, parts: re.Match[str]) -> Clip | str:
        """Return the clip; ``extra``: sentence."""
        speaker = parts["speaker"] or path.parent.name
        if speaker not in SPEAKERS:
            return f"neither it nor its folder names a speaker of SAVEE ({', '.join(SPEAKERS)})"
        return Clip(path=path, speaker=speaker, emotion=EMOTIONS[parts["emotion"]], gender="m", language="en",
                    extra={"text": parts["text"]})
