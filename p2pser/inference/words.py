"""What is said in the recordings of a prediction, for models that read words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError
from p2pser.base.wording import counted
from p2pser.features import clip_features
from p2pser.features.kinds.words import plain
from p2pser.inference.recordings import MANIFESTS
from p2pser.models.directory import Card


def transcripts(recordings: Sequence[Path | bytes], named: Any) -> list[str]:
    """Return what is said in each of these recordings, as the manifests among ``named`` tell it; "" elsewhere."""
    from p2pser.corpora.manifest import read_manifest

    several = [named] if isinstance(named, (str, os.PathLike)) else named if isinstance(named, (list, tuple)) else []
    manifests = [Path(each) for each in several if isinstance(each, (str, os.PathLike))
                 and Path(each).suffix.lower() in MANIFESTS and not os.path.isdir(each)]
    texts = {clip.path: clip.transcript for path in manifests
             for clip in read_manifest(path, labelled=False).clips}
    return [texts.get(each, "") if isinstance(each, Path) else "" for each in recordings]


def given_texts(texts: str | Sequence[str] | None, recordings: Sequence[Path | bytes], named: Any) -> list[str]:
    """Return what is said in each of these recordings by ``texts``, or, where it is None, by ``transcripts``.

    Raises CorpusError where there are more or fewer texts than recordings.
    """
    if texts is None:
        return transcripts(recordings, named)
    each = [texts] if isinstance(texts, str) else list(texts)
    if len(each) != len(recordings):
        raise CorpusError(f"the call has {counted(len(each), 'text')} for {counted(len(recordings), 'recording')}: "
                          "give one for each, '' where it is not known")
    return each


def unread(card: Card, texts: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return a sentence where a caller gives what is said to a model that reads no words."""
    given = [texts] if isinstance(texts, str) else texts or ()
    useless = not card.reads_words and any(map(plain, given))
    return ("the model reads no words: what is said does not count, only how",) if useless else ()


def without_words(card: Card, text: str = "", *, windows: bool = False) -> str:
    """Return a sentence where a model reads words and there are none: in ``text``, or in windows; else ""."""
    if not card.reads_words or plain(text):
        return ""
    why = "a timeline's windows have none" if windows else "none were given"
    return f"the model reads words too, and {why}: it goes by the voice alone"


def completed(values: NDArray[np.float32], card: Card) -> NDArray[np.float32]:
    """Return a clip's features (D,), where the model reads words and there are none with those of the training's
    average: unless clips without words were trained on, zeros would be words of their own.
    """
    statistics = card.statistics
    if not card.reads_words or statistics is None:
        return values
    place = clip_features.of_words(card.features)
    always = (statistics.std[place] == 0) & (statistics.mean[place] != 0)
    if values[place].any() or not always.any():
        return values
    result = values.copy()
    result[place] = statistics.mean[place]
    return result
