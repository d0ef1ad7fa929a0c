"""JL, the corpus of James, Tian and Watson (Interspeech 2018).

New Zealand English, two actresses and two actors, five primary and five secondary emotions. A name is speaker,
emotion, sentence with its session, and take: ``female1_angry_1a_1.wav``.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, Adapter
from p2pser.corpora.files import by_names, clips_of
from p2pser.corpora.manifest import Clip, Corpus, assemble

PRIMARY = {"angry": "anger", "excited": "excitement", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}

_NAME = re.compile(r"((?:female|male)\d)_([a-z]+)_(\d+[a-z])_(\d+)", re.IGNORECASE)


def parse(path: Path, variant: str = "") -> Clip | str:
    """Return the clip that a file name describes, or the reason why it describes none; ``extra``: sentence, take.

    Secondary emotions (anxious, apologetic, assertive, ...) keep the corpus's own names.
    """
    parts = _NAME.fullmatch(path.stem.lower())
    if not parts:
        return "not named as in JL (e.g. female1_angry_1a_1.wav)"
    speaker, emotion, sentence, take = parts.groups()
    if variant == "primary" and emotion not in PRIMARY:
        return f"{emotion} is not one of JL's primary emotions"
    return Clip(
        path=path,
        speaker=speaker,
        emotion=PRIMARY.get(emotion, emotion),
        gender="f" if speaker.startswith("female") else "m",  # "male" is in both
        language="en",
        extra={"text": sentence, "take": take},
    )


@CORPORA.register("jl")
class JL(Adapter):
    """Reads JL corpus."""

    name = "jl"
    about = About(
        title="JL corpus",
        languages=("en",),
        speakers="4 (2 f, 2 m)",
        clips=2400,
        emotions=10,
        names="female1_angry_1a_1.wav",
        licence="CC0",
        source="Kaggle tli725/jl-corpus",
        reference="James, Tian and Watson, An open source emotional speech corpus for human robot interaction "
                  "applications, Interspeech 2018",
        variants={"primary": "the five primary emotions: anger, excitement, happiness, neutral, sadness"},
    )

    def matches(self, path: Path) -> bool:
        """Return whether a file is named as in JL."""
        return _NAME.fullmatch(path.stem) is not None

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus, or the clips of its ``primary`` emotions; its default split is leave one speaker out."""
        clips, left_out = by_names(data, lambda path: parse(path, variant),
                                   "named as in JL (female1_angry_1a_1.wav: speaker, emotion, sentence, take)",
                                   key=lambda clip: clip.path.stem.lower())
        whole = self.about.clips // 2 if variant else self.about.clips
        return assemble(self.full_name(variant), clips_of(clips, whole), clips, left_out, data, split="loso")
