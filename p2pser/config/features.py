"""The settings of features: what a model sees of a clip."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from p2pser.base.errors import nearest
from p2pser.config.section import Section, shared

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
