"""Corpora by name: one adapter a file, each from names of files to clips."""

from __future__ import annotations

from pathlib import Path

from p2pser.errors import CorpusError, nearest
from p2pser.speech.corpora import emodb, folder, ravdess
from p2pser.speech.corpora.files import recordings
from p2pser.speech.manifest import Corpus, read_manifest

NAMES = {
    "synthetic": "made on first use with espeak-ng: for trying the system only",
    "emodb": "EMO-DB (German, 10 speakers, 7 emotions): a folder of 03a01Fa.wav, ...",
    "ravdess": "RAVDESS speech (English, 24 speakers, 8 emotions): a folder of 03-01-05-02-01-02-16.wav, ...",
    "folder": "EMOTION/clip.wav or EMOTION/SPEAKER/clip.wav",
    "manifest": "a CSV with a line a clip: path,speaker,gender,language,emotion,...",
    "auto": "by what lies in the data folder; without one, synthetic",
}
"""The corpora that ``load`` knows, each with a line of what it is."""

_BY_FILE_NAMES = {"emodb": emodb, "ravdess": ravdess}


def load(name: str, data: Path | str | None, *, seed: int = 0) -> Corpus:
    """Return a corpus.

    ``name`` is a key of ``NAMES``; ``data`` is the folder of its recordings, or the manifest (a CSV, or a
    folder with a ``manifest.csv``); the synthetic corpus takes none and is made of ``seed``.

    Raises CorpusError for a name that is not known (naming the nearest), data that is missing or empty, and
    data that is given to the synthetic corpus.
    """
    if name not in NAMES:
        raise CorpusError(f"there is no corpus {name!r}{nearest(name, NAMES)}")
    if name == "synthetic" or (name == "auto" and data is None):
        if data is not None:
            raise CorpusError(
                f"the synthetic corpus takes no data: for the recordings in {data} name their corpus, or auto"
            )
        from p2pser.speech.synthetic import corpus

        return corpus(seed)
    if data is None:
        what = "CSV" if name == "manifest" else "folder"
        raise CorpusError(f"the corpus {name} needs its recordings: name their {what} with --data")
    data = Path(data).expanduser()
    if name == "auto":
        name = recognise(data)
    if name == "manifest":
        return read_manifest(data / "manifest.csv" if data.is_dir() else data)
    return folder.load(data) if name == "folder" else _BY_FILE_NAMES[name].load(data)


def recognise(data: Path) -> str:
    """Return which corpus lies at ``data``: a manifest, one whose names most files have, or a folder.

    Raises CorpusError where nothing is recognised.
    """
    if data.is_file():
        if data.suffix.lower() in (".csv", ".tsv", ".txt"):
            return "manifest"
        raise CorpusError(f"{data} is neither a folder nor a manifest (CSV)")
    if (data / "manifest.csv").is_file():
        return "manifest"
    files = recordings(data)
    matching = {name: sum(map(adapter.matches, files)) for name, adapter in _BY_FILE_NAMES.items()}
    best = max(matching, key=lambda name: matching[name])
    if 2 * matching[best] > len(files):
        return best
    if any(file.parent != data for file in files):
        return "folder"
    raise CorpusError(
        f"the names of the {len(files)} recordings in {data} say nothing of emotions: put them into one "
        "folder an emotion, or list them in a manifest.csv (path,speaker,emotion)"
    )
