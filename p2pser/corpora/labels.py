"""The emotions to learn: merged ones, those that several corpora have in common, clips without an emotion."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from p2pser.base.errors import CorpusError, nearest
from p2pser.base.registries import CORPORA
from p2pser.base.wording import counted, some
from p2pser.config import Config
from p2pser.corpora.emotions import canonical, is_known, known_in
from p2pser.corpora.manifest import Clip, Corpus

NO_CLIPS = "none"
"""The name of the corpus of a peer that has no clips and only relays."""


def merged(corpus: Corpus, merges: Mapping[str, str], *, all_known: bool = True) -> Corpus:
    """Return the corpus with each emotion in ``merges`` replaced by its target, in votes too.

    All names that ``canonical`` knows are accepted (``excited`` is ``excitement``). The corpus's notes list the merges
    with the number of clips. Raises CorpusError for an emotion that no clip has, unless ``all_known`` is False: a
    peer's own clips need not have every emotion of the other peers.
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
    notes = tuple(f"{name} counts as {into[name]} ({counted(counts[name], 'clip')})" for name in into if counts[name])
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


def choose_labels(corpus: Corpus, wanted: Sequence[str] | None, *, all_known: bool = True) -> tuple[str, ...]:
    """Return the emotions to learn: ``wanted`` in its order, else all that the corpus has, sorted; for several corpora
    those that all of them have.

    all_known : every emotion has a clip, and there are 2 or more; False for a peer's own clips, which need not have the
    emotions of the other peers.

    Raises CorpusError for an emotion that the corpus does not have (naming the nearest), one that is given twice, or
    fewer than 2.
    """
    known = corpus.labels
    labels = tuple(sorted(set.intersection(*map(set, by_corpus(corpus).values()))) if wanted is None else
                   [label if label in known else canonical(label) for label in wanted])
    for label in labels:
        if label not in known and all_known:
            raise CorpusError(f"{corpus.name} has no clip of the emotion {label!r}{nearest(label, known)}")
        if labels.count(label) > 1:
            raise CorpusError(f"the emotion {label!r} is named twice in the labels: name each once")
    if len(labels) < 2 <= len(known) and wanted is None:
        have = "; ".join(f"{name}: {', '.join(sorted(emotions))}" for name, emotions in by_corpus(corpus).items())
        raise CorpusError(f"the corpora have {', '.join(labels) or 'no emotion'} in common, and a model needs 2 or "
                          f"more ({have}): merge some with corpus.map, or name the emotions with corpus.labels")
    if all_known or wanted is not None:
        require_two(labels, corpus.name)
    return labels


def require_two(labels: Sequence[str], whose: str) -> None:
    """Raise CorpusError where a model of these emotions would have nothing to tell apart."""
    if len(labels) < 2:
        given = f"only {labels[0]!r}" if labels else "no emotion"
        raise CorpusError(f"{whose} has {given} to learn: a model needs 2 emotions or more")


def agreed_by_peers(config: Config) -> bool:
    """Whether the emotions to learn are those of all peers together: each has recordings of its own, and
    ``corpus.labels`` does not fix them.
    """
    own = config.corpus.partition == "own" or config.corpus.name == NO_CLIPS
    return own and config.corpus.labels is None and config.training.task != "dimensions"


def absent_note(corpus: Corpus, labels: Sequence[str]) -> tuple[str, ...]:
    """Return a note on the emotions to learn of which a peer's own corpus has no clip, if any."""
    absent = [label for label in labels if label not in corpus.labels]
    return (f"{corpus.name} has no clip of {', '.join(absent)}: other peers have to have some",) if absent else ()


def unknown_note(corpus: Corpus) -> tuple[str, ...]:
    """Return a note on the emotions that are no known words for one, but in corpora whose adapter names them: a folder
    on the emotions' level or a cell of a manifest may name something else, or a known emotion in another way.
    """
    counts = Counter(clip.emotion for clip in corpus.clips if clip.emotion is not None and not is_known(clip.emotion)
                     and (clip.corpus or corpus.name).partition(":")[0] not in CORPORA)
    if not counts:
        return ()
    meant = {word: found for word in counts if (found := known_in(word)) is not None and not {",", "="} & set(word)}
    merges = ",".join(f"{word}={meant[word]}" for word in sorted(meant)) or f"{min(counts)}=EMOTION"
    are = "is no known word for an emotion and counts as one of its own" if len(counts) == 1 else \
        "are no known words for emotions and count as ones of their own"
    return (f"{some([f'{word!r} ({counts[word]})' for word in sorted(counts)])} {are}; to count a word as another, add "
            f"--set {shlex.quote(f'corpus.map={merges}')}; to learn some emotions only, name them with corpus.labels; "
            "if these are no emotions, give each clip's emotion in a manifest",)


def by_corpus(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Return the number of clips by corpus and emotion; a single corpus is under its name."""
    counts: dict[str, dict[str, int]] = {part.name: {} for part in corpus.parts} or {corpus.name: {}}
    for clip in corpus.clips:
        if clip.emotion is not None:
            of_corpus = counts[clip.corpus if corpus.parts else corpus.name]
            of_corpus[clip.emotion] = of_corpus.get(clip.emotion, 0) + 1
    return counts


def label_notes(corpus: Corpus, labels: Sequence[str]) -> tuple[str, ...]:
    """Return notes on the labels of several corpora: the emotions left out, and the labels that a corpus lacks.

    None for a single corpus.
    """
    if not corpus.parts:
        return ()
    counts = by_corpus(corpus)
    dropped = [f"{emotion} ({', '.join(_holders(counts, emotion))})" for emotion in corpus.labels
               if emotion not in labels]
    lacking = [f"{name} has no {label}" for label in labels for name, has in counts.items() if label not in has]
    left_out = f"emotions that were left out, as they are not among the {len(labels)} labels: {', '.join(dropped)}"
    return (*([left_out] if dropped else ()), *(["; ".join(lacking)] if lacking else ()))


def _holders(counts: Mapping[str, Mapping[str, int]], emotion: str) -> list[str]:
    return [f"{counted(has[emotion], 'clip')} of {name}" for name, has in counts.items() if emotion in has]


def with_labels(corpus: Corpus, labels: Sequence[str]) -> Corpus:
    """Return the corpus with the clips of these emotions only; the other clips go to ``left_out``."""
    chosen = set(labels)
    kept = tuple(clip for clip in corpus.clips if clip.emotion in chosen)
    dropped = tuple((clip.path, f"its emotion {clip.emotion} is not among the labels" if clip.emotion
                     else "it has no emotion") for clip in corpus.clips if clip.emotion not in chosen)
    return dataclasses.replace(corpus, clips=kept, left_out=corpus.left_out + dropped) if dropped else corpus
