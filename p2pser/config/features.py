"""The settings of features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from p2pser.base.errors import ConfigError, nearest
from p2pser.base.parameters import typed
from p2pser.base.registries import FEATURES
from p2pser.config.section import Section, shared


class FeatureSettings(Section):
    """The features of a clip, which are the model's input."""

    kind: str = shared(
        "functionals", "one vector per clip: functionals, covariance (how contours move together) and dynamics (how "
                       "each moves; both to be joined to functionals), egemaps, compare (openSMILE's eGeMAPSv02 and "
                       "ComParE 2016), ssl (a speech encoder's mean), words, sentences (of the manifest's "
                       "transcripts: hashed n-grams, a text encoder; to be joined to features of the voice), "
                       "encoder-states (an encoder's states, for model.name=adapter); a matrix, bands by frames: "
                       "logmel, mfcc, chroma, contours (those behind functionals); a kind of an installed package; "
                       "several of one form joined by + (functionals+covariance, mfcc+chroma); default: ssl if "
                       "features.encoder is set")
    parameters: dict[str, float | int | str | bool] = shared(
        {}, "the kind's own hyper-parameters, by name (p2pser features lists them); unset ones have their defaults")
    sample_rate: int = shared(16000, "samples per second after resampling [Hz]", ge=8000, le=48000)
    level: Literal["none", "peak"] | float = shared(
        "none", "level to which each clip is scaled first: none (as recorded), peak (largest sample at full scale), or "
                "an RMS level [dBFS, below 0]")
    trim: float | None = shared(
        None, "cut silence off both ends of each clip first: frames this far below its loudest frame [dB]; none: off",
        ge=5, le=100)
    n_mels: int = shared(64, "mel bands", ge=8, le=256)
    n_mfcc: int = shared(20, "cepstral coefficients", ge=8, le=64)
    deltas: int = shared(2, "orders of differences over time that follow the cepstrum in mfcc matrices", ge=0, le=2)
    seconds: float = shared(3.0, "length to which matrices are cut or padded [s]", gt=0.1, le=30)
    hop: float = shared(0.01, "time from one frame of a matrix to the next [s]", ge=0.005, le=0.1)
    encoder: str | None = Field(
        None, description="the speech encoder of ssl: a Hugging Face name (facebook/hubert-base-ls960), a folder that "
                          "holds one, or NAME@IDENTITY as cards and invitations name it; peers compare its content, "
                          "not its location")
    revision: str | None = Field(
        None, description="branch, tag or commit of an encoder by name; default: its main branch")
    text_encoder: str | None = Field(
        None, description="the text encoder of sentences: a folder that holds one, a Hugging Face name, or "
                          "NAME@IDENTITY, as for encoder")
    layer_weights: tuple[float, ...] = shared(
        (), "weight of each of the encoder's layers, its input first, in a mean over layers (a,b,c or [a, b, c]); "
            "default: no mean, but the layers at a third, half and two thirds of its depth, joined")
    normalise: Literal["auto", "none", "global", "speaker", "public"] = shared(
        "auto", "statistics by which features are scaled: none, global (of all peers' training clips, by gossip), "
                "speaker (each speaker's own, transductive), public (of the synthetic corpus, which is equal at every "
                "site, so that no site sends statistics); auto: speaker for vectors if all speakers are named, "
                "peers hold whole speakers, and each speaker's clips are spread over the emotions, else global; peers "
                "with recordings of their own agree on it")

    @model_validator(mode="before")
    @classmethod
    def _of_an_encoder(cls, given: Any) -> Any:
        """Choose ssl if an encoder is given without a kind."""
        if isinstance(given, Mapping) and given.get("encoder") not in (None, "none") and "kind" not in given:
            return {**given, "kind": "ssl"}
        return given

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        names = kind.split("+")
        for name in names:
            if name not in FEATURES:
                raise ValueError(f"there is no feature kind {name!r}{nearest(name, FEATURES.names())}")
            if names.count(name) > 1:
                raise ValueError(f"{name} is named twice: name each kind once")
        for name in names if len(names) > 1 else []:
            if getattr(FEATURES[name], "attached", False):
                raise ValueError(f"{name} is not joined to other kinds: name it alone")
        if len(names) > 1 and len({_is_vector(name) for name in names}) > 1:
            vectors = ", ".join(name for name in names if _is_vector(name))
            matrices = ", ".join(name for name in names if not _is_vector(name))
            advice = "networks over time do not read words: join these to a vector of the voice (functionals, ssl)" \
                if any(getattr(FEATURES[name], "of_words", False) for name in names) else "join kinds of one form"
            raise ValueError(f"{kind} joins vectors and matrices ({vectors} with {matrices}): {advice}")
        return kind

    @field_validator("parameters")
    @classmethod
    def _of_the_kinds(cls, parameters: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        kind = info.data.get("kind")
        if not parameters or kind is None:  # an invalid kind has its own message
            return parameters
        types = {name: type_ for part in kind.split("+") for name, type_ in FEATURES[part].own_parameters().items()}
        for name in parameters:
            if name in cls.model_fields:
                raise ValueError(f"{name} is a setting of its own: set features.{name}")
        try:
            return typed(parameters, types, "features.parameters", kind)
        except ConfigError as error:
            raise ValueError(str(error)) from None

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
        """The names of the single kinds, in the order in which they are joined."""
        return tuple(self.kind.split("+"))

    @property
    def vector(self) -> bool:
        """Whether a clip's features are one vector; else they are a matrix, bands by frames."""
        return _is_vector(self.kinds[0])

    @property
    def form(self) -> Literal["vector", "matrix", "states"]:
        """The form of a clip's features: a vector, a matrix, or a vector with a speech encoder's states attached."""
        if FEATURES[self.kinds[0]].attached:
            return "states"
        return "vector" if self.vector else "matrix"


def _is_vector(name: str) -> bool:
    try:
        return bool(FEATURES[name].vector)
    except (AttributeError, ConfigError) as error:
        raise ValueError(f"the feature kind {name!r} of {FEATURES.origin(name)} cannot be used: {error}") from None
