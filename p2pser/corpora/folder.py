"""A folder with sub-folders for emotions: EMOTION/clip.wav, EMOTION/SPEAKER/clip.wav or SPEAKER/EMOTION/clip.wav.

The sub-folder's name is the label, under its usual name (``Angry`` is ``anger``). The other folders on a clip's path
name its speaker, but for ``train``, ``test`` and the like, and for sessions below a speaker (``visit1``, ``post``).
File names are not read: without folders of speakers the speaker is ``unknown``, and speaker-disjoint splits are refused
(a speaker guessed from a file name would make a split that only seems disjoint).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from p2pser.base.errors import CorpusError
from p2pser.base.wording import some
from p2pser.corpora.emotions import canonical, is_known
from p2pser.corpora.files import recordings
from p2pser.corpora.folder_names import is_session, is_split
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus, assemble, names_digest

_Names = tuple[str, ...]
"""Folders, one below the other."""


def load(data: Path) -> Corpus:
    """Return the corpus in the folder ``data``.

    Files beside the emotions' folders are left out. Raises CorpusError where the folder is missing or empty, or none of
    its recordings lies in a sub-folder.
    """
    left_out: list[tuple[Path, str]] = []
    files = recordings(data, left_out)
    folders = [path.relative_to(data).parts[:-1] for path in files]
    level = _level(folders)
    places = _places(folders, level)
    others = [_others(names, place) for names, place in zip(folders, places)]
    sessions = _sessions(others)
    clips: list[Clip] = []
    for path, names, place, above in zip(files, folders, places, others):
        if place is None:
            left_out.append((path, "it lies in no emotion's folder"))
            continue
        clips.append(Clip(path=path, speaker="/".join(_speaker(above, sessions)) or UNKNOWN,
                          emotion=canonical(names[place])))
    if not clips:
        raise CorpusError(
            f"no recording in {data} lies in a sub-folder: put them into one folder for each emotion "
            "(EMOTION/SPEAKER/clip.wav)"
        )
    notes = [*_notes(data, folders, level), *_moved(folders, places, level),
             *_notes_on_speakers(data, sorted({each for each, place in zip(others, places) if place is not None}),
                                 sessions)]
    return assemble(data.resolve().name or "folder", names_digest(clips), clips, left_out, data, notes=notes)


def named_by_folders(data: Path) -> int:
    """Return the number of recordings below ``data`` that lie in a folder with the name of a known emotion."""
    folders = [path.relative_to(data).parts[:-1] for path in recordings(data, [])]
    return _known_at(folders, _level(folders))


def _level(folders: Sequence[_Names]) -> int:
    """Return which of the folders on a clip's path, from 0, names its emotion.

    The first level on which the names of most are known emotions; where there is none, the first below a split's.
    """
    for level in range(max(map(len, folders), default=0)):
        if 2 * _known_at(folders, level) > sum(len(names) > level for names in folders):
            return level
    return 1 if all(is_split(names[0]) for names in folders if names) else 0


def _known_at(folders: Sequence[_Names], level: int) -> int:
    return sum(len(names) > level and is_known(names[level]) for names in folders)


def _places(folders: Sequence[_Names], level: int) -> list[int | None]:
    """Return for each path which of its folders names the emotion; None: none does.

    It is the one on the common ``level``, but where the name there is none of a known emotion and stands with two
    emotions or more on another level (SPEAKER/EMOTION among EMOTION/SPEAKER), or the path does not go so far.
    """
    known = [next((place for place, name in enumerate(names) if is_known(name)), None) for names in folders]
    beside: dict[str, set[str]] = {}
    for names, place in zip(folders, known):
        if len(names) > level:
            beside.setdefault(names[level], set()).add("" if place is None else canonical(names[place]))
    return [place if len(names) <= level else
            level if is_known(names[level]) or "" in beside[names[level]] or len(beside[names[level]]) < 2 else place
            for names, place in zip(folders, known)]


def _others(names: _Names, place: int | None) -> _Names:
    """Return the folders on a path that may name its speaker."""
    return tuple(name for level, name in enumerate(names) if level != place and not is_split(name))


def _sessions(paths: Sequence[_Names]) -> set[_Names]:
    """Return the folders below a speaker that are sessions: where at least half of those side by side are named so."""
    below: dict[_Names, set[str]] = {}
    for names in paths:
        for level in range(1, len(names)):
            below.setdefault(names[:level], set()).add(names[level])
    return {(*above, name) for above, names in below.items() if 2 * sum(map(is_session, names)) >= len(names)
            for name in names}


def _speaker(names: _Names, sessions: set[_Names]) -> _Names:
    return tuple(name for level, name in enumerate(names) if names[:level + 1] not in sessions)


def _notes(data: Path, folders: Sequence[_Names], level: int) -> list[str]:
    """Return sentences on how the folders were read, where they could be read otherwise."""
    above = sorted({names[:level] for names in folders if len(names) > level})
    splits = sorted({name for names in folders for name in names if is_split(name)})
    notes = []
    if splits:
        notes.append(f"the folders {', '.join(splits)} in {data} are not taken as a split: p2pser makes its own")
    below = sorted({names[level + 1] for names in folders if len(names) > level + 1})
    if below and not _known_at(folders, level):
        emotions = sorted({names[level] for names in folders if len(names) > level})
        mend = f"give --data {data.joinpath(*above[0], emotions[0])}" if len(emotions) == len(above) == 1 else \
            "make folders EMOTION/SPEAKER, or list the clips in a manifest.csv"
        notes.append(f"no folder has the name of a known emotion: {some(emotions)} count as emotions, and the folders "
                     f"below, {some(below)}, as speakers; if those are the emotions, {mend}")
    if level and len(above) == 1 and not is_split(above[0][-1]):
        place = data.joinpath(*above[0])
        notes.append(f"the folder {place} counts as the one speaker of all clips below it; if it names none, "
                     f"give --data {place}")
    return notes


def _moved(folders: Sequence[_Names], places: Sequence[int | None], level: int) -> list[str]:
    """Return a note on the folders on the emotions' level that name no emotion, where another folder on the path does.
    """
    moved = sorted({names[level] for names, place in zip(folders, places) if len(names) > level and place != level})
    return [f"{_count(moved, 'speaker')}, not as emotions: the names are none of emotions, and other folders on these "
            "paths have such names"] if moved else []


def _notes_on_speakers(data: Path, paths: Sequence[_Names], sessions: set[_Names]) -> list[str]:
    """Return notes on folders that were not taken as speakers, and on those that may not be."""
    mend = f"give each clip's speaker in a manifest ({_writes_manifest(data)} writes one)"
    notes = []
    if sessions:
        notes.append(f"{_count(sorted({names[-1] for names in sessions}), 'session')} of the speaker above, not as "
                     f"speakers; if that is wrong, {mend}")
    if named := sorted({names[0] for names in paths if names and is_session(names[0])}):
        notes.append(f"{_count(named, 'speaker')}, with names of sessions; if one person is in several, {mend}")
    speakers = sorted({_speaker(each, sessions) for each in paths})
    if below := [names for names in speakers if any(names[:level] in speakers for level in range(1, len(names)))]:
        above = next("/".join(names) for names in speakers if names and names == below[0][:len(names)])
        notes.append(f"{_count(['/'.join(names) for names in below], 'speaker')} beside the one above ({above}), "
                     f"which has clips too; if that is one person, {mend}")
    recurs: dict[str, set[str]] = {}
    for names in speakers:
        for level in range(1, len(names)):
            recurs.setdefault(names[level], set()).add("/".join(names[:level]))
    if again := sorted(name for name, places in recurs.items() if len(places) > 1):
        first, second = sorted(recurs[again[0]])[:2]
        notes.append(f"{_count(again, 'speaker')} in each of several folders ({first}/{again[0]} and "
                     f"{second}/{again[0]} are two); if that is one person, or none, {mend}")
    return notes


def _count(names: Sequence[str], what: str) -> str:
    return f"the folder {names[0]} counts as a {what}" if len(names) == 1 else \
        f"the folders {some(names)} count as {what}s"


def _writes_manifest(data: Path) -> str:
    return f"p2pser corpus scan {shlex.quote(str(data))} --manifest {shlex.quote(str(data / 'manifest.csv'))}"
