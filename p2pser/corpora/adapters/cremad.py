"""CREMA-D, crowd-sourced emotional multimodal actors dataset (Cao et al., IEEE Trans. Affective Computing 5, 2014).

English, 91 actors, twelve sentences, six emotions. A name is actor, sentence, emotion and level:
``1001_DFA_ANG_XX.wav``. Beside the recordings, in the repository's layout: ``VideoDemographics.csv`` (sexes),
``processedResults/tabulatedVotes.csv`` (what about ten listeners heard in each clip, a row a way of presentation, of
which those that begin with 1 are the voice alone) and ``processedResults/summaryTable.csv`` (their majority). As acted
and as heard differ in most clips, they are two label sets.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.corpora.adapters.about import About
from p2pser.corpora.adapters.files import audformat_genders, beside, by_names, counted, read_table
from p2pser.corpora.manifest import Clip, Corpus, assemble

ABOUT = About(
    title="CREMA-D",
    languages=("en",),
    speakers="91 (43 f, 48 m)",
    clips=7442,
    emotions=6,
    names="1001_DFA_ANG_XX.wav",
    licence="ODbL 1.0, contents DbCL 1.0",
    source="GitHub CheyneyComputerScience/CREMA-D (its recordings through git-LFS)",
    reference="Cao et al., CREMA-D: crowd-sourced emotional multimodal actors dataset, IEEE Transactions on Affective "
              "Computing 5, 2014",
    tables="VideoDemographics.csv: genders; processedResults/tabulatedVotes.csv and summaryTable.csv: listeners' votes",
    variants={"voted": "the emotion that most listeners heard in the voice; ties are left out"},
)
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


def matches(path: Path) -> bool:
    """Return whether a file is named as in CREMA-D."""
    parts = _NAME.fullmatch(path.stem)
    return parts is not None and parts[3] in EMOTIONS


def parse(path: Path) -> Clip | str:
    """Return the clip that a file name describes, or why it describes none; ``extra``: sentence, level."""
    parts = _NAME.fullmatch(path.stem)
    if not parts:
        return "not named as in CREMA-D (e.g. 1001_DFA_ANG_XX.wav)"
    actor, sentence, emotion, level = parts.groups()
    if emotion not in EMOTIONS or not "1001" <= actor <= "1091":
        return f"CREMA-D has no emotion {emotion} of actor {actor}"
    if path.stem in SILENT:
        return "it is silent, as the corpus's users know"
    return Clip(
        path=path,
        speaker=actor,
        emotion=EMOTIONS[emotion],
        language="en",
        transcript=SENTENCES.get(sentence, ""),
        extra={"text": sentence, "level": LEVELS.get(level, "unspecified")},  # one file says X for XX
    )


def load(data: Path, variant: str = "") -> Corpus:
    """Return the corpus in the folder ``data`` (sub-folders included): as acted, or as ``voted`` by the listeners.

    ``votes`` are the listeners' where tabulatedVotes.csv is there. As voted, ``extra`` has the emotion ``acted``.
    Raises CorpusError where the folder is missing, empty or holds no clip of CREMA-D, or where the votes are asked for
    and neither table is there.
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
    return assemble(f"crema-d:{variant}" if variant else "crema-d", counted(len(clips), 7441), clips, left_out, data,
                    notes=notes)


def _votes(data: Path) -> dict[str, dict[str, float]]:
    """Return, by stem, the shares of the listeners to the voice alone."""
    table = beside(data, _VOTES)
    if not table:
        return {}
    found: dict[str, dict[str, float]] = {}
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
        found[row["filename"]] = {emotion: count / total for emotion, count in counts.items() if count > 0}
    return found


def _as_voted(data: Path, clips: list[Clip], left_out: list[tuple[Path, str]]) -> list[Clip]:
    """Return the clips with the majority's emotions; those without one go to ``left_out``."""
    table = beside(data, _SUMMARY)
    if table:
        rows = read_table(table, ("filename", "voicevote"))
        heard = {row["filename"]: [_LETTERS.get(letter, letter) for letter in row["voicevote"].split(":")]
                 for row in rows}
    else:
        heard = {clip.path.stem: [emotion for emotion, share in clip.votes.items()
                                  if share == max(clip.votes.values())] for clip in clips if clip.votes}
    if not heard:
        raise CorpusError(f"the votes on CREMA-D are in {_SUMMARY}, which is not beside {data}: take it from the "
                          "corpus's repository, or name crema-d for the acted emotions")
    kept = []
    for clip in clips:
        emotions = heard.get(clip.path.stem, [])
        if len(emotions) == 1:
            kept.append(dataclasses.replace(clip, emotion=emotions[0],
                                            extra={**clip.extra, "acted": clip.emotion or ""}))
        else:
            why = f"the listeners were divided between {' and '.join(emotions)}" if emotions else "nobody voted on it"
            left_out.append((clip.path, why))
    return kept
