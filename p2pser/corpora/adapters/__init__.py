"""Corpora by name: one adapter a file, each from names of files to clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from p2pser.base.errors import CorpusError, nearest
from p2pser.corpora.adapters import (
    cremad,
    emodb,
    emovo,
    esd,
    folder,
    iemocap,
    jl,
    meld,
    nemo,
    ravdess,
    savee,
    shemo,
    tess,
    urdu,
)
from p2pser.corpora.adapters.about import Adapter
from p2pser.corpora.adapters.files import recordings
from p2pser.corpora.manifest import Corpus, read_manifest
from p2pser.corpora.sentences import SENTENCES

ADAPTERS: dict[str, Adapter] = {
    "ravdess": ravdess, "crema-d": cremad, "tess": tess, "savee": savee, "emodb": emodb, "emovo": emovo, "urdu": urdu,
    "shemo": shemo, "esd": esd, "jl": jl, "iemocap": iemocap, "nemo": nemo, "meld": meld,
}
"""The corpora of the field, by the name that ``load`` takes."""

NAMES = {
    "synthetic": "made on first use with espeak-ng: for trying the system only",
    **{name: adapter.ABOUT.line for name, adapter in ADAPTERS.items()},
    "folder": "EMOTION/clip.wav or EMOTION/SPEAKER/clip.wav",
    "manifest": "a CSV with a line a clip: path,speaker,gender,language,emotion,...",
    "auto": "by what lies in the data folder; without one, synthetic",
}
"""The corpora that ``load`` knows, each with a line of what it is."""

NOTICED = 0.05
"""The share of a folder's recordings from which on a second corpus in it is noticed."""


def load(name: str, data: Path | str | None, *, seed: int = 0) -> Corpus:
    """Return a corpus.

    ``name`` is a key of ``NAMES``, and may name one of the corpus's variants after a colon (``crema-d:voted``,
    ``iemocap:4``, ``synthetic:es`` in Spanish only); ``data`` is the folder of its recordings, or the manifest (a CSV,
    or a folder with a ``manifest.csv``); the synthetic corpus takes none and is made of ``seed``.

    Raises CorpusError for a name that is not known (naming the nearest), data that is missing or empty, and
    data that is given to the synthetic corpus.
    """
    name, variant = _name(name)
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
    data = Path(data).expanduser()
    if name == "auto":
        name = recognise(data)
    if name == "manifest":
        return read_manifest(data / "manifest.csv" if data.is_dir() else data)
    return folder.load(data) if name == "folder" else ADAPTERS[name].load(data, variant)


def _name(name: str) -> tuple[str, str]:
    """Return a corpus's name and its variant ("": none); raises CorpusError where one is not known."""
    base, colon, variant = name.partition(":")
    if base not in NAMES:
        raise CorpusError(f"there is no corpus {base!r}{nearest(base, NAMES)}")
    variants = ADAPTERS[base].ABOUT.variants if base in ADAPTERS else SENTENCES if base == "synthetic" else {}
    if colon and variant not in variants:
        hint = nearest(variant, variants) if variants else f": write {base} alone"
        raise CorpusError(f"the corpus {base} has no variant {variant!r}{hint}")
    return base, variant


def counts(data: Path) -> tuple[dict[str, int], int]:
    """Return how many recordings below ``data`` are named as in each corpus (most first), and how many there are.

    Raises CorpusError where the folder is missing or holds no recording.
    """
    files = recordings(data)
    found = {name: sum(map(adapter.matches, files)) for name, adapter in ADAPTERS.items()}
    ranked = sorted((name for name in found if found[name]), key=lambda name: -found[name])
    return {name: found[name] for name in ranked}, len(files)


def noticed(found: Mapping[str, int], files: int) -> list[str]:
    """Return the corpora whose recordings are worth noticing among so many files, where most are some corpus's."""
    if 2 * sum(found.values()) <= files:
        return []
    return [name for name, count in found.items() if count >= NOTICED * files]


def recognise(data: Path) -> str:
    """Return which corpus lies at ``data``: a manifest, one whose names most files have, or a folder.

    Raises CorpusError where nothing is recognised, or several corpora.
    """
    if data.is_file():
        if data.suffix.lower() in (".csv", ".tsv", ".txt"):
            return "manifest"
        raise CorpusError(f"{data} is neither a folder nor a manifest (CSV)")
    if (data / "manifest.csv").is_file():
        return "manifest"
    found, files = counts(data)
    names = noticed(found, files)
    if len(names) > 1:
        each = ", ".join(f"{name} ({found[name]} recordings)" for name in names)
        raise CorpusError(f"{data} holds several corpora, {each}: give the folder of one, or name the corpus")
    if names:
        return names[0]
    if any(file.parent != data for file in recordings(data)):
        return "folder"
    raise CorpusError(
        f"the names of the {files} recordings in {data} say nothing of emotions: put them into one "
        "folder an emotion, or list them in a manifest.csv (path,speaker,emotion)"
    )
