"""The settings of a run, validated. A run file (``run.yaml``) holds them; ``--set section.field=value`` overrides.

Fields marked shared must be equal on all peers: HELLO compares them and names the field and both values where
they differ. Paths, addresses, limits and local means of speed are each peer's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
        "synthetic", description="synthetic, emodb, ravdess, folder, manifest, or auto (by what lies in data)")
    data: Path | None = Field(None, description="folder or manifest CSV of the recordings; none needed for synthetic")
    labels: tuple[str, ...] | None = _shared(None,
        "emotions to learn, in order; default: all that the corpus has, sorted")
    split: str = Field(
        "auto", description="auto, loso, emobox, group:K, speakers:A+B, or none; "
                            "auto: loso for emodb, emobox for ravdess, group:4 for the rest")
    fold: int = Field(0, ge=0, description="which fold of the split is held out for testing")
    partition: str = Field(
        "auto", description="auto, speaker, iid, dirichlet:ALPHA[:LEAST] (at least so many clips a peer), or own (all "
                            "clips are this peer's); auto: speaker")
    seed: int = Field(0, ge=0, description="seed of the synthetic corpus")


class FeatureSettings(Section):
    """What a model sees of a clip."""

    kind: Literal["functionals", "logmel", "mfcc", "chroma"] = _shared(
        "functionals", "functionals: one vector a clip; the others: a matrix, bands by frames")
    sample_rate: int = _shared(16000, "samples per second after resampling [Hz]", ge=8000, le=48000)
    n_mels: int = _shared(64, "mel bands", ge=8, le=256)
    n_mfcc: int = _shared(20, "cepstral coefficients", ge=8, le=64)
    seconds: float = _shared(3.0, "length to which matrices are cut or padded [s]", gt=0.1, le=30)
    normalise: Literal["auto", "none", "global", "speaker"] = _shared(
        "auto", "statistics that features are scaled by: none, global (all peers' training clips, by gossip), "
                "speaker (each speaker's own, transductive); auto: speaker for functionals of corpora that name "
                "speakers where peers hold whole speakers, else global")


class ModelSettings(Section):
    """The network that every peer trains."""

    name: str = _shared("mlp", "mlp (on functionals) or cnn2d (on logmel)")
    hidden: tuple[int, ...] = _shared((128,), "widths of the hidden layers (mlp) or channels of the blocks (cnn2d)")
    dropout: float = _shared(0.3, "probability that a hidden unit is dropped in training", ge=0, lt=1)


class TrainingSettings(Section):
    """Local work."""

    rounds: int = _shared(40, "communication rounds", ge=0)
    local_steps: int = _shared(5, "optimiser steps between two exchanges", ge=1)
    batch_size: int = _shared(16, "clips per step", ge=1)
    optimizer: Literal["sgd", "adamw"] = _shared("sgd", "local optimiser")
    lr: float = _shared(0.05, "learning rate", gt=0)
    momentum: float = _shared(0.9, "momentum of sgd", ge=0, lt=1)
    weight_decay: float = _shared(1e-3, "decoupled for adamw, L2 for sgd", ge=0)
    clip_norm: float = _shared(1.0,
        "largest norm of one step's gradient, to which longer ones are shortened; 0: no limit", ge=0)
    proximal: float = _shared(0.0,
        "FedProx's mu: pulls each local step back to the parameters that the round began with; 0: not", ge=0)
    schedule: Literal["constant", "cosine"] = _shared("cosine", "learning rate over the rounds")
    label_smoothing: float = _shared(0.1, "share of the target spread over all classes", ge=0, lt=1)
    threads: int = Field(1, ge=1, description="torch threads of one peer process")


class GossipSettings(Section):
    """How peers mix."""

    algorithm: str = _shared("dfedavg", "gossip algorithm")
    parameters: dict[str, float | int | str | bool] = _shared(
        {}, "the algorithm's own hyper-parameters, by name (p2pser algorithms lists them); the rest by default")
    weighting: Literal["uniform", "clips"] = _shared(
        "uniform", "uniform: every peer counts the same (Metropolis-Hastings); clips: in proportion to its clips")
    consensus_tolerance: float = _shared(1e-7, "relative difference between any two peers at the end", gt=1e-14, lt=1)
    max_consensus_exchanges: int = _shared(2000, "exchanges after which the final consensus is given up", ge=1)


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
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    gossip: GossipSettings = GossipSettings()
    network: NetworkSettings = NetworkSettings()
    peer: PeerSettings = PeerSettings()

    def shared(self) -> dict[str, Any]:
        """Return the settings that all peers must have equal, flat: ``{"training.lr": 0.05, …}``."""
        return dict(sorted(_shared_fields(self, "")))

    def with_settings(self, settings: Iterable[str]) -> Config:
        """Return a copy with each ``section.field=value`` applied; values are read as YAML.

        Raises ConfigError for a name that does not exist (naming the nearest) or a value that does not fit.
        """
        tree = self.model_dump()
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
        tree = tree[section]
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
        raise ConfigError(f"{where}: {path} = {first['input']!r}: {first['msg']}") from None


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
