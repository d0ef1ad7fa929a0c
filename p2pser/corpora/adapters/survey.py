"""Which corpora lie in a folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from p2pser.corpora.adapters import ADAPTERS, counts, load, noticed
from p2pser.corpora.adapters.files import recordings
from p2pser.corpora.manifest import Corpus


def survey(data: Path) -> tuple[list[Corpus], list[Path]]:
    """Return the corpora found at ``data``, and the recordings that belong to none of several.

    One corpus (or manifest, or folder of emotions) is as ``load("auto", data)`` gives it. Of several, each is looked
    for in the folder directly below ``data`` that holds all its recordings, where there is such a folder; files of the
    others are not counted among those that it leaves out.

    Raises CorpusError where nothing is recognised.
    """
    data = data.expanduser()
    if not data.is_dir() or (data / "manifest.csv").is_file():
        return [load("auto", data)], []
    found, files = counts(data)
    names = noticed(found, files)
    if len(names) < 2:
        return [load("auto", data)], []
    corpora = []
    for name in names:
        corpus = load(name, _place(data, name))
        left_out = tuple((path, why) for path, why in corpus.left_out if ADAPTERS[name].matches(path))
        corpora.append(dataclasses.replace(corpus, left_out=left_out))
    claimed = {clip.path for corpus in corpora for clip in corpus.clips}
    claimed |= {path for corpus in corpora for path, _ in corpus.left_out}
    return corpora, [path for path in recordings(data) if path not in claimed]


def _place(data: Path, name: str) -> Path:
    below = {path.relative_to(data).parts[0] for path in recordings(data) if ADAPTERS[name].matches(path)}
    only = data / below.pop()
    return only if not below and only.is_dir() else data
