"""Corpora by name, and the recognition of a folder's corpus by its file names."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pser.base.errors import CorpusError, P2PSERError, nearest
from p2pser.base.paths import expanded
from p2pser.base.registries import CORPORA
from p2pser.base.wording import counted
from p2pser.corpora import folder
from p2pser.corpora.adapter import Adapter
from p2pser.corpora.files import recordings
from p2pser.corpora.manifest import Corpus, read_manifest
from p2pser.corpora.sentences import SENTENCES

SYNTHETIC = {"synthetic": "made on first use with espeak-ng: for trying the system only"}
GENERAL = {
    "folder": "EMOTION/clip.wav or EMOTION/SPEAKER/clip.wav",
    "manifest": "a CSV with a line for each clip: path,speaker,gender,language,emotion,...",
    "auto": "recognised by the files in the data folder; without a folder, synthetic",
}
"""Names that stand for recordings of any origin, each with one line."""

NOTICED = 0.05
"""The share of a folder's recordings from which a second corpus in it is reported."""

NAMED = 0.95
"""The least share of the recordings in emotions' folders that are named as in a corpus, where it is that corpus."""

MANY = 20
"""So many recordings named as in a corpus are part of it, whatever else the folder holds."""


def names() -> list[str]:
    """Return all values of ``corpus.name``: those with an adapter between the synthetic corpus and the general names.

    Adapters are not imported for it.
    """
    return [*SYNTHETIC, *CORPORA, *GENERAL]


def adapter(name: str) -> Adapter:
    """Return the adapter of a corpus; CorpusError where there is none of this name."""
    made: Adapter = CORPORA[name]()
    return made


def load(name: str, data: Path | str | None, *, seed: int = 0) -> Corpus:
    """Return a corpus.

    ``name`` is one of ``names()``, and may name one of the corpus's variants after a colon (``crema-d:voted``,
    ``iemocap:4``, ``synthetic:es`` in Spanish only); ``data`` is the folder of its recordings, or the manifest (a CSV,
    or a folder with a ``manifest.csv``); the synthetic corpus has no data and depends on ``seed``.

    Raises CorpusError for an unknown name (naming the nearest), data that is missing or empty, and data for the
    synthetic corpus.
    """
    name, variant = _name_and_variant(name)
    if name == "synthetic" or (name == "auto" and data is None):
        if data is not None:
            raise CorpusError(
                f"the synthetic corpus takes no data: for the recordings in {data} name their corpus, or auto"
            )
        from p2pser.corpora.synthetic import corpus

        return corpus(seed, variant) if variant else corpus(seed)
    if data is None:
        what = "CSV" if name == "manifest" else "folder"
        raise CorpusError(f"the corpus {name} needs its recordings: name their {what} with --data")
    data = expanded(data)
    if name == "auto":
        name = recognise(data)
        return _noting_names(_load(name, data, variant), data, name)
    return _load(name, data, variant)


def _load(name: str, data: Path, variant: str) -> Corpus:
    if name == "manifest":
        return read_manifest(data / "manifest.csv" if data.is_dir() else data)
    return folder.load(data) if name == "folder" else _adapted(name, data, variant)


def _adapted(name: str, data: Path, variant: str) -> Corpus:
    """Return what an adapter loads. Raises CorpusError where it fails: it may be a plug-in's."""
    try:
        corpus = adapter(name).load(data, variant)
        if not isinstance(corpus, Corpus):
            raise TypeError(f"load returned {type(corpus).__name__}, not a Corpus")
    except (P2PSERError, OSError):
        raise
    except Exception as error:  # the code of a plug-in may raise anything
        raise CorpusError(f"the corpus {name} at {data} cannot be read by its adapter ({type(error).__name__}: "
                          f"{error})") from error
    return corpus


def _name_and_variant(name: str) -> tuple[str, str]:
    """Return a corpus's name and its variant ("": none); raises CorpusError where either is unknown."""
    base, colon, variant = name.partition(":")
    if base not in names():
        raise CorpusError(f"there is no corpus {base!r}{nearest(base, names())}")
    variants: Mapping[str, object] = {}
    if base in CORPORA and colon:
        variants = adapter(base).about.variants
    elif base == "synthetic":
        variants = SENTENCES
    if colon and variant not in variants:
        hint = nearest(variant, variants) if variants else f": write {base} alone"
        raise CorpusError(f"the corpus {base} has no variant {variant!r}{hint}")
    return base, variant


def counts(data: Path) -> tuple[dict[str, int], int]:
    """Return the number of recordings below ``data`` named as in each corpus (most first), and of all recordings.

    Raises CorpusError where the folder is missing or holds no recording.
    """
    files = recordings(data, [])
    matching = {name: _matching(name, kind(), files) for name, kind in CORPORA.items()}
    ranked = sorted((name for name in matching if matching[name]), key=lambda name: -matching[name])
    return {name: matching[name] for name in ranked}, len(files)


def _matching(name: str, reader: Adapter, files: Sequence[Path]) -> int:
    try:
        return sum(map(reader.matches, files))
    except Exception as error:  # the code of a plug-in may raise anything
        warnings.warn(f"the corpus {name} cannot tell its recordings and is left out ({type(error).__name__}: {error})",
                      stacklevel=3)
        return 0


def noticed(matching: Mapping[str, int], files: int) -> list[str]:
    """Return the corpora with a relevant share of the files, where most files belong to some corpus."""
    if 2 * sum(matching.values()) <= files:
        return []
    return [name for name, count in matching.items() if count >= NOTICED * files]


def recognise(data: Path) -> str:
    """Return the name of the corpus at ``data``: ``manifest``, the corpus whose names most files have, or ``folder``.

    Raises CorpusError where nothing is recognised, or several corpora.
    """
    if data.is_file():
        if data.suffix.lower() in (".csv", ".tsv", ".txt"):
            return "manifest"
        raise CorpusError(f"{data} is neither a folder nor a manifest (CSV)")
    if (data / "manifest.csv").is_file():
        return "manifest"
    matching, files = counts(data)
    if folders_tell_more(data, matching):
        return "folder"
    known = noticed(matching, files)
    if len(known) > 1:
        each = ", ".join(f"{name} ({counted(matching[name], 'recording')})" for name in known)
        raise CorpusError(f"{data} holds several corpora, {each}: give the folder of one, or name the corpus")
    if known:
        return known[0]
    if any(file.parent != data for file in recordings(data, [])):
        return "folder"
    raise CorpusError(
        f"the names of the {counted(files, 'recording')} in {data} tell no emotions: put them into one folder for each "
        "emotion, or list them in a manifest.csv (path,speaker,emotion)"
    )


def folders_tell_more(data: Path, matching: Mapping[str, int]) -> bool:
    """Return whether folders name the emotions of clearly more recordings than the names of files do.

    Corpora with a folder for each emotion have both; a few stray files in them make no folder of emotions.
    """
    return sum(matching.values()) < NAMED * folder.named_by_folders(data)


def _noting_names(corpus: Corpus, data: Path, name: str) -> Corpus:
    """Return a folder's corpus with a note where many of its recordings are named as in a known corpus."""
    matching, files = counts(data) if name == "folder" else ({}, 0)
    notes = tuple(f"{count} of the {files} recordings in {data} are named as in {known}; their folders were read, not "
                  f"their names (--corpus {known} reads the names)"
                  for known, count in matching.items() if count >= NOTICED * files)
    return dataclasses.replace(corpus, notes=(*corpus.notes, *notes)) if notes else corpus
