"""MELD, multimodal EmotionLines dataset (Poria et al., ACL 2019): English, turns of the series Friends, seven emotions.

The labels are in ``train_sent_emo.csv``, ``dev_sent_emo.csv`` and ``test_sent_emo.csv``; the recordings are the sound
of the authors' videos, ``train/dia0_utt0.wav``. Ids repeat across the three parts, so a recording's folder must name
its part (train, dev or test in its name, as in the authors' ``train_splits``).
"""

from __future__ import annotations

import re
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, Adapter
from p2pser.corpora.emotions import canonical
from p2pser.corpora.files import beside, by_names, clips_of, files_below, read_table, recordings
from p2pser.corpora.manifest import Clip, Corpus, assemble

PARTS = ("train", "dev", "test")
GENDERS = {"Chandler": "m", "Joey": "m", "Monica": "f", "Phoebe": "f", "Rachel": "f", "Ross": "m"}

_NAME = re.compile(r"dia(\d+)_utt(\d+)")
_SEVERAL = re.compile(r"\b(all|both|everyone|everybody|guys|girls|crowd)\b|\band\b|[,&/]", re.IGNORECASE)


@CORPORA.register("meld")
class Meld(Adapter):
    """Reads MELD."""

    name = "meld"
    about = About(
        title="MELD",
        languages=("en",),
        speakers="about 300 (6 principal)",
        clips=13708,
        emotions=7,
        names="train/dia0_utt0.wav",
        licence="GPL 3 for the labels; the sound is the series' producers'",
        source="affective-meld.github.io (videos; extract their sound: ffmpeg -i dia0_utt0.mp4 -vn -ac 1 "
               "dia0_utt0.wav)",
        reference="Poria et al., MELD: a multimodal multi-party dataset for emotion recognition in conversations, ACL "
                  "2019",
        tables="train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv: labels, needed",
    )

    def matches(self, path: Path) -> bool:
        """Return whether a file is named as in MELD."""
        return _NAME.fullmatch(path.stem) is not None

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus in the folder ``data``.

        Turns of several simultaneous speakers are left out, as no split could be speaker-disjoint with them. ``extra``:
        the authors' part (train, dev, test; the parts share speakers), dialogue, sentiment.
        Raises CorpusError where the folder is missing, empty or holds no clip or no table of MELD, or only videos.
        """
        tables = {part: table for part in PARTS if (table := beside(data, f"{part}_sent_emo.csv"))}
        if not tables:
            raise CorpusError(f"MELD's labels are in train_sent_emo.csv, dev_sent_emo.csv and test_sent_emo.csv, none "
                              f"of which is in {data} or beside it: take them from the authors' repository")
        rows = {(part, row["dialogue_id"], row["utterance_id"]): row for part, table in tables.items()
                for row in read_table(table, ("utterance", "speaker", "emotion", "dialogue_id", "utterance_id"))}
        if files_below(data, frozenset({".mp4"})) and not files_below(data, frozenset({".wav", ".flac", ".mp3"})):
            raise CorpusError(f"{data} holds MELD's videos but not their sound: extract it a video, e.g. "
                              "ffmpeg -i dia0_utt0.mp4 -vn -ac 1 dia0_utt0.wav")

        below = any(_part(path, data) for path in recordings(data, []))
        alone = next(iter(tables)) if len(tables) == 1 else ""
        otherwise = alone if below else _named(data.name) or alone

        def parse(path: Path) -> Clip | str:
            parts = _NAME.fullmatch(path.stem)
            if not parts:
                return "not named as in MELD (e.g. train/dia0_utt0.wav)"
            part = _part(path, data) or otherwise
            if not part:
                return "no folder above it is named train, dev or test, and ids repeat across them"
            row = rows.get((part, str(int(parts[1])), str(int(parts[2]))))
            if row is None:
                return f"{part}_sent_emo.csv {'does not name it' if part in tables else 'is missing'}"
            if _SEVERAL.search(row["speaker"]):
                return f"several speak at once ({row['speaker']})"
            return Clip(
                path=path,
                speaker=row["speaker"],
                emotion=canonical(row["emotion"]),
                gender=GENDERS.get(row["speaker"], ""),
                language="en",
                transcript=row["utterance"],
                extra={"part": part, "dialogue": f"{part} {parts[1]}", "sentiment": row.get("sentiment", "")},
            )

        clips, left_out = by_names(data, parse, "a labelled turn of MELD (train/dia0_utt0.wav)",
                                   key=lambda clip: (clip.extra["part"], clip.path.stem))
        notes = [f"without {part}_sent_emo.csv its recordings have no labels" for part in PARTS if part not in tables]
        return assemble("meld", clips_of(clips, self.about.clips), clips, left_out, data, notes=notes)


def _part(path: Path, data: Path) -> str:
    """Return the part named by the nearest folder below ``data``; "" where none names one."""
    return next((part for folder in reversed(path.parent.relative_to(data).parts) if (part := _named(folder))), "")


def _named(folder: str) -> str:
    named = [part for part in PARTS if part in re.split(r"[^a-z]+", folder.lower())]
    return named[0] if len(named) == 1 else ""
