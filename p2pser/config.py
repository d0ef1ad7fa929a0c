"""The settings of a run, validated. A run file (``run.yaml``) holds them; ``--set section.field=value`` overrides.

Fields marked shared must be equal on all peers: HELLO compares them and names the field and both values where
they differ. Paths, addresses, limits and local means of speed are each peer's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from p2pser.errors import ConfigError, nearest

SHARED: dict[str, Any] = {"shared": True}
"""Marks a field that all peers must have equal (``json_schema_extra``)."""


def _shared(default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra=SHARED, **limits)


class Section(BaseModel):
    """A group of settings: unknown names are refused, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


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
    labels: tuple[str, ...] | None = _shared(None,
        "emotions to learn, in order; default: all that the corpus has, sorted; of several corpora those that all have")
    map: dict[str, str] = _shared({},
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
    scale: tuple[float, float] | None = _shared(None,
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

    kind: str = _shared(
        "functionals", "one vector a clip: functionals, dynamics (how contours move; to be joined to functionals), "
                       "egemaps, compare (openSMILE's eGeMAPSv02 and ComParE 2016), ssl (a speech encoder's mean); a "
                       "matrix, bands by frames: logmel, mfcc, chroma; several of one form joined by + "
                       "(functionals+dynamics, mfcc+chroma)")
    sample_rate: int = _shared(16000, "samples per second after resampling [Hz]", ge=8000, le=48000)
    level: Literal["none", "peak"] | float = _shared(
        "none", "level that each clip is brought to first: none (as recorded), peak (largest sample at full scale), or "
                "an RMS level [dBFS, below 0]")
    trim: float | None = _shared(
        None, "cut silence off both ends of each clip first: what is so far below its loudest frame [dB]; none: not",
        ge=5, le=100)
    n_mels: int = _shared(64, "mel bands", ge=8, le=256)
    n_mfcc: int = _shared(20, "cepstral coefficients", ge=8, le=64)
    deltas: int = _shared(2, "orders of differences below the cepstrum in mfcc matrices", ge=0, le=2)
    seconds: float = _shared(3.0, "length to which matrices are cut or padded [s]", gt=0.1, le=30)
    hop: float = _shared(0.01, "time from one frame of a matrix to the next [s]", ge=0.005, le=0.1)
    encoder: str | None = Field(
        None, description="the speech encoder of ssl: a Hugging Face name (facebook/hubert-base-ls960) or a "
                          "folder that holds one; peers compare what it holds, not where it lies")
    revision: str | None = Field(None, description="branch, tag or commit of the encoder's name; default its main one")
    layer_weights: tuple[float, ...] = _shared(
        (), "weight of each of the encoder's layers, its input first, in the mean over layers; default: all equal")
    normalise: Literal["auto", "none", "global", "speaker"] = _shared(
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

    mixup: float = _shared(
        0.0, "alpha of mixup: each clip of a batch is mixed with another of it, features and targets, by a share drawn "
             "from Beta(alpha, alpha); 0: not", ge=0, le=10)
    noise: float = _shared(
        0.0, "Gaussian noise added to scaled features [their standard deviations]; 0: not", ge=0, le=10)
    time_masks: int = _shared(0, "SpecAugment: stretches of time masked in each matrix", ge=0, le=20)
    time_width: float = _shared(0.3, "longest stretch of time that is masked [s]", gt=0, le=30)
    band_masks: int = _shared(0, "SpecAugment: groups of neighbouring bands masked in each matrix", ge=0, le=20)
    band_width: int = _shared(8, "most bands in a masked group", ge=1, le=256)
    copies: int = _shared(
        0, "varied copies of each training recording; each time that a clip is drawn, one of them or the recording "
           "itself is taken", ge=0, le=50)
    snr: float | None = _shared(
        None, "white noise in copies: at a signal-to-noise ratio drawn from this to 20 dB more [dB]; none: not",
        ge=-20, le=100)
    gain: float = _shared(
        0.0, "copies are louder or softer by up to so much [dB] (undone by features.level)", ge=0, le=60)
    speed: float = _shared(0.0, "copies are faster or slower, and higher or lower, by up to this share", ge=0, le=0.5)
    pitch: float = _shared(
        0.0, "copies are higher or lower by up to so much, as fast as before [semitones]", ge=0, le=12)
    seed: int = _shared(0, "seed of what is done to recordings (not the run's: copies serve all its seeds)", ge=0)

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


class ModelSettings(Section):
    """The network that every peer trains."""

    name: str = _shared("mlp", "the family (p2pser models lists them)")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = _shared((128,),
        "widths of the hidden layers: units, channels of the blocks of a convolutional network, both for crnn (the "
        "last is the recurrent layer's); the default is the family's own")
    dropout: float = _shared(0.3, "probability that a hidden unit is dropped in training", ge=0, lt=1)
    kernel_size: int = _shared(5, "steps that a convolution over time spans (cnn1d, cnn1d-shallow)", ge=1, le=99)
    stride: int = _shared(3, "frames whose mean is one step of a network over time (not cnn2d)", ge=1, le=100)
    bidirectional: bool = _shared(True, "recurrent layers read a clip in both directions")
    width: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="share of the hidden units that a peer has, in (0, 1]: its network is a part "
                "of the whole one. One number is this peer's (in simulate, compare and demo everybody's), several are "
                "those of peers 0, 1, ...: 0.25*4,0.5*2,1*2")
    rescale: bool = _shared(False, "multiply the hidden activations of a network of width w by 1 / w (HeteroFL); wide "
                                   "networks that learn together with narrow ones were better without")

    kernel: Literal["linear", "rbf"] = _shared("rbf", "svm: linear, or rbf by orthogonal random features")
    svm_c: float = _shared(1.0, "svm: C, the weight of the clips' errors against the margin; it takes the place of "
                                "training.weight_decay", gt=0)
    gamma: float | None = _shared(None, "svm: linear: gamma x.y; rbf: exp(-gamma |x - y|^2); default: 1 / number of "
                                        "features, which are normalised", gt=0)
    random_features: int = _shared(8192, "svm: cosines and sines together that stand for the rbf kernel", ge=2,
                                   multiple_of=2)

    trees_depth: int = _shared(3, "xgb: levels of inner nodes of a tree", ge=1, le=8)
    trees_eta: float = _shared(0.3, "xgb: share of what a tree found that counts, where one peer grows trees", gt=0)
    trees_gain: float = _shared(
        3.0, "xgb: a tree of N peers counts eta min(1, gain / N); 1: their mean counts as one peer's would, and more, "
             "since a mean errs less and bears a larger step", ge=1)
    trees_lambda: float = _shared(1.0, "xgb: L2 penalty of a tree's leaves", ge=0)
    trees_subsample: float = _shared(0.8, "xgb: share of its clips that a peer grows a round's trees on", gt=0, le=1)
    trees_columns: float = _shared(0.1, "xgb: share of the features that are tried at each node of a tree", gt=0, le=1)
    trees_held: int = _shared(
        0, "xgb: tree sets that an ensemble has room for; the run sets it, peers times rounds", ge=0)

    @field_validator("width", mode="before")
    @classmethod
    def _widths(cls, widths: Any) -> Any:
        """Read a number, and ``0.25*4,0.5*2,1*2``: four peers of a quarter, two of a half, two whole ones."""
        if isinstance(widths, (int, float)):
            return (widths,)
        if not isinstance(widths, str):
            return widths
        parts = [part.partition("*") for part in widths.split(",")]
        if not all(times.strip().isdecimal() for _, star, times in parts if star):
            raise ValueError("write widths as WIDTH*PEERS,..., such as 0.25*4,0.5*2,1*2")
        return tuple(width for width, _, times in parts for _ in range(int(times or 1)))


    @model_validator(mode="after")
    def _by_family(self) -> ModelSettings:
        """Give what was not set as the family needs it."""
        self.__dict__.update(_family_defaults(self.name, "model", self))
        return self


OVER_TIME: dict[str, Any] = {"features.kind": "mfcc+chroma", "features.n_mfcc": 34, "features.deltas": 0,
                             "training.optimizer": "adamw", "training.lr": 0.004}
"""What networks over time learn well from: few bands, and steps of a size that does not depend on their gradients'."""

BY_MODEL: dict[str, dict[str, Any]] = {
    "cnn1d-shallow": {**OVER_TIME, "model.hidden": (128,)},
    "cnn1d": {**OVER_TIME, "model.hidden": (64, 64, 96)},
    "cnn2d": {"features.kind": "logmel", "model.hidden": (16, 32, 64, 128)},
    "crnn": {**OVER_TIME, "features.kind": "logmel", "model.hidden": (16, 32, 48)},
    "gru": {**OVER_TIME, "model.hidden": (64,), "training.lr": 0.008},
    "lstm": {**OVER_TIME, "model.hidden": (64,), "training.lr": 0.008},
    "svm": {"training.lr": 0.1, "training.clip_norm": 10.0},
    "xgb": {"gossip.algorithm": "trees"},
}
"""Settings whose default depends on the family of models; what is set counts for every family."""


def _family_defaults(family: str, section: str, given: Section) -> dict[str, Any]:
    """The family's defaults of one section's fields that were not set; its learning rate is for its optimiser alone."""
    fields = {path.partition(".")[2]: value for path, value in BY_MODEL.get(family, {}).items()
              if path.startswith(section + ".")}
    found = {field: value for field, value in fields.items() if field not in given.model_fields_set}
    if "optimizer" in fields.keys() - found.keys() and vars(given)["optimizer"] != fields["optimizer"]:
        found.pop("lr", None)
    return found


class TrainingSettings(Section):
    """Local work."""

    task: Literal["classes", "dimensions", "both"] = _shared(
        "classes", "what is learned: classes (emotions), dimensions (arousal, valence and dominance), or both at once")
    loss: Literal["auto", "cross-entropy", "squared-hinge"] = _shared(
        "auto", "what lowers the errors of classes; auto: squared-hinge for svm, else cross-entropy")
    dimension_weight: float = _shared(
        1.0, "weight of the dimensions' loss (1 - CCC, their mean) beside the classes' where both are learned", gt=0)
    balance: Literal["none", "sampling", "weights"] = _shared(
        "none", "what rare classes get: nothing, more draws, or a larger weight in the loss; by the counts over all "
                "peers' clips, found by gossip")
    own_classes: bool = _shared(
        False, "a peer's loss leaves out the emotions of which it has no clip, so that it does not unlearn what the "
               "others know of them")
    soft_labels: bool = _shared(
        False, "learn the shares of listeners who heard each emotion, where the corpus tells them (crema-d, emodb)")
    rounds: int = _shared(40, "communication rounds", ge=0)
    local_steps: int = _shared(5, "optimiser steps between two exchanges", ge=1)
    batch_size: int = _shared(16, "clips per step", ge=1)
    optimizer: Literal["sgd", "adamw"] = _shared("sgd", "local optimiser; some families of models have another default")
    lr: float = _shared(0.05, "learning rate; some families have another default for their own optimiser", gt=0)
    momentum: float = _shared(0.9, "momentum of sgd", ge=0, lt=1)
    weight_decay: float = _shared(1e-3, "decoupled for adamw, L2 for sgd", ge=0)
    clip_norm: float = _shared(1.0,
        "largest norm of one step's gradient, to which longer ones are shortened; 0: no limit", ge=0)
    proximal: float = _shared(0.0,
        "FedProx's mu: pulls each local step back to the parameters that the round began with; 0: not", ge=0)
    schedule: Literal["constant", "cosine"] = _shared("cosine", "learning rate over the rounds")
    label_smoothing: float = _shared(0.1, "share of the target spread over all classes", ge=0, lt=1)
    fine_tune: int = Field(
        0, ge=0, description="steps on the peer's own clips after the final consensus, which make a personal model "
                             "beside the common one")
    fine_tune_lr: float = Field(0.01, gt=0, description="learning rate of fine_tune")
    threads: int = Field(1, ge=1, description="torch threads of one peer process")


class GossipSettings(Section):
    """How peers mix."""

    algorithm: str = _shared("dfedavg", "gossip algorithm")
    parameters: dict[str, float | int | str | bool] = _shared(
        {}, "the algorithm's own hyper-parameters, by name (p2pser algorithms lists them); the rest by default")
    weighting: Literal["uniform", "clips"] = _shared(
        "uniform", "uniform: every peer counts the same (Metropolis-Hastings); clips: in proportion to its clips")
    share: tuple[str, ...] = _shared(("all",),
        "which parameters are mixed, the others never leave their peer: all; body: all but the head (the last layer); "
        "upper: all but the first layer; or patterns of their names, such as hidden.0.*,head.*", min_length=1)
    consensus_tolerance: float = _shared(1e-7, "relative difference between any two peers at the end", gt=1e-14, lt=1)
    max_consensus_exchanges: int = _shared(2000, "exchanges after which the final consensus is given up", ge=1)

    @field_validator("share", mode="before")
    @classmethod
    def _patterns(cls, share: Any) -> Any:
        """Read one word, or patterns with commas between them."""
        return tuple(part.strip() for part in share.split(",")) if isinstance(share, str) else share


class NetworkSettings(Section):
    """Links, waiting and limits. Times in seconds."""

    host: str = Field("127.0.0.1", description="host of peers without an address in the topology file")
    base_port: int = Field(5700, ge=1, le=65535, description="peer i without an address listens on base_port + i")
    start_timeout: float | None = Field(None, gt=0,
        description="how long to wait for neighbours at the start [s]; none: for ever")
    refused_wait: float = Field(10.0, ge=0,
        description="how long to wait for a refused neighbour to come back corrected [s]")
    round_timeout: float = Field(60.0, gt=0,
        description="an exchange goes on without a neighbour that reports no progress for so long [s]")
    ping_after: float = Field(1.0, gt=0, description="silence after which a neighbour is pinged [s]")
    suspect_after: float = Field(2.0, gt=0, description="silence after which a neighbour is SUSPECT [s]")
    dead_after: float = Field(8.0, gt=0, description="silence after which a neighbour is DEAD and left out [s]")
    chunk_bytes: int = Field(65536, ge=1024, le=65536, description="largest payload of one message [B]")
    linger: float = Field(2.0, ge=0, description="how long the last messages may take to leave at the end [s]")
    secret: Path | None = Field(None,
        description="file of the user's secret (32 bytes, mode 0600) that keys are derived from where the "
                    "topology file gives none; default ~/.config/p2pser/secret")
    secret_key: Path | None = Field(None,
        description="file of this peer's CURVE secret key, where the topology file gives keys")


class PeerSettings(Section):
    """What a peer process writes, and where."""

    out: Path = Field(Path("runs"), description="folder of runs; a peer writes OUT/NAME/peer-ID/")
    checkpoint_every: int = Field(5, ge=1, description="rounds between two checkpoints")
    evaluate_every: int = Field(1, ge=1, description="rounds between two evaluations on the held-out speakers")


class Config(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = Field(
        "run", description="name of the run: its folder, and part of its identity on the network")
    seed: int = _shared(0, "seed of everything random", ge=0, lt=2**63)
    corpus: CorpusSettings = CorpusSettings()
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    gossip: GossipSettings = GossipSettings()
    network: NetworkSettings = NetworkSettings()
    peer: PeerSettings = PeerSettings()

    @model_validator(mode="after")
    def _by_family(self) -> Config:
        """Give what was not set as the model's family needs it; it stays unset, so that another family may differ."""
        for section in ("features", "training", "gossip"):
            given: Section = getattr(self, section)
            if own := _family_defaults(self.model.name, section, given):
                resolved = given.model_copy()
                resolved.__dict__.update(own)
                self.__dict__[section] = resolved
        return self

    def shared(self) -> dict[str, Any]:
        """Return the settings that all peers must have equal, flat: ``{"training.lr": 0.05, …}``."""
        return dict(sorted(_shared_fields(self, "")))

    def with_settings(self, settings: Iterable[str]) -> Config:
        """Return a copy with each ``section.field=value`` applied; values are read as YAML.

        Raises ConfigError for a name that does not exist (naming the nearest) or a value that does not fit.
        """
        tree = self.model_dump(exclude_unset=True)
        for setting in settings:
            path, equals, text = setting.partition("=")
            if not equals:
                raise ConfigError(f"--set {setting!r}: write it as section.field=value")
            _assign(tree, path.strip(), yaml.safe_load(text), self)
        return parse(tree, "--set")


def _shared_fields(section: BaseModel, prefix: str) -> Iterable[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _shared_fields(value, f"{prefix}{name}.")
        elif field.json_schema_extra == SHARED:
            yield prefix + name, list(value) if isinstance(value, tuple) else value


def _names(section: BaseModel, prefix: str = "") -> Iterable[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _assign(tree: dict[str, Any], path: str, value: Any, config: Config) -> None:
    known = list(_names(config))
    *sections, name = path.split(".")
    if path not in known and ".".join(sections) != "gossip.parameters":
        raise ConfigError(f"there is no setting {path!r}{nearest(path, known)}")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[name] = value


def parse(tree: Mapping[str, Any], where: str) -> Config:
    """Return the validated settings of a mapping; ``where`` names its source in errors (ConfigError)."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: there is no setting {path!r}{nearest(path, _names(Config()))}") from None
        why = first["msg"].removeprefix("Value error, ")  # pydantic's words before our own sentences
        raise ConfigError(f"{where}: {path} = {first['input']!r}: {why}") from None


def load(path: Path | None, settings: Iterable[str] = ()) -> Config:
    """Return the settings of a run file (default: the embedded ones) with ``--set`` overrides applied.

    Raises ConfigError where the file is missing, is not YAML or holds a wrong setting.
    """
    config = Config()
    if path is not None:
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"cannot read the run file {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} must hold a mapping of sections, not a {type(tree).__name__}")
        config = parse(tree, str(path))
    return config.with_settings(settings)
