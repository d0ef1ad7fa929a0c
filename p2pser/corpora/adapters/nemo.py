"""nEMO (Christop, LREC-COLING 2024): Polish, nine actors, six emotions.

A name is speaker, emotion and number: ``EB0_anger_1.wav``, ``KS0_surprised_26.wav``. ``data.tsv`` beside the
recordings has the speakers' genders and the texts; as audb has the corpus, ``db.speaker.csv`` the genders.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from p2pser.corpora.adapters.about import About
from p2pser.corpora.adapters.files import audformat_genders, beside, by_names, counted, read_table
from p2pser.corpora.emotions import canonical
from p2pser.corpora.manifest import Clip, Corpus, assemble

ABOUT = About(
    title="nEMO",
    languages=("pl",),
    speakers="9",
    clips=4481,
    emotions=6,
    names="EB0_anger_1.wav",
    licence="CC BY-NC-SA 4.0",
    source="Hugging Face amu-cai/nEMO",
    reference="Christop, nEMO: dataset of emotional speech in Polish, LREC-COLING 2024",
    tables="data.tsv: genders and texts, or db.speaker.csv: genders",
)
EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprise")

_NAME = re.compile(r"([A-Z]{2,3}\d)_([a-z]+)_(\d+)")


def matches(path: Path) -> bool:
    """Return whether a file is named as in nEMO."""
    return isinstance(parse(path), Clip)


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in nEMO (e.g. EB0_anger_1.wav)"
    emotion = canonical(parts[2])  # surprise is written "surprised", the others as here
    if emotion not in EMOTIONS:
        return f"nEMO has no emotion {parts[2]!r}"
    return Clip(path=path, speaker=parts[1], emotion=emotion, language="pl")


def load(data: Path, variant: str = "") -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included).

    Raises CorpusError where the folder is missing, empty or holds no clip of nEMO, or data.tsv lacks its columns.
    """
    clips, left_out = by_names(data, parse, "named as in nEMO (EB0_anger_1.wav: speaker, emotion, number)")
    table = beside(data, "data.tsv")
    rows = read_table(table, ("file_id", "speaker_id", "gender"), "\t") if table else []
    genders = {row["speaker_id"]: row["gender"].lower()[:1] for row in rows} or audformat_genders(data)
    texts = {Path(row["file_id"]).stem: row.get("raw_text", "") for row in rows}
    clips = [dataclasses.replace(clip, gender=genders.get(clip.speaker, ""), transcript=texts.get(clip.path.stem, ""))
             for clip in clips]
    notes = [] if genders else ["without data.tsv beside the recordings genders and texts are not known"]
    return assemble("nemo", counted(len(clips), ABOUT.clips), clips, left_out, data, notes=notes)
