"""IEMOCAP, interactive emotional dyadic motion capture (Busso et al., Language Resources and Evaluation 42, 2008).

English, five sessions of two actors each, scripted and improvised, 10,039 turns. The labels are in
``Session1/dialog/EmoEvaluation/*.txt``, lines ``[start - end]⇥turn⇥label⇥[V, A, D]`` (valence, arousal, dominance,
1 to 5, means over the listeners), each followed by those of the single listeners; the recordings are the turns,
``Session1/sentences/wav/DIALOGUE/TURN.wav``. The letter in the turn's last field is the speaker's gender; the letter in
the dialogue's name is that of the actor who wore the markers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.base.registries import CORPORA
from p2pser.corpora.adapter import About, Adapter
from p2pser.corpora.emotions import canonical
from p2pser.corpora.files import by_names, clips_of, files_below, text_of
from p2pser.corpora.manifest import Clip, Corpus, assemble

EMOTIONS = {"ang": "anger", "hap": "happiness", "sad": "sadness", "neu": "neutral", "exc": "excitement",
            "fru": "frustration", "dis": "disgust", "fea": "fear", "sur": "surprise"}
FOUR = {"ang": "anger", "hap": "happiness", "exc": "happiness", "sad": "sadness", "neu": "neutral"}

_TURN = re.compile(r"(Ses0\d)([FM])_((?:impro|script)\w*)_([FM])(\w+)")
_NUMBER = r"(\d+(?:\.\d+)?)"
_LINE = re.compile(rf"\[[\d. -]+\]\s+(\S+)\s+(\w+)\s+\[{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\]")
_LISTENER = re.compile(r"C-E\d+:\s*(.*?)\s*\(")
_SPOKEN = re.compile(r"(\S+) \[[\d. -]+\]: (.*)")


@dataclass
class Turn:
    """The labels of a turn: the majority's code, dimensions from 1 to 5, and the emotions named by each listener."""

    label: str
    valence: float
    arousal: float
    dominance: float
    listeners: list[list[str]] = field(default_factory=list)

    @property
    def votes(self) -> dict[str, float]:
        """The share of listeners by emotion; a listener who named several counts in part for each, "other" for none."""
        shares: dict[str, float] = defaultdict(float)
        for names in self.listeners:
            for name in names:
                shares[canonical(name)] += 1 / len(names) / len(self.listeners)
        known = set(EMOTIONS.values())
        return {emotion: min(share, 1.0) for emotion, share in sorted(shares.items()) if emotion in known}


def evaluations(data: Path) -> dict[str, Turn]:
    """Return the turns of all ``EmoEvaluation/Ses*.txt`` below ``data``.

    Raises CorpusError where there are none.
    """
    turns: dict[str, Turn] = {}
    for path in _texts(data, "EmoEvaluation"):
        turn = None
        for line in text_of(path).splitlines():
            if parts := _LINE.match(line):
                turn = turns[parts[1]] = Turn(parts[2], float(parts[3]), float(parts[4]), float(parts[5]))
            elif turn and (listener := _LISTENER.match(line)):
                names = [name.strip() for name in listener[1].split(";") if name.strip()]
                turn.listeners += [names] if names else []
    if not turns:
        raise CorpusError(f"IEMOCAP's labels are in SessionN/dialog/EmoEvaluation/*.txt, of which there are none below "
                          f"{data}: name the folder that holds the sessions")
    return turns


def _texts(data: Path, folder: str) -> list[Path]:
    return [path for path in files_below(data, frozenset({".txt"}))
            if path.parent.name == folder and path.name.startswith("Ses")]


@CORPORA.register("iemocap")
class Iemocap(Adapter):
    """Reads IEMOCAP."""

    name = "iemocap"
    about = About(
        title="IEMOCAP",
        languages=("en",),
        speakers="10 (5 f, 5 m)",
        clips=10039,
        emotions=9,
        names="Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        licence="for research, by form",
        source="the form at sail.usc.edu/iemocap",
        reference="Busso et al., IEMOCAP: interactive emotional dyadic motion capture database, Language Resources and "
                  "Evaluation 42, 2008",
        tables="SessionN/dialog/EmoEvaluation/*.txt: labels, needed; SessionN/dialog/transcriptions/*.txt: texts",
        variants={"4": "anger, happiness (with excitement), neutral, sadness: the usual 5,531 turns"},
    )

    def matches(self, path: Path) -> bool:
        """Return whether a file is named as a turn of IEMOCAP."""
        return _TURN.fullmatch(path.stem) is not None

    def load(self, data: Path, variant: str = "") -> Corpus:
        """Return the corpus whose sessions lie below ``data``: all turns, or those of the ``4`` classes.

        A turn on which the listeners did not agree, or labelled "other", has dimensions but no emotion. ``extra``:
        session, dialogue, scripted or improvised. Its default split is leave one speaker out.
        Raises CorpusError where the folder is missing, empty or holds no turn or no evaluation of IEMOCAP.
        """
        turns = evaluations(data)
        spoken = {text[1]: text[2].strip() for path in _texts(data, "transcriptions")
                  for line in text_of(path).splitlines() if (text := _SPOKEN.match(line))}

        def parse(path: Path) -> Clip | str:
            parts = _TURN.fullmatch(path.stem)
            if not parts:
                dialogue = re.fullmatch(r"Ses0\d[FM]_\w+", path.stem)
                return ("a whole dialogue; its turns are in sentences/wav" if dialogue
                        else "not named as a turn of IEMOCAP")
            turn = turns.get(path.stem)
            if turn is None:
                return "no evaluation names this turn"
            if variant == "4" and turn.label not in FOUR:
                return f"its label {turn.label} is not one of the 4 classes"
            session, _, scene, letter, _ = parts.groups()
            return Clip(
                path=path,
                speaker=session + letter,
                emotion=(FOUR if variant == "4" else EMOTIONS).get(turn.label),
                gender=letter.lower(),
                language="en",
                valence=turn.valence,
                arousal=turn.arousal,
                dominance=turn.dominance,
                transcript=spoken.get(path.stem, ""),
                extra={"session": session, "dialogue": f"{session}{parts[2]}_{scene}",
                       "kind": "scripted" if scene.startswith("script") else "improvised", "label": turn.label},
                votes=turn.votes,
            )

        clips, left_out = by_names(data, parse, "a labelled turn of IEMOCAP (Ses01F_impro01_F000.wav)")
        unnamed = sum(clip.emotion is None for clip in clips)
        notes = [f"{unnamed} turns have dimensions but no emotion, as the listeners did not agree"] if unnamed else []
        version = clips_of(clips, 5531 if variant else self.about.clips)
        return assemble(self.full_name(variant), version, clips, left_out, data, split="loso",
                        notes=notes, scale=(1.0, 5.0))
