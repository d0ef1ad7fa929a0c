"""ESD, emotional speech data (Zhou et al., Speech Communication 137, 2022).

Mandarin and English, ten speakers each, five emotions. A name is speaker and number, below the emotion's folder:
``0011/Angry/0011_000351.wav``, or with folders train, test and evaluation in between. ``0011/0011.txt`` has the
texts.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, Adapter
from p2pser.corpora.files import by_names, clips_of, files_below, text_of
from p2pser.corpora.manifest import Clip, Corpus, assemble

EMOTIONS = {"angry": "anger", "happy": "happiness", "neutral": "neutral", "sad": "sadness", "surprise": "surprise"}
FEMALE = ("0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019")

_NAME = re.compile(r"(\d{4})_(\d{6})")
_PARTS = ("train", "test", "evaluation")


def parse(path: Path) -> Clip | str:
    """Return the clip that a file's name and folder describe, or the reason why they describe none.

    ``extra``: the authors' part (train, test, evaluation; the parts share speakers) where folders name it.
    """
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in ESD (e.g. 0011/Angry/0011_000351.wav)"
    speaker = parts[1]
    if not "0001" <= speaker <= "0020":
        return f"ESD has no speaker {speaker}"
    part = path.parent.name.lower()
    folder = path.parent.parent.name if part in _PARTS else path.parent.name
    if folder.lower() not in EMOTIONS:
        return f"its folder {folder} is not an emotion's of ESD ({', '.join(EMOTIONS)})"
    return Clip(
        path=path,
        speaker=speaker,
        emotion=EMOTIONS[folder.lower()],
        gender="f" if speaker in FEMALE else "m",
        language="zh" if speaker <= "0010" else "en",
        extra={"part": part} if part in _PARTS else {},
    )


@CORPORA.register("esd")
class ESD(Adapter):
    """Reads ESD."""

    name = "esd"
    about = About(
        title="ESD, emotional speech data",
        languages=("zh", "en"),
        speakers="20 (10 f, 10 m)",
        clips=35000,
        emotions=5,
        names="0011/Angry/0011_000351.wav",
        licence="for research, by form",
        source="the form at GitHub HLTSingapore/Emotional-Speech-Data",
        reference="Zhou et al., Emotional voice conversion: theory, databases and ESD, Speech Communication 137, 2022",
        tables="0011/0011.txt: texts",
        variants={"zh": "the ten Mandarin speakers", "en": "the ten English speakers"},
    )

    def matches(self, path: Path) -> bool:
        """Return whether a file is named, and lies, as in ESD."""
        return isinstance(parse(path), Clip)

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus, or its ``zh`` or ``en`` speakers."""

        def chosen(path: Path) -> Clip | str:
            clip = parse(path)
            if isinstance(clip, Clip) and variant and clip.language != variant:
                return f"speaker {clip.speaker} speaks {clip.language}, not {variant}"
            return clip

        clips, left_out = by_names(data, chosen,
                                   "named as in ESD (0011/Angry/0011_000351.wav: speaker, emotion, number)")
        speakers = {clip.speaker for clip in clips}
        texts: dict[str, str] = {}
        for table in files_below(data, frozenset({".txt"})):
            texts |= _texts(table) if table.stem in speakers else {}
        clips = [dataclasses.replace(clip, transcript=texts.get(clip.path.stem, "")) for clip in clips]
        whole = self.about.clips // 2 if variant else self.about.clips
        return assemble(self.full_name(variant), clips_of(clips, whole), clips, left_out, data)


def _texts(table: Path) -> dict[str, str]:
    rows = (line.split("\t") for line in text_of(table).splitlines())
    return {row[0].strip(): row[1].strip() for row in rows if len(row) > 1}
