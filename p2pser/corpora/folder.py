"""A folder with a sub-folder for each emotion: ``EMOTION/clip.wav``, or ``EMOTION/SPEAKER/clip.wav``.

The sub-folder's name is the label, under its usual name (``Angry`` is ``anger``). A folder below it names the speaker.
File names are not read: without folders of speakers the speaker is ``unknown``, and speaker-disjoint splits are refused
(a speaker guessed from a file name would make a split that only seems disjoint).
"""

from __future__ import annotations

from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.corpora.emotions import canonical
from p2pser.corpora.files import recordings
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus, assemble


def load(data: Path) -> Corpus:
    """Return the corpus in the folder ``data``.

    Files beside the emotions' folders are left out. Raises CorpusError where the folder is missing or empty, or none of
    its recordings lies in a sub-folder.
    """
    clips: list[Clip] = []
    left_out: list[tuple[Path, str]] = []
    for path in recordings(data):
        emotion, *speaker = path.relative_to(data).parts[:-1] or ("",)
        if not emotion:
            left_out.append((path, "it lies in no emotion's folder"))
            continue
        clips.append(Clip(path=path, speaker="/".join(speaker) or UNKNOWN, emotion=canonical(emotion)))
    if not clips:
        raise CorpusError(
            f"no recording in {data} lies in a sub-folder: put them into one folder for each emotion "
            "(EMOTION/SPEAKER/clip.wav)"
        )
    return assemble(data.resolve().name or "folder", "", clips, left_out, data)
