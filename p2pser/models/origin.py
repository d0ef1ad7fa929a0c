"""The training clips of a model, as its card describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from p2pser.corpora.folds import folds
from p2pser.features.conditions import Conditions, sample

if TYPE_CHECKING:
    from p2pser.config import Config
    from p2pser.corpora.manifest import Corpus


@dataclass(frozen=True)
class Origin:
    """The training clips of a model: those that fold ``fold`` of ``split`` leaves for training.

    Attributes
    ----------
    name, version : of the corpus.
    synthetic : whether it is synthetic speech.
    split, fold : of the speakers.
    seed : of the synthetic corpus.
    own : each peer brought its own clips, which no split describes.
    corpora : name and version of each part of a combined corpus.
    train : the parts that were trained on, () for all.
    map : emotions that counted as another.
    languages : of the training clips (ISO 639-1), () where they are not named or each peer brought its own.
    conditions : of the training recordings, None as with languages.
    """

    name: str
    version: str
    synthetic: bool = False
    split: str = "none"
    fold: int = 0
    seed: int = 0
    own: bool = False
    corpora: Mapping[str, str] = field(default_factory=dict)
    train: tuple[str, ...] = ()
    map: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    conditions: Conditions | None = None

    @classmethod
    def of(cls, config: Config, corpus: Corpus, held: Iterable[int] = ()) -> Origin:
        """Return the origin of the training clips of a run with these settings.

        held : the training clips of all peers, as indices into ``corpus.clips``.
        """
        chosen = config.corpus
        split = corpus.default_split if chosen.split == "auto" else chosen.split
        own = chosen.partition == "own"
        clips = [] if own else [corpus.clips[index] for index in sorted(held)]
        languages = tuple(sorted({clip.language for clip in clips} - {""}))
        measured = sample([clip.path for clip in clips], config.features.sample_rate)
        return cls(corpus.name, corpus.version, corpus.synthetic, split, chosen.fold, chosen.seed, own,
                   {part.name: part.version for part in corpus.parts}, tuple(chosen.train or ()), dict(chosen.map),
                   languages, Conditions.of(measured))

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of a card."""
        return {**vars(self), "conditions": None if self.conditions is None else self.conditions.to_dict()}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Origin:
        """Return the origin that a card stores. Raises ValueError, TypeError or KeyError for other data."""
        lists = {name: tuple(map(str, document.get(name, ()))) for name in ("train", "languages")}
        origin = cls(**{**document, **lists, "conditions": Conditions.read(document.get("conditions"))})
        for kind, names in ((str, ("name", "version", "split")), (bool, ("synthetic", "own")), (int, ("fold", "seed")),
                            (dict, ("corpora", "map"))):
            if wrong := [name for name in names if type(getattr(origin, name)) is not kind]:
                raise ValueError(f"its training clips have the {wrong[0]} {getattr(origin, wrong[0])!r}")
        return origin

    def within(self, corpus: Corpus, seed: int) -> tuple[Origin | None, bool]:
        """Return the origin of the training clips in ``corpus``, and whether there are any.

        corpus : the corpus of the training, or a part of it. seed : of the synthetic corpus.

        (None, True): there are training clips, and it does not follow from this corpus alone which they are; (None,
        False): by its card the model was not trained on this corpus.
        """
        if self.own or (corpus.synthetic and self.seed != seed):
            return None, False
        if (self.name, self.version) == (corpus.name, corpus.version):
            return self, True
        if self.corpora.get(corpus.name) != corpus.version or (self.train and corpus.name not in self.train):
            return None, False
        kind, _, held_out = self.split.partition(":")
        if kind == "corpus":
            held_out = held_out or sorted(self.corpora)[self.fold % len(self.corpora)]
            return (None, False) if held_out == corpus.name else (replace(self, split="none", fold=0), True)
        if kind not in ("each", "none"):
            return None, True
        if kind == "none":
            return replace(self, fold=0), True
        return replace(self, split=corpus.default_split, fold=self.fold % len(folds(corpus, "auto"))), True
