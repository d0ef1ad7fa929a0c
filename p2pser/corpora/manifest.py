"""A corpus in memory, and as a manifest: a CSV with one line for each clip."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pser.base.atomic import put
from p2pser.base.errors import CorpusError
from p2pser.base.wording import counted, shown
from p2pser.corpora.emotions import DIMENSIONS, canonical
from p2pser.corpora.manifest_rows import (
    COLUMNS,
    CORPUS,
    QUOTED,
    SYNTHETIC,
    UNTIL,
    VOTES,
    Files,
    gender,
    language,
    last_day,
    meant,
    number,
    quoted,
    read_text,
    table,
    truth,
    word,
)

ARRAYS = "arrays"
"""The name of a corpus of features that p2pser did not compute, whose clips are no recordings."""

NO_TEXT = "its name is not UTF-8 text: rename it (convmv renames many at once)"

UNKNOWN = "unknown"
"""The speaker of a clip whose speaker is not known: no split can be speaker-disjoint with it."""


@dataclass(frozen=True)
class Clip:
    """One recording with its labels.

    ``path`` can be opened as it is. ``gender`` is ``"f"``, ``"m"`` or ``""``; ``language`` an ISO 639-1 code
    or ``""``; the dimensions are in the corpus's own scale. ``extra`` holds further facts of the corpus. ``votes`` are
    the shares, above 0, of listeners by the emotion that they named. Their sum is at most 1; the rest named emotions
    that the corpus does not publish (EMO-DB publishes only the share that agreed). ``corpus`` names the clip's corpus
    where there are several, else ``""``.
    """

    path: Path
    speaker: str
    emotion: str | None
    gender: str = ""
    language: str = ""
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    transcript: str = ""
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    votes: Mapping[str, float] = field(default_factory=dict, hash=False)
    corpus: str = ""


@dataclass(frozen=True)
class Part:
    """One of several corpora in a combined one: its clips are those whose ``corpus`` is its name."""

    name: str
    version: str
    synthetic: bool
    default_split: str
    root: Path


@dataclass(frozen=True)
class Corpus:
    """Clips, sorted by corpus and path below ``root``, and the files that were left out, each with the reason.

    ``default_split`` is the meaning of ``auto`` for this corpus; ``notes`` are sentences for its user. ``parts`` are
    the corpora that it combines, sorted, if any (``p2pser.corpora.combined``). ``scale`` holds the lowest and the
    highest value of its dimensions.
    """

    name: str
    version: str
    clips: tuple[Clip, ...]
    left_out: tuple[tuple[Path, str], ...] = ()
    synthetic: bool = False
    default_split: str = "group:4"
    root: Path = Path()
    notes: tuple[str, ...] = ()
    scale: tuple[float, float] = (-1.0, 1.0)
    parts: tuple[Part, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, sorted."""
        return tuple(sorted({clip.speaker for clip in self.clips}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, sorted."""
        return tuple(sorted({clip.emotion for clip in self.clips if clip.emotion is not None}))

    @property
    def names_speakers(self) -> bool:
        """Whether every clip has a named speaker."""
        return all(clip.speaker not in ("", UNKNOWN) for clip in self.clips)

    def relative(self, clip: Clip) -> str:
        """Return the clip's path below the corpus's root, with forward slashes: equal on every machine.

        In a combined corpus it begins with the name of the clip's corpus.
        """
        for part in self.parts:
            if part.name == clip.corpus:
                return f"{part.name}/{relative(clip.path, part.root)}"
        return relative(clip.path, self.root)


def names_digest(clips: Iterable[Clip]) -> str:
    """Return 8 hex digits over the names, speakers and emotions of clips: equal for copies in another format."""
    names = sorted((clip.speaker, clip.path.stem, clip.emotion or "") for clip in clips)
    return hashlib.blake2b(json.dumps(names).encode(), digest_size=4).hexdigest()


def relative(path: Path, root: Path) -> str:
    """Return ``path`` below ``root`` with forward slashes; a path elsewhere is returned unchanged."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


def assemble(
    name: str,
    version: str,
    clips: Iterable[Clip],
    left_out: Iterable[tuple[Path, str]],
    root: Path,
    *,
    split: str | None = None,
    synthetic: bool = False,
    notes: Iterable[str] = (),
    scale: tuple[float, float] = (-1.0, 1.0),
) -> Corpus:
    """Return the corpus of these clips, sorted, with its defaults.

    Parameters
    ----------
    name, version : the corpus's.
    clips : the clips, in any order.
    left_out : the files that were left out, each with the reason.
    root : the folder that the paths of clips are relative to.
    split : the default split; None: ``group:4`` (``group:K`` with K speakers where they are fewer).
    synthetic : whether it is synthetic speech.
    notes : sentences for the corpus's user.
    scale : the lowest and highest value of the dimensions.
    """
    given, unwritable = [], []
    for clip in clips:
        if _is_text(clip, root):
            given.append(clip)
        else:
            unwritable.append((clip.path, NO_TEXT))
    left_out = [*left_out, *unwritable]
    ordered = tuple(sorted(given, key=lambda clip: (clip.corpus, relative(clip.path, root))))
    speakers = {clip.speaker for clip in ordered}
    return Corpus(
        name=name,
        version=version,
        clips=ordered,
        left_out=tuple(sorted(left_out, key=lambda item: relative(item[0], root))),
        synthetic=synthetic,
        default_split=split or f"group:{max(2, min(4, len(speakers)))}",
        root=root,
        notes=(*notes, *alike(speakers)),
        scale=scale,
    )


def _is_text(clip: Clip, root: Path) -> bool:
    """Return whether a clip's names can be written: file systems take any bytes, results hold UTF-8."""
    try:
        f"{relative(clip.path, root)}{clip.speaker}{clip.emotion}".encode()
    except UnicodeEncodeError:
        return False
    return True


def alike(speakers: Iterable[str]) -> list[str]:
    """Return a note for each group of speakers whose names differ in case, zeros in front or Unicode form only."""
    groups: dict[str, list[str]] = {}
    for speaker in sorted(speakers):
        plain = unicodedata.normalize("NFC", speaker).casefold()
        groups.setdefault(re.sub(r"(?<!\d)0+(?=\d)", "", plain), []).append(speaker)
    return [f"the speakers {', '.join(map(repr, same))} count as {len(same)}; if they are one person, give one name"
            for same in groups.values() if len(same) > 1]


def read_manifest(path: Path | str, *, labelled: bool = True) -> Corpus:
    """Return the corpus that a manifest describes.

    A CSV (comma, semicolon or tab; UTF-8) with a header; columns as in ``COLUMNS``, in any order, of which
    ``path`` and one of emotion, arousal, valence and dominance are required. ``votes.EMOTION``, a share between 0 and
    1, goes to ``Clip.votes``, ``corpus`` names a clip's corpus, other columns go to ``Clip.extra``. Paths are relative
    to the manifest's folder; emotions get their usual names. A row whose file is missing, that repeats a path, has no
    label or does not fit the header is left out, with the reason. A column ``synthetic`` that says yes for every clip
    (anything but 0, false and no) marks the corpus as synthetic. ``purpose``, ``consent_until`` and ``licence`` go to
    ``Clip.extra`` too (see ``p2pser.corpora.consent``).

    labelled : whether clips need a label; without, a manifest of recordings to predict needs ``path`` alone.

    Raises CorpusError where the file cannot be read, a required column is missing, a ``consent_until`` is no day, or no
    clip is left.
    """
    path = Path(path)
    content, text = read_text(path)
    header, rows = table(path, text)
    if labelled and not {"emotion", *DIMENSIONS} & set(header):
        raise CorpusError(f"the manifest {path} has no label: it needs a column emotion, arousal, valence or dominance"
                          f"{meant('emotion', header)}")
    files = Files(path.parent)
    clips: list[Clip] = []
    left_out: list[tuple[Path, str]] = []
    seen: dict[Path, str | None] = {}
    for line, values in rows:
        where = path
        _check_consent(path, line, dict(zip(header, values)))
        try:
            clip = _clip(header, values, files, labelled=labelled)
            where = clip.path
            clips.append(_usable(clip, files, seen, labelled=labelled))
            seen[where] = clip.emotion
        except ValueError as error:
            left_out.append((where, f"line {line} of {path.name}: {error}"))
            seen.setdefault(where, None)
    if not clips:
        why = f"; the first, {shown(str(left_out[0][0]), QUOTED)}: {left_out[0][1]}" if left_out else ""
        raise CorpusError(f"the manifest {path} has no usable clip{why}")
    version = hashlib.blake2b(content, digest_size=4).hexdigest()
    name = path.parent.resolve().name if path.stem == "manifest" else path.stem
    synthetic = all(truth(clip.extra.get(SYNTHETIC, "")) for clip in clips)
    speakers = "" if "speaker" in header else meant("speaker", header)
    notes = [f"the manifest {path} has no column 'speaker'{speakers}"] if speakers else []
    return assemble(name or "manifest", version, clips, left_out, path.parent, synthetic=synthetic, notes=notes)


def _check_consent(path: Path, line: int, row: Mapping[str, str]) -> None:
    """Refuse the manifest where a consent ends on no day: such a clip must neither be used nor be missed in silence."""
    try:
        last_day(row.get(UNTIL, ""))
    except ValueError as error:
        raise CorpusError(f"line {line} of the manifest {path}: {UNTIL} = {error}") from None


def _usable(clip: Clip, files: Files, seen: Mapping[Path, str | None], *, labelled: bool) -> Clip:
    """Return the clip. Raises ValueError where a required label or its file is missing, or an earlier line names that
    file.
    """
    if clip.path in seen:
        other = None not in (first := seen[clip.path], clip.emotion) and first != clip.emotion
        raise ValueError("an earlier line names the same file" + (
            " with another emotion: leave the wrong line out" if other else ""))
    if labelled and clip.emotion is None and clip.arousal is None and clip.valence is None and clip.dominance is None:
        raise ValueError("it has no label")
    missing = files.missing(clip.path)
    if missing:
        raise ValueError(missing)
    return clip


def _clip(header: Sequence[str], values: Sequence[str], files: Files, *, labelled: bool) -> Clip:
    """Return the clip of one row, without gender and language where clips need no label; raises ValueError, with the
    reason, where a cell does not fit.
    """
    if len(values) != len(header):
        mend = "quote fields that hold the separator" if len(values) > len(header) else "its last fields are missing"
        raise ValueError(f"it has {counted(len(values), 'field')} where the header has {len(header)}: {mend}")
    row = {name: value.strip() for name, value in zip(header, values)}

    def number_in(name: str) -> float | None:
        try:
            return number(row.get(name, ""))
        except ValueError:
            raise ValueError(f"{name} = {quoted(row[name])} is not a number") from None

    votes: dict[str, float] = {}
    for name in row:
        share = number_in(name) if name.startswith(VOTES) else None
        if share:
            emotion = canonical(name.removeprefix(VOTES))
            votes[emotion] = votes.get(emotion, 0.0) + share
    if any(share < 0 for share in votes.values()) or sum(votes.values()) > 1 + 1e-6:
        raise ValueError("the votes are shares of the listeners, from 0 to 1 and together at most 1, not "
                         f"{shown(str(votes), QUOTED)}")
    return Clip(
        path=files.path(row["path"]),
        speaker=word(row.get("speaker", "")) or UNKNOWN,
        emotion=canonical(word(row.get("emotion", ""))) or None,
        gender=gender(row.get("gender", "")) if labelled else "",
        language=language(row.get("language", "")) if labelled else "",
        arousal=number_in("arousal"),
        valence=number_in("valence"),
        dominance=number_in("dominance"),
        transcript=row.get("transcript", ""),
        extra={key: text for key, text in row.items()
               if key not in ("", CORPUS, *COLUMNS) and not key.startswith(VOTES) and text},
        votes=votes,
        corpus=row.get(CORPUS, ""),
    )


def write_manifest(corpus: Corpus, path: Path | str) -> None:
    """Write a corpus as a manifest, with paths relative to its folder where the clips lie below it.

    ``read_manifest`` returns the same clips, with blanks at the ends of values removed. The file is written completely
    or not at all. Raises CorpusError where it cannot be written.
    """
    path = Path(path)
    extras = sorted({key for clip in corpus.clips for key in clip.extra})
    voted = sorted({emotion for clip in corpus.clips for emotion in clip.votes})
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    several = [CORPUS] if any(clip.corpus for clip in corpus.clips) else []
    writer.writerow([*COLUMNS, *several, *extras, *(VOTES + emotion for emotion in voted)])
    for clip in corpus.clips:
        writer.writerow([*_fields(clip, path.parent), *(clip.corpus for _ in several),
                         *(clip.extra.get(key, "") for key in extras),
                         *(repr(clip.votes[emotion]) if emotion in clip.votes else "" for emotion in voted)])
    try:
        put(path, buffer.getvalue().encode(), pipe=True)
    except OSError as error:
        raise CorpusError(f"cannot write the manifest {path}: {error.strerror}") from None
    except UnicodeEncodeError:
        raise CorpusError(f"cannot write the manifest {path}: the name of a folder above its clips is not UTF-8 text, "
                          "which a manifest holds: rename it") from None


def _fields(clip: Clip, folder: Path) -> Sequence[str]:
    where = relative(clip.path, folder)
    if where == clip.path.as_posix():
        # Links are not followed, as clips are sorted by the links' names.
        where = relative(Path(os.path.abspath(clip.path)), Path(os.path.abspath(folder)))
    values = (clip.arousal, clip.valence, clip.dominance)
    dimensions = ("" if value is None else repr(value) for value in values)
    return [where, clip.speaker, clip.gender, clip.language, clip.emotion or "", *dimensions, clip.transcript]
