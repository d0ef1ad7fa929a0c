"""RAVDESS, speech only (Livingstone and Russo, PLoS ONE 13(5), 2018).

English, 24 actors, eight emotions. A name is seven codes of two digits, ``03-01-05-02-01-02-16.wav``:
modality (03: audio only), channel (01: speech, 02: song), emotion, intensity, statement, repetition, actor
(odd: male).
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.speech.corpora.files import by_names
from p2pser.speech.manifest import Clip, Corpus, assemble

EMOTIONS = {"01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear",
            "07": "disgust", "08": "surprise"}
INTENSITIES = {"01": "normal", "02": "strong"}
ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))

_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


def matches(path: Path) -> bool:
    """Return whether a file is named as in RAVDESS (songs too)."""
    return _NAME.fullmatch(path.stem) is not None


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none; ``extra``: intensity, text,
    repetition."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in RAVDESS (e.g. 03-01-05-02-01-02-16.wav)"
    modality, channel, emotion, intensity, statement, repetition, actor = parts.groups()
    if channel != "01":
        return "a song, not speech" if channel == "02" else f"RAVDESS has no vocal channel {channel}"
    if modality != "03":
        return f"modality {modality}: not the audio-only recording"
    if emotion not in EMOTIONS or intensity not in INTENSITIES or actor not in ACTORS:
        return f"RAVDESS has no emotion {emotion}, intensity {intensity} of actor {actor}"
    return Clip(
        path=path,
        speaker=actor,
        emotion=EMOTIONS[emotion],
        gender="m" if int(actor) % 2 else "f",
        language="en",
        extra={"intensity": INTENSITIES[intensity], "text": statement, "repetition": repetition},
    )


def load(data: Path) -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Its default split is EmoBox's six folds where all 24 actors are there, else groups of speakers. Raises
    CorpusError where the folder is missing, empty or holds no clip of RAVDESS.
    """
    clips, left_out = by_names(data, parse, "RAVDESS (03-01-05-02-01-02-16.wav)")
    whole = {clip.speaker for clip in clips} == set(ACTORS)
    version = "1.0.0" if len(clips) == 1440 else f"1.0.0, {len(clips)} of 1440 clips"
    return assemble("ravdess", version, clips, left_out, data, split="emobox" if whole else None)
