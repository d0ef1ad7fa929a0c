"""The settings of recordings, and of what models see of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from p2pser.config.section import Section, shared
from p2pser.errors import ConfigError, nearest


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
        """Read ``calm=neutral,excitement=happiness`` too; refuse what would depend on the order."""
        if isinstance(merges, str):
            pairs = [pair.partition("=") for pair in merges.split(",") if pair.strip()]
            if not all(equals and a.strip() and b.strip() for a, equals, b in pairs):
                raise ValueError("write merges as EMOTION=EMOTION,..., such as calm=neutral,excitement=happiness")
            merges = {a.strip(): b.strip() for a, _, b in pairs}
        if isinstance(merges, dict) and (both := sorted(merges.keys() & set(merges.values()))):
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


VECTORS = ("functionals", "dynamics", "egemaps", "compare", "ssl")
"""Kinds of features that are one vector a clip."""
MATRICES = ("logmel", "mfcc", "chroma")
"""Kinds of features that are bands by frames."""


class FeatureSettings(Section):
    """What a model sees of a clip."""

    kind: str = shared(
        "functionals", "one vector a clip: functionals, dynamics (how contours move; to be joined to functionals), "
                       "egemaps, compare (openSMILE's eGeMAPSv02 and ComParE 2016), ssl (a speech encoder's mean); a "
                       "matrix, bands by frames: logmel, mfcc, chroma; several of one form joined by + "
                       "(functionals+dynamics, mfcc+chroma)")
    sample_rate: int = shared(16000, "samples per second after resampling [Hz]", ge=8000, le=48000)
    level: Literal["none", "peak"] | float = shared(
        "none", "level that each clip is brought to first: none (as recorded), peak (largest sample at full scale), or "
                "an RMS level [dBFS, below 0]")
    trim: float | None = shared(
        None, "cut silence off both ends of each clip first: what is so far below its loudest frame [dB]; none: not",
        ge=5, le=100)
    n_mels: int = shared(64, "mel bands", ge=8, le=256)
    n_mfcc: int = shared(20, "cepstral coefficients", ge=8, le=64)
    deltas: int = shared(2, "orders of differences below the cepstrum in mfcc matrices", ge=0, le=2)
    seconds: float = shared(3.0, "length to which matrices are cut or padded [s]", gt=0.1, le=30)
    hop: float = shared(0.01, "time from one frame of a matrix to the next [s]", ge=0.005, le=0.1)
    encoder: str | None = Field(
        None, description="the speech encoder of ssl: a Hugging Face name (facebook/hubert-base-ls960) or a "
                          "folder that holds one; peers compare what it holds, not where it lies")
    revision: str | None = Field(None, description="branch, tag or commit of the encoder's name; default its main one")
    layer_weights: tuple[float, ...] = shared(
        (), "weight of each of the encoder's layers, its input first, in the mean over layers; default: all equal")
    normalise: Literal["auto", "none", "global", "speaker"] = shared(
        "auto", "statistics that features are scaled by: none, global (all peers' training clips, by gossip), "
                "speaker (each speaker's own, transductive); auto: speaker for vectors of corpora that name "
                "speakers where peers hold whole speakers, else global")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        parts = kind.split("+")
        for part in parts:
            if part not in VECTORS + MATRICES:
                raise ValueError(f"there is no kind of features {part!r}{nearest(part, VECTORS + MATRICES)}")
            if parts.count(part) > 1:
                raise ValueError(f"{part} is named twice: name each kind once")
        if {part in VECTORS for part in parts} == {True, False}:
            raise ValueError(f"{kind} joins vectors and matrices: join {', '.join(VECTORS)}, or {', '.join(MATRICES)}")
        return kind

    @field_validator("level")
    @classmethod
    def _below_full_scale(cls, level: str | float) -> str | float:
        if not isinstance(level, str) and not -100 <= level < 0:
            raise ValueError("a level is none, peak, or an RMS level from -100 up to 0 dBFS, such as -26")
        return level

    @field_validator("layer_weights")
    @classmethod
    def _sum_up(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if weights and not (min(weights) >= 0 < sum(weights) < float("inf")):
            raise ValueError("weights of layers are 0 or more, and not all 0")
        return weights

    @property
    def kinds(self) -> tuple[str, ...]:
        """The single kinds, in the order in which they are joined."""
        return tuple(self.kind.split("+"))

    @property
    def vector(self) -> bool:
        """Whether a clip's features are one vector; else a matrix, bands by frames."""
        return self.kinds[0] in VECTORS


class AugmentSettings(Section):
    """How training clips are varied; test clips never are.

    What is done to recordings is a function of (seed, clip, copy) and computed once, into the cache; the rest is a
    function of (the run's seed, peer, round).
    """

    mixup: float = shared(
        0.0, "alpha of mixup: each clip of a batch is mixed with another of it, features and targets, by a share drawn "
             "from Beta(alpha, alpha); 0: not", ge=0, le=10)
    noise: float = shared(
        0.0, "Gaussian noise added to scaled features [their standard deviations]; 0: not", ge=0, le=10)
    time_masks: int = shared(0, "SpecAugment: stretches of time masked in each matrix", ge=0, le=20)
    time_width: float = shared(0.3, "longest stretch of time that is masked [s]", gt=0, le=30)
    band_masks: int = shared(0, "SpecAugment: groups of neighbouring bands masked in each matrix", ge=0, le=20)
    band_width: int = shared(8, "most bands in a masked group", ge=1, le=256)
    copies: int = shared(
        0, "varied copies of each training recording; each time that a clip is drawn, one of them or the recording "
           "itself is taken", ge=0, le=50)
    snr: float | None = shared(
        None, "white noise in copies: at a signal-to-noise ratio drawn from this to 20 dB more [dB]; none: not",
        ge=-20, le=100)
    gain: float = shared(
        0.0, "copies are louder or softer by up to so much [dB] (undone by features.level)", ge=0, le=60)
    speed: float = shared(0.0, "copies are faster or slower, and higher or lower, by up to this share", ge=0, le=0.5)
    pitch: float = shared(
        0.0, "copies are higher or lower by up to so much, as fast as before [semitones]", ge=0, le=12)
    seed: int = shared(0, "seed of what is done to recordings (not the run's: copies serve all its seeds)", ge=0)

    @property
    def recordings(self) -> dict[str, float]:
        """The settings of what is done to recordings that do something, by name."""
        values = {name: getattr(self, name) for name in ("snr", "gain", "speed", "pitch")}
        return {name: value for name, value in values.items() if value is not None and (value or name == "snr")}

    @model_validator(mode="after")
    def _copies_differ(self) -> AugmentSettings:
        if self.copies and not self.recordings:
            raise ValueError("copies that nothing is done to: set augment.snr, gain, speed or pitch too")
        if self.recordings and not self.copies:
            raise ValueError(f"{', '.join(self.recordings)} is done to copies of recordings: set augment.copies too")
        return self
