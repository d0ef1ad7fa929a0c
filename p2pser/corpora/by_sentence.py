"""Sentences: which clips say the same, and what words tell where they do."""

from __future__ import annotations

from collections.abc import Sequence

from p2pser.base import seeding
from p2pser.base.errors import CorpusError
from p2pser.corpora.manifest import Clip, Corpus

Sentence = tuple[str, str, str]
"""Corpus, language, and the code of a text or its words."""


def sentence_of(clip: Clip) -> Sentence | None:
    """Return what two clips that say the same have in common: the corpus's code of a text, else the transcript without
    case, blanks and punctuation; None where neither is known.
    """
    text = clip.extra.get("text", "") or "".join(filter(str.isalnum, clip.transcript.casefold()))
    return (clip.corpus, clip.language, text) if text else None


def groups(corpus: Corpus, split: str, count: int) -> list[int]:
    """Return the number of each clip's group, of ``count`` groups of sentences, the same on every machine.

    Raises CorpusError, in which ``split`` is the subject, where a clip's sentence is unknown or there are fewer
    sentences than groups.
    """
    known = [sentence_of(clip) for clip in corpus.clips]
    if unknown := known.count(None):
        raise CorpusError(f"the split {split} needs the sentence of every clip, and {unknown} of {len(known)} clips of "
                          f"{corpus.name} have none: give a manifest's column 'transcript', or take another split")
    sentences = sorted({each for each in known if each is not None})
    if count > len(sentences):
        raise CorpusError(f"the split {split} needs {count} sentences; {corpus.name} has {len(sentences)}")
    order = seeding.generator(0, "groups of sentences").permutation(len(sentences))
    group = {sentences[int(index)]: place % count for place, index in enumerate(order)}
    return [group[each] for each in known if each is not None]


def notes(corpus: Corpus, used: Sequence[int], train: Sequence[int], test: Sequence[int]) -> tuple[str, ...]:
    """Return what a reader of results must know where a model reads the words of clips, as sentences.

    Parameters
    ----------
    corpus : the clips.
    used : those that this process reads, as indices.
    train, test : those of the fold.
    """
    silent = sum(not corpus.clips[index].transcript.strip() for index in used)
    lacking = f"{silent} of {len(used)} clips have no transcript: what they say counts as unknown"
    trained, tested = ({sentence_of(corpus.clips[index]) for index in part} - {None} for part in (train, test))
    both = len(trained & tested)
    repeated = (f"{both} of the {len(tested)} sentences of the test clips are trained on too: their words tell only in "
                "which emotions the corpus repeats them, which holds for no other speech (the split sentence:K tests "
                "on other sentences)")
    return (*([lacking] if silent else ()), *([repeated] if both else ()))
