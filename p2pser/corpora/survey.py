"""The corpora in a folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from p2pser.base.paths import expanded
from p2pser.corpora.adapter import Adapter
from p2pser.corpora.files import recordings
from p2pser.corpora.loading import MANY, NOTICED, adapter, counts, folders_tell_more, load, noticed
from p2pser.corpora.manifest import Corpus


def survey(data: Path) -> tuple[list[Corpus], list[tuple[Path, str]]]:
    """Return the corpora at ``data``, and the recordings that belong to none of several, each with the reason.

    A single corpus (or manifest, or folder of emotions) is loaded as ``load("auto", data)`` does. Each of several, or
    one among many other recordings, is loaded from the folder directly below ``data`` that holds all its recordings,
    where there is such a folder; its ``left_out`` omits the files of the other corpora.

    Raises CorpusError where nothing is recognised.
    """
    data = expanded(data)
    if not data.is_dir() or (data / "manifest.csv").is_file():
        return [load("auto", data)], []
    matching, files = counts(data)
    names = [name for name, count in matching.items() if count >= min(MANY, NOTICED * files)]
    if not names or folders_tell_more(data, matching) or names == noticed(matching, files)[:1]:
        return [load("auto", data)], []
    corpora = []
    for name in names:
        reader = adapter(name)
        corpus = load(name, _place(data, reader))
        left_out = tuple((path, why) for path, why in corpus.left_out if reader.matches(path))
        corpora.append(dataclasses.replace(corpus, left_out=left_out))
    claimed = {clip.path for corpus in corpora for clip in corpus.clips}
    claimed |= {path for corpus in corpora for path, _ in corpus.left_out}
    few = {name: f"named as in {name}, as only {count} of the {files} recordings are: give the folder that holds them, "
                 f"or --corpus {name}" for name, count in matching.items() if name not in names}
    others: list[tuple[Path, str]] = []
    return corpora, [*((path, next((why for name, why in few.items() if adapter(name).matches(path)),
                                   "named as in none of these corpora"))
                       for path in recordings(data, others) if path not in claimed), *others]


def _place(data: Path, reader: Adapter) -> Path:
    below = {path.relative_to(data).parts[0] for path in recordings(data, []) if reader.matches(path)}
    only = data / below.pop()
    return only if not below and only.is_dir() else data
