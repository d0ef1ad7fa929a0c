"""The settings of recordings: corpus, labels, folds, and the partition over the peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from p2pser.base.errors import ConfigError, nearest
from p2pser.base.wording import listed
from p2pser.config.section import Section, at_home, shared


class CorpusSettings(Section):
    """The recordings, and their partition over the peers."""

    name: str = Field(
        "synthetic", description="a corpus (p2pser corpus list), auto (recognised by the files in data), "
                                 "synthetic:LANGUAGE (de, en or es), several joined by +, such as "
                                 "emodb+ravdess+synthetic:es, or none (a peer without recordings, which relays)")
    data: Path | tuple[Path | None, ...] | dict[str, Path | None] | None = Field(
        None, description="folder or manifest (CSV) of the recordings; none for synthetic. For several corpora: a "
                          "mapping by their names, a list in the order of the names, or one folder with a sub-folder "
                          "for each, named after it")
    train: tuple[str, ...] | None = Field(
        None, description="of several corpora those to train on; the others are only tested; default: all")
    labels: tuple[str, ...] | None = shared(None,
        "emotions to learn, in order; default: all of the corpus, sorted; for several corpora, those that all have; if "
        "each peer has recordings of its own, those of all peers together")
    map: dict[str, str] = Field(
        {}, description="this peer's emotions to count as another: {calm: neutral, excitement: happiness} or "
                        "calm=neutral,excitement=happiness")
    split: str = Field(
        "auto", description="auto, loso, emobox, group:K, speakers:A+B, none, each (several corpora, each by its own "
                            "default), corpus:NAME or language:NAME (test on that one, train on the others; without a "
                            "name, test on each in turn), sentence:K or sentence:K:SPLIT (the folds of a speaker split "
                            "by K groups of sentences, so that neither speaker nor sentence is trained on); auto: loso "
                            "for emodb, emobox for ravdess, each for several corpora, group:4 for most others")
    fold: int = Field(0, ge=0, description="which fold of the split is held out for testing")
    partition: str = Field(
        "auto", description="auto, speaker, iid, dirichlet:ALPHA[:LEAST] (at least LEAST clips per peer), corpus or "
                            "language (each peer has whole speakers of one corpus or language; the number of peers of "
                            "each is proportional to its clips, or equal with corpus:even), or own (all clips belong "
                            "to this peer); auto: corpus for several corpora, else speaker")
    seed: int = Field(0, ge=0, description="seed of the synthetic corpus")
    scale: tuple[float, float] | None = shared(None,
        "lowest and highest value of arousal, valence and dominance in the corpus, which are mapped to -1 and 1; "
        "default: the corpus's own (iemocap: 1 and 5), else -1 and 1")

    @field_validator("data")
    @classmethod
    def _at_home(cls, data: Path | tuple[Path | None, ...] | dict[str, Path | None] | None) -> Any:
        if isinstance(data, tuple):
            return tuple(path and at_home(path) for path in data)
        if isinstance(data, dict):
            return {name: path and at_home(path) for name, path in data.items()}
        return data and at_home(data)

    @field_validator("map", mode="before")
    @classmethod
    def _merges(cls, merges: Any) -> Any:
        """Accept ``calm=neutral,excitement=happiness`` too."""
        several = listed(merges) if isinstance(merges, str) else merges
        if not isinstance(several, (list, tuple)) or not all(isinstance(pair, str) for pair in several):
            return merges
        pairs = [pair.partition("=") for pair in several]
        if not all(equals and a.strip() and b.strip() for a, equals, b in pairs):
            raise ValueError("write merges as EMOTION=EMOTION,..., such as calm=neutral,excitement=happiness")
        return {a.strip(): b.strip() for a, _, b in pairs}

    @field_validator("map")
    @classmethod
    def _no_chains(cls, merges: dict[str, str]) -> dict[str, str]:
        """Refuse a map whose result depends on the order of its entries."""
        if both := sorted(merges.keys() & set(merges.values())):
            raise ValueError(f"{both[0]!r} is merged into another emotion and another into it: name the chain's end")
        return merges

    def parts(self) -> tuple[tuple[str, Path | None], ...]:
        """Return (name, data) of each corpus, in the given order.

        Raises ConfigError where names and data do not fit together.
        """
        names, data = self.name.split("+"), self.data
        if isinstance(data, dict):
            bases = {name: name.partition(":")[0] for name in names}
            for key in data:
                if key not in bases and key not in bases.values():
                    raise ConfigError(f"corpus.data names {key!r}, and corpus.name does not{nearest(key, names)}")
            return tuple((name, data.get(name, data.get(bases[name]))) for name in names)
        if isinstance(data, tuple):
            if len(data) != len(names):
                raise ConfigError(f"corpus.data lists {len(data)} paths for the {len(names)} corpora of {self.name}: "
                                  "give one for each, null for synthetic")
            return tuple(zip(names, data))
        if len(names) == 1 or data is None:
            return tuple((name, data) for name in names)
        return tuple((name, None if name.startswith("synthetic") else data / name.partition(":")[0]) for name in names)
