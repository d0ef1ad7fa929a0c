"""EMO-DB, the Berlin database of emotional speech (Burkhardt et al., Interspeech 2005).

German, ten actors, seven emotions. A name is speaker (2 digits), text (letter, 2 digits), emotion (letter),
take (letter): ``03a01Fa.wav``. The first published version holds the 535 clips whose emotion at least 80 % of the
listeners recognised; version 2.0 holds all 816, and a folder of laryngograph recordings with the same names.

A table beside the recordings holds the shares of the 20 listeners who recognised the emotion and who found it natural:
``erkennung.txt`` (version 1), ``listener_judgements.txt`` (2.0) or ``db.emotion.csv`` (published with audformat).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from p2pser.base.frames import finite
from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, NamedClips
from p2pser.corpora.files import beside, text_of
from p2pser.corpora.manifest import Clip, Corpus, assemble, names_digest

EMOTIONS = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness",
            "N": "neutral"}
GENDERS = {"03": "m", "08": "f", "09": "f", "10": "m", "11": "m", "12": "m", "13": "f", "14": "f", "15": "m",
           "16": "f"}
TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute Abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Blatt Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

_VERSIONS = {535: "1", 816: "2.0"}
_TABLES = ("erkennung.txt", "listener_judgements.txt", "db.emotion.csv")
_COLUMNS = {"recognition_pct": ("erkannt", "recogn", "emotion.confidence"), "naturalness_pct": ("nat", "emotion.nat")}


@CORPORA.register("emodb")
class EmoDB(NamedClips):
    """Reads EMO-DB."""

    name = "emodb"
    about = About(
        title="EMO-DB, Berlin database of emotional speech",
        languages=("de",),
        speakers="10 (5 f, 5 m)",
        clips=535,
        emotions=7,
        names="03a01Fa.wav",
        licence="CC0 or CC BY 4.0, depending on the publisher",
        source="Zenodo 7447302 (version 1, 535 clips), Zenodo 17651657 (version 2.0, 816 clips)",
        reference="Burkhardt et al., A database of German emotional speech, Interspeech 2005",
        tables="erkennung.txt, listener_judgements.txt or db.emotion.csv: how many listeners recognised the emotion",
    )

    pattern = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<emotion>[A-Z])(?P<take>[a-z])")
    emotions = EMOTIONS
    fields = "03a01Fa.wav: speaker, text, emotion, take"

    def stem(self, path: Path) -> str:
        """Return the stem without the ``xx`` of some copies."""
        return path.stem.removesuffix("xx")

    def clip(self, path: Path, parts: re.Match[str]) -> Clip | str:
        """Return the clip; ``extra``: text code and take."""
        folder = path.parent.name
        if "laryng" in folder.lower():
            return f"in {folder}: a laryngograph recording (of stereo files too, whose first channel is speech)"
        return Clip(path=path, speaker=parts["speaker"], emotion=EMOTIONS[parts["emotion"]],
                    gender=GENDERS.get(parts["speaker"], ""), language="de", transcript=TEXTS.get(parts["text"], ""),
                    extra={"text": parts["text"], "take": parts["take"]})

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus; its default split is leave one speaker out.

        Where the table of judgements is there, ``extra`` has ``recognition_pct`` and ``naturalness_pct``, and ``votes``
        the share of listeners who recognised the emotion.
        """
        clips, left_out = self.clips(data)
        table = next((path for name in _TABLES if (path := beside(data, name))), None)
        judged = judgements(table) if table else {}
        clips = [_judged(clip, judged.get(self.stem(clip.path), {})) for clip in clips]
        version = _VERSIONS.get(len(clips), f"unknown, {len(clips)} clips, {names_digest(clips)}")
        return assemble("emodb", version, clips, left_out, data, split="loso")


def judgements(table: Path) -> dict[str, dict[str, float]]:
    """Return the listeners' judgements in one of the tables, by stem: percent, under the names of ``extra``.

    Accepts the decimal commas, percent signs and hard spaces of the tables. Raises CorpusError where the table cannot
    be read.
    """
    lines = [line.replace("\xa0", " ").strip() for line in text_of(table).splitlines() if line.strip()]
    if not lines:
        return {}
    separator = "," if table.suffix == ".csv" else "\t" if "\t" in lines[0] else None
    scale = 100.0 if table.suffix == ".csv" else 1.0
    header = [name.strip().lower() for name in lines[0].split(separator)]
    places = {ours: place for ours, theirs in _COLUMNS.items()
              for place, name in enumerate(header) if name.startswith(theirs)}
    judged: dict[str, dict[str, float]] = {}
    for line in lines[1:]:
        values = [value.strip() for value in line.split(separator)]
        numbers = {ours: _number(values[place]) for ours, place in places.items() if place < len(values)}
        stem = Path(values[0].replace("\\", "/")).stem.removesuffix("xx")
        judged[stem] = {ours: number * scale for ours, number in numbers.items() if number is not None}
    return judged


def _number(text: str) -> float | None:
    try:
        return finite(float(text.rstrip("% ").replace(",", ".")))
    except ValueError:
        return None


def _judged(clip: Clip, judged: Mapping[str, float]) -> Clip:
    extra = {**clip.extra, **{name: f"{percent:.2f}" for name, percent in judged.items()}}
    share = judged.get("recognition_pct", 0.0) / 100
    votes = {clip.emotion: share} if clip.emotion and 0 < share <= 1 else {}
    return dataclasses.replace(clip, extra=extra, votes=votes)
