"""A folder with sub-folders for emotions: EMOTION/clip.wav, EMOTION/SPEAKER/clip.wav or SPEAKER/EMOTION/clip.wav.

The sub-folder's name is the label, under its usual name (``Angry`` is ``anger``). The other folders on a clip's path
name its speaker, but for ``train``, ``test`` and the like. File names are not read: without folders of speakers the
speaker is ``unknown``, and speaker-disjoint splits are refused (a speaker guessed from a file name would make a split
that only seems disjoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.corpora.emotions import canonical, is_known
from p2pser.corpora.files import recordings
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus, assemble, names_digest

_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
"""Names, in lower case, of folders that name neither an emotion nor a speaker."""
SHOWN = 4
"""Names of folders that a note lists."""


def load(data: Path) -> Corpus:
    """Return the corpus in the folder ``data``.

    Files beside the emotions' folders are left out. Raises CorpusError where the folder is missing or empty, or none of
    its recordings lies in a sub-folder.
    """
    files = recordings(data)
    folders = [path.relative_to(data).parts[:-1] for path in files]
    level = _level(folders)
    clips: list[Clip] = []
    left_out: list[tuple[Path, str]] = []
    for path, names in zip(files, folders):
        if len(names) <= level:
            left_out.append((path, "it lies in no emotion's folder"))
            continue
        speaker = [name for name in names[:level] + names[level + 1:] if name.lower() not in _SPLITS]
        clips.append(Clip(path=path, speaker="/".join(speaker) or UNKNOWN, emotion=canonical(names[level])))
    if not clips:
        raise CorpusError(
            f"no recording in {data} lies in a sub-folder: put them into one folder for each emotion "
            "(EMOTION/SPEAKER/clip.wav)"
        )
    return assemble(data.resolve().name or "folder", names_digest(clips), clips, left_out, data,
                    notes=_notes(data, folders, level))


def named_by_folders(data: Path) -> int:
    """Return the number of recordings below ``data`` that lie in a folder with the name of a known emotion."""
    folders = [path.relative_to(data).parts[:-1] for path in recordings(data)]
    return _known_at(folders, _level(folders))


def _level(folders: Sequence[Sequence[str]]) -> int:
    """Return which of the folders on a clip's path, from 0, names its emotion.

    The first level on which the names of most are known emotions; where there is none, the first below a split's.
    """
    for level in range(max(map(len, folders), default=0)):
        if 2 * _known_at(folders, level) > sum(len(names) > level for names in folders):
            return level
    return 1 if all(names[0].lower() in _SPLITS for names in folders if names) else 0


def _known_at(folders: Sequence[Sequence[str]], level: int) -> int:
    return sum(len(names) > level and is_known(names[level]) for names in folders)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _notes(data: Path, folders: Sequence[Sequence[str]], level: int) -> list[str]:
    """Return sentences on how the folders were read, where they could be read otherwise."""
    above = sorted({names[:level] for names in map(tuple, folders) if len(names) > level})
    splits = sorted({name for names in folders for name in names if name.lower() in _SPLITS})
    notes = []
    if splits:
        notes.append(f"the folders {', '.join(splits)} in {data} are not taken as a split: p2pser makes its own")
    below = sorted({names[level + 1] for names in folders if len(names) > level + 1})
    if below and not _known_at(folders, level):
        emotions = sorted({names[level] for names in folders if len(names) > level})
        mend = f"give --data {data.joinpath(*above[0], emotions[0])}" if len(emotions) == len(above) == 1 else \
            "make folders EMOTION/SPEAKER, or list the clips in a manifest.csv"
        notes.append(f"no folder has the name of a known emotion: {_some(emotions)} count as emotions, and the folders "
                     f"below, {_some(below)}, as speakers; if those are the emotions, {mend}")
    if level and len(above) == 1 and above[0][-1].lower() not in _SPLITS:
        place = data.joinpath(*above[0])
        notes.append(f"the folder {place} counts as the one speaker of all clips below it; if it names none, "
                     f"give --data {place}")
    return notes
