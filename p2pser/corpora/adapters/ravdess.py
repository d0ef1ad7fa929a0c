"""RAVDESS, speech and song (Livingstone and Russo, PLoS ONE 13(5), 2018).

English, 24 actors, eight emotions. A name is seven codes of two digits, ``03-01-05-02-01-02-16.wav``:
modality (03: audio only), channel (01: speech, 02: song), emotion, intensity, statement, repetition, actor
(odd: male). Actor 18 does not sing.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, Adapter
from p2pser.corpora.files import by_names, clips_of
from p2pser.corpora.manifest import Clip, Corpus, assemble

EMOTIONS = {"01": "neutral", "02": "calm", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear",
            "07": "disgust", "08": "surprise"}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))

_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_CHANNELS = {"01": "speech", "02": "song"}
_WHOLE = {"": 1440, "song": 1012, "all": 2452}
_SAME = {"03-01-03-01-02-02-07": "03-01-03-01-02-01-07"}
"""Clips with the same audio as another clip."""


def parse(path: Path, variant: str = "") -> Clip | str:
    """Return the clip that a file name describes, or the reason why it describes none.

    ``extra``: intensity, text, repetition, channel (not for speech alone), and ``same_audio_as`` where another clip
    holds the same recording.
    """
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in RAVDESS (e.g. 03-01-05-02-01-02-16.wav)"
    modality, channel, emotion, intensity, statement, repetition, actor = parts.groups()
    if channel not in _CHANNELS:
        return f"RAVDESS has no vocal channel {channel}"
    if variant != "all" and _CHANNELS[channel] != (variant or "speech"):
        return "a song, not speech" if channel == "02" else "speech, not a song"
    if modality != "03":
        return f"modality {modality}: not the audio-only recording"
    if emotion not in EMOTIONS or intensity not in INTENSITIES or actor not in ACTORS:
        return f"RAVDESS has no emotion {emotion}, intensity {intensity} of actor {actor}"
    extra = {"intensity": INTENSITIES[intensity], "text": statement, "repetition": repetition}
    if variant:
        extra["channel"] = _CHANNELS[channel]
    if path.stem in _SAME:
        extra["same_audio_as"] = _SAME[path.stem]
    return Clip(
        path=path,
        speaker=actor,
        emotion=EMOTIONS[emotion],
        gender="m" if int(actor) % 2 else "f",
        language="en",
        transcript=STATEMENTS.get(statement, ""),
        extra=extra,
    )


@CORPORA.register("ravdess")
class Ravdess(Adapter):
    """Reads RAVDESS."""

    name = "ravdess"
    about = About(
        title="RAVDESS",
        languages=("en",),
        speakers="24 (12 f, 12 m)",
        clips=1440,
        emotions=8,
        names="03-01-05-02-01-02-16.wav",
        licence="CC BY-NC-SA 4.0",
        source="Zenodo 1188976",
        reference="Livingstone and Russo, The Ryerson audio-visual database of emotional speech and song, PLoS ONE "
                  "13(5), 2018",
        variants={"song": "the songs: 1012 clips of 23 actors, 6 emotions", "all": "speech and song"},
    )

    def matches(self, path: Path) -> bool:
        """Return whether a file is named as in RAVDESS (songs too)."""
        return _NAME.fullmatch(path.stem) is not None

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus: speech, ``song``, or ``all``.

        Its default split is EmoBox's six folds for the speech of all 24 actors, else groups of speakers.
        """
        clips, left_out = by_names(data, partial(parse, variant=variant),
                                   "named as in RAVDESS (03-01-05-02-01-02-16.wav)")
        whole = not variant and {clip.speaker for clip in clips} == set(ACTORS)
        size = _WHOLE[variant]
        version = "1.0.0" if len(clips) == size else f"1.0.0, {clips_of(clips, size)}"
        stems = {clip.path.stem for clip in clips}
        notes = [f"{copy} is the same recording as {first}" for copy, first in _SAME.items() if {copy, first} <= stems]
        return assemble(self.full_name(variant), version, clips, left_out, data,
                        split="emobox" if whole else None, notes=notes)
