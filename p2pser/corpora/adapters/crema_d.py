"""CREMA-D, crowd-sourced emotional multimodal actors dataset (Cao et al., IEEE Trans. Affective Computing 5, 2014).

English, 91 actors, twelve sentences, six emotions. A name is actor, sentence, emotion and level:
``1001_DFA_ANG_XX.wav``. Tables in the repository's layout: ``VideoDemographics.csv`` (sexes),
``processedResults/tabulatedVotes.csv`` (the votes of about ten listeners on each clip, one row for each mode of
presentation; rows that begin with 1 are the voice alone) and ``processedResults/summaryTable.csv`` (the majority).
The acted and the perceived emotion differ for many clips, so they are two label sets.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, Adapter
from p2pser.corpora.files import audformat_genders, beside, by_names, clips_of, read_table
from p2pser.corpora.manifest import Clip, Corpus, assemble

EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
SENTENCES = {
    "DFA": "Don't forget a jacket.",
    "IEO": "It's eleven o'clock.",
    "IOM": "I'm on my way to the meeting.",
    "ITH": "I think I have a doctor's appointment.",
    "ITS": "I think I've seen this before.",
    "IWL": "I would like a new alarm clock.",
    "IWW": "I wonder what this is about.",
    "MTI": "Maybe tomorrow it will be cold.",
    "TAI": "The airplane is almost full.",
    "TIE": "That is exactly what happened.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
SILENT = ("1076_MTI_SAD_XX",)

_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")
_LETTERS = {code[0]: emotion for code, emotion in EMOTIONS.items()}
_VOICE = "1"  # the first of the six digits of a row's name in tabulatedVotes.csv
_SUMMARY, _VOTES = "processedResults/summaryTable.csv", "processedResults/tabulatedVotes.csv"


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or the reason why it describes none; ``extra``: sentence, level."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in CREMA-D (e.g. 1001_DFA_ANG_XX.wav)"
    actor, sentence, emotion, level = parts.groups()
    if emotion not in EMOTIONS or not "1001" <= actor <= "1091":
        return f"CREMA-D has no emotion {emotion} of actor {actor}"
    if path.stem in SILENT:
        return "it is silent, a known fault of the corpus"
    return Clip(
        path=path,
        speaker=actor,
        emotion=EMOTIONS[emotion],
        language="en",
        transcript=SENTENCES.get(sentence, ""),
        extra={"text": sentence, "level": LEVELS.get(level, "unspecified")},  # one file has X instead of XX
    )


@CORPORA.register("crema-d")
class CremaD(Adapter):
    """Reads CREMA-D."""

    name = "crema-d"
    about = About(
        title="CREMA-D",
        languages=("en",),
        speakers="91 (43 f, 48 m)",
        clips=7442,
        emotions=6,
        names="1001_DFA_ANG_XX.wav",
        licence="ODbL 1.0, contents DbCL 1.0",
        source="GitHub CheyneyComputerScience/CREMA-D (its recordings through git-LFS)",
        reference="Cao et al., CREMA-D: crowd-sourced emotional multimodal actors dataset, IEEE Transactions on "
                  "Affective Computing 5, 2014",
        tables="VideoDemographics.csv: genders; processedResults/tabulatedVotes.csv and summaryTable.csv: listeners' "
               "votes",
        variants={"voted": "the emotion that most listeners heard in the voice; ties are left out"},
    )

    def matches(self, path: Path) -> bool:
        """Return whether a file is named as in CREMA-D."""
        parts = _NAME.fullmatch(path.stem)
        return parts is not None and parts[3] in EMOTIONS

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus with the emotions as acted, or as ``voted`` by the listeners.

        ``votes`` are set where tabulatedVotes.csv is there. As voted, ``extra`` has the emotion ``acted``. Raises
        CorpusError where the votes are needed and neither table is there.
        """
        clips, left_out = by_names(data, parse, "named as in CREMA-D (1001_DFA_ANG_XX.wav)")
        demographics = beside(data, "VideoDemographics.csv")
        rows = read_table(demographics, ("actorid", "sex")) if demographics else []
        sexes = {row["actorid"]: row["sex"].lower()[:1] for row in rows} or audformat_genders(data)
        votes = _votes(data)
        clips = [dataclasses.replace(clip, gender=sexes.get(clip.speaker, ""), votes=votes.get(clip.path.stem, {}))
                 for clip in clips]
        if variant == "voted":
            clips = _as_voted(data, clips, left_out)
        notes = [] if sexes else ["without VideoDemographics.csv beside the recordings genders are not known"]
        return assemble(self.full_name(variant), clips_of(clips, 7441), clips, left_out, data, notes=notes)


def _votes(data: Path) -> dict[str, dict[str, float]]:
    """Return the shares of the listeners to the voice alone, by stem."""
    table = beside(data, _VOTES)
    if not table:
        return {}
    votes: dict[str, dict[str, float]] = {}
    for row in read_table(table, ("filename", *(letter.lower() for letter in _LETTERS))):
        if not row.get("", "").startswith(_VOICE):
            continue
        try:
            counts = {emotion: int(row[letter.lower()]) for letter, emotion in _LETTERS.items()}
        except ValueError:
            counts = {"": -1}
        if min(counts.values()) < 0:
            raise CorpusError(f"{table}: the votes on {row['filename']} are not counts")
        total = sum(counts.values())
        votes[row["filename"]] = {emotion: count / total for emotion, count in counts.items() if count > 0}
    return votes


def _as_voted(data: Path, clips: list[Clip], left_out: list[tuple[Path, str]]) -> list[Clip]:
    """Return the clips with the majority's emotions; those without one go to ``left_out``."""
    table = beside(data, _SUMMARY)
    if table:
        rows = read_table(table, ("filename", "voicevote"))
        majority = {row["filename"]: [_LETTERS.get(letter, letter) for letter in row["voicevote"].split(":")]
                    for row in rows}
    else:
        majority = {clip.path.stem: [emotion for emotion, share in clip.votes.items()
                                     if share == max(clip.votes.values())] for clip in clips if clip.votes}
    if not majority:
        raise CorpusError(f"the votes on CREMA-D are in {_SUMMARY}, which is not beside {data}: take it from the "
                          "corpus's repository, or name crema-d for the acted emotions")
    kept = []
    for clip in clips:
        emotions = majority.get(clip.path.stem, [])
        if len(emotions) == 1:
            kept.append(dataclasses.replace(clip, emotion=emotions[0],
                                            extra={**clip.extra, "acted": clip.emotion or ""}))
        else:
            tied = " and ".join(emotions)
            why = f"the listeners were divided between {tied}" if tied else "no listener voted on it"
            left_out.append((clip.path, why))
    return kept
