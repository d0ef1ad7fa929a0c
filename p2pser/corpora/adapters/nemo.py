"""nEMO (Christop, LREC-COLING 2024): Polish, nine actors, six emotions.

A name is speaker, emotion and number: ``EB0_anger_1.wav``, ``KS0_surprised_26.wav``. ``data.tsv`` beside the
recordings has the speakers' genders and the texts; audb's copy of the corpus has the genders in ``db.speaker.csv``.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.files import audformat_genders, beside, read_table
from p2pser.corpora.manifest import Clip, Corpus

EMOTIONS = {"anger": "anger", "fear": "fear", "happiness": "happiness", "neutral": "neutral", "sadness": "sadness",
            "surprised": "surprise"}


@CORPORA.register("nemo")
class Nemo(NamedClips):
    """Reads nEMO."""

    name = "nemo"
    about = About(
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

    pattern = re.compile(r"(?P<speaker>[A-Z]{2,3}\d)_(?P<emotion>[a-z]+)_\d+")
    emotions = EMOTIONS
    fields = "EB0_anger_1.wav: speaker, emotion, number"

    def clip(self, path: Path, parts: re.Match[str]) -> Clip:
        """Return the clip, without what the tables add."""
        return Clip(path=path, speaker=parts["speaker"], emotion=EMOTIONS[parts["emotion"]], language="pl")

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus, with genders and texts where its tables are there."""
        corpus = super().load(data)
        table = beside(data, "data.tsv")
        rows = read_table(table, ("file_id", "speaker_id", "gender"), "\t") if table else []
        genders = {row["speaker_id"]: row["gender"].lower()[:1] for row in rows} or audformat_genders(data)
        texts = {Path(row["file_id"]).stem: row.get("raw_text", "") for row in rows}
        clips = tuple(dataclasses.replace(clip, gender=genders.get(clip.speaker, ""),
                                          transcript=texts.get(clip.path.stem, "")) for clip in corpus.clips)
        notes = () if genders else ("without data.tsv beside the recordings genders and texts are not known",)
        return dataclasses.replace(corpus, clips=clips, notes=notes)
