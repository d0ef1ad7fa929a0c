"""Which emotions are learnt: merges into others, the ones that several corpora have in common, clips without any."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

from p2pser.base.errors import CorpusError, nearest
from p2pser.corpora.emotions import canonical
from p2pser.corpora.manifest import Clip, Corpus


def merged(corpus: Corpus, merges: Mapping[str, str], *, all_known: bool = True) -> Corpus:
    """Return the corpus with each emotion that ``merges`` names called by the other's name, votes too.

    Names may be any that ``canonical`` knows (``excited`` is ``excitement``). What was merged, and how many clips it
    changed, is said in the corpus's notes. Raises CorpusError for an emotion that no clip has; not with
    ``all_known=False``, for a peer whose own clips need not have what others' have.
    """
    if not merges:
        return corpus
    known = set(corpus.labels).union(*(clip.votes for clip in corpus.clips))
    into = {name if name in known else canonical(name): target if target in known else canonical(target)
            for name, target in merges.items()}
    for name in into:
        if name not in known and all_known:
            raise CorpusError(f"corpus.map merges {name!r}, and {corpus.name} has no such emotion"
                              f"{nearest(name, sorted(known))}")
    counts = Counter(clip.emotion for clip in corpus.clips if clip.emotion in into)
    notes = tuple(f"{name} counts as {into[name]} ({counts[name]} clips)" for name in into if counts[name])
    return dataclasses.replace(corpus, clips=tuple(_renamed(clip, into) for clip in corpus.clips),
                               notes=(*corpus.notes, *notes))


def _renamed(clip: Clip, into: Mapping[str, str]) -> Clip:
    if clip.emotion not in into and not into.keys() & clip.votes.keys():
        return clip
    votes: dict[str, float] = {}
    for name, share in clip.votes.items():
        votes[into.get(name, name)] = votes.get(into.get(name, name), 0.0) + share
    emotion = None if clip.emotion is None else into.get(clip.emotion, clip.emotion)
    return dataclasses.replace(clip, emotion=emotion, votes=votes)


def choose_labels(corpus: Corpus, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the emotions to learn: ``wanted`` in its order, else all that the corpus has, sorted; of several corpora
    those that all of them have.

    Raises CorpusError for one that the corpus does not have (naming the nearest), twice the same, or fewer
    than 2.
    """
    known = corpus.labels
    labels = tuple(_common(corpus) if wanted is None else wanted)
    for label in labels:
        if label not in known:
            raise CorpusError(f"{corpus.name} has no clip of the emotion {label!r}{nearest(label, known)}")
        if labels.count(label) > 1:
            raise CorpusError(f"the emotion {label!r} is named twice in the labels: name each once")
    if len(labels) < 2 <= len(known) and wanted is None:
        have = "; ".join(f"{name}: {', '.join(sorted(emotions))}" for name, emotions in by_corpus(corpus).items())
        raise CorpusError(f"the corpora have {', '.join(labels) or 'no emotion'} in common, and a model needs 2 or "
                          f"more ({have}): merge some with corpus.map, or name the emotions with corpus.labels")
    if len(labels) < 2:
        said = f"only {labels[0]!r}" if labels else "none"
        raise CorpusError(f"{corpus.name} gives {said} to tell apart: a model needs 2 emotions or more")
    return labels


def by_corpus(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Return how many clips of each emotion each of several corpora has; of a single corpus, under its name."""
    counts: dict[str, dict[str, int]] = {part.name: {} for part in corpus.parts} or {corpus.name: {}}
    for clip in corpus.clips:
        if clip.emotion is not None:
            one = counts[clip.corpus if corpus.parts else corpus.name]
            one[clip.emotion] = one.get(clip.emotion, 0) + 1
    return counts


def _common(corpus: Corpus) -> list[str]:
    return sorted(set.intersection(*(set(emotions) for emotions in by_corpus(corpus).values())))


def label_notes(corpus: Corpus, labels: Sequence[str]) -> tuple[str, ...]:
    """Return what a reader should know of these labels of several corpora: what was left out, and who lacks which.

    Nothing for a single corpus.
    """
    if not corpus.parts:
        return ()
    counts = by_corpus(corpus)
    dropped = [f"{name} ({', '.join(f'{counts[one][name]} clips of {one}' for one in counts if name in counts[one])})"
               for name in corpus.labels if name not in labels]
    lacking = [f"{one} has no {label}" for label in labels for one in counts if label not in counts[one]]
    left_out = f"emotions that were left out, as they are not among the {len(labels)} labels: {', '.join(dropped)}"
    return (*([left_out] if dropped else ()), *(["; ".join(lacking)] if lacking else ()))


def with_labels(corpus: Corpus, labels: Sequence[str]) -> Corpus:
    """Return the corpus with the clips of these emotions only; the others go to ``left_out``."""
    chosen = set(labels)
    kept = tuple(clip for clip in corpus.clips if clip.emotion in chosen)
    dropped = tuple((clip.path, f"its emotion {clip.emotion} is not among the labels" if clip.emotion
                     else "it has no emotion") for clip in corpus.clips if clip.emotion not in chosen)
    return dataclasses.replace(corpus, clips=kept, left_out=corpus.left_out + dropped) if dropped else corpus
