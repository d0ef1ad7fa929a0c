"""The settings of recordings: which corpus, which labels, which fold, and which peer holds what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from p2pser.base.errors import ConfigError, nearest
from p2pser.config.section import Section, shared


class CorpusSettings(Section):
    """Which recordings, and who holds which of them."""

    name: str = Field(
        "synthetic", description="a corpus (p2pser corpus list), auto (by what lies in data), synthetic:LANGUAGE (de, "
                                 "en or es), or several joined by +, such as emodb+ravdess+synthetic:es")
    data: Path | tuple[Path | None, ...] | dict[str, Path | None] | None = Field(
        None, description="folder or manifest CSV of the recordings; none needed for synthetic. Of several corpora: a "
                          "mapping by their names, a list in the order of the names, or one folder that holds a folder "
                          "for each, of its name")
    train: tuple[str, ...] | None = Field(
        None, description="of several corpora those that are trained on, the others are only tested; default: all")
    labels: tuple[str, ...] | None = shared(None,
        "emotions to learn, in order; default: all that the corpus has, sorted; of several corpora those that all have")
    map: dict[str, str] = shared({},
        "emotions that count as another: {calm: neutral, excitement: happiness} or calm=neutral,excitement=happiness")
    split: str = Field(
        "auto", description="auto, loso, emobox, group:K, speakers:A+B, none, each (each of several corpora by its "
                            "own), corpus:NAME or language:NAME (that one is tested, the others trained on; without "
                            "a name, each in turn); auto: loso for emodb, emobox for ravdess, each for several "
                            "corpora, group:4 for the rest")
    fold: int = Field(0, ge=0, description="which fold of the split is held out for testing")
    partition: str = Field(
        "auto", description="auto, speaker, iid, dirichlet:ALPHA[:LEAST] (at least so many clips a peer), corpus or "
                            "language (each peer's clips are of one, speakers whole; as many peers for each as its "
                            "clips ask for, or corpus:even, equally many), or own (all clips are this peer's); auto: "
                            "corpus for several corpora, else speaker")
    seed: int = Field(0, ge=0, description="seed of the synthetic corpus")
    scale: tuple[float, float] | None = shared(None,
        "lowest and highest value of the corpus's arousal, valence and dominance, which are mapped to -1 and 1; "
        "default: what the corpus says (iemocap: 1 and 5), else -1 and 1")

    @field_validator("map", mode="before")
    @classmethod
    def _merges(cls, merges: Any) -> Any:
        """Read ``calm=neutral,excitement=happiness`` too."""
        if not isinstance(merges, str):
            return merges
        pairs = [pair.partition("=") for pair in merges.split(",") if pair.strip()]
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
        """Return (name, data) of each corpus, in the order in which they are named.

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
                raise ConfigError(f"corpus.data lists {len(data)} places for the {len(names)} corpora of {self.name}: "
                                  "give one for each, null for synthetic")
            return tuple(zip(names, data))
        if len(names) == 1 or data is None:
            return tuple((name, data) for name in names)
        return tuple((name, None if name.startswith("synthetic") else data / name.partition(":")[0]) for name in names)
