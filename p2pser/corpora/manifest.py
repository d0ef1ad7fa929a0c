"""A corpus in memory, and as a manifest: a CSV with one line for each clip."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pser.base.atomic import new_file
from p2pser.base.errors import CorpusError

ARRAYS = "arrays"
"""The name of a corpus of features that p2pser did not compute, whose clips are no recordings."""

UNKNOWN = "unknown"
"""The speaker of a clip whose speaker is not known: no split can be speaker-disjoint with it."""

COLUMNS = ("path", "speaker", "gender", "language", "emotion", "arousal", "valence", "dominance",
           "transcript")
"""The columns of a manifest; only ``path`` and one label (emotion or a dimension) are needed."""

CORPUS = "corpus"
"""The column that names each clip's corpus, in a manifest of several."""

VOTES = "votes."
"""The prefix of columns with the share of listeners who named an emotion."""

_DIMENSIONS = ("arousal", "valence", "dominance")


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

    ``default_split`` and ``default_normalise`` are the meaning of ``auto`` for this corpus; ``notes`` are sentences for
    its user. ``parts`` are the corpora that it combines, sorted, if any (``p2pser.corpora.combined``). ``scale`` holds
    the lowest and the highest value of its dimensions.
    """

    name: str
    version: str
    clips: tuple[Clip, ...]
    left_out: tuple[tuple[Path, str], ...] = ()
    synthetic: bool = False
    default_split: str = "group:4"
    default_normalise: str = "speaker"
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

    The default normalisation is ``speaker`` where all speakers are named, else ``global``.

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
    ordered = tuple(sorted(clips, key=lambda clip: (clip.corpus, relative(clip.path, root))))
    speakers = {clip.speaker for clip in ordered}
    named = all(speaker not in ("", UNKNOWN) for speaker in speakers)
    return Corpus(
        name=name,
        version=version,
        clips=ordered,
        left_out=tuple(sorted(left_out, key=lambda item: relative(item[0], root))),
        synthetic=synthetic,
        default_split=split or f"group:{max(2, min(4, len(speakers)))}",
        default_normalise="speaker" if named else "global",
        root=root,
        notes=tuple(notes),
        scale=scale,
    )


def read_manifest(path: Path | str) -> Corpus:
    """Return the corpus that a manifest describes.

    A CSV (comma or semicolon; UTF-8) with a header; columns as in ``COLUMNS``, in any order, of which
    ``path`` and one of emotion, arousal, valence and dominance are required. ``votes.EMOTION``, a share between 0 and
    1, goes to ``Clip.votes``, ``corpus`` names a clip's corpus, other columns go to ``Clip.extra``. Paths are relative
    to the manifest's folder. A row whose file is missing, that repeats a path or has no label is left out, with the
    reason. A column ``synthetic`` with a value for every clip marks the corpus as synthetic.

    Raises CorpusError where the file cannot be read, a required column is missing, a row does not fit the
    header, a dimension or a share is not a number, or no clip is left.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot read the manifest {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CorpusError(f"the manifest {path} is not UTF-8 text: save it as CSV in UTF-8") from None
    header, rows = _rows(path, text)
    root = path.parent
    clips: list[Clip] = []
    left_out: list[tuple[Path, str]] = []
    seen: set[Path] = set()
    for line, values in rows:
        clip = _clip(path, line, dict(zip(header, values)), root)
        unlabelled = clip.emotion is None and all(getattr(clip, name) is None for name in _DIMENSIONS)
        if clip.path in seen:
            left_out.append((clip.path, f"line {line} of {path.name} repeats it"))
        elif unlabelled:
            left_out.append((clip.path, f"line {line} of {path.name} has no label"))
        elif not clip.path.is_file():
            left_out.append((clip.path, "the file is missing"))
        else:
            clips.append(clip)
        seen.add(clip.path)
    if not clips:
        why = f"; the first, {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise CorpusError(f"the manifest {path} has no usable clip{why}")
    version = hashlib.blake2b(content, digest_size=4).hexdigest()
    name = path.parent.resolve().name if path.stem == "manifest" else path.stem
    synthetic = all("synthetic" in clip.extra for clip in clips)
    return assemble(name or "manifest", version, clips, left_out, root, synthetic=synthetic)


def _rows(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the (line, values) of a manifest's rows; blank lines are skipped."""
    first = text.split("\n", 1)[0]
    delimiter = ";" if ";" in first and "," not in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if any(value.strip() for value in row)]
    except csv.Error as error:
        raise CorpusError(f"line {reader.line_num} of the manifest {path} is not CSV: {error}") from None
    if "path" not in header:
        raise CorpusError(
            f"the manifest {path} has no column 'path': its first line must name the columns, e.g. "
            "path,speaker,emotion"
        )
    if not {"emotion", *_DIMENSIONS} & set(header):
        raise CorpusError(
            f"the manifest {path} has no label: it needs a column emotion, arousal, valence or dominance"
        )
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise CorpusError(f"the manifest {path} has the column {min(repeated)!r} twice: rename one")
    for line, row in rows:
        if len(row) != len(header):
            raise CorpusError(
                f"line {line} of the manifest {path} has {len(row)} fields where the header has "
                f"{len(header)}: quote fields that hold a {delimiter!r}"
            )
    return header, rows


def _clip(manifest: Path, line: int, row: Mapping[str, str], root: Path) -> Clip:
    def number(name: str) -> float | None:
        text = row.get(name, "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise CorpusError(f"line {line} of the manifest {manifest}: {name} = {text!r} is not a number")
        return value

    shares = {key.removeprefix(VOTES): number(key) for key in row if key.startswith(VOTES)}
    votes = {emotion: share for emotion, share in shares.items() if share}
    if any(share < 0 for share in votes.values()) or sum(votes.values()) > 1 + 1e-6:
        raise CorpusError(f"line {line} of the manifest {manifest}: the votes are shares of the listeners, from 0 to 1 "
                          f"and together at most 1, not {votes}")

    name = row["path"].strip()
    if not name or "\0" in name:
        raise CorpusError(f"line {line} of the manifest {manifest} has no usable path")
    return Clip(
        path=root / name,
        speaker=row.get("speaker", "").strip() or UNKNOWN,
        emotion=row.get("emotion", "").strip() or None,
        gender=row.get("gender", "").strip(),
        language=row.get("language", "").strip(),
        arousal=number("arousal"),
        valence=number("valence"),
        dominance=number("dominance"),
        transcript=row.get("transcript", "").strip(),
        extra={key: text.strip() for key, text in row.items()
               if key not in ("", CORPUS, *COLUMNS) and not key.startswith(VOTES) and text.strip()},
        votes=votes,
        corpus=row.get(CORPUS, "").strip(),
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
        with new_file(path) as file:
            file.write(buffer.getvalue().encode())
    except OSError as error:
        raise CorpusError(f"cannot write the manifest {path}: {error.strerror}") from None


def _fields(clip: Clip, folder: Path) -> Sequence[str]:
    where = relative(clip.path, folder)
    if where == clip.path.as_posix():
        # Links are not followed, as clips are sorted by the links' names.
        where = relative(Path(os.path.abspath(clip.path)), Path(os.path.abspath(folder)))
    values = (clip.arousal, clip.valence, clip.dominance)
    dimensions = ("" if value is None else repr(value) for value in values)
    return [where, clip.speaker, clip.gender, clip.language, clip.emotion or "", *dimensions, clip.transcript]
