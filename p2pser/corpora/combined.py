"""Several corpora as one, so that peers with different corpora train together.

The corpus's name makes speakers and paths unique; emotions with the same meaning are merged by ``corpus.map``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from p2pser.base.errors import CorpusError
from p2pser.config import CorpusSettings
from p2pser.corpora import loading
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.corpora.files import NoRecordingsError
from p2pser.corpora.labels import merged
from p2pser.corpora.manifest import UNKNOWN, Clip, Corpus, Part


def load(settings: CorpusSettings) -> Corpus:
    """Return all recordings of a run: its corpus or corpora, with emotions merged by ``corpus.map``.

    Raises CorpusError or ConfigError where a corpus cannot be read, two have the same name, or the settings do not fit.
    """
    try:
        corpora = [loading.load(name, data, seed=settings.seed) for name, data in settings.parts()]
    except NoRecordingsError as error:
        relays = "; a site without recordings relays (--corpus none; p2pser accept: --data none)"
        raise CorpusError(f"{error}{relays if settings.partition == 'own' else ''}") from None
    whole = corpora[0] if len(corpora) == 1 else combine(corpora)
    return merged(whole, settings.map, all_known=settings.partition != "own")


def combine(corpora: Sequence[Corpus]) -> Corpus:
    """Return several corpora as one: ``A+B``, sorted by name; the given order does not matter.

    A clip's ``corpus`` is its corpus's name, and its speaker is ``CORPUS/SPEAKER``, so that speakers never collide; an
    unknown speaker stays unknown. Dimensions are mapped from each corpus's scale to -1 to 1. The default split is that
    of each corpus. It is synthetic where all corpora are. Raises CorpusError where two have the same name.
    """
    ordered = sorted(corpora, key=lambda corpus: corpus.name)
    names = [corpus.name for corpus in ordered]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise CorpusError(f"two of the corpora are called {duplicate!r}, so their speakers could not be told apart: "
                          "give their folders or manifests different names")
    return Corpus(
        name="+".join(names),
        version=", ".join(f"{corpus.name} {corpus.version}".strip() for corpus in ordered),
        clips=tuple(_of(corpus, clip) for corpus in ordered for clip in corpus.clips),
        left_out=tuple(item for corpus in ordered for item in corpus.left_out),
        synthetic=all(corpus.synthetic for corpus in ordered),
        default_split="each",
        notes=tuple(f"{corpus.name}: {note}" for corpus in ordered for note in corpus.notes),
        parts=tuple(Part(corpus.name, corpus.version, corpus.synthetic, corpus.default_split, corpus.root)
                    for corpus in ordered),
    )


def _of(corpus: Corpus, clip: Clip) -> Clip:
    speaker = clip.speaker if clip.speaker in ("", UNKNOWN) else f"{corpus.name}/{clip.speaker}"
    return dataclasses.replace(scaled(clip, corpus.scale), speaker=speaker, corpus=corpus.name)


def scaled(clip: Clip, scale: tuple[float, float]) -> Clip:
    """Return the clip with its dimensions mapped from ``scale`` (lowest, highest) to -1 to 1."""
    if scale == (-1.0, 1.0):
        return clip
    low, high = scale
    known = {name: value for name in DIMENSIONS if (value := getattr(clip, name)) is not None}
    return dataclasses.replace(
        clip, **{name: 2.0 * (value - low) / (high - low) - 1.0 for name, value in known.items()})


def alone(corpus: Corpus, part: Part) -> tuple[Corpus, list[int]]:
    """Return one of several corpora, with its own names of speakers, and the indices of its clips in ``corpus``."""
    places = [place for place, clip in enumerate(corpus.clips) if clip.corpus == part.name]
    clips = (corpus.clips[place] for place in places)
    original = tuple(dataclasses.replace(clip, speaker=clip.speaker.removeprefix(f"{part.name}/"), corpus="")
                     for clip in clips)
    return Corpus(part.name, part.version, original, synthetic=part.synthetic, default_split=part.default_split,
                  root=part.root), places
